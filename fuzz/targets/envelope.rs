//! Any bytes as a message: both ends read it, write back what they understood, and understand that again.
#![no_main]

use kedge::wire::{Envelope, acknowledgement, decode_down, decode_up, encode_down, encode_up};
use kedge_fuzz::{envelopes, plant};
use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: plant("envelope", envelopes().map(|message| message.to_string().into_bytes())),
    |data: &[u8]| {
        let Ok(envelope) = Envelope::decode(data) else { return };
        let written = envelope.encode();
        let again = Envelope::decode(written.as_bytes()).expect("what was written is read");
        assert_eq!(again.encode(), written);
        if let Some(owed) = acknowledgement(&envelope) {
            assert_eq!(owed.header.parent_msg_id, envelope.header.msg_id);
        }
        let question = decode_up(envelope.clone());
        if let Some(up) = encode_up(&question.up) {
            drop(decode_up(up));
        }
        if let Some(down) = encode_down(decode_down(envelope)) {
            drop(decode_down(down));
        }
    }
);
