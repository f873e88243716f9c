//! `kedge edge run`: composition and the switchboard for what the cloud says. Uses `wire`, never the cloud wing.

pub mod device;
pub mod meta;
pub mod mqtt;
pub mod node;
pub mod stream;
pub mod uplink;
