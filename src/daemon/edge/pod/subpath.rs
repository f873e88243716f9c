//! The place of a mount's subPath inside its volume, made where it is missing. `volume` asks for it. It never leaves the
//! volume and never changes a directory that is there already. Blocking.

use super::env::ConfigError;
use super::paths::is_inside;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The real place of a subPath; a link that leads out of the volume is refused.
pub(super) fn inside(dir: &Path, sub: &str) -> Result<PathBuf, ConfigError> {
    let refused = |why: String| ConfigError(format!("subPath {sub:?}: {why}"));
    if !is_inside(sub) {
        return Err(refused("it leaves the volume".to_owned()));
    }
    let wanted = dir.join(sub);
    if !wanted.exists() {
        // The nearest existing parent decides whether the new directory would be inside.
        let parent = wanted.ancestors().find(|path| path.exists()).unwrap_or(dir);
        let missing = wanted.strip_prefix(parent).unwrap_or(Path::new(sub));
        let (real, root) = (parent.canonicalize(), dir.canonicalize());
        let (Ok(real), Ok(root)) = (real, root) else {
            return Err(refused("it leaves the volume".to_owned()));
        };
        let Ok(inner) = real.strip_prefix(&root) else {
            return Err(refused("it leaves the volume".to_owned()));
        };
        make_below(&root, &inner.join(missing)).map_err(|error| refused(error.to_string()))?;
    }
    let root = dir.canonicalize().map_err(|error| refused(error.to_string()))?;
    let real = wanted.canonicalize().map_err(|error| refused(error.to_string()))?;
    if real.starts_with(&root) { Ok(real) } else { Err(refused("it leaves the volume".to_owned())) }
}

/// Makes the directories of `path` that are not there, each with the volume's own mode, and with its group where the
/// volume hands that down: whoever may write into the volume may write into them. Goes step by step and through no link,
/// as a running container may put one there meanwhile.
fn make_below(root: &Path, path: &Path) -> io::Result<()> {
    use rustix::fs::{Mode, OFlags, mkdirat, openat};
    const INHERITED: u32 = 0o2777;
    const SETGID: u32 = 0o2000;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut place = fs::File::open(root)?;
    let volume = place.metadata()?;
    let mode = volume.mode() & INHERITED;
    for name in path.components() {
        let name = name.as_os_str();
        let made = match mkdirat(&place, name, Mode::RWXU) {
            Ok(()) => true,
            Err(rustix::io::Errno::EXIST) => false,
            Err(error) => return Err(error.into()),
        };
        place = fs::File::from(openat(&place, name, flags, Mode::empty())?);
        if made {
            if mode & SETGID != 0 {
                std::os::unix::fs::fchown(&place, None, Some(volume.gid()))?;
            }
            place.set_permissions(fs::Permissions::from_mode(mode))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode_of(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_link_out_of_the_volume_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("out")).unwrap();
        assert!(inside(dir.path(), "out/passwd").is_err());
        assert!(inside(dir.path(), "out/new").is_err());
        assert!(inside(dir.path(), "../x").is_err());
        assert!(inside(dir.path(), "new/dir").unwrap().is_dir());
        // Nor is anything made behind a link that leads nowhere yet.
        let elsewhere = tempfile::tempdir().unwrap();
        let target = elsewhere.path().join("made");
        std::os::unix::fs::symlink(&target, dir.path().join("dangling")).unwrap();
        assert!(inside(dir.path(), "dangling").is_err() && inside(dir.path(), "dangling/new").is_err());
        assert!(!target.exists());
    }

    #[test]
    fn new_directories_of_a_sub_path_are_open_to_whom_the_volume_is() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        set_mode(root, 0o777);
        inside(root, "new/dir").unwrap();
        assert_eq!((mode_of(&root.join("new")), mode_of(&root.join("new/dir"))), (0o777, 0o777));
        // A directory that is there already is the application's, and the group is the volume's below it too.
        set_mode(&root.join("new"), 0o700);
        set_mode(root, 0o2770);
        inside(root, "new/other").unwrap();
        assert_eq!((mode_of(&root.join("new")), mode_of(&root.join("new/other"))), (0o700, 0o2770));
        let group = |path: &Path| fs::metadata(path).unwrap().gid();
        assert_eq!(group(&root.join("new/other")), group(root));
    }
}
