//! One file for a machine without a network: the binary, images, and the join file, in a plain tar archive that `tar xf`
//! opens too. `kedge bundle` packs it, `kedge join --bundle` opens it. Its first entry tells the size and digest of all
//! others, whose names are a fixed set; nothing of it is used before all of it was checked, and no entry says where it goes.
//!
//! pack: sources -> digests -> archive       open: archive -> manifest -> every part checked -> Bundle

mod open;
mod pack;

pub use open::Bundle;
pub use pack::{Sources, pack};

use crate::base::{Exit, Failure};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::{self, Read, Write};
use std::path::Path;

const MANIFEST: &str = "kedge-bundle.json";
const MANIFEST_LIMIT: u64 = 64 << 10;
/// Bytes of the binary.
pub const BINARY_LIMIT: u64 = 256 << 20;
const JOIN_LIMIT: u64 = 1 << 20;
/// Bytes of one archive of images.
pub const IMAGE_LIMIT: u64 = 16 << 30;
/// Images in one bundle.
pub const IMAGES: usize = 64;
const API_VERSION: &str = "kedge.io/v1";
const KIND: &str = "Bundle";

/// What a bundle consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    Binary,
    JoinFile,
    /// Counted from 0.
    Image(usize),
}

impl Name {
    /// Only these names exist; anything else is no part of a bundle.
    fn parse(text: &str) -> Option<Name> {
        match text {
            "kedge" => Some(Name::Binary),
            "join.yaml" => Some(Name::JoinFile),
            other => {
                let number = other.strip_prefix("image-")?.strip_suffix(".tar")?;
                let valid = number.len() == 2 && number.bytes().all(|byte| byte.is_ascii_digit());
                number.parse().ok().filter(|number| valid && *number < IMAGES).map(Name::Image)
            }
        }
    }

    fn limit(self) -> u64 {
        match self {
            Name::Binary => BINARY_LIMIT,
            Name::JoinFile => JOIN_LIMIT,
            Name::Image(_) => IMAGE_LIMIT,
        }
    }

    fn mode(self) -> u32 {
        if self == Name::Binary { 0o755 } else { 0o600 }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Binary => f.write_str("kedge"),
            Name::JoinFile => f.write_str("join.yaml"),
            Name::Image(number) => write!(f, "image-{number:02}.tar"),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    api_version: String,
    kind: String,
    /// Of the kedge that packed it.
    version: String,
    /// `uname -m` of the machines that the binary runs on.
    architecture: String,
    parts: Vec<Listed>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    name: String,
    /// Where it came from, for people.
    origin: String,
    size: u64,
    sha256: String,
}

/// One part as a person sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub name: Name,
    /// The file that it was packed from.
    pub origin: String,
    pub size: u64,
    /// Lower-case hexadecimal.
    pub sha256: String,
}

/// The archive's own errors repeat the bytes that they stumble over, of a file that may be anything: they are left out.
fn unread(path: &Path, error: &io::Error) -> Failure {
    match error.raw_os_error() {
        Some(_) => damaged(path, error),
        None => damaged(path, "it is no archive as `kedge bundle` writes it, or it is cut off"),
    }
}

fn damaged(path: &Path, why: impl fmt::Display) -> Failure {
    Failure::new("KE-BUNDLE-001", format!("{} is no usable bundle", path.display()))
        .because(why)
        .fix("copy it again, or make it again with `kedge bundle`; nothing of it was used")
        .exit(Exit::Configuration)
}

/// The architecture of an ELF program, as `uname -m` says it.
fn architecture(head: &[u8]) -> Option<&'static str> {
    if head.get(..4)? != b"\x7fELF" {
        return None;
    }
    match u16::from_le_bytes([*head.get(18)?, *head.get(19)?]) {
        62 => Some("x86_64"),
        183 => Some("aarch64"),
        40 => Some("armv7l"),
        243 => Some("riscv64"),
        _ => None,
    }
}

/// Copies a source and digests what went through.
fn copy_digested(from: &mut impl Read, to: &mut impl Write) -> io::Result<(u64, String)> {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    let (mut buffer, mut size) = (vec![0_u8; 64 << 10], 0_u64);
    loop {
        let count = from.read(&mut buffer)?;
        let Some(chunk) = buffer.get(..count).filter(|chunk| !chunk.is_empty()) else { break };
        context.update(chunk);
        to.write_all(chunk)?;
        size += chunk.len() as u64;
    }
    let digest = context.finish();
    Ok((size, digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_a_fixed_set() {
        for name in [Name::Binary, Name::JoinFile, Name::Image(0), Name::Image(63)] {
            assert_eq!(Name::parse(&name.to_string()), Some(name));
        }
        for other in [
            "",
            "../kedge",
            "/kedge",
            "image-64.tar",
            "image-1.tar",
            "image-+1.tar",
            "image-00.tar/x",
            "Kedge",
        ] {
            assert_eq!(Name::parse(other), None, "{other}");
        }
    }
}
