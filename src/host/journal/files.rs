//! The journal's hand on files: written whole beside their place and moved there, kept before they are replaced, put back
//! with owner and mode. Each step is synced and can be repeated.

use super::change::Directory;
use crate::base::{Failure, remove_all_unfinished};
use crate::host::mounts;
use ring::digest::{SHA256, digest};
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The largest file that is kept before it is replaced.
pub(super) const KEPT_LIMIT: u64 = 256 << 20;

pub(super) fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode)).and_then(|()| sync_parent(path))
}

/// What stands at a path, links not followed.
pub(super) fn look(path: &Path) -> Result<Option<Metadata>, Failure> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(unmade(path, &error)),
    }
}

/// The name that a file has until it is whole; an undo after a crash removes it.
pub(super) fn beside(path: &Path, id: u64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".kedge-{id}"));
    PathBuf::from(name)
}

/// Makes something beside its place and moves it there in one step.
pub(super) fn swap(path: &Path, id: u64, make: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let beside = beside(path, id);
    absent(fs::remove_file(&beside))?;
    let swapped = make(&beside).and_then(|()| fs::rename(&beside, path)).and_then(|()| sync_parent(path));
    if swapped.is_err() {
        drop(fs::remove_file(&beside));
    }
    swapped
}

pub(super) fn write_synced(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(content)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()
}

pub(super) fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

/// Copies a file, or a link's target, into the journal.
pub(super) fn keep(path: &Path, now: &Metadata, kept: &Path) -> io::Result<()> {
    absent(fs::remove_file(kept))?;
    if now.is_symlink() {
        std::os::unix::fs::symlink(fs::read_link(path)?, kept)?;
        return sync_parent(kept);
    }
    if now.len() > KEPT_LIMIT {
        return Err(io::Error::other(format!("it is larger than {KEPT_LIMIT} bytes")));
    }
    let mut copy = OpenOptions::new().write(true).create_new(true).mode(0o600).open(kept)?;
    io::copy(&mut File::open(path)?, &mut copy)?;
    copy.sync_all()?;
    sync_parent(kept)
}

pub(super) fn put_back(path: &Path, id: u64, kept: &Path, mode: u32, owner: (u32, u32)) -> io::Result<()> {
    let link = fs::symlink_metadata(kept)?.is_symlink();
    swap(path, id, |beside| {
        if link {
            return std::os::unix::fs::symlink(fs::read_link(kept)?, beside);
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(beside)?;
        io::copy(&mut File::open(kept)?, &mut file)?;
        std::os::unix::fs::fchown(&file, Some(owner.0), Some(owner.1))?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.sync_all()
    })
}

/// Removes a directory as its kind wants it; paths below it that are spared stay, with what they lie in.
pub(super) fn remove_dir(path: &Path, kind: Directory, spared: &[PathBuf]) -> io::Result<()> {
    match kind {
        Directory::Owned if spared.is_empty() => absent(mounts::remove_tree(path)),
        Directory::Owned => {
            hold_at_mounts(mounts::below(path), spared)?;
            remove_around(path, spared)
        }
        Directory::Shared => match drop_unfinished(path).and_then(|()| fs::remove_dir(path)) {
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => Ok(()),
            other => absent(other),
        },
    }
}

/// Fails where something is mounted in what would go, and where nobody can tell.
fn hold_at_mounts(found: io::Result<Vec<PathBuf>>, spared: &[PathBuf]) -> io::Result<()> {
    let stays: Vec<PathBuf> = spared.iter().filter_map(|path| path.canonicalize().ok()).collect();
    let mut in_the_way = found?.into_iter().filter(|point| !stays.iter().any(|path| point.starts_with(path)));
    in_the_way.next().map_or(Ok(()), |point| Err(mounts::is_mounted(&point)))
}

/// Removes every child that neither is spared nor leads to what is.
fn remove_around(dir: &Path, spared: &[PathBuf]) -> io::Result<()> {
    for child in fs::read_dir(dir)? {
        let child = child?;
        let path = child.path();
        let is_dir = child.file_type()?.is_dir();
        if spared.contains(&path) {
            continue;
        }
        if spared.iter().any(|spared| spared.starts_with(&path)) {
            // A link on the way stays as it is.
            if is_dir {
                remove_around(&path, spared)?;
            }
            continue;
        }
        absent(if is_dir { fs::remove_dir_all(&path) } else { fs::remove_file(&path) })?;
    }
    Ok(())
}

/// What killed writers of kedge's have left in a directory that kedge made.
fn drop_unfinished(dir: &Path) -> io::Result<()> {
    absent(remove_all_unfinished(dir))
}

pub(super) fn absent(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

pub(super) fn unmade(path: &Path, error: &io::Error) -> Failure {
    Failure::new("KE-JOURNAL-006", format!("cannot change {}", path.display()))
        .because(error)
        .fix("run as root, and check that the file system is writable and has free space")
}

pub(super) fn sha256(content: &[u8]) -> String {
    digest(&SHA256, content).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_holds_what_would_go_and_not_what_is_spared() {
        let dir = tempfile::tempdir().unwrap();
        let spared = dir.path().canonicalize().unwrap().join("cloud");
        fs::create_dir(&spared).unwrap();
        let hold = |found| hold_at_mounts(found, std::slice::from_ref(&spared));
        hold(Ok(vec![spared.clone(), spared.join("disk")])).unwrap();
        let other = spared.with_file_name("edge");
        let refused = hold(Ok(vec![spared.join("disk"), other])).unwrap_err();
        assert!(refused.to_string().ends_with("edge is mounted"), "{refused}");
        hold(Err(io::Error::other("no table"))).unwrap_err();
    }

    #[test]
    fn everything_goes_but_what_is_spared_and_the_way_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for made in ["a/b/c", "a/gone", "cloud/deep"] {
            fs::create_dir_all(at(made)).unwrap();
        }
        for file in ["a/b/c/stays", "a/b/c/goes", "a/gone/x", "cloud/deep/x", "a-file"] {
            fs::write(at(file), "x").unwrap();
        }
        std::os::unix::fs::symlink("a", at("link")).unwrap();
        let spared = [at("a/b/c/stays"), at("cloud"), at("cloud/deep/x")];
        remove_dir(dir.path(), Directory::Owned, &spared).unwrap();
        let names = |dir: PathBuf| -> Vec<String> {
            let found = fs::read_dir(dir).unwrap();
            let mut names: Vec<String> =
                found.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        assert_eq!(names(dir.path().to_owned()), ["a", "cloud"]);
        assert_eq!((names(at("a")), names(at("a/b/c"))), (vec!["b".to_owned()], vec!["stays".to_owned()]));
        assert!(at("cloud/deep/x").exists());
        remove_dir(&at("a"), Directory::Owned, &[]).unwrap();
        remove_dir(&at("a"), Directory::Owned, &[]).unwrap();
        assert!(!at("a").exists());
    }
}
