//! Opens a bundle: reads its manifest, then every part against it. What a bundle says is only ever compared with the fixed
//! names, limits and digests; no path in it is used.

use super::{
    API_VERSION, KIND, MANIFEST, MANIFEST_LIMIT, Manifest, Name, Part, copy_digested, damaged, unread,
};
use crate::base::{Exit, Failure, unwritable, write_whole};
use crate::cri::Runtime;
use crate::host::images;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// A bundle whose parts all are what its manifest says.
#[derive(Debug)]
pub struct Bundle {
    path: PathBuf,
    file: File,
    version: String,
    architecture: String,
    parts: Vec<(Part, u64)>,
}

impl Bundle {
    /// Opens and checks a bundle, all of it: gigabytes of images take seconds. Blocking.
    pub fn open(path: &Path) -> Result<Bundle, Failure> {
        let file = File::open(path).map_err(|error| {
            Failure::new("KE-FILE-002", format!("cannot read {}", path.display()))
                .because(error)
                .fix("check the path and its permissions")
                .exit(Exit::Configuration)
        })?;
        let mut archive = tar::Archive::new(BufReader::with_capacity(256 << 10, &file));
        let entries = archive.entries().map_err(|error| unread(path, &error))?;
        let mut manifest: Option<Manifest> = None;
        let mut parts: Vec<(Part, u64)> = Vec::new();
        for entry in entries {
            let mut entry = entry.map_err(|error| unread(path, &error))?;
            let name = entry.path_bytes().into_owned();
            if entry.header().entry_type() != tar::EntryType::Regular {
                return Err(damaged(path, "an entry is no ordinary file"));
            }
            match &manifest {
                None => manifest = Some(read_manifest(path, &name, &mut entry)?),
                Some(manifest) => {
                    let offset = entry.raw_file_position();
                    parts.push((next_part(path, manifest, parts.len(), &name, &mut entry)?, offset));
                }
            }
        }
        let manifest = manifest.ok_or_else(|| damaged(path, "it is empty"))?;
        if parts.len() != manifest.parts.len() {
            return Err(damaged(
                path,
                format!("it ends after {} of {} parts", parts.len(), manifest.parts.len()),
            ));
        }
        for needed in [Name::Binary, Name::JoinFile] {
            if !parts.iter().any(|(part, _)| part.name == needed) {
                return Err(damaged(path, format!("{needed} is not in it")));
            }
        }
        let Manifest { version, architecture, .. } = manifest;
        Ok(Bundle { path: path.to_owned(), file, version, architecture, parts })
    }

    /// The version of the kedge that packed it.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The machines that its binary runs on, as `uname -m` says it.
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// What is in it, in order.
    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter().map(|(part, _)| part)
    }

    /// Fails when the binary in it is for other machines than this one.
    pub fn fits_this_machine(&self) -> Result<(), Failure> {
        let here = rustix::system::uname().machine().to_string_lossy().into_owned();
        if runs(&self.architecture, &here, std::env::consts::ARCH) {
            return Ok(());
        }
        Err(Failure::new("KE-BUNDLE-004", format!("{} is for other machines", self.path.display()))
            .because(format!("its kedge is for {}, this machine is {here}", self.architecture))
            .fix("make one with `kedge bundle --binary` and a kedge for this machine"))
    }

    /// The text of the join file; it holds a token.
    pub fn join_file(&self) -> Result<String, Failure> {
        let bytes = self.read(Name::JoinFile)?;
        String::from_utf8(bytes).map_err(|_| damaged(&self.path, "join.yaml is no text"))
    }

    /// The kedge binary; at most 256 MiB.
    pub fn binary(&self) -> Result<Vec<u8>, Failure> {
        self.read(Name::Binary)
    }

    /// Writes a part to a file, whole or not at all.
    pub fn extract(&self, name: Name, to: &Path) -> Result<(), Failure> {
        write_whole(to, name.mode(), |error| unwritable(to, error), |out| self.copy(name, out))
    }

    /// Hands every image to the runtime's own importer; returns how many archives there were.
    pub async fn load_images(&self, runtime: &Runtime) -> Result<usize, Failure> {
        let mut count = 0;
        for (part, offset) in &self.parts {
            if !matches!(part.name, Name::Image(_)) {
                continue;
            }
            let mut file = self.file.try_clone().map_err(|error| damaged(&self.path, error))?;
            file.seek(SeekFrom::Start(*offset)).map_err(|error| damaged(&self.path, error))?;
            images::load(runtime, &part.origin, file.take(part.size)).await?;
            count += 1;
        }
        Ok(count)
    }

    fn read(&self, name: Name) -> Result<Vec<u8>, Failure> {
        let mut content = Vec::new();
        self.copy(name, &mut content)?;
        Ok(content)
    }

    /// Copies a part and compares its digest once more: somebody may have written to the file meanwhile.
    fn copy(&self, name: Name, to: &mut impl io::Write) -> Result<(), Failure> {
        let found = self.parts.iter().find(|(part, _)| part.name == name);
        let (part, offset) = found.ok_or_else(|| damaged(&self.path, format!("{name} is not in it")))?;
        let mut file = &self.file;
        let copied = file
            .seek(SeekFrom::Start(*offset))
            .and_then(|_| copy_digested(&mut Read::take(file, part.size), to));
        match copied {
            Ok((_, sha256)) if sha256 == part.sha256 => Ok(()),
            Ok(_) => Err(damaged(&self.path, format!("{name} changed after it was checked"))),
            Err(error) => Err(damaged(&self.path, error)),
        }
    }
}

fn read_manifest(path: &Path, name: &[u8], entry: &mut impl Read) -> Result<Manifest, Failure> {
    if name != MANIFEST.as_bytes() {
        return Err(damaged(path, format!("its first entry is not {MANIFEST}")));
    }
    let mut text = Vec::new();
    let read = entry.take(MANIFEST_LIMIT + 1).read_to_end(&mut text);
    read.map_err(|error| damaged(path, error))?;
    if text.len() as u64 > MANIFEST_LIMIT {
        return Err(damaged(path, format!("{MANIFEST} is larger than {MANIFEST_LIMIT} bytes")));
    }
    let manifest: Manifest =
        serde_json::from_slice(&text).map_err(|error| damaged(path, format!("{MANIFEST}: {error}")))?;
    if manifest.api_version != API_VERSION || manifest.kind != KIND {
        let said = format!("{MANIFEST} is a {} of {}", shown(&manifest.kind), shown(&manifest.api_version));
        return Err(damaged(path, said));
    }
    let mut names: Vec<&str> = manifest.parts.iter().map(|part| part.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    if names.len() != manifest.parts.len() {
        return Err(damaged(path, "a part is listed twice"));
    }
    Ok(manifest)
}

fn next_part(
    path: &Path,
    manifest: &Manifest,
    number: usize,
    name: &[u8],
    entry: &mut impl Read,
) -> Result<Part, Failure> {
    let text = String::from_utf8_lossy(name).into_owned();
    let listed = manifest.parts.get(number).filter(|listed| listed.name == text);
    let listed =
        listed.ok_or_else(|| damaged(path, format!("{} is not listed at its place", shown(&text))))?;
    let name = Name::parse(&text).ok_or_else(|| damaged(path, format!("{} is no part", shown(&text))))?;
    if listed.size > name.limit() {
        return Err(damaged(path, format!("{name} is larger than {} bytes", name.limit())));
    }
    let copied = copy_digested(&mut entry.take(listed.size + 1), &mut io::sink());
    let (size, sha256) = copied.map_err(|error| damaged(path, error))?;
    if size != listed.size || sha256 != listed.sha256 {
        return Err(damaged(path, format!("the digest of {name} is not the one that is listed")));
    }
    Ok(Part { name, origin: shown(&listed.origin), size, sha256 })
}

/// Whether a machine that `uname -m` calls `here` runs programs for `packed`. A 64-bit kernel under a 32-bit system calls
/// itself aarch64, so for 32-bit programs this very one is the proof.
fn runs(packed: &str, here: &str, this_program: &str) -> bool {
    packed == here || (packed == "armv7l" && this_program == "arm")
}

/// A word from the file, short and without control characters.
fn shown(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Sources, pack};
    use super::*;

    fn elf() -> Vec<u8> {
        let mut program = vec![0_u8; 5000];
        program[..4].copy_from_slice(b"\x7fELF");
        let machine = match std::env::consts::ARCH {
            "x86_64" => 62,
            "aarch64" => 183,
            "arm" => 40,
            _ => 243,
        };
        program[18] = machine;
        program
    }

    fn image() -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(2);
        header.set_mode(0o600);
        builder.append_data(&mut header, "index.json", &b"{}"[..]).unwrap();
        builder.into_inner().unwrap()
    }

    fn packed(dir: &Path) -> PathBuf {
        let put = |name: &str, content: &[u8]| {
            std::fs::write(dir.join(name), content).unwrap();
            dir.join(name)
        };
        let sources = Sources {
            binary: put("kedge", &elf()),
            join_file: put("join", b"token: s3cret\n"),
            images: vec![put("a.tar", &image()), put("b.tar", &image())],
        };
        let bundle = dir.join("bundle.tar");
        assert_eq!(pack(&sources, Some(&bundle)).unwrap().len(), 4);
        bundle
    }

    #[test]
    fn what_is_packed_comes_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = packed(dir.path());
        let bundle = Bundle::open(&path).unwrap();
        assert_eq!(bundle.join_file().unwrap(), "token: s3cret\n");
        assert_eq!(bundle.binary().unwrap(), elf());
        bundle.fits_this_machine().unwrap();
        let out = dir.path().join("out");
        bundle.extract(Name::Image(1), &out).unwrap();
        assert_eq!(std::fs::read(&out).unwrap(), image());
        let origins: Vec<&str> = bundle.parts().map(|part| part.origin.as_str()).collect();
        assert_eq!(origins, ["kedge", "join", "a.tar", "b.tar"]);
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn any_changed_byte_of_a_part_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = packed(dir.path());
        let whole = std::fs::read(&path).unwrap();
        for at in (512..whole.len()).step_by(509) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x40;
            std::fs::write(&path, &bytes).unwrap();
            // Padding between parts belongs to nobody; everything else is checked.
            if let Ok(bundle) = Bundle::open(&path) {
                assert_eq!(bundle.binary().unwrap(), elf(), "byte {at}");
                assert_eq!(bundle.join_file().unwrap(), "token: s3cret\n", "byte {at}");
            }
        }
        for length in [0, 100, 512, 1500, whole.len() / 2, whole.len() - 2048] {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(Bundle::open(&path).unwrap_err().committed().code, "KE-BUNDLE-001", "{length}");
        }
    }

    #[test]
    fn a_file_that_is_no_archive_is_not_repeated() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b");
        std::fs::write(&path, "token: s3cret\n".repeat(200)).unwrap();
        let failure = Bundle::open(&path).unwrap_err();
        assert!(failure.code == "KE-BUNDLE-001" && !failure.why.contains("s3cret"), "{failure}");
        failure.is_as_committed();
    }

    /// An archive by hand, with a manifest that lists what it holds.
    fn forged(dir: &Path, parts: &[(&str, tar::EntryType, &[u8])]) -> Failure {
        let digest = |bytes: &[u8]| copy_digested(&mut &bytes[..], &mut io::sink()).unwrap().1;
        let listed: Vec<serde_json::Value> = parts
            .iter()
            .map(|(name, _, content)| {
                serde_json::json!({"name": name, "origin": "", "size": content.len(), "sha256": digest(content)})
            })
            .collect();
        let manifest = serde_json::json!({"apiVersion": API_VERSION, "kind": KIND, "version": "1", "architecture": "x", "parts": listed});
        let mut builder = tar::Builder::new(Vec::new());
        let text = manifest.to_string();
        let all =
            [(MANIFEST, tar::EntryType::Regular, text.as_bytes())].into_iter().chain(parts.iter().copied());
        for (name, kind, content) in all {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_entry_type(kind);
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_mode(0o777);
            header.set_cksum();
            builder.append(&header, content).unwrap();
        }
        let path = dir.join("forged.tar");
        std::fs::write(&path, builder.into_inner().unwrap()).unwrap();
        Bundle::open(&path).unwrap_err()
    }

    #[test]
    fn no_other_name_and_no_other_kind_of_entry_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let file = tar::EntryType::Regular;
        type Entry = (&'static str, tar::EntryType, &'static [u8]);
        let cases: [(&[Entry], &str); 5] = [
            (&[("../../etc/passwd", file, b"x")], "../../etc/passwd is no part"),
            (&[("/etc/passwd", file, b"x")], "/etc/passwd is no part"),
            (&[("kedge", tar::EntryType::Symlink, b"")], "no ordinary file"),
            (&[("kedge", file, b"x"), ("kedge", file, b"x")], "listed twice"),
            (&[("kedge", file, b"x")], "join.yaml is not in it"),
        ];
        for (parts, why) in cases {
            let failure = forged(dir.path(), parts);
            assert_eq!(failure.code, "KE-BUNDLE-001");
            failure.is_as_committed();
            assert!(failure.why.contains(why), "{failure}");
        }
    }

    #[test]
    fn a_bundle_for_other_machines_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let mut bundle = Bundle::open(&packed(dir.path())).unwrap();
        bundle.architecture = "riscv64".to_owned();
        let failure = bundle.fits_this_machine().unwrap_err();
        assert_eq!(failure.code, "KE-BUNDLE-004");
        failure.is_as_committed();
        assert!(failure.what.contains("bundle.tar") && failure.why.contains("riscv64"), "{failure}");
        assert!(failure.fix.contains("kedge bundle --binary"), "{failure:?}");
    }

    #[test]
    fn a_32_bit_system_takes_its_own_bundle_whatever_its_kernel_is() {
        assert!(
            runs("armv7l", "armv7l", "arm")
                && runs("armv7l", "armv8l", "arm")
                && runs("armv7l", "aarch64", "arm")
        );
        assert!(runs("aarch64", "aarch64", "aarch64") && runs("riscv64", "riscv64", "riscv64"));
        assert!(!runs("armv7l", "aarch64", "aarch64") && !runs("aarch64", "armv7l", "arm"));
        assert!(!runs("x86_64", "aarch64", "aarch64"));
    }

    #[test]
    fn sources_are_checked_before_anything_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, content: &[u8]| {
            std::fs::write(dir.path().join(name), content).unwrap();
            dir.path().join(name)
        };
        let good = Sources { binary: put("k", &elf()), join_file: put("j", b"x"), images: vec![] };
        let to = dir.path().join("out.tar");
        let cases = [
            Sources { binary: put("text", b"#!/bin/sh\nexit 0\n"), ..good.clone() },
            Sources { images: vec![put("gz", b"\x1f\x8bxxxx")], ..good.clone() },
            Sources { images: vec![put("none", b"nonsense")], ..good.clone() },
            Sources { images: vec![dir.path().to_owned()], ..good.clone() },
            Sources { images: vec![put("many", b"x"); 65], ..good.clone() },
            Sources { join_file: put("large", &vec![b'x'; (1 << 20) + 1]), ..good.clone() },
        ];
        for sources in cases {
            assert_eq!(pack(&sources, Some(&to)).unwrap_err().committed().code, "KE-BUNDLE-002");
            assert!(!to.exists());
        }
        assert!(pack(&good, None).is_ok() && !to.exists());
        // Nothing gives way to it, its own parts least of all.
        for part in [&good.join_file, &good.binary] {
            let before = std::fs::read(part).unwrap();
            let failure = pack(&good, Some(part)).unwrap_err();
            assert_eq!((failure.code, std::fs::read(part).unwrap()), ("KE-BUNDLE-005", before));
        }
        let socket = dir.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert_eq!(pack(&good, Some(&socket)).unwrap_err().code, "KE-BUNDLE-005");
        assert_eq!(
            pack(&good, Some(Path::new("/nonexistent/x"))).unwrap_err().committed().code,
            "KE-BUNDLE-003"
        );
    }
}
