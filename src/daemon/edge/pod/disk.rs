//! What is mounted below a pod's directory: memory for what must not reach the disk, and whatever a kubelet has mounted
//! there before. `volume` makes, `burial` removes. It never removes a file of another file system. Blocking.

use crate::host::mounts;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

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
        let mut mounted = mounts::below(&real)?;
        mounted.retain(|point| *point != real);
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

#[cfg(test)]
mod tests {
    use super::*;

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
