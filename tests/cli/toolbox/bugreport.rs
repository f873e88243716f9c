//! `kedge bugreport` on a machine with secrets in every place that it looks at: the archive has the parts, and no secret.

use crate::support::eventually;
use crate::support::snapshot;
use crate::support::world::World;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);
const POD: &str = r#"
apiVersion: v1
kind: Secret
metadata: {name: planted, namespace: default}
stringData:
  login: planted-in-secret-1
  motto: "planted in secret two"
  quoted: 'plan"ted-sec\2'
  pin: 7q4z
---
apiVersion: v1
kind: Pod
metadata: {name: keeper, namespace: default}
spec:
  nodeName: edge-1
  containers:
  - name: main
    image: kedge.local/demo:1
    env:
    - {name: LOGIN, valueFrom: {secretKeyRef: {name: planted, key: login}}}
    - {name: PLAIN_PASSWORD, value: planted-in-pod-3}
"#;

/// What programs write into logs; the values of the Secret stand in forms that no rule has a name for.
const FORMS: &str = r#"
run with --token planted-in-log-7 and --password planted-in-log-8
mysql -pplanted-in-log-9 -h db
pwd=planted-in-log-10 pass: planted-in-log-11 psk: planted-in-log-12 passcode = planted-in-log-13
Cookie: theme=dark; session=planted-in-log-14
X-Auth-Key: planted-in-log-15
{"auths":{"registry":{"auth":"cGxhbnRlZC1pbi1zZWNyZXQ="}}}
at tcp://me:planted-in-log-16@planted-in-url-17@broker and at broker="usr:planted-in-log-18@127.0.0.1:1899"
{"said":"plan\"ted-sec\\2"} and again "{\"said\":\"plan\\\"ted-sec\\\\2\"}"
GET /login?x=plan%22ted-sec%5C2 by 7q4z, {"pin":"7q4z"}
"#;

fn entries(archive: &std::path::Path) -> Vec<(String, String)> {
    let mut tar = tar::Archive::new(std::fs::File::open(archive).unwrap());
    let read = |entry: std::io::Result<tar::Entry<'_, std::fs::File>>| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_string_lossy().into_owned();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut entry, &mut text).unwrap();
        (name, text)
    };
    tar.entries().unwrap().map(read).collect()
}

#[test]
fn no_secret_of_the_machine_is_in_the_archive() {
    let world = World::new("bugreport");
    let _up = world.up(&[]);
    world.apply(POD);
    // The node keeps the Secret once a pod of its own uses it.
    eventually("the Secret is on the node", SOON, || {
        let run = world.kedge(&["meta", "get", "default/secret/planted"]);
        if run.status == 0 { Ok(()) } else { Err(run) }
    });
    let dir = world.data_dir();
    let token = world.kedge(&["gettoken"]).stdout.trim().to_owned();
    let log = format!(
        "said planted-in-secret-1 and {token}\nAuthorization: Bearer planted-in-log-4\n{{\"password\":\"planted-in-log-5\"}}\nmqtt at tcp://me:planted-in-log-6@broker\nharmless line\n"
    );
    let log = log + FORMS;
    std::fs::create_dir_all(dir.join("runtime")).unwrap();
    std::fs::write(dir.join("runtime/planted.log"), log).unwrap();

    let archive = world.dir.join("report.tar");
    let file = archive.to_str().unwrap();
    let run = world.kedge(&["bugreport", "-F", file]);
    run.assert_status(0);
    assert_eq!(run.stdout.trim(), file);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&archive).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);

    let parts = entries(&archive);
    let part = |end: &str| {
        let found = parts.iter().find(|(name, _)| name.ends_with(end));
        &found
            .unwrap_or_else(|| panic!("{end} is not in {:?}", parts.iter().map(|p| &p.0).collect::<Vec<_>>()))
            .1
    };
    assert!(part("status/edge.json").contains("\"modules\""));
    assert!(part("status/cloud.json").contains("\"nodes\""));
    assert!(part("store.json").contains("default/secret/planted"), "names are told");
    assert!(part("certificates.json").contains("CN=system:node:edge-1"));
    assert!(part("pods.json").contains("keeper"));
    assert!(part("planted.log").contains("harmless line"));

    let whole = String::from_utf8_lossy(&std::fs::read(&archive).unwrap()).into_owned();
    let key = std::fs::read_to_string(dir.join("edge/certs/server.key")).unwrap();
    let kubeconfig = std::fs::read_to_string(dir.join("kubeconfig")).unwrap();
    let mut secrets: Vec<String> =
        ["planted-in", "planted in secret two", "cGxhbnRlZC1pbi1zZWNyZXQ", "ted-sec", "7q4z"]
            .map(str::to_owned)
            .to_vec();
    secrets.push(token.rsplit('.').next().unwrap().to_owned());
    secrets.extend(key.lines().filter(|line| line.len() > 20 && !line.starts_with("---")).map(str::to_owned));
    secrets.extend(
        kubeconfig
            .lines()
            .filter_map(|line| line.trim().strip_prefix("client-key-data: "))
            .map(str::to_owned),
    );
    assert!(secrets.len() >= 6, "{}", secrets.len());
    for secret in secrets {
        assert!(!whole.contains(&secret), "{secret}");
    }

    let again = world.kedge(&["bugreport", "-F", file]);
    again.assert_status(1);
    assert!(again.stderr.contains("KE-BUGREPORT-001"), "{again:?}");
    snapshot::failed(&again);
    let dry = world.kedge(&["bugreport", "--dry-run", "-o", "json"]);
    dry.assert_status(0);
    assert!(dry.stdout.contains("\"BugReport\""));
}

#[test]
fn a_machine_without_kedge_has_a_report_too() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("r.tar");
    let data = dir.path().join("data");
    let run = crate::support::kedge(&[
        "bugreport",
        "-F",
        file.to_str().unwrap(),
        "--data-dir",
        data.to_str().unwrap(),
    ]);
    run.assert_status(0);
    assert!(entries(&file).iter().any(|(name, _)| name.ends_with("machine.json")));
}
