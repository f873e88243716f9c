//! Takes WebSocket Text messages that are no text: genuine tunnels put binary frames into Text messages (protocol.md
//! §8.2), which a WebSocket library has to refuse. The opcode Text becomes Binary in each frame's header as it is read;
//! lengths, masks and fragments are left to the library, which still checks them. Only `ws` uses it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const OPCODE: u8 = 0x0f;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const END_OF_HEAD: &[u8; 4] = b"\r\n\r\n";

/// Where the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// In the HTTP response before the first frame; so many bytes of its end were seen.
    Head(usize),
    /// The first byte of a frame's header.
    Opcode,
    /// The second: mask and short length.
    Length,
    /// Bytes of a longer length.
    LongLength { left: u8, length: u64, masked: bool },
    /// Mask and payload.
    Payload(u64),
}

fn payload(length: u64, masked: bool) -> At {
    match length.saturating_add(if masked { 4 } else { 0 }) {
        0 => At::Opcode,
        left => At::Payload(left),
    }
}

/// Walks over the bytes and changes opcodes; returns where the next bytes will stand.
fn rewrite(mut at: At, mut bytes: &mut [u8]) -> At {
    while let Some((first, rest)) = std::mem::take(&mut bytes).split_first_mut() {
        at = match at {
            At::Head(seen) => {
                let next = END_OF_HEAD.get(seen).is_some_and(|wanted| wanted == first);
                match (next, seen) {
                    (true, 3) => At::Opcode,
                    (true, seen) => At::Head(seen + 1),
                    (false, _) => At::Head(usize::from(*first == b'\r')),
                }
            }
            At::Opcode => {
                if *first & OPCODE == TEXT {
                    *first = *first & !OPCODE | BINARY;
                }
                At::Length
            }
            At::Length => {
                let masked = *first & 0x80 != 0;
                match *first & 0x7f {
                    126 => At::LongLength { left: 2, length: 0, masked },
                    127 => At::LongLength { left: 8, length: 0, masked },
                    short => payload(u64::from(short), masked),
                }
            }
            At::LongLength { left, length, masked } => {
                let length = length << 8 | u64::from(*first);
                match left {
                    0 | 1 => payload(length, masked),
                    left => At::LongLength { left: left - 1, length, masked },
                }
            }
            At::Payload(left) => {
                // This byte and as many more as are here.
                let more = usize::try_from(left - 1).unwrap_or(usize::MAX).min(rest.len());
                bytes = rest.get_mut(more..).unwrap_or_default();
                at = match left - 1 - more as u64 {
                    0 => At::Opcode,
                    left => At::Payload(left),
                };
                continue;
            }
        };
        bytes = rest;
    }
    at
}

/// A stream whose Text frames are read as Binary ones.
pub(super) struct AnyText<S> {
    stream: S,
    at: At,
}

impl<S> AnyText<S> {
    /// For the server's side, where frames begin at once.
    pub fn frames(stream: S) -> AnyText<S> {
        AnyText { stream, at: At::Opcode }
    }

    /// For the client's side, where the response to the upgrade comes first.
    pub fn response(stream: S) -> AnyText<S> {
        AnyText { stream, at: At::Head(0) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for AnyText<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let at = self.at;
        self.at = rewrite(at, buffer.filled_mut().get_mut(before..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for AnyText<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(first: u8, masked: bool, payload: &[u8]) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut out = vec![first];
        match payload.len() {
            short @ 0..=125 => out.push(mask | short as u8),
            long @ 126..=65_535 => {
                out.push(mask | 126);
                out.extend((long as u16).to_be_bytes());
            }
            longer => {
                out.push(mask | 127);
                out.extend((longer as u64).to_be_bytes());
            }
        }
        if masked {
            out.extend([1, 1, 1, 1]);
        }
        out.extend(payload);
        out
    }

    proptest! {
        #[test]
        fn only_the_opcode_of_texts_changes_however_the_bytes_arrive(
            frames in proptest::collection::vec((0u8..=255, any::<bool>(), 0usize..400, any::<u8>()), 0..12),
            large in any::<bool>(),
            pieces in proptest::collection::vec(1usize..300, 1..40),
            head in any::<bool>(),
        ) {
            let (mut sent, mut wanted) = (Vec::new(), Vec::new());
            if head {
                sent.extend(b"HTTP/1.1 101 \x81\r\nA: \r\r\n\r\n");
                wanted.clone_from(&sent);
            }
            for (first, masked, length, fill) in frames {
                let length = if large && length > 380 { 70_000 } else { length };
                let payload = vec![fill; length];
                sent.extend(frame(first, masked, &payload));
                let first = if first & 0x0f == 1 { first & 0xf0 | 2 } else { first };
                wanted.extend(frame(first, masked, &payload));
            }
            let mut at = if head { At::Head(0) } else { At::Opcode };
            let mut rest = sent.as_mut_slice();
            for piece in pieces.iter().cycle() {
                let (now, later) = rest.split_at_mut((*piece).min(rest.len()));
                at = rewrite(at, now);
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(sent, wanted);
        }

        #[test]
        fn any_bytes_are_walked_over_without_panic(mut bytes: Vec<u8>) {
            rewrite(At::Opcode, &mut bytes);
            rewrite(At::LongLength { left: 1, length: u64::MAX, masked: true }, &mut bytes);
        }
    }
}
