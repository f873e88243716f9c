//! The journal on real directories: everything done is undone, after a crash at any line too.

#![cfg(test)]

use super::*;
use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

/// Every path below a directory with its kind, mode and content.
fn tree(root: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let data = fs::symlink_metadata(&path).unwrap();
            let content = if data.is_dir() {
                waiting.push(path.clone());
                Vec::new()
            } else if data.is_symlink() {
                fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
            } else {
                fs::read(&path).unwrap()
            };
            found.insert(path, (data.mode(), content));
        }
    }
    found
}

fn changes(root: &Path) -> Vec<Change> {
    let etc = root.join("etc/kubeedge");
    vec![
        Change::Directory { path: root.join("lib/kubeedge"), mode: 0o700, kind: Directory::Owned },
        Change::File { path: etc.join("config/edgecore.yaml"), content: b"new".to_vec(), mode: 0o600 },
        Change::File { path: root.join("present"), content: b"changed".to_vec(), mode: 0o644 },
        Change::Link { path: root.join("link"), target: "/b".into() },
        Change::Remove { path: root.join("old") },
        Change::Link { path: root.join("fresh"), target: "present".into() },
    ]
}

fn prepared() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("present"), "as it was").unwrap();
    fs::set_permissions(root.join("present"), fs::Permissions::from_mode(0o640)).unwrap();
    fs::write(root.join("old"), "old").unwrap();
    std::os::unix::fs::symlink("/a", root.join("link")).unwrap();
    (dir, root)
}

fn all(_: &Entry) -> bool {
    true
}

#[test]
fn a_machine_is_as_it_was_found_when_all_is_undone() {
    let (_dir, root) = prepared();
    let before = tree(&root);
    let place = root.join("var/kedge/journal");
    let mut journal = Journal::open(&place, Deed::Join).unwrap();
    for change in changes(&root) {
        journal.apply(&change).unwrap();
    }
    assert_eq!(Journal::unfinished(&place).unwrap(), [Deed::Join]);
    journal.finish().unwrap();
    assert_eq!(Journal::unfinished(&place).unwrap(), []);
    fs::write(root.join("lib/kubeedge/edgecore.db"), "rows").unwrap();
    assert_eq!(fs::read(root.join("present")).unwrap(), b"changed");
    assert!(!root.join("old").exists());
    let text = fs::read_to_string(place.join("journal.jsonl")).unwrap();
    assert!(!text.contains("changed") && text.contains("\"sha256\""), "contents are not recorded: {text}");

    let undone = journal.undo(Manner::Careful, all);
    assert_eq!(undone.leftovers, []);
    assert_eq!(undone.done.first().unwrap(), &format!("linked {} to present", root.join("fresh").display()));
    assert_eq!(tree(&root), before);
}

#[test]
fn what_a_killed_write_has_left_goes_with_the_undo() {
    let (_dir, root) = prepared();
    let before = tree(&root);
    let place = root.join("var/kedge/journal");
    let mut journal = Journal::open(&place, Deed::Join).unwrap();
    for change in changes(&root) {
        journal.apply(&change).unwrap();
    }
    drop(journal);
    fs::write(root.join("etc/kubeedge/config/.edgecore.yaml.kedge-new"), "ha").unwrap();
    let undone = Journal::open(&place, Deed::Join).unwrap();
    assert!(!root.join("etc/kubeedge/config/.edgecore.yaml.kedge-new").exists(), "its file is known");
    // Of a file that the daemon writes, in a directory that the journal has made.
    fs::write(root.join("etc/kubeedge/config/.other.kedge-new"), "ha").unwrap();
    let undone = undone.undo(Manner::Careful, all);
    assert_eq!((undone.leftovers, tree(&root)), (vec![], before));
}

#[test]
fn what_could_not_be_done_is_not_recorded_as_done() {
    let (_dir, root) = prepared();
    let mut journal = Journal::open(&root.join("journal"), Deed::Configure).unwrap();
    let path = PathBuf::from("/proc/kedge");
    let failed = journal.apply(&Change::File { path, content: b"x".to_vec(), mode: 0o600 });
    assert_eq!((failed.unwrap_err().code, journal.entries().len()), ("KE-JOURNAL-006", 0));
    journal.apply(&Change::Remove { path: root.join("old") }).unwrap();
    assert_eq!(journal.entries().len(), 1);
}

#[test]
fn a_journal_without_the_lines_of_a_join_is_damaged() {
    let (_dir, root) = prepared();
    let (place, note, service) = (root.join("journal"), root.join("join.json"), root.join("service"));
    let whole = || judge_whole(&place, &note, &service);
    assert_eq!(whole(), Ok(()));
    fs::write(&service, "").unwrap();
    assert_eq!(whole(), Ok(()), "of somebody's own hand");
    fs::create_dir(&place).unwrap();
    assert_eq!(whole().unwrap_err().code, "KE-JOURNAL-007");
    let mut journal = Journal::open(&place, Deed::Join).unwrap();
    let content = b"{}".to_vec();
    journal.apply(&Change::File { path: note.clone(), content, mode: 0o600 }).unwrap();
    assert_eq!(whole(), Ok(()));
    fs::write(place.join("journal.jsonl"), "").unwrap();
    let failure = whole().unwrap_err();
    assert!(failure.why.contains("join.json and ") && failure.fix == "kedge reset edge", "{failure}");
}

#[test]
fn a_directory_that_holds_nothing_is_a_killed_journals() {
    let (_dir, root) = prepared();
    let home = root.join("home");
    assert!(!holds_nothing(&home));
    fs::create_dir_all(home.join("journal")).unwrap();
    fs::write(home.join("journal/lock"), "7").unwrap();
    assert!(holds_nothing(&home));
    fs::write(home.join("journal/journal.jsonl"), "").unwrap();
    assert!(holds_nothing(&home));
    fs::write(home.join("journal/journal.jsonl"), "{}\n").unwrap();
    assert!(!holds_nothing(&home), "its lines say what was there");
    fs::remove_dir_all(home.join("journal")).unwrap();
    assert!(holds_nothing(&home));
    fs::write(home.join("theirs"), "").unwrap();
    assert!(!holds_nothing(&home));
}

#[test]
fn a_crash_after_any_number_of_lines_is_undone_as_well() {
    let (dir, root) = prepared();
    let before = tree(&root);
    let place = dir.path().join("journal");
    let mut whole = Journal::open(&place, Deed::Join).unwrap();
    for change in changes(&root) {
        whole.apply(&change).unwrap();
    }
    let lines = fs::read_to_string(place.join("journal.jsonl")).unwrap().lines().count();
    assert_eq!(whole.undo(Manner::Careful, all).leftovers, []);

    for crashed in 0..lines {
        let mut journal = Journal::open(&place, Deed::Join).unwrap();
        let mut left = crashed;
        'crash: for change in changes(&root) {
            let parents = change.path().as_deref().map(missing_ancestors).unwrap_or_default();
            for change in parents.into_iter().map(|path| Change::directory(path, 0o755)).chain([change]) {
                if left == 0 {
                    // Recorded, and half of the file beside its place.
                    let id = journal.ledger.next_id();
                    let kept = Before::of(&change, &journal.kept(id)).unwrap();
                    journal.ledger.append(Deed::Join, change.told(), kept).unwrap();
                    fs::write(format!("{}.kedge-{id}", change.path().unwrap().display()), "ha").unwrap();
                    break 'crash;
                }
                left -= 1;
                journal.record_and_do(&change).unwrap();
            }
        }
        drop(journal);
        let torn = fs::OpenOptions::new().append(true).open(place.join("journal.jsonl"));
        std::io::Write::write_all(&mut torn.unwrap(), b"{\"change\":{\"id\":9").unwrap();
        let undone = Journal::open(&place, Deed::Join).unwrap().undo(Manner::Careful, all);
        assert_eq!((undone.leftovers, tree(&root)), (vec![], before.clone()), "crash at line {crashed}");
    }
}

fn file(path: PathBuf) -> Change {
    Change::File { path, content: b"x".to_vec(), mode: 0o600 }
}

fn owned(path: PathBuf) -> Change {
    Change::Directory { path, mode: 0o700, kind: Directory::Owned }
}

/// What a role does: its changes, and the files that its daemon writes beside them.
fn take_a_role(place: &Path, deed: Deed, changes: &[Change], daemon: &[PathBuf]) {
    let mut journal = Journal::open(place, deed).unwrap();
    for change in changes {
        journal.apply(change).unwrap();
    }
    journal.finish().unwrap();
    for path in daemon {
        fs::write(path, "x").unwrap();
    }
}

fn give_up(place: &Path, deed: Deed) -> Undone {
    let undone = Journal::open(place, deed).unwrap().undo(Manner::Thorough, |entry| entry.deed == deed);
    assert_eq!(undone.leftovers, []);
    undone
}

#[test]
fn an_edge_that_goes_leaves_what_the_cloud_has_made_in_its_directories() {
    let (dir, root) = prepared();
    let before = tree(&root);
    let place = dir.path().join("journal");
    let at = |name: &str| root.join(name);
    let edge = [owned(at("etc")), owned(at("lib")), file(at("etc/edge")), file(at("etc/certs/key"))];
    take_a_role(&place, Deed::Join, &edge, &[at("lib/edge.db"), at("etc/certs/next")]);
    let cloud = [file(at("etc/config/cloud.yaml")), file(at("etc/certs/cloud")), owned(at("lib/cloud"))];
    take_a_role(&place, Deed::Init, &cloud, &[at("lib/cloud/state")]);

    let undone = give_up(&place, Deed::Join);
    let of_etc = format!("made the directory {}; it stays: ", at("etc").display());
    assert!(undone.done.iter().any(|done| done.starts_with(&of_etc)), "{undone:?}");
    let of_cloud = ["etc", "etc/certs", "etc/certs/cloud", "etc/config", "etc/config/cloud.yaml"];
    let of_cloud = of_cloud.into_iter().chain(["lib", "lib/cloud", "lib/cloud/state"]);
    let mut left = tree(&root);
    left.retain(|path, _| !before.contains_key(path));
    assert_eq!(left.into_keys().collect::<Vec<_>>(), of_cloud.map(at).collect::<Vec<_>>());
    assert!(Journal::read(&place).unwrap().iter().all(|entry| entry.deed != Deed::Join));

    give_up(&place, Deed::Init);
    assert_eq!((tree(&root), place.exists()), (before, false));
}

#[test]
fn a_cloud_that_goes_leaves_what_the_edge_has_made_in_its_directories() {
    let (dir, root) = prepared();
    let before = tree(&root);
    let place = dir.path().join("journal");
    let at = |name: &str| root.join(name);
    let cloud = [file(at("etc/config/cloud.yaml")), owned(at("lib/cloud"))];
    take_a_role(&place, Deed::Init, &cloud, &[at("lib/cloud/state")]);
    // The directories are there, so that none of them is the edge's.
    let edge =
        [owned(at("etc")), owned(at("lib")), file(at("etc/config/edge.yaml")), file(at("lib/cloud/edge"))];
    take_a_role(&place, Deed::Join, &edge, &[at("lib/edge.db")]);

    give_up(&place, Deed::Init);
    for (path, stays) in [
        ("etc/config/cloud.yaml", false),
        ("etc/config/edge.yaml", true),
        ("lib/cloud/state", false),
        ("lib/cloud/edge", true),
        ("lib/edge.db", true),
    ] {
        assert_eq!(at(path).exists(), stays, "{path}");
    }
    // What its daemon has made goes with a reset before the journal is asked.
    fs::remove_file(at("lib/edge.db")).unwrap();
    give_up(&place, Deed::Join);
    assert_eq!((tree(&root), place.exists()), (before, false));
}

#[test]
fn a_repair_of_a_file_that_goes_holds_no_directory() {
    let (dir, root) = prepared();
    let before = tree(&root);
    let place = dir.path().join("journal");
    let key = root.join("etc/key");
    take_a_role(&place, Deed::Join, &[owned(root.join("etc")), file(key.clone())], &[]);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    take_a_role(&place, Deed::Fix, &[Change::Mode { path: key, mode: 0o600 }], &[]);
    give_up(&place, Deed::Join);
    assert_eq!(tree(&root), before);
    give_up(&place, Deed::Fix);
    assert!(!place.exists());
}

#[test]
fn what_a_full_disk_took_of_a_line_is_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.jsonl");
    let told = || Change::directory(dir.path().join("made"), 0o755).told();
    let mut ledger = Ledger::open(dir.path()).unwrap();
    ledger.append(Deed::Join, told(), Before::Absent).unwrap();
    let torn = || {
        let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        std::io::Write::write_all(&mut file, b"{\"change\":{").unwrap();
    };
    torn();
    ledger.undone(1).unwrap();
    let lines = || fs::read_to_string(&path).unwrap().lines().count();
    let read = Ledger::read(dir.path()).unwrap();
    assert_eq!((lines(), read.live.len(), read.next_id()), (2, 0, 2));
    // One that is read while it is torn, and written by the next command.
    torn();
    let mut ledger = Ledger::open(dir.path()).unwrap();
    torn();
    ledger.append(Deed::Join, told(), Before::Absent).unwrap();
    ledger.append(Deed::Join, told(), Before::Absent).unwrap();
    let read = Ledger::read(dir.path()).unwrap();
    assert_eq!((lines(), read.live, ledger.next_id()), (4, ledger.live.clone(), 4));
    // The file is gone, and the process is not: what it writes can be read.
    fs::remove_file(&path).unwrap();
    ledger.undone(2).unwrap();
    ledger.undone(3).unwrap();
    assert_eq!((lines(), Ledger::read(dir.path()).unwrap().live.len()), (2, 0));
}

#[test]
fn what_is_so_already_is_neither_recorded_nor_undone() {
    let (dir, root) = prepared();
    let place = dir.path().join("journal");
    let mut journal = Journal::open(&place, Deed::Fix).unwrap();
    let same = Change::File { path: root.join("present"), content: b"as it was".to_vec(), mode: 0o640 };
    journal.apply(&same).unwrap();
    journal.apply(&Change::Remove { path: root.join("nothing") }).unwrap();
    assert!(journal.entries().is_empty());
    journal.undo(Manner::Thorough, all);
    assert!(root.join("present").exists() && !place.exists());
}

#[test]
fn what_somebody_changed_since_is_left_unless_forced() {
    let (dir, root) = prepared();
    let place = dir.path().join("journal");
    let path = root.join("present");
    let mut journal = Journal::open(&place, Deed::Fix).unwrap();
    journal.apply(&Change::File { path: path.clone(), content: b"ours".to_vec(), mode: 0o644 }).unwrap();
    fs::write(&path, "theirs").unwrap();
    let undone = journal.undo(Manner::Careful, all);
    assert_eq!(undone.leftovers.iter().map(|failure| failure.code).collect::<Vec<_>>(), ["KE-JOURNAL-005"]);
    assert_eq!(fs::read(&path).unwrap(), b"theirs");

    let undone = Journal::open(&place, Deed::Fix).unwrap().undo(Manner::Thorough, all);
    assert_eq!((undone.leftovers, fs::read(&path).unwrap()), (vec![], b"as it was".to_vec()));
}

#[test]
fn a_second_process_learns_who_works_and_a_damaged_journal_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("journal");
    let held = Journal::open(&place, Deed::Join).unwrap();
    let Err(failure) = Journal::open(&place, Deed::Init) else { panic!("two at once") };
    assert_eq!(failure.code, "KE-JOURNAL-001");
    failure.is_as_committed();
    assert!(failure.why.contains(&std::process::id().to_string()), "{failure}");
    drop(held);
    Journal::is_free(&place).unwrap();
    let mut sleeper = std::process::Command::new("sleep")
        .arg("1000")
        .stdin(fs::File::open(place.join("lock")).unwrap())
        .spawn()
        .unwrap();
    fs::write(place.join("lock"), format!("{}\n", sleeper.id())).unwrap();
    let failure = Journal::is_free(&place).unwrap_err();
    assert!(failure.code == "KE-JOURNAL-001" && failure.fix.contains(&sleeper.id().to_string()), "{failure}");
    failure.is_as_committed();
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    Journal::is_free(&place).unwrap();

    fs::write(place.join("journal.jsonl"), "nonsense\n").unwrap();
    assert_eq!(Journal::read(&place).unwrap_err().committed().code, "KE-JOURNAL-003");
    let Err(failure) = Journal::open(Path::new("/proc/kedge"), Deed::Join) else { panic!("opened in /proc") };
    assert_eq!(failure.code, "KE-FILE-003");
    failure.is_as_committed();
    assert_eq!(refused(&place, LockError::Io(std::io::Error::other("disk"))).code, "KE-JOURNAL-002");
}

#[test]
fn a_mode_alone_is_set_and_comes_back() {
    let (dir, root) = prepared();
    let place = dir.path().join("journal");
    let mode = || fs::metadata(root.join("old")).unwrap().permissions().mode() & 0o7777;
    let before = mode();
    assert_ne!(before, 0o600);
    let content = fs::read(root.join("old")).unwrap();
    let mut journal = Journal::open(&place, Deed::Fix).unwrap();
    let change = Change::Mode { path: root.join("old"), mode: 0o600 };
    journal.apply(&change).unwrap();
    journal.apply(&change).unwrap();
    journal.apply(&Change::Mode { path: root.join("never"), mode: 0o600 }).unwrap();
    assert_eq!((mode(), journal.entries().len()), (0o600, 1));
    // Nothing was copied, and what is written meanwhile stays.
    assert!(!journal.kept(journal.entries()[0].id).exists());
    fs::write(root.join("old"), "newer").unwrap();
    let undone = journal.undo(Manner::Careful, all);
    assert!(undone.leftovers.is_empty(), "{:?}", undone.leftovers);
    assert_eq!((mode(), fs::read(root.join("old")).unwrap()), (before, b"newer".to_vec()));
    assert_ne!(content, b"newer");
}

#[test]
fn what_cannot_be_changed_or_put_back_is_named_and_the_rest_goes_on() {
    let (dir, root) = prepared();
    let place = dir.path().join("journal");
    let mut journal = Journal::open(&place, Deed::Join).unwrap();
    fs::create_dir(root.join("dir")).unwrap();
    let over = Change::File { path: root.join("dir"), content: Vec::new(), mode: 0o600 };
    assert_eq!(journal.apply(&over).unwrap_err().committed().code, "KE-JOURNAL-006");

    journal.apply(&Change::Remove { path: root.join("old") }).unwrap();
    journal.apply(&Change::Link { path: root.join("link"), target: "/b".into() }).unwrap();
    let kept = journal.kept(journal.entries().last().unwrap().id);
    fs::remove_file(kept).unwrap();
    let undone = journal.undo(Manner::Careful, all);
    assert_eq!(undone.leftovers.iter().map(|failure| failure.code).collect::<Vec<_>>(), ["KE-JOURNAL-004"]);
    assert!(root.join("old").exists());
}

#[test]
fn the_newest_deed_is_what_was_done_since_the_one_before_ended() {
    let (_dir, root) = prepared();
    let dir = root.join("journal");
    let paths = |dir: &Path| -> Vec<String> {
        let newest = Journal::newest(dir).unwrap();
        newest.iter().filter_map(|e| Some(e.path()?.file_name()?.to_string_lossy().into_owned())).collect()
    };
    assert!(paths(&dir).is_empty());
    for (deed, name) in [(Deed::Fix, "a"), (Deed::Configure, "b"), (Deed::Fix, "c")] {
        let mut journal = Journal::open(&dir, deed).unwrap();
        let path = root.join(name);
        journal.apply(&Change::File { path, content: b"x".to_vec(), mode: 0o600 }).unwrap();
        journal.finish().unwrap();
    }
    for newest in ["c", "b", "a"] {
        assert_eq!(paths(&dir), [newest]);
        let ids: Vec<u64> = Journal::newest(&dir).unwrap().iter().map(|entry| entry.id).collect();
        let undone =
            Journal::open(&dir, Deed::Fix).unwrap().undo(Manner::Careful, |entry| ids.contains(&entry.id));
        assert_eq!((undone.done.len(), undone.leftovers), (1, Vec::new()));
    }
    assert!(!dir.exists());
}

#[test]
fn a_setting_of_the_kernel_comes_back_as_it_ran() {
    let (dir, root) = prepared();
    let place = dir.path().join("journal");
    // A file stands for the kernel's; a house proves it with the kernel itself.
    let path = root.join("ip_forward");
    let runs = || fs::read_to_string(&path).unwrap();
    fs::write(&path, "0\n").unwrap();
    let change = Change::Setting { path: path.clone(), value: "1".into() };
    let set = || {
        let mut journal = Journal::open(&place, Deed::Fix).unwrap();
        journal.apply(&change).unwrap();
        journal.apply(&change).unwrap();
        assert_eq!(journal.entries().iter().filter(|entry| entry.deed == Deed::Fix).count(), 1);
        journal
    };
    let journal = set();
    assert!(runs().starts_with('1'));
    let undone = journal.undo(Manner::Careful, all);
    assert_eq!((undone.leftovers, runs().trim()), (vec![], "0"));
    assert_eq!(undone.done, [format!("set {} to 1", path.display())]);

    // Recorded, and power was cut before the deed.
    let mut journal = Journal::open(&place, Deed::Fix).unwrap();
    let kept = Before::of(&change, &journal.kept(9)).unwrap();
    journal.ledger.append(Deed::Fix, change.told(), kept).unwrap();
    assert_eq!((journal.undo(Manner::Careful, all).leftovers, runs().trim()), (vec![], "0"));

    // Somebody else has set it since.
    let journal = set();
    fs::write(&path, "2\n").unwrap();
    let undone = journal.undo(Manner::Careful, all);
    assert_eq!(undone.leftovers.iter().map(|failure| failure.code).collect::<Vec<_>>(), ["KE-JOURNAL-005"]);
    let undone = Journal::open(&place, Deed::Fix).unwrap().undo(Manner::Thorough, all);
    assert_eq!((undone.leftovers, runs().trim()), (vec![], "0"));

    // A kernel without it.
    let mut journal = Journal::open(&place, Deed::Fix).unwrap();
    let absent = Change::Setting { path: root.join("absent"), value: "1".into() };
    assert!(absent.is_of_kernel() && !change.path().is_some_and(|path| path.exists()));
    assert_eq!(journal.apply(&absent).unwrap_err().code, "KE-JOURNAL-006");
    assert_eq!(journal.undo(Manner::Careful, all).leftovers, []);
    assert!(!root.join("absent").exists());
}
