//! Any bytes as a frame of the stream tunnel, and its data as a connect request.
#![no_main]

use bytes::Bytes;
use kedge::wire::tunnel::{Connect, DATA_LIMIT, Frame};
use kedge_fuzz::{frames, plant};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: plant("tunnel_frame", frames()), |data: &[u8]| {
    let Ok(frame) = Frame::decode(Bytes::copy_from_slice(data)) else { return };
    assert!(frame.data.len() <= DATA_LIMIT);
    assert_eq!(Frame::decode(Bytes::from(frame.encode())).as_ref(), Ok(&frame));
    if let Some(connect) = Connect::decode(&frame.data) {
        assert_eq!(Connect::decode(&connect.encode()), Some(connect));
    }
});
