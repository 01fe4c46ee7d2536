//! bowline-store
