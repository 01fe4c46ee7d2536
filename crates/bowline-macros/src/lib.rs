//! bowline-macros
