//! Packs a bundle: every source is digested, then written; a source that changes in between is noticed.

use super::{API_VERSION, IMAGES, KIND, Listed, MANIFEST, Manifest, Name, Part, architecture, copy_digested};
use crate::base::{Exit, Failure, write_whole};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Entries of an image archive that are looked at for the mark of one.
const LOOK: usize = 20_000;

/// The files that a bundle is packed from.
#[derive(Clone, Debug)]
pub struct Sources {
    pub binary: PathBuf,
    pub join_file: PathBuf,
    /// Image archives as `docker save` and `ctr images export` write them, uncompressed.
    pub images: Vec<PathBuf>,
}

struct Source {
    name: Name,
    path: PathBuf,
    file: File,
    size: u64,
    sha256: String,
}

/// Checks all sources and, unless `to` is `None`, writes the bundle whole or not at all, for its owner only. Whatever has
/// that name keeps it.
pub fn pack(sources: &Sources, to: Option<&Path>) -> Result<Vec<Part>, Failure> {
    // A device as well: a file in its place would be the end of it for the whole machine.
    if let Some(to) = to.filter(|to| to.symlink_metadata().is_ok()) {
        return Err(Failure::new("KE-BUNDLE-005", format!("{} is there already", to.display()))
            .because("a bundle is written anew only, so that nothing is lost")
            .fix("name another file with -o, or remove that one first"));
    }
    if sources.images.len() > IMAGES {
        return Err(Failure::new("KE-BUNDLE-002", format!("a bundle holds at most {IMAGES} images"))
            .because(format!("{} were named", sources.images.len()))
            .fix("put several images into one archive: `ctr images export FILE NAME…`")
            .exit(Exit::Usage));
    }
    let mut opened = vec![open(Name::Binary, &sources.binary)?, open(Name::JoinFile, &sources.join_file)?];
    for (number, path) in sources.images.iter().enumerate() {
        opened.push(open(Name::Image(number), path)?);
    }
    let architecture = check_binary(opened.first_mut(), &sources.binary)?;
    for source in opened.iter_mut().skip(2) {
        check_image(source)?;
    }
    for source in &mut opened {
        digest(source)?;
    }
    let listed = |source: &Source| Listed {
        name: source.name.to_string(),
        origin: source.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        size: source.size,
        sha256: source.sha256.clone(),
    };
    let manifest = Manifest {
        api_version: API_VERSION.to_owned(),
        kind: KIND.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        architecture: architecture.to_owned(),
        parts: opened.iter().map(listed).collect(),
    };
    if let Some(to) = to {
        let failed = |error| unwritable(to, &error);
        write_whole(to, 0o600, failed, |file| write(&manifest, &mut opened, to, file))?;
    }
    let part = |(source, listed): (&Source, Listed)| Part {
        name: source.name,
        origin: listed.origin,
        size: listed.size,
        sha256: listed.sha256,
    };
    Ok(opened.iter().zip(manifest.parts).map(part).collect())
}

fn unusable(path: &Path, why: impl std::fmt::Display) -> Failure {
    Failure::new("KE-BUNDLE-002", format!("{} cannot be part of a bundle", path.display()))
        .because(why)
        .fix("name a regular file that can be read, and is what its flag says")
}

fn open(name: Name, path: &Path) -> Result<Source, Failure> {
    let file = File::open(path).map_err(|error| unusable(path, error).fix("check the path"))?;
    let meta = file.metadata().map_err(|error| unusable(path, error))?;
    if !meta.is_file() {
        return Err(unusable(path, "it is no file"));
    }
    if meta.len() > name.limit() {
        return Err(unusable(path, format!("it is larger than {} bytes", name.limit()))
            .fix("name a smaller file, or several bundles"));
    }
    Ok(Source { name, path: path.to_owned(), file, size: meta.len(), sha256: String::new() })
}

fn check_binary(source: Option<&mut Source>, path: &Path) -> Result<&'static str, Failure> {
    let mut head = [0_u8; 64];
    let read = source.map(|source| source.file.read_exact(&mut head));
    let known = read.is_some_and(|read| read.is_ok()).then(|| architecture(&head)).flatten();
    known.ok_or_else(|| unusable(path, "it is no program for Linux").fix("name a kedge binary with --binary"))
}

/// An image archive has the index of one at its top.
fn check_image(source: &mut Source) -> Result<(), Failure> {
    let mut magic = [0_u8; 2];
    let compressed =
        source.file.read_exact(&mut magic).is_ok() && matches!(magic, [0x1f, 0x8b] | [0x28, 0xb5]);
    if compressed {
        return Err(
            unusable(&source.path, "it is compressed").fix("decompress it first, with gunzip or unzstd")
        );
    }
    let rewound = source.file.rewind().map_err(|error| unusable(&source.path, error));
    rewound?;
    let mut archive = tar::Archive::new(&source.file);
    let found = archive.entries_with_seek().is_ok_and(|entries| {
        entries.take(LOOK).map_while(Result::ok).any(|entry| {
            entry.path().is_ok_and(|path| {
                let path = path.strip_prefix("./").unwrap_or(&path);
                path == Path::new("index.json") || path == Path::new("manifest.json")
            })
        })
    });
    if found {
        return Ok(());
    }
    Err(unusable(&source.path, "it is no archive of images")
        .fix("write one with `docker save -o FILE NAME` or `ctr images export FILE NAME`"))
}

fn digest(source: &mut Source) -> Result<(), Failure> {
    let read = source.file.seek(SeekFrom::Start(0)).and_then(|_| {
        let mut limited = Read::take(&source.file, source.name.limit() + 1);
        copy_digested(&mut limited, &mut io::sink())
    });
    let (size, sha256) = read.map_err(|error| unusable(&source.path, error))?;
    if size != source.size {
        return Err(changed(&source.path));
    }
    source.sha256 = sha256;
    Ok(())
}

fn changed(path: &Path) -> Failure {
    unusable(path, "it changed while it was read").fix("try again once nobody writes it")
}

fn unwritable(to: &Path, error: &io::Error) -> Failure {
    Failure::new("KE-BUNDLE-003", format!("cannot write the bundle {}", to.display()))
        .because(error)
        .fix("check that the directory exists, is writable and has free space")
}

fn write(manifest: &Manifest, sources: &mut [Source], to: &Path, file: &mut File) -> Result<(), Failure> {
    let failure = |error: io::Error| unwritable(to, &error);
    let mut builder = tar::Builder::new(io::BufWriter::with_capacity(256 << 10, file));
    let text = serde_json::to_vec_pretty(manifest).unwrap_or_default();
    let mut header = header(text.len() as u64, 0o600);
    builder.append_data(&mut header, MANIFEST, text.as_slice()).map_err(failure)?;
    for source in sources {
        source.file.rewind().map_err(failure)?;
        let mut copied = Digesting { from: Read::take(&source.file, source.size), context: new_context() };
        let mut entry = self::header(source.size, source.name.mode());
        builder.append_data(&mut entry, source.name.to_string(), &mut copied).map_err(failure)?;
        if copied.finish() != source.sha256 {
            return Err(changed(&source.path));
        }
    }
    let mut out = builder.into_inner().map_err(failure)?;
    out.flush().map_err(failure)
}

fn header(size: u64, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(mode);
    header
}

fn new_context() -> ring::digest::Context {
    ring::digest::Context::new(&ring::digest::SHA256)
}

/// Digests what is read through it.
struct Digesting<R> {
    from: R,
    context: ring::digest::Context,
}

impl<R: Read> Read for Digesting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        self.context.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}

impl<R> Digesting<R> {
    fn finish(self) -> String {
        self.context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_of_its_kind_is_refused_with_a_way_out() {
        for path in ["/etc", "/dev/null", "/no/such/file"] {
            let failure = open(Name::Image(0), Path::new(path)).err().unwrap();
            assert_eq!(failure.code, "KE-BUNDLE-002");
            assert!(failure.what.contains(path) && !failure.why.is_empty(), "{failure}");
            assert!(!failure.fix.is_empty(), "{failure}");
        }
    }
}
