//! Bytes to types and back, no I/O. Every string of KubeEdge's protocol lives here: nothing outside this room
//! compares a resource path, an operation or a source. The contract is protocol.md.
//!
//! cloud: `Down` --encode--> Envelope ==link==> --decode--> `Down` :edge
//! edge:  `Up`   --encode--> Envelope ==link==> --decode--> `Up`   :cloud

pub mod csi;
pub mod dmi;
pub mod dynamic;
pub mod envelope;
pub mod task;
pub mod topics;
pub mod tunnel;
pub mod tunnel_port;
pub mod update;
pub mod upgrade;
pub mod user;

mod answer;
mod blob;
mod class;
mod codec;
mod comeback;
mod compare;
mod down;
mod names;
mod parts;
mod up;
mod up_encode;

pub use answer::{Answer, Question};
pub use blob::Blob;
pub use class::class_of;
pub use codec::DecodeError;
pub use comeback::{INSTANCE_HEADER, VERSION_HEADER, farewell, read_farewell, read_replaced, replaced};
pub use compare::{Comparison, DIGEST_HEADER, Holdings, is_compared};
pub use down::{
    Delivery, Down, Membership, Origin, Verb, acknowledgement, decode_down, delivery_of, encode_down,
};
pub use envelope::{Envelope, MessageId};
pub use up::{LeaseVerb, PodStatusReport, StateReport, TwinReport, Up, decode_up};
pub use up_encode::encode_up;

#[cfg(test)]
mod family_tests;
#[cfg(test)]
mod tests;
