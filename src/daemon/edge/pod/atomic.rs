//! Writes the files of a ConfigMap-like volume so that a reader sees all of the old or all of the new ones: a fresh
//! directory, then one rename of the link `..data`, as the kubelet does. Blocking; called off the runtime.

use crate::base::random_suffix;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Component, Path};

/// A volume's content by relative path.
pub(super) type Payload = BTreeMap<String, Entry>;

/// One file.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub content: Vec<u8>,
    pub mode: u32,
}

const DATA: &str = "..data";
const DATA_NEXT: &str = "..data_tmp";

/// Makes `dir` hold exactly this payload; `Ok(false)` when it did already. Paths are checked by the caller.
pub(super) fn write(dir: &Path, payload: &Payload, group: Option<u32>) -> io::Result<bool> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(dir)?;
    let data = dir.join(DATA);
    if is_written(&data, payload, group) {
        return Ok(false);
    }
    let old = fs::read_link(&data).ok();
    let fresh = format!("..{}.{}", crate::base::now_ms(), random_suffix(6));
    let place = dir.join(&fresh);
    fs::DirBuilder::new().mode(0o755).create(&place)?;
    for (path, entry) in payload {
        let file = place.join(path);
        if let Some(parent) = file.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
        }
        fs::write(&file, &entry.content)?;
        if group.is_some() {
            std::os::unix::fs::chown(&file, None, group)?;
        }
        fs::set_permissions(&file, fs::Permissions::from_mode(mode(entry, group)))?;
    }
    let next = dir.join(DATA_NEXT);
    drop(fs::remove_file(&next));
    symlink(&fresh, &next)?;
    fs::rename(&next, &data)?;
    link_names(dir, payload)?;
    if let Some(old) = old.filter(|old| old.as_os_str() != fresh.as_str()) {
        drop(fs::remove_dir_all(dir.join(old)));
    }
    Ok(true)
}

/// The fsGroup may read whatever the pod's own mode says, as a kubelet has it.
fn mode(entry: &Entry, group: Option<u32>) -> u32 {
    if group.is_some() { entry.mode | 0o440 } else { entry.mode }
}

fn is_written(data: &Path, payload: &Payload, group: Option<u32>) -> bool {
    let same = |(path, entry): (&String, &Entry)| {
        let file = data.join(path);
        let right = |meta: fs::Metadata| {
            meta.permissions().mode() & 0o7777 == mode(entry, group)
                && group.is_none_or(|group| meta.gid() == group)
        };
        fs::metadata(&file).is_ok_and(right) && fs::read(&file).is_ok_and(|old| old == entry.content)
    };
    data.exists() && count(data) == Some(payload.len()) && payload.iter().all(same)
}

fn count(dir: &Path) -> Option<usize> {
    let mut sum = 0;
    for entry in fs::read_dir(dir).ok()? {
        let entry = entry.ok()?;
        sum += if entry.file_type().ok()?.is_dir() { count(&entry.path())? } else { 1 };
    }
    Some(sum)
}

/// One link per first path component, pointing through `..data`; links to what is no longer there go.
fn link_names(dir: &Path, payload: &Payload) -> io::Result<()> {
    let first = |path: &str| match Path::new(path).components().next() {
        Some(Component::Normal(name)) => Some(name.to_owned()),
        _ => None,
    };
    let names: BTreeSet<_> = payload.keys().filter_map(|path| first(path)).collect();
    for name in &names {
        let link = dir.join(name);
        let target = Path::new(DATA).join(name);
        if fs::read_link(&link).is_ok_and(|old| old == target) {
            continue;
        }
        symlink(target, link)?;
    }
    for entry in fs::read_dir(dir)?.flatten() {
        let name = entry.file_name();
        let internal = name.to_string_lossy().starts_with("..");
        if !internal && !names.contains(&name) && entry.file_type()?.is_symlink() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(entries: &[(&str, &str)]) -> Payload {
        let entry = |text: &str| Entry { content: text.into(), mode: 0o640 };
        entries.iter().map(|(path, text)| ((*path).to_owned(), entry(text))).collect()
    }

    #[test]
    fn files_change_together_and_vanish() {
        let dir = tempfile::tempdir().unwrap();
        assert!(write(dir.path(), &payload(&[("a", "1"), ("sub/b", "2")]), None).unwrap());
        assert!(!write(dir.path(), &payload(&[("a", "1"), ("sub/b", "2")]), None).unwrap());
        assert_eq!(fs::read_to_string(dir.path().join("sub/b")).unwrap(), "2");
        let before = fs::read_link(dir.path().join(DATA)).unwrap();
        assert!(write(dir.path(), &payload(&[("a", "9")]), None).unwrap());
        assert_eq!(fs::read_to_string(dir.path().join("a")).unwrap(), "9");
        assert!(!dir.path().join("sub").exists());
        assert!(!dir.path().join(before).exists());
        assert_eq!(fs::metadata(dir.path().join("a")).unwrap().permissions().mode() & 0o777, 0o640);
    }

    #[test]
    fn the_group_may_read_what_it_is_given() {
        let dir = tempfile::tempdir().unwrap();
        let group =
            if rustix::process::geteuid().is_root() { 2000 } else { rustix::process::getegid().as_raw() };
        let secret = Payload::from([("key".to_owned(), Entry { content: b"1".to_vec(), mode: 0o400 })]);
        let key = dir.path().join("key");
        let stands = || {
            let meta = fs::metadata(&key).unwrap();
            (meta.permissions().mode() & 0o7777, meta.gid())
        };
        assert!(write(dir.path(), &secret, None).unwrap());
        assert_eq!(stands().0, 0o400);
        // What was written without the group, or by somebody who left its mode alone, is written again.
        assert!(write(dir.path(), &secret, Some(group)).unwrap());
        assert_eq!(stands(), (0o440, group));
        assert!(!write(dir.path(), &secret, Some(group)).unwrap());
        fs::set_permissions(&key, fs::Permissions::from_mode(0o400)).unwrap();
        assert!(write(dir.path(), &secret, Some(group)).unwrap());
        assert_eq!(stands(), (0o440, group));
    }
}
