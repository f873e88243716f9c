//! `kedge cloud run`: composition and the switchboard for what edge nodes say. Uses `wire`, never the edge wing.

pub mod hub;
