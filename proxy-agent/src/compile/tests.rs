//! Compilation, by table.
