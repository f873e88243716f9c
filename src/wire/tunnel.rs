//! Frames of the stream tunnel (protocol.md §8.2): `uvarint connection | uvarint type | data`, one per WebSocket message.
//! The cloud's stream server and the edge's stream agent encode and decode here.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The most data that one frame carries; KubeEdge silently cuts what is longer.
pub const DATA_LIMIT: usize = 1 << 20;
/// The longest frame: two numbers and the data.
pub const FRAME_LIMIT: usize = DATA_LIMIT + 20;

/// What a frame is about. KubeEdge's edge panics on any other number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    LogsConnect,
    ExecConnect,
    MetricConnect,
    Data,
    /// This connection is finished; no data.
    RemoveConnect,
    /// The tunnel is to be dropped; connection 0, data is a text.
    CloseConnect,
    AttachConnect,
}

const KINDS: [FrameKind; 7] = [
    FrameKind::LogsConnect,
    FrameKind::ExecConnect,
    FrameKind::MetricConnect,
    FrameKind::Data,
    FrameKind::RemoveConnect,
    FrameKind::CloseConnect,
    FrameKind::AttachConnect,
];

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub connection: u64,
    pub kind: FrameKind,
    pub data: Bytes,
}

/// Why bytes are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum FrameError {
    #[error("the frame is cut off or its numbers are too long")]
    Truncated,
    #[error("the frame has an unknown type")]
    UnknownKind,
    #[error("the frame is longer than allowed")]
    TooLong,
}

impl Frame {
    pub fn new(connection: u64, kind: FrameKind, data: impl Into<Bytes>) -> Frame {
        Frame { connection, kind, data: data.into() }
    }

    /// The frame's bytes; data beyond [`DATA_LIMIT`] is the sender's mistake and must be split before.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.data.len() + 12);
        put_uvarint(&mut out, self.connection);
        let number = KINDS.iter().position(|kind| *kind == self.kind).unwrap_or_default();
        put_uvarint(&mut out, number as u64);
        out.extend_from_slice(&self.data);
        out
    }

    /// Reads a frame without copying its data.
    pub fn decode(bytes: Bytes) -> Result<Frame, FrameError> {
        if bytes.len() > FRAME_LIMIT {
            return Err(FrameError::TooLong);
        }
        let (connection, first) = uvarint(&bytes).ok_or(FrameError::Truncated)?;
        let rest = bytes.get(first..).ok_or(FrameError::Truncated)?;
        let (number, second) = uvarint(rest).ok_or(FrameError::Truncated)?;
        let index = usize::try_from(number).map_err(|_| FrameError::UnknownKind)?;
        let kind = *KINDS.get(index).ok_or(FrameError::UnknownKind)?;
        let data = bytes.slice(first + second..);
        if data.len() > DATA_LIMIT {
            return Err(FrameError::TooLong);
        }
        Ok(Frame { connection, kind, data })
    }
}

fn put_uvarint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The number and how many bytes it took.
fn uvarint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0u64;
    for (index, byte) in bytes.iter().take(10).enumerate() {
        if index == 9 && *byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, index + 1));
        }
    }
    None
}

/// Go's `url.URL` as it marshals; only path and query carry meaning, the host is the edge's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Target {
    pub scheme: String,
    pub opaque: String,
    pub user: Option<serde_json::Value>,
    pub host: String,
    pub path: String,
    pub raw_path: String,
    pub omit_host: bool,
    pub force_query: bool,
    pub raw_query: String,
    pub fragment: String,
    pub raw_fragment: String,
}

/// Data of a connect frame: the request that the edge is to carry out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Connect {
    #[serde(rename = "MessID")]
    pub connection: u64,
    pub url: Target,
    pub header: BTreeMap<String, Vec<String>>,
    /// Only for exec and attach.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub method: String,
}

impl Connect {
    /// A request for this path and query on the edge's kubelet API.
    pub fn new(connection: u64, path: &str, query: &str) -> Connect {
        let url = Target {
            scheme: "http".to_owned(),
            host: "127.0.0.1:10350".to_owned(),
            path: path.to_owned(),
            raw_query: query.to_owned(),
            ..Target::default()
        };
        Connect { connection, url, ..Connect::default() }
    }

    /// The frame's data.
    pub fn encode(&self) -> Vec<u8> {
        super::codec::go_json(self)
    }

    /// Reads a connect frame's data.
    pub fn decode(data: &[u8]) -> Option<Connect> {
        serde_json::from_slice(data).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_documented_frame_is_read_and_written() {
        let bytes = Bytes::from_static(&[0xac, 0x02, 0x03, 0x68, 0x69]);
        let frame = Frame::decode(bytes.clone()).unwrap();
        assert_eq!(frame, Frame::new(300, FrameKind::Data, "hi"));
        assert_eq!(frame.encode(), bytes);
    }

    #[test]
    fn wrong_frames_are_refused() {
        let decode = |bytes: &[u8]| Frame::decode(Bytes::copy_from_slice(bytes));
        assert_eq!(decode(&[1, 7]), Err(FrameError::UnknownKind));
        assert_eq!(decode(&[]), Err(FrameError::Truncated));
        assert_eq!(decode(&[0xff; 11]), Err(FrameError::Truncated));
        assert_eq!(decode(&vec![1; DATA_LIMIT + 3]), Err(FrameError::TooLong));
    }

    #[test]
    fn a_connect_frame_of_kubeedge_is_read() {
        let text = r#"{"MessID":7,"url":{"Scheme":"http","Opaque":"","User":null,"Host":"127.0.0.1:10350",
            "Path":"/containerLogs/default/nginx-1/nginx","RawPath":"","OmitHost":false,"ForceQuery":false,
            "RawQuery":"follow=true","Fragment":"","RawFragment":""},"header":{"User-Agent":["kube-apiserver"]}}"#;
        let connect = Connect::decode(text.as_bytes()).unwrap();
        assert_eq!((connect.connection, connect.url.raw_query.as_str()), (7, "follow=true"));
        assert_eq!(Connect::decode(&connect.encode()).unwrap(), connect);
    }

    #[test]
    fn recorded_frames_are_written_as_they_were_read() {
        use base64::Engine;
        let mut connects = 0;
        for line in include_str!("testdata/kubeedge-1.23.1-tunnel.jsonl").lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let payload = line["payload"].as_str().unwrap();
            let payload = Bytes::from(base64::engine::general_purpose::STANDARD.decode(payload).unwrap());
            let frame = Frame::decode(payload.clone()).unwrap();
            assert_eq!(frame.connection, line["connection"].as_u64().unwrap());
            let number = KINDS.iter().position(|kind| *kind == frame.kind).unwrap();
            assert_eq!(number as u64, line["type"].as_u64().unwrap());
            assert_eq!(frame.encode(), payload);
            if !matches!(frame.kind, FrameKind::Data | FrameKind::RemoveConnect | FrameKind::CloseConnect) {
                let connect = Connect::decode(&frame.data).unwrap();
                assert_eq!(connect.connection, frame.connection);
                assert_eq!(connect.encode(), frame.data);
                connects += 1;
            }
        }
        assert!(connects >= 6, "{connects}");
    }

    proptest! {
        #[test]
        fn frames_read_what_they_write(connection: u64, kind in 0usize..7, data: Vec<u8>) {
            let frame = Frame::new(connection, KINDS[kind], data);
            prop_assert_eq!(Frame::decode(Bytes::from(frame.encode())).unwrap(), frame);
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            drop(Frame::decode(Bytes::from(bytes)));
        }
    }
}
