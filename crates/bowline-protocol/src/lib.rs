//! bowline-protocol
