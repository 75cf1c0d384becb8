//! Routing as the specifications have it: scenes of real manifests with cases (request → what
//! becomes of it), and properties of the order in which rules are tried.
//!
//! The compiler and the router that serve are asked; nothing of them is done again here but the
//! client's part: resolving a name and writing a request.

#[cfg(test)]
mod allocation;
#[cfg(test)]
mod answer;
#[cfg(test)]
mod cases;
#[cfg(test)]
mod first_match;
#[cfg(test)]
mod judge;
#[cfg(test)]
mod permutation;
#[cfg(test)]
mod precedence;
#[cfg(test)]
mod requests;
#[cfg(test)]
mod scene;
#[cfg(test)]
mod shares;
