//! Files that are whole or absent: written beside their place, synced, renamed. Every error names the path.

use super::failure::Failure;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How the name of a file ends that is not whole yet. It is always the same one beside its place, so that what a killed
/// writer has left is found again.
pub const UNFINISHED: &str = ".kedge-new";

/// Other writers of the same file are waited for so long; they write a few kilobytes.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Whether a file may take this place: nothing is there, or a file is. A device or a pipe would be gone for good, for
/// every program of the machine.
fn replaceable(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(there) if !there.is_file() => Err(io::Error::other(if there.is_dir() {
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
    write_whole(
        path,
        mode,
        |error| unwritable(path, error),
        |file| file.write_all(content).map_err(|error| unwritable(path, error)),
    )
}

/// The same for what is not held in memory: `fill` writes it, `failed` says in the caller's words what went wrong beside
/// that. Whatever fails leaves the place as it was.
pub fn write_whole<E>(
    path: &Path,
    mode: u32,
    failed: impl Fn(io::Error) -> E,
    fill: impl FnOnce(&mut File) -> Result<(), E>,
) -> Result<(), E> {
    let beside = unfinished(path);
    replaceable(path).map_err(&failed)?;
    let mut file = open_beside(&beside, mode).map_err(&failed)?;
    let done = fill(&mut file)
        .and_then(|()| file.sync_all().and_then(|()| fs::rename(&beside, path)).map_err(&failed));
    if done.is_err() {
        drop(fs::remove_file(&beside));
    }
    done?;
    File::open(directory_of(path)).and_then(|dir| dir.sync_all()).map_err(failed)
}

/// The failure for a file that cannot be written for this reason.
pub fn unwritable(path: &Path, error: io::Error) -> Failure {
    Failure::new("KE-FILE-001", format!("cannot write {}", path.display()))
        .because(error)
        .fix("check that the directory exists, is writable and has free space")
}

/// The name that a file has until it is whole: `.NAME.kedge-new` in the same directory.
fn unfinished(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(UNFINISHED);
    path.with_file_name(name)
}

/// Makes the file that becomes whole, and locks it for as long as it is open. What a killed writer has left goes first; one
/// that lives is waited for.
fn open_beside(beside: &Path, mode: u32) -> io::Result<File> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match OpenOptions::new().write(true).create_new(true).mode(mode).open(beside) {
            // Somebody who clears up may have come between.
            Ok(file) if locked(&file) && is_at(&file, beside) => return Ok(file),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                if !clear(beside)? {
                    std::thread::sleep(LOOK_AGAIN);
                }
            }
            Err(error) => return Err(error),
        }
        if Instant::now() > deadline {
            return Err(io::Error::new(ErrorKind::TimedOut, "another process writes it all the time"));
        }
    }
}

/// Removes what a killed writer of this file has left beside it; one that lives is left alone.
pub fn remove_unfinished(path: &Path) -> io::Result<()> {
    clear(&unfinished(path)).map(drop)
}

/// The same for all files of a directory.
pub fn remove_all_unfinished(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)?.flatten() {
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        if name.starts_with(b".") && name.ends_with(UNFINISHED.as_bytes()) {
            clear(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes a file that nobody has locked; `false` where somebody writes it. Anything but a file is none of kedge's, and
/// an error.
fn clear(beside: &Path) -> io::Result<bool> {
    let gone = |error: io::Error| if error.kind() == ErrorKind::NotFound { Ok(true) } else { Err(error) };
    let found = match fs::symlink_metadata(beside) {
        Ok(found) => found,
        Err(error) => return gone(error),
    };
    if !found.is_file() {
        return Err(io::Error::other(format!("{} is in the way, and no file", beside.display())));
    }
    let file = match File::open(beside) {
        Ok(file) => file,
        Err(error) => return gone(error),
    };
    if !locked(&file) {
        return Ok(false);
    }
    // Under the lock nobody renames it; another one may have taken the name before.
    if is_at(&file, beside) { fs::remove_file(beside).map(|()| true).or_else(gone) } else { Ok(true) }
}

/// Takes the lock of an open file, or says that another one has it. Some file systems know no locks; there everybody has it.
fn locked(file: &File) -> bool {
    !matches!(file.try_lock(), Err(TryLockError::WouldBlock))
}

/// Whether an open file still has this name.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
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
        let failure =
            unreadable(path, format!("it is larger than {limit} bytes, which no file of its kind is"));
        return Err(failure.fix("name the right file, or take out of it what does not belong there"));
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
        failure.is_as_committed();
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
    fn what_a_killed_writer_left_goes_and_one_that_lives_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.yaml");
        let beside = dir.path().join(".a.yaml.kedge-new");
        assert_eq!(unfinished(&path), beside);
        assert_eq!(unfinished(Path::new("b")), Path::new(".b.kedge-new"));
        std::fs::write(&beside, "half, and longer than the whole").unwrap();
        write_atomic(&path, b"whole", 0o600).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        assert!(!beside.exists());

        let held = std::fs::File::create(&beside).unwrap();
        held.lock().unwrap();
        remove_unfinished(&path).unwrap();
        remove_all_unfinished(dir.path()).unwrap();
        assert!(beside.exists(), "its writer lives");
        let writer = std::thread::spawn({
            let path = path.clone();
            move || write_atomic(&path, b"later", 0o600)
        });
        drop(held);
        writer.join().unwrap().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"later");

        for name in [".a.yaml.kedge-new", ".c.kedge-new", "theirs.kedge-new", ".theirs"] {
            std::fs::write(dir.path().join(name), "x").unwrap();
        }
        remove_all_unfinished(dir.path()).unwrap();
        let mut left: Vec<_> =
            std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".theirs", "a.yaml", "theirs.kedge-new"]);
    }

    #[test]
    fn many_writers_of_one_file_do_not_meet() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let writers: Vec<_> = (0..8_u8)
            .map(|n| {
                let path = path.clone();
                std::thread::spawn(move || write_atomic(&path, &[n; 1000], 0o600).unwrap())
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        let content = std::fs::read(&path).unwrap();
        assert!(content.len() == 1000 && content.iter().all(|byte| *byte == content[0]));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
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
        assert_eq!(read_limited(&path, 4).unwrap_err().committed().code, "KE-FILE-002");
    }
}
