//! Bytes to types and back, no I/O. Every string of KubeEdge's protocol lives here: nothing outside this room
//! compares a resource path, an operation or a source. The contract is protocol.md.
//!
//! cloud: `Down` --encode--> Envelope ==link==> --decode--> `Down` :edge
//! edge:  `Up`   --encode--> Envelope ==link==> --decode--> `Up`   :cloud

pub mod envelope;
pub mod topics;
pub mod tunnel;

mod answer;
mod codec;
mod compare;
mod down;
mod names;
mod up;

pub use answer::{Answer, Question};
pub use codec::DecodeError;
pub use compare::{Comparison, DIGEST_HEADER, Holdings, is_compared};
pub use down::{
    Delivery, Down, Membership, Origin, Verb, acknowledgement, decode_down, delivery_of, encode_down,
};
pub use envelope::{Envelope, MessageId};
pub use up::{LeaseVerb, StateReport, TwinReport, Up, decode_up, encode_up};

#[cfg(test)]
mod tests;
