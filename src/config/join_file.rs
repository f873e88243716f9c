//! The join file: all that a machine has to know of a cloud to join it, in one YAML file. `kedge token create` renders
//! it, `kedge join --join-file` parses it. It holds a token: it is written for its owner only and never shown.

use super::check::Checker;
use super::{Hidden, Loaded, Problem, merge, read_document, refuse, refuse_beside, yaml};
use crate::base::{Exit, Failure};
use crate::model::{NodeName, check_label};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

const API_VERSION: &str = "kedge/v1";
const KIND: &str = "JoinFile";

/// What a machine is told to join a cloud.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinFile {
    /// Host names or addresses of the cloud without ports, the preferred one first; never empty.
    pub addresses: Vec<String>,
    pub ports: JoinPorts,
    /// `hash.header.payload.signature`, as `--token` takes it.
    pub token: Hidden,
    /// Lower-case hexadecimal SHA-256 of the cloud's authority.
    pub ca_hash: String,
    /// The name that the token is for; `None` lets the machine choose.
    pub node: Option<NodeName>,
    pub labels: BTreeMap<String, String>,
}

/// The cloud's ports as nodes reach them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinPorts {
    pub websocket: u16,
    /// 0 when the cloud has none.
    pub quic: u16,
    pub https: u16,
    pub tunnel: u16,
}

impl Default for JoinPorts {
    fn default() -> Self {
        JoinPorts { websocket: 10000, quic: 0, https: 10002, tunnel: 10004 }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    api_version: String,
    kind: String,
    cloud: RawCloud,
    token: String,
    ca_hash: String,
    node: RawNode,
}

#[derive(Serialize, Deserialize)]
struct RawCloud {
    addresses: Vec<String>,
    ports: JoinPorts,
}

#[derive(Serialize, Deserialize)]
struct RawNode {
    name: String,
    labels: BTreeMap<String, String>,
}

impl JoinFile {
    /// Reads a file of at most 1 MiB; the failure tells all problems at once and never the token.
    pub fn load(path: &Path) -> Result<Loaded<JoinFile>, Failure> {
        let (file, doubt) = read_document(path)?;
        let mut loaded = JoinFile::from_value(&file, &path.display().to_string())?;
        loaded.warnings.extend(doubt);
        Ok(loaded)
    }

    /// Reads the text of a join file; `name` is what messages call it.
    pub fn parse(text: &str, name: &str) -> Result<Loaded<JoinFile>, Failure> {
        let value = yaml(text.as_bytes()).map_err(|error| {
            Failure::new("KE-CONFIG-001", format!("{name} is not valid YAML"))
                .because(error)
                .fix("make it again with `kedge token create --join-file`")
                .exit(Exit::Configuration)
        })?;
        JoinFile::from_value(&value, name)
    }

    fn from_value(file: &Value, name: &str) -> Result<Loaded<JoinFile>, Failure> {
        if !file.is_object() {
            let bare = "must be a map: a bare token goes to --token";
            return Err(refuse(name, &[Problem::new("(whole file)", "", bare)]));
        }
        let mut document = schema();
        let findings = merge::overlay(&mut document, file);
        let mut problems = findings.problems;
        let raw: Raw = serde_json::from_value(document).map_err(|_| {
            // The error's text would repeat what stands there.
            problems.push(Problem::new("(whole file)", "", "a value is of the wrong type"));
            refuse(name, &problems)
        })?;
        let config = check(raw, &mut Checker(&mut problems));
        match config {
            Some(config) if problems.is_empty() => Ok(Loaded { config, warnings: findings.warnings }),
            _ => Err(refuse_beside(name, &problems, &findings.warnings)),
        }
    }

    /// The file's text.
    pub fn render(&self) -> String {
        let raw = Raw {
            api_version: API_VERSION.to_owned(),
            kind: KIND.to_owned(),
            cloud: RawCloud { addresses: self.addresses.clone(), ports: self.ports },
            token: self.token.reveal().to_owned(),
            ca_hash: self.ca_hash.clone(),
            node: RawNode {
                name: self.node.as_ref().map(ToString::to_string).unwrap_or_default(),
                labels: self.labels.clone(),
            },
        };
        // A struct of plain fields always serialises.
        let body = serde_yaml::to_string(&raw).unwrap_or_default();
        format!("# For `kedge join --join-file`. It holds a token: keep it as you keep a password.\n{body}")
    }
}

/// Every key; what stands here holds when the file does not say it.
fn schema() -> Value {
    json!({
        "apiVersion": "", "kind": "",
        "cloud": {"addresses": [], "ports": JoinPorts::default()},
        "token": "", "caHash": "",
        "node": {"name": "", "labels": {}},
    })
}

fn check(raw: Raw, checker: &mut Checker<'_>) -> Option<JoinFile> {
    if raw.api_version != API_VERSION {
        checker.wrong("apiVersion", &raw.api_version, "must be kedge/v1");
    }
    if raw.kind != KIND {
        checker.wrong("kind", &raw.kind, "must be JoinFile");
    }
    if raw.cloud.addresses.is_empty() {
        checker.wrong("cloud.addresses", "", "must name the cloud's addresses");
    }
    for address in raw.cloud.addresses.iter().filter(|address| !is_host(address)) {
        checker.wrong("cloud.addresses", address, "must be a host name or an address, without a port");
    }
    let ports = raw.cloud.ports;
    for (name, port) in [("websocket", ports.websocket), ("https", ports.https), ("tunnel", ports.tunnel)] {
        if port == 0 {
            checker.wrong(&format!("cloud.ports.{name}"), 0, "must be a port");
        }
    }
    let ca_hash = raw.ca_hash.to_ascii_lowercase();
    if ca_hash.len() != 64 || !ca_hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        checker.wrong("caHash", &raw.ca_hash, "must be 64 hexadecimal digits");
    }
    match raw.token.split_once('.') {
        Some((hash, jwt)) if jwt.split('.').count() == 3 => {
            if !hash.eq_ignore_ascii_case(&ca_hash) {
                checker.wrong("token", "", "names another authority than caHash: the file was changed");
            }
        }
        _ => checker.wrong("token", "", "is not a join token: four parts with dots between them"),
    }
    let node = Some(raw.node.name).filter(|name| !name.is_empty()).and_then(|name| {
        NodeName::new(name.clone()).map_err(|reason| checker.wrong("node.name", name, &reason)).ok()
    });
    for (key, value) in &raw.node.labels {
        if let Err(reason) = check_label(key, value) {
            checker.wrong("node.labels", format!("{key}={value}"), &reason);
        }
    }
    Some(JoinFile {
        addresses: raw.cloud.addresses,
        ports,
        token: Hidden::new(raw.token),
        ca_hash,
        node,
        labels: raw.node.labels,
    })
}

/// Whether this is a host name or an IP address, and no port, path or user beside it.
pub fn is_host(text: &str) -> bool {
    let part = |part: &str| {
        (1..=63).contains(&part.len())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    match text.parse::<IpAddr>() {
        Ok(address) => is_somewhere(address),
        // What is all digits was meant as an address.
        Err(_) => {
            let last = text.rsplit('.').next().unwrap_or_default();
            text.len() <= 253
                && text.split('.').all(part)
                && !(text.contains('.') && last.bytes().all(|byte| byte.is_ascii_digit()))
        }
    }
}

/// Whether an address is that of one machine, to which somebody can connect.
fn is_somewhere(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    !address.is_unspecified() && !address.is_multicast() && !broadcast
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_told_from_what_nobody_can_connect_to() {
        for good in
            ["10.0.0.5", "::1", "fd00::1", "cloud", "cloud.example", "3com", "a_b.c-d", "localhost", "5"]
        {
            assert!(is_host(good), "{good}");
        }
        for bad in [
            "",
            "0.0.0.0",
            "::",
            "255.255.255.255",
            "224.0.0.1",
            "ff02::1",
            "999.1.1.1",
            "10.0.0",
            "10.0.0.5.",
            "a..b",
            "-a",
            "a:1",
            "[::1]",
            "a b",
            "10.0.0.5/24",
        ] {
            assert!(!is_host(bad), "{bad}");
        }
    }

    fn file() -> JoinFile {
        let hash = "ab".repeat(32);
        JoinFile {
            addresses: vec!["10.0.0.5".to_owned(), "cloud.example".to_owned(), "fd00::1".to_owned()],
            ports: JoinPorts { https: 20002, ..JoinPorts::default() },
            token: Hidden::new(format!("{hash}.s3cret.b.c")),
            ca_hash: hash,
            node: NodeName::new("edge-7").ok(),
            labels: BTreeMap::from([("site".to_owned(), "1".to_owned())]),
        }
    }

    #[test]
    fn what_is_rendered_is_read_again() {
        let loaded = JoinFile::parse(&file().render(), "x").unwrap();
        assert_eq!(loaded.config, file());
        assert!(loaded.warnings.is_empty());
        let anybody = JoinFile { node: None, labels: BTreeMap::new(), ..file() };
        assert_eq!(JoinFile::parse(&anybody.render(), "x").unwrap().config, anybody);
    }

    #[test]
    fn what_stands_between_the_keys_has_defaults() {
        let hash = "ab".repeat(32);
        let text = format!(
            "apiVersion: kedge/v1\nkind: JoinFile\ncloud: {{addresses: [c]}}\ntoken: {hash}.a.b.c\ncaHash: {hash}"
        );
        assert_eq!(JoinFile::parse(&text, "x").unwrap().config.ports, JoinPorts::default());
    }

    #[test]
    fn all_problems_are_told_and_no_secret() {
        let text = "apiVersion: v1\ncloud: {addresses: ['a:1'], ports: {https: 0}, prots: {}}\ntoken: s3cret\nnode: {name: A B, labels: {a: 'b c'}}";
        let failure = JoinFile::parse(text, "join.yaml").unwrap_err();
        assert_eq!((failure.exit, failure.what.as_str()), (Exit::Configuration, "join.yaml has 8 problems"));
        assert!(!failure.why.contains("s3cret"), "{}", failure.why);
        for text in ["", "s3cret", "token: [s3cret]", "token: {a: s3cret}", "cloud: {ports: {https: 70000}}"]
        {
            let failure = JoinFile::parse(text, "x").unwrap_err();
            assert!(failure.exit == Exit::Configuration && !failure.why.contains("s3cret"), "{failure}");
        }
    }

    #[test]
    fn a_key_that_is_mistyped_is_named_beside_what_it_causes() {
        let text = file().render().replace("addresses:", "adresses:");
        let failure = JoinFile::parse(&text, "join.yaml").unwrap_err();
        assert!(failure.what.ends_with("has 1 problem"), "{failure}");
        assert!(failure.why.contains("did you mean addresses?"), "{failure}");
    }

    #[test]
    fn a_token_of_another_cloud_is_noticed() {
        let text = JoinFile { ca_hash: "cd".repeat(32), ..file() }.render();
        let failure = JoinFile::parse(&text, "x").unwrap_err();
        assert!(failure.why.contains("another authority"), "{failure}");
    }
}
