//! What a ConfigUpdateJob asks of a node (protocol.md §4.8): dotted paths of edgecore.yaml and their new values, read
//! strictly. Genuine edges hand them to `keadm`, so nothing passes that could end a field or reach a shell there.

use super::upgrade::shown;
use serde_json::Value;
use std::collections::BTreeMap;

/// Fields of one job.
const FIELDS: usize = 64;
/// Characters of a path and of a value.
const LENGTH: usize = 256;

/// A change of the configuration that can be asked of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpdateSpec {
    /// New values by path, such as `modules.edgeStream.enable`.
    pub fields: BTreeMap<String, String>,
}

impl UpdateSpec {
    /// Reads a job's spec; the error is a sentence.
    pub fn parse(spec: &Value) -> Result<UpdateSpec, String> {
        let given = spec.get("updateFields").and_then(Value::as_object).filter(|fields| !fields.is_empty());
        let given = given.ok_or("updateFields names no field")?;
        if given.len() > FIELDS {
            return Err(format!("updateFields has {} fields, {FIELDS} are the most", given.len()));
        }
        let mut fields = BTreeMap::new();
        for (path, value) in given {
            if path.len() > LENGTH || !path.split('.').all(is_key) {
                return Err(format!("{} is no path of a configuration: write a.b.c or a.b[0]", shown(path)));
            }
            let value = value.as_str().ok_or_else(|| format!("the value of {path} is no text"))?;
            if value.len() > LENGTH || !value.chars().all(is_plain) {
                let allowed = "letters, digits and _ . : / @ % + - = are allowed";
                return Err(format!("the value of {path} is {}: {allowed}", shown(value)));
            }
            fields.insert(path.clone(), value.to_owned());
        }
        Ok(UpdateSpec { fields })
    }
}

/// A key, perhaps with the index of a list behind it; node labels have slashes.
fn is_key(part: &str) -> bool {
    let (key, index) = match part.split_once('[') {
        Some((key, index)) => (key, index.strip_suffix(']')),
        None => (part, Some("0")),
    };
    let word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'/');
    let digits = |index: &str| (1..=3).contains(&index.len()) && index.bytes().all(|b| b.is_ascii_digit());
    !key.is_empty() && !key.starts_with('-') && key.bytes().all(word) && index.is_some_and(digits)
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | ':' | '/' | '@' | '%' | '+' | '-' | '=')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(path: &str, value: &str) -> Result<UpdateSpec, String> {
        UpdateSpec::parse(&json!({"updateFields": {path: value}}))
    }

    #[test]
    fn fields_are_read() {
        let spec = read("modules.edged.tailoredKubeletConfig.clusterDNS[0]", "10.96.0.10").unwrap();
        assert_eq!(spec.fields.len(), 1);
        assert!(read("modules.edgeStream.enable", "true").is_ok());
        assert!(read("modules.eventBus.mqttServerExternal", "tcp://127.0.0.1:1883").is_ok());
        assert!(read("modules.edged.nodeLabels.topology.kubernetes.io/zone", "a").is_ok());
    }

    #[test]
    fn what_could_reach_a_shell_or_add_a_field_is_refused() {
        for hostile in [
            "a;reboot",
            "$(reboot)",
            "`id`",
            "a\nb",
            "a b",
            "a,modules.edgeHub.token=x",
            "a'b",
            "a\"",
            "a|b",
            "{a}",
            "a&b",
            "é",
        ] {
            let value = read("modules.edgeStream.enable", hostile).unwrap_err();
            assert!(!value.contains('\n'), "{value}");
            assert!(read(hostile, "true").is_err(), "{hostile}");
        }
        for path in ["", ".", "a..b", "--set", "a[x]", "a[", "a[0]b", "a[1000]"] {
            assert!(read(path, "1").is_err(), "{path}");
        }
        assert!(read("a", &"x".repeat(257)).is_err());
        assert!(UpdateSpec::parse(&json!({"updateFields": {}})).is_err());
        assert!(UpdateSpec::parse(&json!({"updateFields": {"a": 1}})).is_err());
        assert!(UpdateSpec::parse(&json!([])).is_err());
    }
}
