//! The images that kedge brings: what is in the archive, and what is said where it cannot be made or handed over.

use super::*;
use crate::base::alone::{alone, forbid_files};

#[test]
fn the_archive_names_each_image() {
    let archive = build(&[PAUSE.to_owned(), DEMO.to_owned()], PAUSE).unwrap();
    let mut index = String::new();
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.path().unwrap() == Path::new("index.json") {
            entry.read_to_string(&mut index).unwrap();
        }
    }
    let index: Value = serde_json::from_str(&index).unwrap();
    assert_eq!(index["manifests"][0]["annotations"]["io.containerd.image.name"], PAUSE);
    assert_eq!(index["manifests"][1]["annotations"]["io.containerd.image.name"], DEMO);
}

#[test]
fn only_static_programs_are_taken() {
    for machine in [Machine::X86_64, Machine::Aarch64, Machine::Arm, Machine::Riscv64] {
        let mut program = programs::pause(machine);
        assert!(is_static(&program), "{machine:?}");
        let table = if machine == Machine::Arm { 52 } else { 64 };
        program[table] = 3;
        assert!(!is_static(&program), "{machine:?}");
    }
    assert!(!is_static(b"#!/bin/sh"));
    assert!(!is_static(b"\x7fELF\x02\x01"));
}

fn nobody() -> Runtime {
    Runtime::new("unix:///nonexistent/containerd.sock")
}

#[tokio::test]
async fn a_runtime_that_does_not_answer_is_not_given_images() {
    let failure = ensure(&nobody(), PAUSE, "overlayfs").await.unwrap_err();
    assert_eq!(failure.code, "KE-IMAGE-001");
    failure.is_as_committed();
    assert!(
        failure.what.contains(PAUSE) && failure.why.contains("/nonexistent/containerd.sock"),
        "{failure}"
    );
    assert!(failure.fix.contains("kedge status"), "{failure:?}");
    let failure = load(&nobody(), "app.tar", &b"an archive"[..]).await.unwrap_err();
    assert_eq!(failure.code, "KE-IMAGE-004");
    failure.is_as_committed();
    assert!(failure.what.contains("app.tar") && failure.why.contains("/nonexistent"), "{failure}");
    assert!(failure.fix.contains("containerd runs"), "{failure:?}");
}

#[test]
fn a_system_that_gives_no_files_has_no_archive() {
    if !alone(module_path!(), "a_system_that_gives_no_files_has_no_archive", |_| {}) {
        return;
    }
    forbid_files();
    let failure = build(&[PAUSE.to_owned()], PAUSE).map_err(unbuilt).err().unwrap();
    assert_eq!(failure.code, "KE-IMAGE-002");
    assert!(failure.why.contains("Too many open files") && failure.fix.contains("ulimit -n"), "{failure:?}");
}

#[test]
fn a_machine_without_ctr_is_told_what_to_install() {
    let name = "a_machine_without_ctr_is_told_what_to_install";
    if !alone(module_path!(), name, |child| _ = child.env("PATH", "/nonexistent")) {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let archive = memory_file().unwrap();
    let imported = runtime.block_on(import(Path::new("/nonexistent/containerd.sock"), "overlayfs", archive));
    let failure = imported.unwrap_err();
    assert_eq!(failure.code, "KE-IMAGE-003");
    assert!(failure.why.starts_with("ctr: No such file"), "{failure}");
    assert!(failure.fix.contains("install containerd"), "{failure:?}");
}
