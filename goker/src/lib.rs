//! Real concurrency bugs as small programs, and a scorer: which of them cannot be written with Bowline, end by themselves, or
//! are proved and rightly named.
//!
//! The programs retell bugs of real projects as the study GoBench (Yuan et al., CGO 2021) cut them out, and some that came
//! later. They are written anew from a description of tasks, resources and the order of operations; each names its
//! origin as `project#pull`.
//!
//! # Map
//!
//! | | |
//! |---|---|
//! | [`Kernel`], [`Form`], [`Expected`] | a bug, the ways it is written in, and what is left of each |
//! | [`go`] | words that Go has and the kernels need: a gate that is closed, a coin, a turn |
//! | [`bare`] | the same for the plain tokio forms, and how those are run |
//! | [`kernels`] | the bugs |
//! | [`unwritable`] | those that do not compile |
//! | [`oracle`] | what stands still at the end, found out by watching and not by asking the detector |
//! | [`judge`] | what the detector says, compared with that |
//! | [`seeded`], [`threads`] | one run under a seed on a paused clock; one on real threads |
//! | [`generator`] | random programs as real tasks, and an interpreter that knows what can be left of them |
//! | [`score`], [`summary`] | run all of it, and print what it comes to beside published figures |
//!
//! # Running it
//!
//! `cargo test -p goker` runs every form under some seeds; `cargo run -p goker --release` runs 1,000 of them a form, then
//! real threads, prints the table and fails on any miss or false report.

pub mod bare;
pub mod generator;
pub mod go;
pub mod judge;
mod kernel;
pub mod kernels;
pub mod oracle;
pub mod score;
pub mod seeded;
pub mod summary;
pub mod threads;
pub mod unwritable;

pub use kernel::{Class, Dead, End, Env, Expected, Form, Kernel, Kind, Run, Tier};
