//! `kedge bundle` with a real image, a real containerd, a real token and `tar`: what is packed can be opened, checked and
//! loaded; what was tampered with is refused before anything of it is used.

use crate::support::snapshot;
use crate::support::world::World;
use crate::support::{kedge, run};
use std::path::Path;
use std::process::Command;

fn join_file(world: &World, token: &str) -> String {
    let hash = token.split('.').next().unwrap();
    let file = world.dir.join("join.yaml");
    let text = format!(
        "apiVersion: kedge/v1\nkind: JoinFile\ncloud:\n  addresses: [127.0.0.1]\ntoken: {token}\ncaHash: {hash}\n"
    );
    std::fs::write(&file, text).unwrap();
    file.display().to_string()
}

#[test]
fn a_bundle_carries_binary_images_and_join_file() {
    let world = World::new("bundle");
    let _up = world.up(&[]);
    let token = world.kedge(&["token", "create", "--ttl", "1h"]).stdout.trim().to_owned();
    let join = join_file(&world, &token);
    let image = world.dir.join("demo.tar").display().to_string();
    world.ctr(&["images", "export", &image, "kedge.local/demo:1"]).assert_status(0);
    let bundle = world.dir.join("edge.bundle").display().to_string();

    let dry = kedge(&["bundle", "-o", &bundle, "--join-file", &join, "--image", &image, "--dry-run"]);
    dry.assert_status(0);
    assert!(!Path::new(&bundle).exists());
    let made = kedge(&["bundle", "-o", &bundle, "--join-file", &join, "--image", &image]);
    made.assert_status(0);
    assert!(!made.stdout.contains(&token) && !made.stderr.contains(&token), "{made:?}");
    snapshot::said("bundle", &made);
    // What is there is not replaced, least of all a device.
    let before = std::fs::read(&bundle).unwrap();
    let device = world.dir.join("device").display().to_string();
    run("mkfifo", &[&device]).assert_status(0);
    for taken in [&bundle, &device] {
        let refused = kedge(&["bundle", "-o", taken, "--join-file", &join]);
        assert!(refused.status == 1 && refused.stderr.contains("KE-BUNDLE-005"), "{refused:?}");
    }
    assert_eq!(std::fs::read(&bundle).unwrap(), before);
    assert!(!std::fs::symlink_metadata(&device).unwrap().is_file());
    let check = kedge(&["bundle", "--check", &bundle, "--form", "json"]);
    check.assert_status(0);
    let value: serde_json::Value = serde_json::from_str(&check.stdout).unwrap();
    let names: Vec<&str> =
        value["parts"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["kedge", "join.yaml", "image-00.tar"]);

    // A machine that has nothing but tar gets a kedge out of it.
    let bare = world.dir.join("bare");
    std::fs::create_dir(&bare).unwrap();
    let out = Command::new("tar").args(["xf", &bundle, "kedge"]).current_dir(&bare).output().unwrap();
    assert!(out.status.success(), "{out:?}");
    run(bare.join("kedge").to_str().unwrap(), &["version"]).assert_status(0);

    // The image comes back into a runtime that lost it.
    world.ctr(&["images", "rm", "kedge.local/demo:1"]).assert_status(0);
    let socket = format!("unix://{}", world.data_dir().join("runtime/containerd.sock").display());
    let loaded = kedge(&["bundle", "--load", &bundle, "--runtime-endpoint", &socket]);
    loaded.assert_status(0);
    snapshot::said("bundle --load", &loaded);
    assert!(world.ctr(&["images", "ls", "-q"]).stdout.contains("kedge.local/demo:1"));

    // One changed byte in the middle, and a file that ends early.
    let mut bytes = std::fs::read(&bundle).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&bundle, &bytes).unwrap();
    for args in
        [&["bundle", "--check", &bundle][..], &["bundle", "--load", &bundle, "--runtime-endpoint", &socket]]
    {
        let refused = kedge(args);
        refused.assert_status(3);
        assert!(refused.stderr.contains("KE-BUNDLE-001") && refused.stderr.contains("digest"), "{refused:?}");
        snapshot::failed(&refused);
    }
    std::fs::write(&bundle, &bytes[..middle]).unwrap();
    kedge(&["bundle", "--check", &bundle]).assert_status(3);
}

#[test]
fn what_cannot_be_packed_is_told_and_nothing_is_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let put = |name: &str, text: &str| std::fs::write(path(name), text).unwrap();
    let hash = "0".repeat(64);
    put("wrong.yaml", "apiVersion: kedge/v1\nkind: JoinFile\ntoken: x\n");
    let claims = "eyJleHAiOjF9";
    put(
        "ended.yaml",
        &format!(
            "apiVersion: kedge/v1\nkind: JoinFile\ncloud:\n  addresses: [c]\ntoken: {hash}.eyJhbGciOiJIUzI1NiJ9.{claims}.c2ln\ncaHash: {hash}\n"
        ),
    );
    put("image.tar", "nonsense");
    let cases = [
        (vec!["--join-file", "wrong.yaml"], 3, "KE-CONFIG-002"),
        (vec!["--join-file", "ended.yaml"], 3, "KE-TOKEN-002"),
        (vec!["--join-file", "missing.yaml"], 3, "KE-FILE-002"),
        (vec![], 2, "--join-file"),
    ];
    for (args, status, words) in cases {
        let out = path("out.bundle");
        let args: Vec<String> = args
            .iter()
            .map(|arg| if arg.ends_with("yaml") { path(arg) } else { (*arg).to_owned() })
            .collect();
        let mut all = vec!["bundle", "-o", &out];
        all.extend(args.iter().map(String::as_str));
        let run = kedge(&all);
        assert_eq!(run.status, status, "{run:?}");
        assert!(run.stderr.contains(words), "{run:?}");
        snapshot::failed(&run);
        assert!(!Path::new(&out).exists());
    }
}
