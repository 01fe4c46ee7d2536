//! The Bowline messaging server as a library; the binary `bowline` is a thin front of it.

