//! A model of programs, small enough that everything they can do is known, to hold the detector against.
//!
//! A [`program`] is run in all orders ([`graph`]); who makes progress on no path is dead. Each of its states is
//! [`translate`]d into what a scan of a real process would find, and the proof has to agree ([`check`]):
//!
//! 1. Never is anybody reported who can go on, in any state.
//! 2. At rest, everybody who is dead is found.
//! 3. The proof equals an oracle in which the living do anything with what they hold ([`wild`]): without knowing the code of
//!    a program nobody can do better.
//! 4. Facts that were read at different instants prove nothing that is not so ([`torn`]).
//! 5. Every rule of the proof is needed: without it one of these fails.
//!
//! `BOWLINE_PROGRAMS` says how many random programs are tried; a failure prints the seed, and the program made small as a
//! Rust literal, to be kept in [`kept`]. The model shares nothing with the detector but the types of its input.

mod act;
mod change;
mod check;
mod generate;
mod graph;
mod kept;
mod outside;
mod program;
mod shrink;
mod state;
mod step;
mod tests;
mod torn;
mod translate;
mod wild;
