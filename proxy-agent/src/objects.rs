//! Every kind that is read, parsed from text.
