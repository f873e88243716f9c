//! The node's database: whether SQLite finds it whole, how large its log is, who may read it, and whether the last
//! comparison with the cloud found the same. Reads only; a genuine edgecore.db too.

use super::place::Place;
use crate::base::now_ms;
use crate::cmd::status::ASIDE_FIX;
use crate::daemon::edge::meta::COMPARISON;
use crate::host::check::{Check, Cost, Finding, Group};
use crate::store::{Reader, rescued};
use serde_json::Value;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MIB: u64 = 1 << 20;
/// kedge's writer keeps it near one megabyte; a reader that never ends lets it grow.
const LARGE_LOG: u64 = 16 * MIB;

pub(super) fn checks(place: &Arc<Place>) -> Vec<Check> {
    let path = place.edge.as_ref().map(|config| config.database.clone());
    let look = |code: &'static str, name: &'static str, judge: fn(&Path) -> Finding| {
        let path = path.clone();
        move || vec![on(path.as_ref(), code, name, judge)]
    };
    let running = place.daemon.is_some();
    let (compared, kept) = (path.clone(), path.clone());
    vec![
        Check::blocking("KE-DB-001", Group::Store, "database", move || {
            let present = on(kept.as_ref(), "KE-DB-001", "database", whole);
            std::iter::once(present).chain(kept.as_deref().and_then(set_aside)).collect()
        })
        .also(&["KE-DB-004"])
        .cost(Cost::Medium),
        Check::blocking(
            "KE-DB-002",
            Group::Store,
            "write-ahead log",
            look("KE-DB-002", "write-ahead log", log),
        )
        .after(&["KE-DB-001"]),
        Check::blocking(
            "KE-DB-003",
            Group::Store,
            "readers of the database",
            look("KE-DB-003", "readers of the database", readers),
        ),
        Check::blocking("KE-SYNC-001", Group::Store, "same as the cloud", move || {
            vec![match compared {
                Some(path) if path.is_file() => same(&path, running),
                _ => Finding::skipped("KE-SYNC-001", "same as the cloud", "there is no database yet"),
            }]
        })
        .after(&["KE-DB-001"]),
    ]
}

fn on(
    path: Option<&PathBuf>,
    code: &'static str,
    name: &'static str,
    judge: fn(&Path) -> Finding,
) -> Finding {
    match path {
        None => Finding::skipped(code, name, "because of KE-ETC-001"),
        Some(path) if !path.is_file() => {
            Finding::skipped(code, name, format!("there is none at {} yet", path.display()))
        }
        Some(path) => judge(path),
    }
}

/// A database that was damaged and that the daemon has replaced.
fn set_aside(path: &Path) -> Option<Finding> {
    let rescue = rescued(path)?;
    let from = match &rescue.restored {
        Some(copy) => format!("{} took its place", copy.display()),
        None => "the node began again with what the cloud sends".to_owned(),
    };
    let seen = format!("set aside as {}: {}", rescue.aside.display(), rescue.why);
    Some(Finding::warning("KE-DB-004", "damaged database", seen).because(from).fix(ASIDE_FIX))
}

fn whole(path: &Path) -> Finding {
    let (code, name) = ("KE-DB-001", "database");
    let again = "kedge service restart edge";
    let why = "the file is damaged; the daemon sets it aside at its next start and goes on with the newest backup, or with \
               what the cloud sends";
    let checked = Reader::open(path).and_then(|reader| Ok((reader.quick_check()?, reader.size())));
    match checked {
        Ok((word, size)) if word == "ok" => {
            Finding::fine(code, name, format!("whole, {} KiB", size.div_ceil(1024)))
        }
        Ok((word, _)) => {
            let words = word.split_whitespace().collect::<Vec<_>>().join(" ");
            Finding::failed(code, name, words).because(why).fix(again)
        }
        Err(failure) if failure.code == "KE-STORE-001" => {
            Finding::failed(code, name, failure.why).because(why).fix(again)
        }
        Err(failure) => Finding::failed(code, name, failure.why).because(failure.what).fix(failure.fix),
    }
}

fn log(path: &Path) -> Finding {
    match Reader::open(path) {
        Ok(reader) => judge_log(reader.log_size()),
        Err(failure) => Finding::failed("KE-DB-002", "write-ahead log", failure.why),
    }
}

fn judge_log(bytes: u64) -> Finding {
    let (code, name) = ("KE-DB-002", "write-ahead log");
    let seen = format!("{} KiB", bytes.div_ceil(1024));
    if bytes > LARGE_LOG {
        return Finding::warning(code, name, seen)
            .because("a program holds an old snapshot open, so that the log cannot be brought into the file")
            .fix("fuser -v on the database tells who; end that program");
    }
    Finding::fine(code, name, seen)
}

/// The database and what SQLite keeps beside it, as far as they are there.
pub(super) fn database_files(path: &Path) -> Vec<PathBuf> {
    let beside = |end: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    [path.to_owned(), beside("-wal"), beside("-shm")].into_iter().filter(|path| path.is_file()).collect()
}

/// Secrets of pods stand in the database as they are.
fn readers(path: &Path) -> Finding {
    let mode = |path: &Path| path.metadata().map_or(0, |found| found.mode() & 0o7777);
    // A directory that others may not enter keeps what is in it.
    let keeps = |dir: &Path| dir.metadata().is_ok_and(|found| found.mode() & 0o011 == 0);
    let shut = path.ancestors().skip(1).any(keeps);
    let files = database_files(path);
    let open = files.iter().map(|path| mode(path)).find(|mode| mode & 0o077 != 0);
    judge_readers(path, open.filter(|_| !shut))
}

fn judge_readers(path: &Path, open: Option<u32>) -> Finding {
    let (code, name) = ("KE-DB-003", "readers of the database");
    match open {
        None => Finding::fine(code, name, "its owner alone"),
        Some(mode) => Finding::warning(code, name, format!("mode {mode:04o}"))
            .because("Secrets of this node's pods stand in it as they are, and other users of this machine can read them")
            .fix(format!("chmod 600 {}*", path.display()))
            .fixable(),
    }
}

fn same(path: &Path, running: bool) -> Finding {
    let (room, key) = COMPARISON;
    let states = Reader::open(path).and_then(|reader| reader.states(room));
    let states = match states {
        Ok(states) => states,
        Err(failure) => return Finding::failed("KE-SYNC-001", "same as the cloud", failure.why),
    };
    let note = states.into_iter().find(|(name, _)| name == key).map(|(_, value)| value);
    judge_same(note.as_ref(), running, now_ms())
}

/// The cloud compares after a connect and now and then; what differed it has sent again.
fn judge_same(note: Option<&Value>, running: bool, now: i64) -> Finding {
    let (code, name) = ("KE-SYNC-001", "same as the cloud");
    let number = |field: &str| note.and_then(|note| note.get(field)?.as_i64());
    let (Some(at), Some(differing)) = (number("at"), number("differing")) else {
        let why = if running {
            "the cloud has not compared yet; a genuine cloudcore does not"
        } else {
            "never compared with a cloud"
        };
        return Finding::skipped(code, name, why);
    };
    let minutes = (now - at).max(0) / 60_000;
    let ago = if minutes < 1 { "less than a minute ago".to_owned() } else { format!("{minutes} min ago") };
    // One difference is mended by the answer to it; one that is there again is not.
    if differing > 0 && number("before").is_some_and(|before| before > 0) {
        return Finding::warning(code, name, format!("{differing} parts differed {ago}, as the time before"))
            .because("what differs is sent again at once; a difference that stays means lost messages")
            .fix("kedge status, and the same check a minute later");
    }
    if differing > 0 {
        return Finding::fine(code, name, format!("compared {ago}, {differing} parts were sent again"));
    }
    Finding::fine(code, name, format!("compared {ago}, nothing differed"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::check::State;
    use crate::store::Store;
    use serde_json::json;

    #[test]
    fn a_whole_and_a_damaged_database_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("edgecore.db");
        drop(Store::open(&path).unwrap());
        assert!(whole(&path).seen.starts_with("whole, "));
        assert_eq!(log(&path).state, State::Fine);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.iter_mut().skip(100).for_each(|byte| *byte = 0xa5);
        std::fs::write(&path, &bytes).unwrap();
        let damaged = whole(&path);
        assert!(damaged.state == State::Failed && damaged.fix.contains("restart edge"), "{damaged:?}");
        assert!(!damaged.seen.contains('\n'), "{damaged:?}");
        assert!(set_aside(&path).is_none());
        let (store, rescue) = Store::open_or_rescue(&path, Vec::new).unwrap();
        let told = set_aside(&path).unwrap();
        assert_eq!((&*told.code, told.state), ("KE-DB-004", State::Warning));
        assert!(told.seen.contains(&rescue.unwrap().aside.display().to_string()), "{told:?}");
        drop(store);
        std::fs::write(&path, "no database").unwrap();
        assert_eq!(whole(&path).state, State::Failed);
        assert_eq!(on(Some(&dir.path().join("x")), "KE-DB-001", "database", whole).state, State::Skipped);
        assert_eq!(on(None, "KE-DB-001", "database", whole).why, "because of KE-ETC-001");
    }

    #[test]
    fn a_database_that_others_can_read_is_told_and_fixable() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let set = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let path = dir.path().join("edgecore.db");
        std::fs::write(&path, "").unwrap();
        set(&path, 0o644);
        set(dir.path(), 0o700);
        assert_eq!(readers(&path).state, State::Fine);
        set(dir.path(), 0o755);
        let open = readers(&path);
        assert_eq!((&*open.code, open.state, open.fixable), ("KE-DB-003", State::Warning, true));
        set(&path, 0o600);
        assert_eq!(readers(&path).state, State::Fine);
    }

    #[test]
    fn a_log_that_never_shrinks_is_told() {
        assert_eq!(judge_log(900 << 10).seen, "900 KiB");
        assert_eq!(judge_log(20 * MIB).state, State::Warning);
    }

    #[test]
    fn the_last_comparison_is_told_with_its_age() {
        let note = |at: i64, differing: i64| json!({"at": at, "differing": differing});
        let now = 1_000_000_000;
        assert_eq!(judge_same(None, true, now).state, State::Skipped);
        let same = judge_same(Some(&note(now - 180_000, 0)), true, now);
        assert_eq!((same.state, same.seen.as_str()), (State::Fine, "compared 3 min ago, nothing differed"));
        assert_eq!(judge_same(Some(&note(now, 2)), true, now).state, State::Fine);
        let again = json!({"at": now, "differing": 2, "before": 1});
        assert_eq!(judge_same(Some(&again), true, now).state, State::Warning);
        assert_eq!(judge_same(Some(&json!("x")), false, now).state, State::Skipped);
    }
}
