//! What is mounted on this machine, as the kernel tells this process. Whoever removes a tree asks here first: removing never
//! reaches into another file system. A table that cannot be read is an error, never an empty one.

use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

const TABLE: &str = "/proc/self/mountinfo";

/// Every mount point, the earliest first.
pub fn points() -> io::Result<Vec<PathBuf>> {
    // Its kind stays behind: a table that is absent is no path that is gone.
    let table = fs::read(TABLE).map_err(|error| io::Error::other(format!("{TABLE}: {error}")))?;
    Ok(parse(&table))
}

/// The mount points at or below a directory, links on the way to it followed, the innermost first; none where there is no
/// such directory.
pub fn below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    match dir.canonicalize() {
        Ok(real) => points().map(|points| inside(&real, points)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

/// Removes a directory with everything in it; fails, and removes nothing, where something is mounted there.
pub fn remove_tree(dir: &Path) -> io::Result<()> {
    match below(dir)?.first() {
        Some(point) => Err(is_mounted(point)),
        None => fs::remove_dir_all(dir),
    }
}

/// The error for a directory that has to stay.
pub(super) fn is_mounted(point: &Path) -> io::Error {
    io::Error::other(format!("{} is mounted", point.display()))
}

/// A line has the mount point in its fifth field.
fn parse(table: &[u8]) -> Vec<PathBuf> {
    let lines = table.split(|byte| *byte == b'\n');
    lines.filter_map(|line| line.split(|byte| *byte == b' ').nth(4)).map(unescaped).collect()
}

fn inside(dir: &Path, points: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = points.into_iter().filter(|point| point.starts_with(dir)).collect();
    // Of several at one place, the latest lies on top.
    found.reverse();
    found.sort_by_key(|point| std::cmp::Reverse(point.components().count()));
    found
}

/// Blanks, tabs, newlines and backslashes stand there as three octal digits.
fn unescaped(text: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let code = if *first == b'\\' { octal(after) } else { None };
        path.push(code.unwrap_or(*first));
        rest = if code.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    PathBuf::from(OsString::from_vec(path))
}

fn octal(text: &[u8]) -> Option<u8> {
    text.get(..3)?.iter().try_fold(0_u8, |sum, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 8)?;
        sum.checked_mul(8)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_no_text_hides_no_mount() {
        let points = parse(b"1 1 0:1 / /x\xff rw - x x rw\n2 1 0:2 / /a/b\\011c rw - x x rw\n");
        let no_text = PathBuf::from(OsString::from_vec(b"/x\xff".to_vec()));
        assert_eq!(points, [no_text, PathBuf::from("/a/b\tc")]);
        assert_eq!(inside(Path::new("/a"), points), [Path::new("/a/b\tc")]);
    }

    #[test]
    fn mount_points_are_found_inside_only_and_innermost_first() {
        let table = b"1 0 0:1 / /r/pods/u rw - tmpfs tmpfs rw\n2 0 0:1 / /r/pods/u/a\\040b rw - x x rw\n\
            3 0 0:1 / /r/pods/u/a\\040b/c rw - x x rw\n4 0 0:1 / /r/pods/u2/d rw - x x rw\nrubbish\n";
        let found = inside(Path::new("/r/pods/u"), parse(table));
        assert_eq!(found, ["/r/pods/u/a b/c", "/r/pods/u/a b", "/r/pods/u"].map(Path::new));
    }

    #[test]
    fn only_three_digits_stand_for_a_byte() {
        for (text, path) in [
            ("/a\\134040", "/a\\040"),
            ("/a\\04", "/a\\04"),
            ("/a\\777", "/a\\777"),
            ("/a\\+11", "/a\\+11"),
            ("/a\\", "/a\\"),
        ] {
            assert_eq!(unescaped(text.as_bytes()), Path::new(path));
        }
    }

    #[test]
    fn a_tree_goes_only_where_nothing_is_mounted() {
        use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
        let dir = tempfile::tempdir().unwrap();
        let (tree, link) = (dir.path().join("tree"), dir.path().join("link"));
        let point = tree.join("a b");
        fs::create_dir_all(&point).unwrap();
        std::os::unix::fs::symlink(dir.path(), &link).unwrap();
        assert!(!points().unwrap().is_empty() && below(&tree).unwrap().is_empty());
        assert!(below(&dir.path().join("none")).unwrap().is_empty());
        // Without the right to mount there is nothing to hold it.
        if mount("tmpfs", &point, "tmpfs", MountFlags::empty(), None).is_ok() {
            fs::write(point.join("precious"), "1").unwrap();
            let refused = remove_tree(&link.join("tree")).unwrap_err();
            assert!(refused.to_string().contains("a b is mounted"), "{refused}");
            assert!(point.join("precious").exists());
            unmount(&point, UnmountFlags::DETACH).unwrap();
        }
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
    }
}
