//! A binary that wants to become a slot: copied with its digest, signature checked, tried in place with time limits.
//! Nothing of it runs before its signature holds; nothing of it becomes current here.

use super::disk::BINARY_LIMIT;
use crate::base::Failure;
use crate::model::Release;
use crate::pki::{VerifyingKey, read_signature};
use ring::digest::{Context, SHA256};
use serde::Deserialize;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a binary may take to tell its version, or to look at a configuration.
const TRY: Duration = Duration::from_secs(10);
/// What is read of its output.
const OUTPUT: u64 = 64 << 10;
const CHUNK: usize = 256 << 10;

/// Copies a file and syncs it; its SHA-256 as `sha256:…`. Refuses more than [`BINARY_LIMIT`].
pub fn copy(from: &mut impl Read, to: &Path) -> io::Result<(u64, String)> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o755).open(to)?;
    let mut sum = Context::new(&SHA256);
    let mut buffer = vec![0; CHUNK];
    let mut total = 0_u64;
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let part = buffer.get(..count).unwrap_or_default();
        total += part.len() as u64;
        if total > BINARY_LIMIT {
            return Err(io::Error::other(format!("it is larger than {} MiB", BINARY_LIMIT >> 20)));
        }
        sum.update(part);
        file.write_all(part)?;
    }
    file.sync_all()?;
    Ok((total, format_digest(sum.finish().as_ref())))
}

/// The digest of a file.
pub fn digest(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut sum = Context::new(&SHA256);
    let mut buffer = vec![0; CHUNK];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(format_digest(sum.finish().as_ref())),
            count => sum.update(buffer.get(..count).unwrap_or_default()),
        }
    }
}

/// `sha256:` and hexadecimal digits.
pub fn format_digest(sum: &[u8]) -> String {
    let hex: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// A key with the name under which a person knows it.
#[derive(Clone, Debug)]
pub struct TrustedKey {
    pub name: String,
    pub key: VerifyingKey,
}

/// Reads `*.pub` of a directory, or one named file. At least one key is there when it succeeds.
pub fn trusted_keys(dir: &Path, named: Option<&Path>) -> Result<Vec<TrustedKey>, Failure> {
    let paths = match named {
        Some(path) => vec![path.to_owned()],
        None => {
            let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
            let mut found: Vec<_> =
                entries.filter(|path| path.extension().is_some_and(|end| end == "pub")).collect();
            found.sort();
            found
        }
    };
    if paths.is_empty() {
        return Err(Failure::new("KE-UPGRADE-003", "no key is trusted for upgrades on this machine")
            .because(format!("there is no *.pub in {}", dir.display()))
            .fix(format!(
                "put the public key of your releases there, such as {}/release.pub; typed on the node, `kedge edge upgrade` takes --key too",
                dir.display()
            )));
    }
    let read = |path: &std::path::PathBuf| {
        let pem = crate::base::read_limited(path, 64 << 10)?;
        let key = VerifyingKey::from_pem(&pem).map_err(|error| {
            Failure::new("KE-UPGRADE-020", format!("the key {} cannot be used", path.display()))
                .because(error)
                .fix("make it with: openssl ec -in release.key -pubout -out release.pub (curve prime256v1)")
        })?;
        Ok(TrustedKey { name: path.display().to_string(), key })
    };
    paths.iter().map(read).collect()
}

/// Checks the signature of a whole file in memory; says whose key has signed it.
pub fn verify(binary: &Path, signature: &str, keys: &[TrustedKey]) -> Result<String, Failure> {
    let broken = |why: String| {
        Failure::new("KE-UPGRADE-005", "the signature does not hold").because(why).fix(
            "get the file and its signature again from where the release is published; do not use this one",
        )
    };
    let signature =
        read_signature(signature).map_err(|error| broken(format!("of the signature: {error}")))?;
    let message = crate::base::read_limited(binary, BINARY_LIMIT)?;
    let signer = keys.iter().find(|trusted| trusted.key.has_signed(&message, &signature));
    signer.map(|signer| signer.name.clone()).ok_or_else(|| {
        let names: Vec<&str> = keys.iter().map(|trusted| trusted.name.as_str()).collect();
        broken(format!("the file was changed, or none of these keys has signed it: {}", names.join(", ")))
    })
}

/// What a binary says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    kind: String,
    version: Release,
    pub platform: String,
    /// The newest layout of the node's database that it reads.
    #[serde(default = "super::first_layout")]
    pub database_layout: u32,
}

impl Told {
    pub fn version(&self) -> Release {
        self.version.clone()
    }
}

/// Runs `version -o json` of the binary: it has to run on this machine and to be kedge.
pub fn ask_version(binary: &Path) -> Result<Told, Failure> {
    let refuse = |why: String| {
        Failure::new("KE-UPGRADE-007", "the new binary does not run on this machine")
            .because(why)
            .fix(format!("get the release for {}/{}", std::env::consts::OS, std::env::consts::ARCH))
    };
    fits_machine(binary).map_err(&refuse)?;
    let said = run(binary, &["version", "-o", "json"], TRY).map_err(&refuse)?;
    let told: Told = serde_json::from_str(&said.stdout)
        .map_err(|error| refuse(format!("it does not tell its version as kedge does ({error})")))?;
    let own = format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH);
    if told.kind != "Version" || told.platform != own {
        return Err(refuse(format!("it is for {}, this machine is {own}", told.platform)));
    }
    Ok(told)
}

/// Reads the header of an ELF file: another machine's binary is named before it is run.
fn fits_machine(binary: &Path) -> Result<(), String> {
    let mut head = [0_u8; 20];
    let read = File::open(binary).and_then(|mut file| file.read_exact(&mut head));
    read.map_err(|_| "it is not a program".to_owned())?;
    const KNOWN: [(u16, &str); 4] = [(62, "x86_64"), (183, "aarch64"), (40, "arm"), (243, "riscv64")];
    let own = std::env::consts::ARCH;
    if !KNOWN.iter().any(|(_, name)| *name == own) {
        // Unknown here; the attempt to run it tells.
        return Ok(());
    }
    match (head.get(..4), head.get(18..20)) {
        (Some(b"\x7fELF"), Some(&[low, high])) => {
            let kind = u16::from_le_bytes([low, high]);
            match KNOWN.iter().find(|(known, _)| *known == kind) {
                Some((_, name)) if *name == own => Ok(()),
                Some((_, name)) => Err(format!("it is for {name}, this machine is {own}")),
                None => Err(format!("it is for another processor than {own}")),
            }
        }
        _ => Err("it is not a program".to_owned()),
    }
}

/// Whether the binary accepts the present configuration; the error is what it says.
pub fn accepts(binary: &Path, config: &Path) -> Result<(), Failure> {
    let refuse = |why: String| {
        Failure::new("KE-UPGRADE-011", "the new version does not accept the present configuration")
            .because(why)
            .fix(format!("change {} so that both versions accept it, then upgrade again", config.display()))
    };
    let config = config.to_str().ok_or_else(|| refuse("its path is no text".to_owned()))?;
    run(binary, &["edge", "run", "--dry-run", "--config", config], TRY).map(drop).map_err(refuse)
}

/// Whether the binary's own launcher can serve this machine from now on.
pub fn launches(binary: &Path, config: &Path) -> bool {
    let config = config.to_str().unwrap_or_default();
    run(binary, &["edge", "launch", "--dry-run", "--config", config], TRY).is_ok()
}

struct Said {
    stdout: String,
}

/// Runs a program to its end with nothing of this environment; the error tells how it failed.
fn run(program: &Path, args: &[&str], limit: Duration) -> Result<Said, String> {
    let mut child = start(program, args).map_err(|error| format!("it cannot be started: {error}"))?;
    let drain = |pipe: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut text = Vec::new();
            // A broken pipe leaves what was read; more than the limit stays unread.
            drop(pipe.map(|pipe| pipe.take(OUTPUT).read_to_end(&mut text)));
            String::from_utf8_lossy(&text).into_owned()
        })
    };
    let out = drain(child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>));
    let err = drain(child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>));
    let deadline = Instant::now() + limit;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
            _ => {
                drop(child.kill());
                drop(child.wait());
                break None;
            }
        }
    };
    let (stdout, stderr) = (out.join().unwrap_or_default(), err.join().unwrap_or_default());
    match status {
        None => Err(format!("it did not end within {} s", limit.as_secs())),
        Some(status) if status.success() => Ok(Said { stdout }),
        Some(status) => {
            let how = match (status.code(), status.signal()) {
                (Some(code), _) => format!("it ended with status {code}"),
                (None, signal) => format!("it was ended by signal {}", signal.unwrap_or(0)),
            };
            let line: String = stderr.split_whitespace().collect::<Vec<_>>().join(" ");
            let line: String = line.chars().filter(|c| !c.is_control()).take(400).collect();
            Err(if line.is_empty() { how } else { format!("{how}: {line}") })
        }
    }
}

fn start(program: &Path, args: &[&str]) -> io::Result<std::process::Child> {
    // Another thread that starts a program just now may still hold the file open for writing.
    let busy = |error: &io::Error| error.kind() == io::ErrorKind::ExecutableFileBusy;
    let mut tries = 0;
    loop {
        let mut command = Command::new(program);
        command.args(args).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        match command.spawn() {
            Err(error) if busy(&error) && tries < 50 => {
                tries += 1;
                std::thread::sleep(Duration::from_millis(20));
            }
            started => return started,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_the_digest_of_its_source_and_no_program_is_no_kedge() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("copy");
        let (bytes, sum) = copy(&mut &b"abc"[..], &to).unwrap();
        assert_eq!((bytes, digest(&to).unwrap()), (3, sum.clone()));
        assert_eq!(sum, "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        let failure = ask_version(&to).unwrap_err();
        assert_eq!((failure.code, failure.why.as_str()), ("KE-UPGRADE-007", "it is not a program"));
        failure.is_as_committed();
        let failure = ask_version(Path::new("/bin/true")).unwrap_err();
        assert!(failure.why.contains("does not tell its version"), "{failure}");
    }

    #[test]
    fn a_program_that_hangs_or_fails_is_told_apart() {
        let hangs = run(Path::new("/bin/sleep"), &["60"], Duration::from_millis(50)).err().unwrap();
        assert!(hangs.contains("did not end"), "{hangs}");
        let fails = run(Path::new("/bin/ls"), &["/nonexistent"], TRY).err().unwrap();
        assert!(fails.contains("status 2") && fails.contains("/nonexistent"), "{fails}");
    }

    #[test]
    fn without_a_key_nothing_is_trusted() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(trusted_keys(dir.path(), None).unwrap_err().committed().code, "KE-UPGRADE-003");
        std::fs::write(dir.path().join("a.pub"), "nonsense").unwrap();
        assert_eq!(trusted_keys(dir.path(), None).unwrap_err().committed().code, "KE-UPGRADE-020");
        let named = dir.path().join("absent");
        assert_eq!(trusted_keys(dir.path(), Some(&named)).unwrap_err().committed().code, "KE-FILE-002");
    }
}
