//! Odd places and names given to the smaller commands: names that are no text, directories and disks that take nothing, a
//! reader that goes, files that were cut off. Nothing panics, nothing is lost silently, and nothing claims what was not done.

use crate::support::told::{fails, told};
use crate::support::{Run, binary, kedge, run};
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn typed<A: AsRef<OsStr>>(args: &[A]) -> Run {
    Command::new(binary()).args(args).stdin(Stdio::null()).output().unwrap().into()
}

fn words(line: &str, place: &Path) -> Vec<OsString> {
    let word = |word: &str| if word == "PLACE" { place.as_os_str().to_owned() } else { word.into() };
    line.split(' ').map(word).collect()
}

/// A directory whose name is no UTF-8, with a configuration in it.
fn odd(dir: &Path) -> PathBuf {
    let odd = dir.join(OsString::from_vec(b"n\xff\xfe".to_vec()));
    std::fs::create_dir(&odd).unwrap();
    std::fs::write(odd.join("e.yaml"), kedge(&["edge", "config", "--minconfig"]).stdout).unwrap();
    odd
}

#[test]
fn names_that_are_no_text_are_shown_as_far_as_they_can_be() {
    let dir = tempfile::tempdir().unwrap();
    let odd = odd(dir.path());
    let file = odd.join("e.yaml");
    for form in ["text", "json", "yaml"] {
        for line in [
            "config validate PLACE",
            "config get modules.edgeHub.heartbeat --config PLACE",
            "config set modules.edgeHub.heartbeat=20 --dry-run --config PLACE",
            "config set modules.edgeHub.heartbeat=20 --config PLACE",
            "config set modules.edgeHub.heartbeat=15 --config PLACE",
        ] {
            let run = typed(&words(&format!("{line} -o {form}"), &file));
            run.assert_status(0);
            assert!(!run.stderr.contains("panicked"), "{run:?}");
            if form == "json" {
                let value: Value = serde_json::from_str(&run.stdout).unwrap();
                let named = value.pointer("/items/0/file").or(value.get("file")).and_then(Value::as_str);
                assert!(named.is_some_and(|name| name.ends_with("/e.yaml")), "{value:#}");
            }
        }
        let report = typed(&words(&format!("bugreport -o {form} -F PLACE"), &odd.join(form)));
        report.assert_status(0);
        assert!(odd.join(form).is_file(), "{report:?}");
    }
    for line in ["cert list", "cert ca", "status", "bundle --check", "meta list --db", "man --dir"] {
        let flag = if line.contains("--") { "PLACE" } else { "--data-dir PLACE" };
        let run = typed(&words(&format!("{line} {flag}"), &odd));
        assert!((0..=4).contains(&run.status) && !run.stderr.contains("panicked"), "{line}: {run:?}");
    }
    for command in ["man", "help", "explain", "completion", "config get"] {
        let run = typed(&words(&format!("{command} PLACE"), Path::new(OsStr::from_bytes(b"\xff"))));
        assert_eq!((run.status, run.stdout.as_str()), (2, ""), "{run:?}");
        assert_eq!(told(&run.stderr).last().unwrap().code, "KE-USAGE-001", "{run:?}");
    }
}

#[test]
fn data_that_does_not_fit_is_told_and_a_reader_that_goes_is_fine() {
    for line in ["edge config --defaultconfig", "explain", "help ports", "man join", "version -o json"] {
        let args: Vec<&str> = line.split(' ').collect();
        let full = File::options().write(true).open("/dev/full").unwrap();
        let lost: Run = Command::new(binary()).args(&args).stdout(full).output().unwrap().into();
        fails(&lost, "KE-TERM-003", 1);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let gone: Run = Command::new(binary()).args(&args).stdout(writer).output().unwrap().into();
        assert_eq!((gone.status, gone.stderr.as_str()), (0, ""), "{line}");
    }
}

#[test]
fn who_follows_ends_when_nobody_reads() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::io::Write::write_all(&mut stream.unwrap(), br#"{"role":"edge","version":"0.1.0"}"#).unwrap();
        }
    });
    for (out, status) in [("gone", 0), ("full", 1)] {
        let stdout: Stdio = match out {
            "gone" => std::io::pipe().unwrap().1.into(),
            _ => File::options().write(true).open("/dev/full").unwrap().into(),
        };
        let args = ["20", binary(), "status", "--watch", "--socket", socket.to_str().unwrap()];
        let ended: Run = Command::new("timeout").args(args).stdout(stdout).output().unwrap().into();
        assert_eq!(ended.status, status, "{out}: {ended:?}");
    }
}

#[test]
fn a_setting_that_cannot_be_written_is_not_shown_as_changed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("e.yaml");
    std::fs::write(&file, kedge(&["edge", "config", "--minconfig"]).stdout).unwrap();
    // What keeps the former text has no place.
    std::fs::create_dir(dir.path().join("e.yaml.bak")).unwrap();
    let before = std::fs::read(&file).unwrap();
    let name = file.to_str().unwrap();
    for form in ["text", "json", "yaml"] {
        let run = kedge(&["config", "set", "modules.edgeHub.heartbeat=20", "--config", name, "-o", form]);
        fails(&run, "KE-FILE-001", 1);
    }
    assert_eq!(std::fs::read(&file).unwrap(), before);
    std::fs::remove_dir(dir.path().join("e.yaml.bak")).unwrap();
    // What is no configuration is left alone, and so is a link to one.
    let other = dir.path().join("other");
    for text in ["- a\n- b\n", "just a text\n", "5\n"] {
        std::fs::write(&other, text).unwrap();
        let run =
            kedge(&["config", "set", "modules.edgeHub.heartbeat=20", "--config", other.to_str().unwrap()]);
        fails(&run, "KE-CONFIG-002", 3);
        assert_eq!(std::fs::read_to_string(&other).unwrap(), text);
    }
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let run = kedge(&["config", "set", "modules.edgeHub.heartbeat=21", "--config", link.to_str().unwrap()]);
    run.assert_status(0);
    assert!(
        link.is_symlink() && std::fs::read_to_string(&file).unwrap().contains("heartbeat: 21"),
        "{run:?}"
    );
    // As some editors write it.
    let marked = [b"\xef\xbb\xbf", before.as_slice()].concat();
    std::fs::write(&file, marked).unwrap();
    kedge(&["config", "validate", name]).assert_status(0);
    let half = kedge(&["config", "set", "modules.edgeHub.heartbeat=1.5", "--config", name]);
    fails(&half, "KE-CONFIG-002", 3);
    // A file that was cut off is told before it is made whole.
    std::fs::write(&file, before.get(..before.len() - 1).unwrap()).unwrap();
    let run = kedge(&["config", "set", "modules.edgeHub.heartbeat=20", "--config", name]);
    run.assert_status(0);
    assert!(
        run.stderr.contains("has no end of line") && run.stdout.contains("+    heartbeat: 20"),
        "{run:?}"
    );
}

#[test]
fn a_node_without_a_certificate_is_told_apart_from_no_node() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("e.yaml");
    let text = kedge(&["edge", "config", "--minconfig"]).stdout;
    std::fs::write(&file, text.replace("/etc/kubeedge", dir.path().to_str().unwrap())).unwrap();
    let name = file.to_str().unwrap();
    for line in ["cert list", "cert ca", "cert renew", "cert renew --dry-run"] {
        let args: Vec<&str> = line.split(' ').chain(["--config", name]).collect();
        let told = fails(&kedge(&args), "KE-CERT-008", 4);
        assert!(told.why.contains("server.crt") && told.fix.contains("kedge join"), "{told:?}");
    }
    for address in ["x y", "h:99999", "::::", "h:"] {
        let run = kedge(&["cert", "renew", "--dry-run", "--config", name, "--cloud", address]);
        fails(&run, "KE-LINK-001", 2);
    }
}

#[test]
fn somebody_who_may_not_write_is_told_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(dir.path(), open).unwrap();
    let file = dir.path().join("e.yaml");
    std::fs::write(&file, kedge(&["edge", "config", "--minconfig"]).stdout).unwrap();
    let place = |name: &str| dir.path().join(name).display().to_string();
    let nobody = |args: &[&str]| {
        let who = ["--reuid", "65534", "--regid", "65534", "--clear-groups", binary()];
        run("setpriv", &[&who[..], args].concat())
    };
    let name = file.to_str().unwrap();
    let all = [
        (vec!["config", "set", "modules.edgeHub.heartbeat=20", "--config", name], "KE-FILE-001"),
        (vec!["bugreport", "-F"], "KE-FILE-001"),
        (vec!["man", "--dir"], "KE-FILE-003"),
    ];
    for (mut args, code) in all {
        let more = place("new");
        if args.last().is_some_and(|last| last.starts_with('-')) {
            args.push(&more);
        }
        let run = nobody(&args);
        assert_eq!((run.status, run.stdout.as_str()), (1, ""), "{run:?}");
        assert_eq!(told(&run.stderr).last().unwrap().code, code, "{run:?}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    nobody(&["config", "validate", name]).assert_status(0);
}
