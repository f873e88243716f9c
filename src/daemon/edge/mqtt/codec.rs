//! Bytes to packets and back for both protocol versions, on rumqttd's codec. Used by `connection` only. The codec does not
//! show the quality of service of a PUBLISH and was not written for hostile bytes, so the frame is checked here first and a
//! panic inside it counts as a malformed packet. Never takes a frame over the limit into memory.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use rumqttd::protocol::v4::V4;
use rumqttd::protocol::v5::V5;
use rumqttd::protocol::{Packet, Protocol, Publish, PublishProperties};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The two protocol versions that share a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    V311,
    V5,
}

/// Why bytes are no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("a packet is larger than the limit")]
    TooLarge,
    #[error("a packet is malformed")]
    Packet,
    #[error("the first packet is not CONNECT")]
    NotConnect,
    #[error("the protocol version is not served")]
    Version,
}

/// What the codec keeps to itself about a PUBLISH.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PublishHead {
    pub(super) qos: u8,
    pub(super) packet: u16,
}

/// Length of the first frame in the buffer: (header, whole). `None` until it can be told.
fn frame(buffer: &[u8], limit: usize) -> Result<Option<(usize, usize)>, Malformed> {
    let mut remaining = 0usize;
    for (place, byte) in buffer.iter().skip(1).enumerate() {
        if place == 4 {
            return Err(Malformed::Packet);
        }
        remaining |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            if remaining > limit {
                return Err(Malformed::TooLarge);
            }
            return Ok(Some((place + 2, place + 2 + remaining)));
        }
    }
    Ok(None)
}

/// Whether the buffer holds something to decide on: a whole packet, or a wrong one.
pub(super) fn is_complete(buffer: &[u8], limit: usize) -> bool {
    frame(buffer, limit).map_or(true, |sizes| sizes.is_some_and(|(_, whole)| buffer.len() >= whole))
}

/// Takes one frame out of the buffer. While it is incomplete, room for the rest of it is made and `None` returned.
fn take_frame(buffer: &mut BytesMut, limit: usize) -> Result<Option<(usize, BytesMut)>, Malformed> {
    let Some((header, whole)) = frame(buffer, limit)? else { return Ok(None) };
    if buffer.len() < whole {
        buffer.reserve(whole - buffer.len());
        return Ok(None);
    }
    Ok(Some((header, buffer.split_to(whole))))
}

/// Reads the first packet, which must be CONNECT, and from it the version.
pub(super) fn decode_connect(
    buffer: &mut BytesMut,
    limit: usize,
) -> Result<Option<(Level, Packet)>, Malformed> {
    if buffer.first().is_some_and(|first| *first != 0x10) {
        return Err(Malformed::NotConnect);
    }
    let Some((header, frame)) = take_frame(buffer, limit)? else { return Ok(None) };
    let body = frame.get(header..).ok_or(Malformed::Packet)?;
    let level = match body {
        [0, 4, b'M', b'Q', b'T', b'T', 4, ..] => Level::V311,
        [0, 4, b'M', b'Q', b'T', b'T', 5, ..] => Level::V5,
        [0, 4, b'M', b'Q', b'T', b'T', _, ..] | [0, 6, b'M', b'Q', b'I', b's', b'd', b'p', ..] => {
            return Err(Malformed::Version);
        }
        _ => return Err(Malformed::Packet),
    };
    match read(level, frame, limit)? {
        packet @ Packet::Connect(..) => Ok(Some((level, packet))),
        _ => Err(Malformed::NotConnect),
    }
}

/// Reads the next packet; the head is filled for PUBLISH.
pub(super) fn decode(
    level: Level,
    buffer: &mut BytesMut,
    limit: usize,
) -> Result<Option<(Packet, PublishHead)>, Malformed> {
    let Some((header, mut frame)) = take_frame(buffer, limit)? else { return Ok(None) };
    let first = frame.first().copied().unwrap_or_default();
    let (kind, flags) = (first >> 4, first & 0x0f);
    let flags_hold = match kind {
        // What only a broker sends, and AUTH; the codec of version 5 does not know them.
        0 | 2 | 11 | 15 if level == Level::V5 => false,
        3 => true,
        6 | 8 | 10 => flags == 2,
        _ => flags == 0,
    };
    if !flags_hold {
        return Err(Malformed::Packet);
    }
    let head = if kind == 3 {
        publish_head(flags, frame.get(header..).unwrap_or_default())?
    } else {
        PublishHead::default()
    };
    // Version 5 lets the length of no properties be left out; the codec does not.
    let short = matches!((kind, frame.len()), (4..=7, 5) | (14, 3)) && header == 2;
    if short
        && level == Level::V5
        && let Some(remaining) = frame.get_mut(1)
    {
        *remaining += 1;
        frame.put_u8(0);
    }
    Ok(Some((read(level, frame, limit)?, head)))
}

/// Length and head of a PUBLISH that is larger than the limit and stands first in the buffer; `None` while its head is
/// incomplete. Other packets of such a size are malformed.
pub(super) fn oversized(buffer: &[u8]) -> Result<Option<(usize, PublishHead)>, Malformed> {
    let first = buffer.first().copied().unwrap_or_default();
    if first >> 4 != 3 {
        return Err(Malformed::TooLarge);
    }
    let Some((header, whole)) = frame(buffer, usize::MAX)? else { return Ok(None) };
    let mut body = buffer.get(header..).unwrap_or_default();
    let Ok(topic) = body.try_get_u16() else { return Ok(None) };
    let needed = usize::from(topic) + 2;
    if body.len() < needed {
        return if whole < header + needed { Err(Malformed::Packet) } else { Ok(None) };
    }
    let head = publish_head(first & 0x0f, buffer.get(header..).unwrap_or_default())?;
    Ok(Some((whole, head)))
}

fn publish_head(flags: u8, mut body: &[u8]) -> Result<PublishHead, Malformed> {
    let qos = (flags >> 1) & 3;
    if qos == 3 {
        return Err(Malformed::Packet);
    }
    if qos == 0 {
        return Ok(PublishHead::default());
    }
    let topic = usize::from(body.try_get_u16().map_err(|_| Malformed::Packet)?);
    let mut after = body.get(topic..).ok_or(Malformed::Packet)?;
    let packet = after.try_get_u16().map_err(|_| Malformed::Packet)?;
    if packet == 0 { Err(Malformed::Packet) } else { Ok(PublishHead { qos, packet }) }
}

fn read(level: Level, mut frame: BytesMut, limit: usize) -> Result<Packet, Malformed> {
    let read = catch_unwind(AssertUnwindSafe(|| match level {
        Level::V311 => V4.read_mut(&mut frame, limit),
        Level::V5 => V5.read_mut(&mut frame, limit),
    }));
    read.map_err(|_panic| Malformed::Packet)?.map_err(|_| Malformed::Packet)
}

/// Appends a packet that carries no properties of version 5, or a CONNACK. `false` when it cannot be written.
pub(super) fn encode(level: Level, packet: Packet, out: &mut BytesMut) -> bool {
    let start = out.len();
    let written = catch_unwind(AssertUnwindSafe(|| match level {
        Level::V311 => V4.write(packet, out),
        Level::V5 => V5.write(packet, out),
    }));
    let done = matches!(written, Ok(Ok(_)));
    if !done {
        out.truncate(start);
    }
    done
}

/// A PUBLISH to be written.
pub(super) struct Outbound<'a> {
    pub(super) topic: &'a str,
    pub(super) payload: &'a Bytes,
    pub(super) head: PublishHead,
    pub(super) again: bool,
    pub(super) retain: bool,
    pub(super) properties: Option<PublishProperties>,
}

/// Appends a PUBLISH.
pub(super) fn encode_publish(level: Level, outbound: Outbound<'_>, out: &mut BytesMut) -> bool {
    let first = (u8::from(outbound.again) << 3) | (outbound.head.qos << 1) | u8::from(outbound.retain);
    let mut form = BytesMut::with_capacity(5 + outbound.topic.len() + outbound.payload.len());
    form.put_u8(first);
    form.put_u16(outbound.head.packet);
    form.put_u16(u16::try_from(outbound.topic.len()).unwrap_or_default());
    form.put_slice(outbound.topic.as_bytes());
    form.put_slice(outbound.payload);
    let publish = Publish::deserialize(form.freeze());
    let properties = outbound.properties.filter(|_| level == Level::V5);
    encode(level, Packet::Publish(publish, properties), out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CONNECT: &[u8] = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a";

    #[test]
    fn a_connect_cut_at_every_byte_is_incomplete() {
        for cut in 0..CONNECT.len() {
            let mut buffer = BytesMut::from(&CONNECT[..cut]);
            assert_eq!(decode_connect(&mut buffer, 1024), Ok(None), "{cut}");
        }
        let mut whole = BytesMut::from(CONNECT);
        assert!(matches!(decode_connect(&mut whole, 1024), Ok(Some((Level::V311, _)))));
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_by_its_header() {
        let mut buffer = BytesMut::from(&b"\x30\xff\xff\xff\x7f"[..]);
        assert_eq!(decode(Level::V311, &mut buffer, 1024), Err(Malformed::TooLarge));
        assert!(buffer.capacity() < 4096);
    }

    #[test]
    fn a_publish_reads_as_it_was_written() {
        for level in [Level::V311, Level::V5] {
            for qos in 0..3 {
                let head = PublishHead { qos, packet: u16::from(qos > 0) * 7 };
                let payload = Bytes::from_static(b"x");
                let outbound = Outbound {
                    topic: "温度/1",
                    payload: &payload,
                    head,
                    again: false,
                    retain: true,
                    properties: None,
                };
                let mut out = BytesMut::new();
                assert!(encode_publish(level, outbound, &mut out));
                let (packet, read) = decode(level, &mut out, 1024).unwrap().unwrap();
                assert_eq!(read, head);
                let Packet::Publish(publish, _) = packet else { panic!("{packet:?}") };
                assert_eq!((&publish.topic[..], &publish.payload[..]), ("温度/1".as_bytes(), &b"x"[..]));
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_codec_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), first in any::<u8>()) {
            for level in [Level::V311, Level::V5] {
                let mut framed = BytesMut::from(&[first, u8::try_from(bytes.len()).unwrap()][..]);
                framed.extend_from_slice(&bytes);
                drop(decode(level, &mut framed.clone(), 1024));
                drop(decode_connect(&mut framed, 1024));
            }
        }
    }
}
