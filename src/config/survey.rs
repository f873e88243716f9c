//! A configuration looked at as a whole, for people: everything that is wrong or unknown in it, one setting with where
//! it comes from, a typed value for a key. `kedge config` calls it; daemons use the typed configurations.

use super::{Problem, cloud, edge};
use crate::base::{Exit, Failure, nearest};
use serde_json::Value;

/// Whose configuration a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Edge,
    Cloud,
}

/// What is wrong in a file, and what deserves a look.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Survey {
    pub problems: Vec<Problem>,
    pub warnings: Vec<Problem>,
}

impl Role {
    /// What the file says of itself by its `kind`.
    pub fn of(file: &Value) -> Option<Role> {
        match file.get("kind")?.as_str()? {
            "EdgeCore" => Some(Role::Edge),
            "CloudCore" => Some(Role::Cloud),
            _ => None,
        }
    }

    /// Where a file says that it is another daemon's, or of no kind that is known.
    pub(super) fn foreign(self, file: &Value) -> Vec<Problem> {
        let (kind, group) = match self {
            Role::Edge => ("EdgeCore", "edgecore.config.kubeedge.io"),
            Role::Cloud => ("CloudCore", "cloudcore.config.kubeedge.io"),
        };
        let said = |key: &str| file.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        let mut problems = Vec::new();
        if let Some(other) = said("kind").filter(|said| *said != kind) {
            let whose = match Role::of(file) {
                Some(Role::Cloud) => ": this is the cloud's configuration",
                Some(Role::Edge) => ": this is an edge node's configuration",
                None => "",
            };
            problems.push(Problem::new("kind", other, format!("must be {kind}{whose}")));
        }
        if let Some(other) = said("apiVersion").filter(|said| said.split('/').next() != Some(group)) {
            problems.push(Problem::new("apiVersion", other, format!("must be {group}/v1alpha2")));
        }
        problems
    }

    /// Where the file usually is.
    pub fn default_path(self) -> &'static str {
        match self {
            Role::Edge => edge::DEFAULT_PATH,
            Role::Cloud => cloud::DEFAULT_PATH,
        }
    }

    /// Every key with its default.
    pub fn defaults(self) -> Result<Value, Failure> {
        let text = match self {
            Role::Edge => edge::DEFAULT_CONFIG,
            Role::Cloud => cloud::DEFAULT_CONFIG,
        };
        serde_yaml::from_str(text).map_err(|error| {
            Failure::new("KE-CONFIG-001", "the built-in configuration cannot be read")
                .fix("send `kedge bugreport` to the developers, with the command that was run")
                .because(error)
                .exit(Exit::Configuration)
        })
    }

    /// Everything that is wrong or unknown in a file, at once.
    pub fn survey(self, file: &Value) -> Result<Survey, Failure> {
        match self {
            Role::Edge => edge::EdgeConfig::survey(file),
            Role::Cloud => cloud::CloudConfig::survey(file),
        }
    }

    /// The keys on the way to a setting. A map that is empty by default (labels, feature gates) takes the whole rest as
    /// one key, dots and all.
    pub fn path(self, key: &str) -> Result<Vec<String>, Failure> {
        let defaults = self.defaults()?;
        let (mut place, mut path, mut rest) = (&defaults, Vec::new(), key);
        loop {
            if place.as_object().is_some_and(serde_json::Map::is_empty) || place.is_null() {
                path.push(rest.to_owned());
                return Ok(path);
            }
            let (name, after) = match rest.split_once('.') {
                Some((name, after)) => (name, Some(after)),
                None => (rest, None),
            };
            let Some(next) = place.get(name) else { return Err(unknown(key, &defaults)) };
            path.push(name.to_owned());
            (place, rest) = match after {
                Some(after) if !after.is_empty() => (next, after),
                _ => return Ok(path),
            };
        }
    }
}

/// Whether a setting is a secret by its name.
pub fn is_secret(path: &str) -> bool {
    super::merge::secret(path)
}

fn unknown(key: &str, defaults: &Value) -> Failure {
    let mut known = Vec::new();
    leaves(defaults, "", &mut known);
    let failure = Failure::new("KE-CONFIG-004", format!("there is no setting {key}"))
        .because("neither kedge nor KubeEdge has such a key in this file")
        .exit(Exit::Usage);
    // A person often types the last word only.
    let last = key.rsplit('.').next().unwrap_or(key);
    let same_end = || known.iter().map(String::as_str).find(|full| full.ends_with(&format!(".{last}")));
    match nearest(key, known.iter().map(String::as_str)).or_else(same_end) {
        Some(near) => failure.fix(format!("did you mean {near}?")),
        None => failure.fix(
            "`kedge edge config --defaultconfig` and `kedge cloud config --defaultconfig` show every key",
        ),
    }
}

fn leaves(value: &Value, path: &str, found: &mut Vec<String>) {
    for (key, below) in value.as_object().into_iter().flatten() {
        let full = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        leaves(below, &full, found);
        found.push(full);
    }
}

/// Why a file cannot be what somebody meant to write; `None` when it can. A daemon would take it for one that leaves
/// everything at its default.
fn torn(bytes: &[u8]) -> Option<&'static str> {
    if bytes.is_empty() {
        return Some("it is empty");
    }
    bytes.contains(&0).then_some("it holds zero bytes, as files do after a power cut")
}

/// A warning about a file that could have lost its end within its last value, and would still be read.
pub fn unended(bytes: &[u8]) -> Option<Problem> {
    let why =
        "has no end of line, as when a file is cut off: look whether it is whole, and end it with a new line";
    (!bytes.is_empty() && !bytes.ends_with(b"\n")).then(|| Problem::new("(last line)", "", why))
}

/// Why a file seems to have been written only half; `None` when it does not.
pub fn half_written(bytes: &[u8]) -> Option<&'static str> {
    if let Some(why) = torn(bytes) {
        return Some(why);
    }
    let text = String::from_utf8_lossy(bytes);
    let cut = !text.ends_with('\n');
    let last = text.lines().last().unwrap_or_default().trim();
    if cut && serde_yaml::from_str::<Value>(&text).is_err() {
        return Some("its last line is cut off");
    }
    let is_word = !last.is_empty() && last.chars().all(|c| c.is_ascii_alphanumeric());
    if cut && is_word && text.lines().count() > 1 {
        return Some("its last line is cut off");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_are_found_and_wrong_ones_answered_with_the_nearest() {
        assert_eq!(
            Role::Edge.path("modules.edgeHub.heartbeat").unwrap(),
            ["modules", "edgeHub", "heartbeat"]
        );
        assert_eq!(
            Role::Edge.path("modules.edged.nodeLabels.a.b/c").unwrap(),
            ["modules", "edged", "nodeLabels", "a.b/c"]
        );
        let failure = Role::Edge.path("modules.edgeHub.hartbeat").unwrap_err();
        assert_eq!(
            (failure.code, failure.fix.as_str()),
            ("KE-CONFIG-004", "did you mean modules.edgeHub.heartbeat?")
        );
        let failure = Role::Cloud.path("nodeLimit").unwrap_err();
        assert_eq!(failure.fix, "did you mean modules.cloudHub.nodeLimit?");
    }

    #[test]
    fn a_file_of_another_kind_is_refused() {
        for (role, file, key) in [
            (Role::Edge, json!({"kind": "CloudCore"}), "kind"),
            (Role::Cloud, json!({"kind": "EdgeCore"}), "kind"),
            (Role::Edge, json!({"kind": "Pod"}), "kind"),
            (Role::Edge, json!({"apiVersion": "foo"}), "apiVersion"),
            (Role::Cloud, json!({"apiVersion": "edgecore.config.kubeedge.io/v1alpha2"}), "apiVersion"),
        ] {
            let problems = role.survey(&file).unwrap().problems;
            assert_eq!(problems.iter().map(|one| one.path.as_str()).collect::<Vec<_>>(), [key], "{file}");
        }
        let other = Role::Edge.survey(&json!({"kind": "CloudCore"})).unwrap().problems;
        assert!(other[0].reason.contains("the cloud's configuration"), "{}", other[0]);
        for whole in
            [json!({}), json!({"kind": "EdgeCore", "apiVersion": "edgecore.config.kubeedge.io/v1alpha1"})]
        {
            assert_eq!(Role::Edge.survey(&whole).unwrap().problems, [], "{whole}");
        }
        assert!(crate::config::yaml(b"a: 1\nb: 2\na: 3\n").is_err(), "a key that stands twice");
        let deep = crate::config::yaml("[".repeat(1 << 20).as_bytes()).unwrap_err();
        assert!(deep.to_string().contains("brackets"), "{deep}");
    }

    #[test]
    fn no_file_that_was_cut_within_a_line_is_taken_without_a_word() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("edgecore.yaml");
        let mut read = 0;
        for text in [edge::MIN_CONFIG, edge::DEFAULT_CONFIG] {
            for end in (1..text.len().min(2500)).step_by(13).filter(|end| text.as_bytes()[end - 1] != b'\n') {
                std::fs::write(&path, &text.as_bytes()[..end]).unwrap();
                match edge::EdgeConfig::load(&path) {
                    Err(failure) => assert!(failure.code.starts_with("KE-CONFIG-"), "{end}: {failure}"),
                    Ok(loaded) => {
                        assert!(loaded.warnings.iter().any(|one| one.path == "(last line)"), "{end}");
                        read += 1;
                    }
                }
            }
        }
        assert!(read > 20, "{read}");
        // What no longer is YAML is told as what it is.
        std::fs::write(&path, "modules:\n  edgeHub: {token: \"x").unwrap();
        assert_eq!(edge::EdgeConfig::load(&path).unwrap_err().committed().code, "KE-CONFIG-005");
    }

    #[test]
    fn half_written_files_are_recognised() {
        for half in ["", "modules:\n  edged:\n    hostna", "a: 1\0\0\0", "a: {b", "a: \"x"] {
            assert!(half_written(half.as_bytes()).is_some(), "{half:?}");
        }
        assert!(unended(b"a: 1\n").is_none() && unended(b"tls: /etc/k").is_some());
        for whole in ["a: 1\n", "modules: {edged: {hostnameOverride: n1}}", "# nothing\n"] {
            assert_eq!(half_written(whole.as_bytes()), None, "{whole:?}");
        }
    }
}
