//! What a change sets in the running kernel: the value of a setting, a module that is loaded. A module is taken out again
//! only where the kernel counts who needs it, and nobody does. Only changes of the journal come here.

use super::files::unmade;
use crate::base::Failure;
use crate::host::service::call::must;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;

const MODULES: &str = "/sys/module";
const LIMIT: Duration = Duration::from_secs(30);
/// Mounts and rules hold these in use. Others, such as bridge, go though interfaces of theirs are at work, in namespaces
/// that are not seen from here too.
const COUNTED: [&str; 2] = ["overlay", "nf_nat"];

/// The value that runs; `None` where this kernel has no such setting.
pub(super) fn setting(path: &Path) -> Result<Option<String>, Failure> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim_end().to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unmade(path, &error)),
    }
}

pub(super) fn set(path: &Path, value: &str) -> io::Result<()> {
    fs::OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()))
}

/// Whether a module is loaded or built in.
pub(super) fn is_loaded(name: &str) -> bool {
    Path::new(MODULES).join(name).exists()
}

pub(super) fn load(name: &str) -> Result<(), Failure> {
    must("modprobe", &[name], LIMIT).map(drop)
}

/// Takes a module out; answers why it stays where that is not safe.
pub(super) fn unload(name: &str) -> Option<String> {
    let dir = Path::new(MODULES).join(name);
    if !dir.exists() {
        return None;
    }
    let why = match in_the_way(name, &dir) {
        Some(why) => why,
        None => must("modprobe", &["-r", name], LIMIT).err()?.why,
    };
    Some(format!("it stays loaded until the next boot: {why}"))
}

/// Why a module had better stay.
fn in_the_way(name: &str, dir: &Path) -> Option<String> {
    if !COUNTED.contains(&name) {
        return Some("the kernel does not count who needs it".to_owned());
    }
    // What is built in has no count.
    let Ok(users) = fs::read_to_string(dir.join("refcnt")) else { return Some("it is built in".to_owned()) };
    let users = users.trim();
    (users != "0").then(|| format!("it is in use ({users} users)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_goes_only_where_nobody_can_need_it() {
        let dir = tempfile::tempdir().unwrap();
        let why = |name: &str| in_the_way(name, dir.path());
        assert_eq!(why("overlay").as_deref(), Some("it is built in"));
        fs::write(dir.path().join("refcnt"), "3\n").unwrap();
        assert_eq!(why("overlay").as_deref(), Some("it is in use (3 users)"));
        fs::write(dir.path().join("refcnt"), "0\n").unwrap();
        assert_eq!(why("nf_nat"), None);
        assert_eq!(why("bridge").as_deref(), Some("the kernel does not count who needs it"));
        assert_eq!(unload("no_such_module"), None);
        assert_eq!(load("no_such_module").unwrap_err().code, "KE-SERVICE-002");
    }
}
