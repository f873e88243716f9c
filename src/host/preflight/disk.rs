//! Disks: free space, whether they can be written, how long one synced write takes.
//! The trial writes into a file without a name, which is gone when it is closed.

use super::Wanted;
use super::machine::Machine;
use crate::host::check::{Check, Cost, Finding, Group};
use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags, StatVfsMountFlags, accessat, fsync, open, statvfs};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
/// The binary, the database, an upgrade beside it and one image of middling size.
const LOW: u64 = 1024 * MIB;
/// Below this the database cannot grow.
const TOO_LITTLE: u64 = 200 * MIB;
/// Ten commits a second must be possible; SD cards at their end take longer.
const SLOW: Duration = Duration::from_millis(100);
const VERY_SLOW: Duration = Duration::from_secs(1);
const WRITES: usize = 5;
/// Where the binary, its backups and the install journal go.
const OWN: &str = "/var/lib/kedge";
/// The binary in its slot, and the journal beside it.
const OWN_TOO_LITTLE: u64 = 64 * MIB;
/// An upgrade and the backup before it as well.
const OWN_LOW: u64 = 256 * MIB;
/// Where the binary of each version goes.
const VERSIONS: &str = "/var/lib/kedge/versions";
/// A configuration, certificates, or that of a pod network.
const SMALL: u64 = 256 << 10;
const SMALL_INODES: u64 = 16;

pub(super) fn checks(here: &Machine, wanted: &Wanted) -> Vec<Check> {
    let (data, etc) = (here.path(&wanted.data_dir), here.path(&wanted.etc_dir));
    let (space, writable, sync) = (data.clone(), [etc, data.clone()], data);
    let shown = [wanted.etc_dir.clone(), wanted.data_dir.clone()];
    let data_shown = wanted.data_dir.clone();
    let sync_shown = wanted.data_dir.clone();
    let own = here.path(OWN);
    let versions = here.path(VERSIONS);
    let cni = wanted.runtime.as_ref().map(|runtime| runtime.cni_conf_dir.clone());
    let small: Vec<(PathBuf, PathBuf)> =
        [Some(wanted.etc_dir.clone()), cni].into_iter().flatten().map(|dir| (here.path(&dir), dir)).collect();
    vec![
        Check::blocking("KE-DISK-001", Group::Host, "free space", move || {
            let mut found = vec![judge_space(&data_shown, measure(&space))];
            let mut known = vec![&space];
            for (path, shown) in [(&own, OWN), (&versions, VERSIONS)] {
                if known.iter().all(|one| on_another_disk(path, one)) {
                    found.push(judge_own(Path::new(shown), measure(path)));
                    known.push(path);
                }
            }
            for (path, shown) in &small {
                if known.iter().all(|one| on_another_disk(path, one)) {
                    found.push(judge_small(shown, measure(path)));
                    known.push(path);
                }
            }
            found
        }),
        Check::blocking("KE-DISK-002", Group::Host, "writable directories", move || {
            shown
                .iter()
                .zip(&writable)
                .map(|(shown, path)| judge_writable(shown, is_writable(path)))
                .collect()
        }),
        Check::blocking("KE-DISK-003", Group::Host, "synced write", move || {
            vec![judge_sync(&sync_shown, sync_time(&sync))]
        })
        .cost(Cost::Medium)
        .after(&["KE-DISK-002", "KE-HOST-001"]),
    ]
}

/// Room and leave to write in these directories, of which some may not be there yet; room once for each file system.
pub fn places(paths: &[&Path]) -> Vec<Finding> {
    let mut measured = Vec::new();
    let mut findings = Vec::new();
    for path in paths {
        findings.push(judge_writable(path, is_writable(path)));
        let device = rustix::fs::stat(existing(path)).map(|facts| facts.st_dev).ok();
        if !measured.contains(&device) {
            measured.push(device);
            findings.push(judge_space(path, measure(path)));
        }
    }
    findings
}

/// The directory itself, or the nearest one above that exists.
fn existing(path: &Path) -> PathBuf {
    path.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Space {
    available: u64,
    inodes_free: u64,
    inodes: u64,
}

fn measure(path: &Path) -> Option<Space> {
    let facts = statvfs(existing(path)).ok()?;
    Some(Space {
        available: facts.f_bavail.saturating_mul(facts.f_frsize),
        inodes_free: facts.f_favail,
        inodes: facts.f_files,
    })
}

fn judge_space(path: &Path, space: Option<Space>) -> Finding {
    let code = "KE-DISK-001";
    let name = format!("free space for {}", path.display());
    let Some(space) = space else {
        return Finding::warning(code, name, "cannot be measured").fix(format!("df -h {}", path.display()));
    };
    let seen = format!("{} MiB", space.available / MIB);
    let fix = format!("make room: du -xh {} | sort -h | tail", existing(path).display());
    if space.inodes > 0 && space.inodes_free < 1000 {
        return Finding::failed(code, name, format!("{seen}, {} inodes", space.inodes_free))
            .because("no more files can be made")
            .fix(fix);
    }
    match space.available {
        0..TOO_LITTLE => {
            Finding::failed(code, name, seen).because("the database and images need room").fix(fix)
        }
        TOO_LITTLE..LOW => {
            Finding::warning(code, name, seen).because("images and an upgrade may not fit").fix(fix)
        }
        _ => Finding::fine(code, name, seen),
    }
}

/// Whether room in one place says nothing of the other.
fn on_another_disk(one: &Path, other: &Path) -> bool {
    let disk = |path: &Path| std::fs::metadata(existing(path)).ok().map(|facts| facts.dev());
    disk(one) != disk(other)
}

fn judge_own(path: &Path, space: Option<Space>) -> Finding {
    let finding = judge_space(path, space);
    match space.map(|space| space.available) {
        Some(0..OWN_TOO_LITTLE) | None => finding,
        Some(_) if finding.seen.contains("inodes") => finding,
        Some(OWN_TOO_LITTLE..OWN_LOW) => Finding::warning("KE-DISK-001", finding.name, finding.seen)
            .because("an upgrade may not fit")
            .fix(finding.fix),
        Some(_) => Finding::fine("KE-DISK-001", finding.name, finding.seen),
    }
}

/// Room for a few small files.
fn judge_small(path: &Path, space: Option<Space>) -> Finding {
    let finding = judge_space(path, space);
    let Some(space) = space else { return finding };
    let few = space.inodes > 0 && space.inodes_free < SMALL_INODES;
    if space.available >= SMALL && !few {
        return Finding::fine("KE-DISK-001", finding.name, format!("{} MiB", space.available / MIB));
    }
    let inodes = if few { format!(", {} inodes", space.inodes_free) } else { String::new() };
    Finding::failed("KE-DISK-001", finding.name, format!("{} KiB{inodes}", space.available >> 10))
        .because("configuration and certificates need room")
        .fix(format!("make room: du -xh {} | sort -h | tail", existing(path).display()))
}

/// `Ok`, or in words what stands against it.
fn is_writable(path: &Path) -> Result<(), &'static str> {
    let place = existing(path);
    if statvfs(&place).is_ok_and(|facts| facts.f_flag.contains(StatVfsMountFlags::RDONLY)) {
        return Err("read-only");
    }
    accessat(CWD, &place, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS).map_err(|error| match error {
        rustix::io::Errno::ROFS => "read-only",
        _ => "not writable for this user",
    })
}

fn judge_writable(path: &Path, outcome: Result<(), &'static str>) -> Finding {
    let code = "KE-DISK-002";
    let name = path.display().to_string();
    match outcome {
        Ok(()) => Finding::fine(code, name, "writable"),
        Err(seen @ "read-only") => Finding::failed(code, name, seen)
            .because("configuration, certificates and the database are written there")
            .fix(format!("mount -o remount,rw \"$(findmnt -no TARGET -T {})\"", path.display())),
        Err(seen) => Finding::failed(code, name, seen)
            .because("configuration, certificates and the database are written there")
            .fix("run the same command with sudo"),
    }
}

/// The median of a few writes of one page, each synced.
fn sync_time(path: &Path) -> Result<Duration, String> {
    let place = existing(path);
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = match open(&place, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => file,
        // Some file systems know no files without a name.
        Err(_) => {
            let path = place.join(format!(".kedge-doctor-{}", crate::base::random_suffix(8)));
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            let file = open(&path, flags, Mode::RUSR | Mode::WUSR).map_err(|error| error.to_string())?;
            rustix::fs::unlink(&path).map_err(|error| error.to_string())?;
            file
        }
    };
    let mut times = Vec::with_capacity(WRITES);
    for _ in 0..WRITES {
        let started = Instant::now();
        rustix::io::write(&file, &[0x6b; 4096]).map_err(|error| error.to_string())?;
        fsync(&file).map_err(|error| error.to_string())?;
        times.push(started.elapsed());
        // A disk that is so slow has told enough.
        if started.elapsed() > SLOW * 3 {
            break;
        }
    }
    times.sort();
    times.get(times.len() / 2).copied().ok_or_else(|| "nothing was measured".to_owned())
}

fn judge_sync(path: &Path, measured: Result<Duration, String>) -> Finding {
    let code = "KE-DISK-003";
    let name = format!("synced write in {}", path.display());
    let time = match measured {
        Ok(time) => time,
        Err(error) => {
            return Finding::failed(code, name, error)
                .because("the database must be written to")
                .fix(format!("touch {}/x", existing(path).display()));
        }
    };
    let seen = format!("{:.1} ms", time.as_secs_f64() * 1000.0);
    let fix = "move the data to a faster disk, or replace the card";
    match time {
        _ if time >= VERY_SLOW => Finding::failed(code, name, seen)
            .because(
                "every message of the cloud is committed before it is acknowledged; this disk is too slow",
            )
            .fix(fix),
        _ if time >= SLOW => Finding::warning(code, name, seen)
            .because("every message of the cloud is committed before it is acknowledged")
            .fix(fix),
        _ => Finding::fine(code, name, seen),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::check::State;

    #[test]
    fn space_is_judged_in_bytes_and_inodes() {
        let path = Path::new("/x");
        let space = |available, inodes_free| Some(Space { available, inodes_free, inodes: 1_000_000 });
        assert_eq!(judge_space(path, space(5 * LOW, 500_000)).state, State::Fine);
        let low = judge_space(path, space(LOW - 1, 500_000));
        assert_eq!((&*low.code, low.state), ("KE-DISK-001", State::Warning));
        assert_eq!(judge_space(path, space(10 * MIB, 500_000)).seen, "10 MiB");
        assert_eq!(judge_space(path, space(10 * MIB, 500_000)).state, State::Failed);
        assert_eq!(judge_space(path, space(5 * LOW, 3)).seen, "5120 MiB, 3 inodes");
        // btrfs has no inode count.
        let btrfs = Space { available: 5 * LOW, inodes_free: 0, inodes: 0 };
        assert_eq!(judge_space(path, Some(btrfs)).state, State::Fine);
        assert_eq!(judge_space(path, None).state, State::Warning);
    }

    #[test]
    fn the_place_of_the_binary_needs_room_for_it() {
        let space = |available| Some(Space { available, inodes_free: 500_000, inodes: 1_000_000 });
        let own = |space| judge_own(Path::new(OWN), space);
        let state = |mib: u64| own(space(mib * MIB)).state;
        assert_eq!((state(10), state(100), state(300)), (State::Failed, State::Warning, State::Fine));
        let few = Space { available: 300 * MIB, inodes_free: 3, inodes: 1_000_000 };
        assert_eq!(own(Some(few)).state, State::Failed);
        assert!(own(space(0)).name.contains("/var/lib/kedge"));
        assert!(on_another_disk(Path::new("/proc/none"), Path::new("/var/lib/none")));
        assert!(!on_another_disk(Path::new("/var/lib/a"), Path::new("/var/lib/b")));
    }

    #[test]
    fn a_place_of_small_files_needs_little() {
        let small = |available, inodes_free| {
            let space = Some(Space { available, inodes_free, inodes: 1000 });
            judge_small(Path::new("/etc/kubeedge"), space)
        };
        assert_eq!(small(MIB, 500).state, State::Fine);
        let full = small(8 << 10, 500);
        assert_eq!((full.state, full.seen.as_str()), (State::Failed, "8 KiB"));
        assert_eq!(small(MIB, 3).seen, "1024 KiB, 3 inodes");
        assert_eq!(judge_small(Path::new("/etc/kubeedge"), None).state, State::Warning);
    }

    #[test]
    fn a_real_directory_is_measured_and_left_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("not/yet/there");
        assert!(measure(&path).unwrap().available > 0);
        assert_eq!(is_writable(&path), Ok(()));
        assert!(sync_time(&path).unwrap() > Duration::ZERO);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn each_place_is_judged_and_each_file_system_measured_once() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one/deep"), dir.path().join("two"));
        let codes: Vec<String> =
            places(&[&one, &two]).into_iter().map(|finding| finding.code.to_string()).collect();
        assert_eq!(codes, ["KE-DISK-002", "KE-DISK-001", "KE-DISK-002"]);
        let proc = places(&[Path::new("/proc/1")]);
        assert_eq!(proc.len(), 2, "{proc:?}");
    }

    #[test]
    fn a_read_only_file_system_is_told_as_one() {
        let finding = judge_writable(Path::new("/etc/kubeedge"), Err("read-only"));
        assert!(finding.state == State::Failed && finding.fix.contains("remount,rw"), "{finding:?}");
        assert!(judge_writable(Path::new("/x"), Err("not writable for this user")).fix.contains("sudo"));
    }

    #[test]
    fn slow_disks_are_told_by_their_time() {
        let state = |ms| judge_sync(Path::new("/x"), Ok(Duration::from_millis(ms))).state;
        assert_eq!((state(3), state(150), state(1500)), (State::Fine, State::Warning, State::Failed));
        assert_eq!(judge_sync(Path::new("/x"), Err("No space left".to_owned())).state, State::Failed);
    }
}
