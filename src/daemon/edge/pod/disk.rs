//! What is mounted below a pod's directory: memory for what must not reach the disk, and whatever a kubelet has mounted
//! there before. `volume` makes, `burial` removes. It never removes a file of another file system. Blocking.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Whether something is mounted on this directory.
pub(super) fn is_mount_point(dir: &Path) -> io::Result<bool> {
    let parent = dir.parent().unwrap_or(dir);
    Ok(fs::metadata(dir)?.dev() != fs::metadata(parent)?.dev())
}

/// Keeps the content of a directory in memory, as the kubelet does for Secrets and tokens. One that holds something
/// already stays as it is: a container may be looking at it.
pub(super) fn in_memory(dir: &Path) -> io::Result<()> {
    use rustix::mount::{MountFlags, mount};
    /// Room for the largest projection twice; memory is taken for what is written only.
    const OPTIONS: &std::ffi::CStr = c"mode=0755,size=64m";
    fs::create_dir_all(dir)?;
    if is_mount_point(dir)? || fs::read_dir(dir)?.next().is_some() {
        return Ok(());
    }
    match mount("tmpfs", dir, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, Some(OPTIONS)) {
        Err(rustix::io::Errno::PERM) => {
            tracing::debug!("nothing may be mounted here: Secrets are kept on disk");
            Ok(())
        }
        outcome => Ok(outcome?),
    }
}

/// Unmounts and removes everything of a pod but its logs; gone already is success. While something stays mounted below,
/// nothing is removed: it may be a disk that a kubelet has mounted.
pub(super) fn remove(pod_dir: &Path) -> io::Result<()> {
    use rustix::mount::{UnmountFlags, unmount};
    /// More than are ever mounted on top of each other.
    const LAYERS: usize = 8;
    let Ok(real) = pod_dir.canonicalize() else { return Ok(()) };
    for _ in 0..LAYERS {
        let mounted = mounts_below(&real, &fs::read("/proc/self/mountinfo")?);
        if mounted.is_empty() {
            return match fs::remove_dir_all(&real) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        for point in mounted {
            unmount(&point, UnmountFlags::DETACH)?;
        }
    }
    Err(io::Error::other("something is mounted below the pod's directory again and again"))
}

/// Mount points inside a directory, the innermost first.
fn mounts_below(dir: &Path, mountinfo: &[u8]) -> Vec<PathBuf> {
    let points = mountinfo.split(|byte| *byte == b'\n').filter_map(|line| line.split(|b| *b == b' ').nth(4));
    let mut found: Vec<PathBuf> =
        points.map(unescaped).filter(|point| point.starts_with(dir) && point != dir).collect();
    found.sort_by_key(|point| std::cmp::Reverse(point.components().count()));
    found
}

/// Blanks, tabs, newlines and backslashes stand there as three octal digits.
fn unescaped(text: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..3).filter(|_| *first == b'\\');
        let code = code.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        path.push(code.unwrap_or(*first));
        rest = if code.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    PathBuf::from(OsString::from_vec(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_found_inside_only_and_innermost_first() {
        let table = b"1 0 0:1 / /r/pods/u rw - tmpfs tmpfs rw\n2 0 0:1 / /r/pods/u/a\\040b rw - x x rw\n\
            3 0 0:1 / /r/pods/u/a\\040b/c rw - x x rw\n4 0 0:1 / /r/pods/u2/d rw - x x rw\nrubbish\n";
        let found = mounts_below(Path::new("/r/pods/u"), table);
        assert_eq!(found, [Path::new("/r/pods/u/a b/c"), Path::new("/r/pods/u/a b")]);
    }

    #[test]
    fn what_was_mounted_by_somebody_else_is_unmounted_and_not_emptied() {
        use rustix::mount::{MountFlags, mount, mount_bind};
        let dir = tempfile::tempdir().unwrap();
        let (disk, pod) = (dir.path().join("disk"), dir.path().join("pod"));
        let point = pod.join("volumes/kubernetes.io~csi/data/mount");
        for made in [&disk, &point] {
            fs::create_dir_all(made).unwrap();
        }
        fs::write(disk.join("precious"), "1").unwrap();
        if mount_bind(&disk, &point).is_err() {
            // Not privileged; the tests that run pods are.
            return;
        }
        let secret = pod.join("volumes/kubernetes.io~secret/s");
        in_memory(&secret).unwrap();
        assert!(is_mount_point(&secret).unwrap());
        fs::write(secret.join("a"), "1").unwrap();
        in_memory(&secret).unwrap();
        mount("tmpfs", &secret, "tmpfs", MountFlags::empty(), None).unwrap();
        remove(&pod).unwrap();
        assert!(!pod.exists());
        assert_eq!(fs::read_to_string(disk.join("precious")).unwrap(), "1");
        remove(&pod).unwrap();
    }

    #[test]
    fn a_directory_in_use_is_not_covered() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "1").unwrap();
        in_memory(dir.path()).unwrap();
        assert!(dir.path().join("a").exists());
    }
}
