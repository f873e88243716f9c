//! Bytes inside JSON as Go's `[]byte` travels: standard base64 with padding, `null` for none. Used by the messages that
//! carry bodies; never decodes what was not declared to be bytes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes; in JSON a base64 text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blob(pub Vec<u8>);

impl Blob {
    /// Reads base64; `None` for any other text.
    pub fn parse(text: &str) -> Option<Blob> {
        STANDARD.decode(text).ok().map(Blob)
    }

    /// The base64 text.
    pub fn text(&self) -> String {
        STANDARD.encode(&self.0)
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text())
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Blob, D::Error> {
        let text = String::deserialize(deserializer)?;
        Blob::parse(&text).ok_or_else(|| serde::de::Error::custom("not base64"))
    }
}
