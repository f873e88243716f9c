//! The operator's smaller commands, from the outside.

mod explain;
