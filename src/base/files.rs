//! Files that are whole or absent: written beside their place, synced, renamed. Every error names the path.

use super::failure::Failure;
use super::id::random_suffix;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Whether a file may take this place: nothing is there, or a file is. A device or a pipe would be gone for good, for
/// every program of the machine.
pub fn replaceable(path: &Path) -> std::io::Result<()> {
    match fs::metadata(path) {
        Ok(there) if !there.is_file() => Err(std::io::Error::other(if there.is_dir() {
            "it is a directory"
        } else {
            "it is a device, a pipe or a socket, which a file would take the place of"
        })),
        _ => Ok(()),
    }
}

/// Writes a file with these permissions so that a reader sees the old or the new content, never a part. Only a file is
/// replaced.
pub fn write_atomic(path: &Path, content: &[u8], mode: u32) -> Result<(), Failure> {
    // Named after the whole file and by chance: writers of `a.crt` and `a.key`, or of the same file, do not meet.
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".tmp-{}", random_suffix(8)));
    let beside = std::path::PathBuf::from(beside);
    let written = (|| {
        replaceable(path)?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        File::open(directory_of(path))?.sync_all()?;
        Ok::<(), std::io::Error>(())
    })();
    written.map_err(|error| {
        drop(fs::remove_file(&beside));
        Failure::new("KE-FILE-001", format!("cannot write {}", path.display()))
            .because(error)
            .fix("check that the directory exists, is writable and has free space")
    })
}

/// Where a file lies; a bare name lies in the working directory.
fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Reads a file of at most `limit` bytes.
pub fn read_limited(path: &Path, limit: u64) -> Result<Vec<u8>, Failure> {
    let file = File::open(path).map_err(|error| no_access(path, &error))?;
    let mut content = Vec::new();
    file.take(limit + 1).read_to_end(&mut content).map_err(|error| no_access(path, &error))?;
    if content.len() as u64 > limit {
        return Err(unreadable(path, format!("it is larger than {limit} bytes")));
    }
    Ok(content)
}

/// Whether something stands at a path; a failure where this user may not even know, as nothing is no answer then.
pub fn is_there(path: &Path) -> Result<bool, Failure> {
    match path.try_exists() {
        Ok(there) => Ok(there),
        Err(error) if error.kind() == ErrorKind::NotADirectory => Ok(false),
        Err(error) => Err(no_access(path, &error)),
    }
}

fn unreadable(path: &Path, why: impl std::fmt::Display) -> Failure {
    Failure::new("KE-FILE-002", format!("cannot read {}", path.display()))
        .because(why)
        .fix("check the path and its permissions")
}

/// The failure for a file that cannot be read for this reason.
pub fn no_access(path: &Path, error: &io::Error) -> Failure {
    let failure = unreadable(path, error);
    match error.kind() {
        ErrorKind::PermissionDenied => failure.fix("run the same command with sudo"),
        _ => failure,
    }
}

/// Makes a directory, with its parents, that only its owner can enter.
pub fn create_private_dir(path: &Path) -> Result<(), Failure> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| {
        Failure::new("KE-FILE-003", format!("cannot make the directory {}", path.display()))
            .because(error)
            .fix("run as root, or choose a directory you may write to")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_names_the_path() {
        let failure = write_atomic(Path::new("/nonexistent/a"), b"x", 0o600).unwrap_err();
        assert_eq!(failure.code, "KE-FILE-001");
        assert!(failure.what.contains("/nonexistent/a"));
    }

    #[test]
    fn what_is_no_file_is_not_replaced_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let _listener = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        std::os::unix::fs::symlink(at("socket"), at("link")).unwrap();
        std::os::unix::fs::symlink(at("file"), at("dangling")).unwrap();
        fs::create_dir(at("dir")).unwrap();
        for (name, why) in [("socket", "a socket"), ("link", "a socket"), ("dir", "a directory")] {
            let failure = write_atomic(&at(name), b"x", 0o600).unwrap_err();
            assert!(failure.code == "KE-FILE-001" && failure.why.contains(why), "{failure}");
        }
        assert!(replaceable(Path::new("/dev/null")).is_err());
        write_atomic(&at("file"), b"old", 0o600).unwrap();
        write_atomic(&at("file"), b"new", 0o600).unwrap();
        assert_eq!(fs::read(at("file")).unwrap(), b"new");
        // The parts of a write that failed are gone.
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 5);
        write_atomic(&at("dangling"), b"x", 0o600).unwrap();
    }

    #[test]
    fn a_bare_name_lies_in_the_working_directory() {
        assert_eq!(directory_of(Path::new("edge-7.yaml")), Path::new("."));
        assert_eq!(directory_of(Path::new("a/b")), Path::new("a"));
        assert_eq!(directory_of(Path::new("/b")), Path::new("/"));
    }

    #[test]
    fn what_a_user_may_not_see_is_not_taken_for_absent() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        assert!(is_there(dir.path()).unwrap());
        assert!(!is_there(&dir.path().join("none")).unwrap());
        assert!(!is_there(&dir.path().join("file/below")).unwrap());
        let denied = no_access(Path::new("/root/x"), &io::Error::from(ErrorKind::PermissionDenied));
        assert_eq!((denied.code, denied.fix.as_str()), ("KE-FILE-002", "run the same command with sudo"));
    }

    #[test]
    fn reads_no_more_than_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        write_atomic(&path, b"12345", 0o600).unwrap();
        assert_eq!(read_limited(&path, 5).unwrap(), b"12345");
        assert_eq!(read_limited(&path, 4).unwrap_err().code, "KE-FILE-002");
    }
}
