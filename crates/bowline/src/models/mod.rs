//! Models of the toolkit's protocols for model checkers, run by `.ci/models`.
//!
//! `loom` tries every order of the steps of at most three threads, stores seen late included: one property per model, on
//! the words of a node and a record. `shuttle` tries many random orders of whole programs on the public interface, and
//! prints the schedule of one that fails.

#[cfg(bowline_loom)]
mod loom;
#[cfg(bowline_shuttle)]
mod shuttle;
