//! What goes into the archive, and which values of this machine are secrets. A part that cannot be had says why instead:
//! the machine that needs a report is one where things do not work.

use super::Part;
use crate::base::{Failure, now, read_limited, rfc3339};
use crate::cmd::edge_place::EdgePlace;
use crate::config::edge::EdgeConfig;
use crate::config::shown;
use crate::config::survey::Role;
use crate::daemon::status;
use crate::host::{facts, journal};
use crate::store::Reader;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

const FILE_LIMIT: u64 = 8 << 20;
const CHILD_LIMIT: Duration = Duration::from_secs(20);
const LOG_LINES: &str = "5000";

/// Everything that is collected, in the order of the archive.
pub(super) fn collect(place: &EdgePlace) -> Vec<Part> {
    let dir = &place.data_dir.data_dir;
    let edge = place.find();
    let mut parts = vec![json_part("machine.json", &machine(dir))];
    for (role, path) in configurations(place) {
        parts.push(text_part(&format!("config/{}.yaml", core(role)), configuration(&path)));
    }
    parts.extend(statuses(dir, edge.as_ref().ok().and_then(Option::as_ref)));
    let data_dir = dir.display().to_string();
    parts.push(text_part("doctor.json", own(&["doctor", "-o", "json", "--data-dir", &data_dir])));
    let certificates = own(&["cert", "list", "-o", "json", "--data-dir", &data_dir]);
    parts.push(text_part("certificates.json", certificates));
    let database = match &edge {
        Ok(Some(config)) => config.database.clone(),
        _ => PathBuf::from("/var/lib/kubeedge/edgecore.db"),
    };
    parts.push(text_part("store.json", store(&database)));
    parts.push(text_part("pods.json", own(&["pods", "-o", "json", "--db", &database.display().to_string()])));
    parts.push(text_part("journal.txt", changes()));
    parts.extend(logs(dir, edge.as_ref().ok().and_then(Option::as_ref)));
    if let Err(failure) = edge {
        parts.push(Part { name: "edge-error.txt".to_owned(), text: told(&failure) });
    }
    parts
}

fn core(role: Role) -> &'static str {
    match role {
        Role::Edge => "edgecore",
        Role::Cloud => "cloudcore",
    }
}

fn told(failure: &Failure) -> String {
    format!("{failure}\n{}\n", failure.fix)
}

fn text_part(name: &str, text: Result<String, String>) -> Part {
    let text = text.unwrap_or_else(|why| format!("not there: {why}\n"));
    Part { name: name.to_owned(), text }
}

fn json_part(name: &str, value: &Value) -> Part {
    Part { name: name.to_owned(), text: format!("{value:#}\n") }
}

fn machine(dir: &Path) -> Value {
    let system = facts::System::read();
    let measured = facts::Measured::read(dir);
    json!({
        "apiVersion": "kedge.io/v1", "kind": "Machine", "at": rfc3339(now()),
        "kedge": env!("CARGO_PKG_VERSION"),
        "hostName": system.host_name, "architecture": system.architecture,
        "kernel": system.kernel_version, "os": system.os_image,
        "processors": measured.processors,
        "memory": {"total": measured.memory_total, "available": measured.memory_available},
        "disk": {"total": measured.disk_total, "available": measured.disk_available,
            "inodes": measured.inodes_total, "inodesFree": measured.inodes_free},
        "processes": {"now": measured.processes, "limit": measured.processes_limit},
        "root": crate::host::capabilities::is_root(),
    })
}

fn configurations(place: &EdgePlace) -> Vec<(Role, PathBuf)> {
    let mut found = Vec::new();
    found.extend(place.file().map(|path| (Role::Edge, path)));
    let cloud = PathBuf::from(Role::Cloud.default_path());
    if cloud.is_file() {
        found.push((Role::Cloud, cloud));
    }
    found
}

/// The file as it was understood: comments, which may say anything, are not in it.
fn configuration(path: &Path) -> Result<String, String> {
    let bytes = read_limited(path, FILE_LIMIT).map_err(|failure| failure.to_string())?;
    let mut value: Value = serde_yaml::from_slice(&bytes).map_err(|_| "it is not valid YAML".to_owned())?;
    shown::mask(&mut value);
    serde_yaml::to_string(&value).map_err(|error| error.to_string())
}

fn sockets(dir: &Path, edge: Option<&EdgeConfig>) -> Vec<(&'static str, PathBuf)> {
    let mut places: Vec<(&'static str, PathBuf)> = Vec::new();
    places.extend(edge.and_then(|config| config.status_socket.clone()).map(|socket| ("edge", socket)));
    let named = crate::config::cloud::CloudConfig::load(Path::new(Role::Cloud.default_path()));
    places.extend(named.ok().map(|loaded| ("cloud", loaded.config.status_socket)));
    places.push(("cloud", dir.join("cloud/kedge.sock")));
    places
}

fn statuses(dir: &Path, edge: Option<&EdgeConfig>) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for (role, socket) in sockets(dir, edge) {
        let name = format!("status/{role}.json");
        let asked = status::ask(&socket);
        if parts.iter().any(|part| part.name == name && part.text.starts_with('{')) {
            continue;
        }
        parts.retain(|part| part.name != name);
        parts.push(match asked {
            Ok(document) => json_part(&name, &document),
            Err(failure) => Part { name, text: told(&failure) },
        });
    }
    parts
}

/// How much of what the node keeps; keys are names, values are nobody's business.
fn store(database: &Path) -> Result<String, String> {
    let reader = Reader::open(database).map_err(|failure| failure.to_string())?;
    let rows = reader.rows(None).map_err(|failure| failure.to_string())?;
    let mut kinds: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in rows {
        kinds.entry(row.kind).or_default().push(row.key);
    }
    let devices = reader.devices().map_err(|failure| failure.to_string())?;
    let waiting = reader.states("device-outbox").map_or(0, |rows| rows.len());
    let summary = json!({
        "path": database.display().to_string(), "bytes": reader.size(), "keys": kinds,
        "kubernetesApiObjects": reader.meta_v2().map_or(0, |rows| rows.len()),
        "devices": devices.iter().map(|device| device.id.to_string()).collect::<Vec<_>>(),
        "reportsWaiting": waiting,
    });
    Ok(format!("{summary:#}\n"))
}

fn changes() -> Result<String, String> {
    let entries = journal::Journal::read(Path::new(journal::DIR)).map_err(|failure| failure.to_string())?;
    Ok(entries.iter().map(|entry| format!("{entry}\n")).collect())
}

fn logs(dir: &Path, edge: Option<&EdgeConfig>) -> Vec<Part> {
    let mut parts = Vec::new();
    let units = ["kedge-edge", "kedge-cloud", "edgecore", "cloudcore"];
    if Path::new("/run/systemd/system").exists() {
        for unit in units {
            let args = ["--unit", unit, "--no-pager", "--lines", LOG_LINES, "--output", "short-iso"];
            parts.push(text_part(&format!("logs/{unit}.journal.txt"), child("journalctl", &args)));
        }
    }
    let mut files: Vec<PathBuf> = units
        .iter()
        .flat_map(|unit| [format!("/var/log/{unit}.log"), format!("/var/log/{unit}.log.1")])
        .map(PathBuf::from)
        .collect();
    let runtime = edge.map_or_else(|| dir.join("runtime"), |config| config.runtime.dir.clone());
    for place in [runtime, dir.to_owned(), dir.join("log")] {
        let entries = std::fs::read_dir(place).into_iter().flatten().flatten();
        files.extend(
            entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "log")),
        );
    }
    files.retain(|path| path.is_file());
    for path in files {
        let name = path.to_string_lossy().trim_start_matches('/').replace('/', "_");
        parts.push(text_part(&format!("logs/{name}"), tail(&path)));
    }
    parts
}

/// The end of a file, from a whole line on.
fn tail(path: &Path) -> Result<String, String> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let size = file.metadata().map_or(0, |meta| meta.len());
    let from = size.saturating_sub(FILE_LIMIT);
    file.seek(SeekFrom::Start(from)).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    file.take(FILE_LIMIT).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    match text.split_once('\n') {
        Some((_, rest)) if from > 0 => Ok(rest.to_owned()),
        _ => Ok(text),
    }
}

/// What another command of this binary prints: it has its own limits and its own way to say what is wrong.
fn own(args: &[&str]) -> Result<String, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    child(&program.to_string_lossy(), args)
}

fn child(program: &str, args: &[&str]) -> Result<String, String> {
    let run = async {
        let mut command = Command::new(program);
        command
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let output = tokio::time::timeout(CHILD_LIMIT, command.output())
            .await
            .map_err(|_| format!("{program} did not end within {} s", CHILD_LIMIT.as_secs()))?
            .map_err(|error| format!("{program}: {error}"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        if text.is_empty() {
            text = format!("{}: {}", output.status, said);
        }
        Ok(text)
    };
    crate::cmd::block_on(async { Ok(run.await) }).unwrap_or_else(|failure| Err(failure.to_string()))
}

/// The secrets that this machine holds, by value: tokens, passwords, keys, contents of Secrets.
pub(super) fn secrets(place: &EdgePlace) -> Vec<String> {
    let mut found = Vec::new();
    for (_, path) in configurations(place) {
        if let Ok(value) = crate::config::read_yaml(&path) {
            found.extend(shown::secrets_of(&value));
        }
    }
    found.extend(text_of(Path::new("/etc/kubeedge/bootstrap-edgecore.conf")));
    let dir = &place.data_dir.data_dir;
    if let Ok(Some(edge)) = place.find() {
        found.extend([edge.hub.token.reveal(), edge.mqtt.password.reveal()].map(str::to_owned));
        let key = &edge.hub.key_file;
        found.extend(text_of(key));
        found.extend(text_of(&edge.stream.key_file));
        if let Ok(reader) = Reader::open(&edge.database) {
            of_store(&reader, &mut found);
        }
    }
    for below in ["cloud/ca", "cloud/certs", "api/pki", "edge/certs"] {
        let entries = std::fs::read_dir(dir.join(below)).into_iter().flatten().flatten();
        let keys =
            entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "key"));
        found.extend(keys.filter_map(|path| text_of(&path)));
    }
    if let Ok(kubeconfig) = crate::config::read_yaml(&dir.join("kubeconfig")) {
        of_kubeconfig(&kubeconfig, &mut found);
    }
    found.retain(|secret| !secret.is_empty());
    found
}

fn text_of(path: &Path) -> Option<String> {
    let bytes = read_limited(path, 256 << 10).ok()?;
    String::from_utf8(bytes).ok()
}

/// A kubeconfig's credentials: what is named as a key, a token or a password.
fn of_kubeconfig(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, below) in map {
                match below {
                    Value::String(text)
                        if ["client-key-data", "token", "password"].contains(&key.as_str()) =>
                    {
                        found.push(text.clone());
                    }
                    below => of_kubeconfig(below, found),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|below| of_kubeconfig(below, found)),
        _ => {}
    }
}

/// Data of Secrets as it is stored and as it is meant, and tokens of service accounts.
fn of_store(reader: &Reader, found: &mut Vec<String>) {
    for row in reader.rows(None).unwrap_or_default() {
        let is_secret = row.kind == "secret" || row.value.get("kind").is_some_and(|kind| kind == "Secret");
        for field in ["data", "stringData"] {
            let entries = row.value.get(field).and_then(Value::as_object);
            for text in entries.into_iter().flatten().filter_map(|(_, value)| value.as_str()) {
                if is_secret {
                    found.push(text.to_owned());
                    let decoded = STANDARD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
                    found.extend(decoded);
                }
            }
        }
        let token = row.value.pointer("/status/token").and_then(Value::as_str);
        found.extend(token.map(str::to_owned));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_form_of_a_secret_is_in_the_copy_of_a_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("edgecore.yaml");
        let text = "# token: s3cret\nmodules:\n  edgeHub:\n    heartbeat: 15\n    token: >-\n      s3cret\n      s3cret\n  eventBus:\n    mqttPassword:\n    - s3cret\n    tokens: {edge-1: s3cret}\n";
        std::fs::write(&path, text).unwrap();
        let copy = configuration(&path).unwrap();
        assert!(copy.contains("heartbeat: 15") && copy.contains("(hidden)"), "{copy}");
        assert!(!copy.contains("s3cret"), "{copy}");
    }
}
