//! Programs someone would run; see the folders beside this file.
