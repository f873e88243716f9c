//! Whether a daemon that has just been started is well, by what it says on its status socket. Pure.

use crate::daemon::status;
use crate::host::versions::Wants;
use crate::model::Release;
use serde_json::Value;
use std::path::Path;

/// Asks the daemon; the error says what is missing.
pub fn look(socket: &Path, version: &Release, wants: Wants) -> Result<(), String> {
    let document = status::ask(socket).map_err(|failure| failure.why)?;
    judge(&document, version, wants)
}

/// What is well now, and so has to be well after the change.
pub fn present(socket: &Path) -> Wants {
    status::ask(socket)
        .map_or(Wants::default(), |document| Wants { node: node(&document), link: link(&document) })
}

fn node(document: &Value) -> bool {
    document.pointer("/node/ready") == Some(&Value::Bool(true))
}

fn link(document: &Value) -> bool {
    document.pointer("/link/link").and_then(Value::as_str) == Some("up")
}

fn judge(document: &Value, version: &Release, wants: Wants) -> Result<(), String> {
    let told = document.get("version").and_then(Value::as_str).unwrap_or_default();
    if Release::parse(told).as_ref() != Some(version) {
        return Err(format!("a daemon of another version answers ({told:?})"));
    }
    let modules = document.get("modules").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let text = |module: &Value, field: &str| module[field].as_str().unwrap_or_default().to_owned();
    if let Some(module) = modules.iter().find(|module| module["state"] != "ready") {
        let (name, state, error) = (text(module, "name"), text(module, "state"), text(module, "error"));
        return Err(format!("the module {name} is {state} {error}").trim_end().to_owned());
    }
    if modules.is_empty() {
        return Err("it names no modules".to_owned());
    }
    if wants.node && !node(document) {
        let reason = document.pointer("/node/reason").and_then(Value::as_str).unwrap_or_default();
        return Err(format!("the node is not ready: {reason}"));
    }
    if wants.link && !link(document) {
        let error = document.pointer("/link/error").and_then(Value::as_str).unwrap_or_default();
        return Err(format!("the link to the cloud, which was up before, is down: {error}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_daemon_has_to_be_as_well_as_the_one_before() {
        let version = Release::parse("1.2.0").unwrap();
        let mut document = json!({"version": "1.2.0", "node": {"ready": false, "reason": "no network"},
            "link": {"link": "down", "error": "refused"}, "modules": [{"name": "mqtt", "state": "ready"}]});
        let both = Wants { node: true, link: true };
        assert_eq!(judge(&document, &version, Wants::default()), Ok(()));
        assert!(judge(&document, &version, both).unwrap_err().contains("no network"));
        document["node"]["ready"] = json!(true);
        assert!(judge(&document, &version, both).unwrap_err().contains("refused"));
        document["link"]["link"] = json!("up");
        assert_eq!(judge(&document, &version, both), Ok(()));
        document["modules"][0] = json!({"name": "mqtt", "state": "backoff", "error": "port"});
        assert_eq!(judge(&document, &version, both).unwrap_err(), "the module mqtt is backoff port");
        assert!(
            judge(&document, &Release::parse("1.1.0").unwrap(), both)
                .unwrap_err()
                .contains("another version")
        );
        document["modules"] = json!([]);
        assert!(judge(&document, &version, both).is_err());
    }
}
