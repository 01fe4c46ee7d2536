//! The rows, a file each.

use crate::lab::Trouble;
use crate::row::Row;

mod a1;
mod a2;
mod a3;
mod a4;
mod a5;
mod a6;
mod a7;
mod a8;
mod b1;
mod b2;
mod b3;
mod b4;
mod b5;
mod b6;
mod b7;
mod b8;
mod c1;
mod c2;
mod c3;
mod c4;
mod c5;
mod c6;
mod c7;
mod c8;
mod c9;
mod d1;
mod d2;
mod d3;
mod d4;
mod e1;
mod e2;
mod e3;
mod e4;
mod e5;
mod e6;
mod f1;
mod f2;
mod f3;
mod f4;
mod hub;
mod load;

/// All rows, in their order.
pub const ALL: &[&Row] = &[
    &a1::ROW,
    &a2::ROW,
    &a3::ROW,
    &a4::ROW,
    &a5::ROW,
    &a6::ROW,
    &a7::ROW,
    &a8::ROW,
    &b1::ROW,
    &b2::ROW,
    &b3::ROW,
    &b4::ROW,
    &b5::ROW,
    &b6::ROW,
    &b7::ROW,
    &b8::ROW,
    &c1::ROW,
    &c2::ROW,
    &c3::ROW,
    &c4::ROW,
    &c5::ROW,
    &c6::ROW,
    &c7::ROW,
    &c8::ROW,
    &c9::ROW,
    &d1::ROW,
    &d2::ROW,
    &d3::ROW,
    &d4::ROW,
    &e1::ROW,
    &e2::ROW,
    &e3::ROW,
    &e4::ROW,
    &e5::ROW,
    &e6::ROW,
    &f1::ROW,
    &f2::ROW,
    &f3::ROW,
    &f4::ROW,
];

/// Finds a row by its name, in whatever case.
#[must_use]
pub fn find(id: &str) -> Option<&'static Row> {
    ALL.iter().copied().find(|row| row.id.eq_ignore_ascii_case(id))
}

/// A part of a row that runs in a process of its own, and what it is told.
pub(crate) type Child = fn(&str) -> Result<(), Trouble>;

/// Finds such a part by its name.
pub(crate) fn child(name: &str) -> Option<Child> {
    match name {
        "d2-leaky" => Some(d2::leaky_child),
        "d2-tied" => Some(d2::tied_child),
        _ => None,
    }
}
