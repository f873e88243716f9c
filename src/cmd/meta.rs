//! `kedge meta`: what this node knows of the cluster, from its database, daemon running or not, cloud reachable or not.
//! Data of Secrets and tokens is never shown.

use super::edge_store::{DatabaseArgs, table};
use crate::base::{Exit, Failure, Output, Term};
use crate::store::MetaRow;
use clap::Subcommand;
use serde_json::{Value, json};

/// Show the objects that this node keeps
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  kedge meta list --type pod -n default\n  kedge meta get default/configmap/settings -o yaml"
)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    List(ListArgs),
    Get(GetArgs),
    Export(ExportArgs),
}

/// List the objects by key
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  kedge meta list\n  kedge meta list --type pod --db /var/lib/kubeedge/edgecore.db"
)]
struct ListArgs {
    /// Only objects of this type, such as pod, configmap, secret, node, device
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Only objects of this namespace
    #[arg(long, short, value_name = "NS")]
    namespace: Option<String>,
    #[command(flatten)]
    database: DatabaseArgs,
    /// Form of the output
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// Show one object
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  kedge meta get default/pod/web-0\n  kedge meta get null/node/edge-1 -o yaml"
)]
struct GetArgs {
    /// Namespace, type and name; the namespace of what has none is `null`
    #[arg(value_name = "NS/TYPE/NAME")]
    key: String,
    #[command(flatten)]
    database: DatabaseArgs,
    /// Form of the output
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// Write everything that is stored, devices and twins included, in one document; data of Secrets is hidden
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  kedge meta export > node.yaml\n  kedge meta export --db /var/lib/kubeedge/edgecore.db -o json"
)]
struct ExportArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// Form of the output; text is YAML
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub fn run(args: Args, term: &Term) -> Result<Exit, Failure> {
    match args.command {
        Command::List(args) => list(&args, term),
        Command::Get(args) => get(&args, term),
        Command::Export(args) => export(&args, term),
    }
}

fn list(args: &ListArgs, term: &Term) -> Result<Exit, Failure> {
    let reader = args.database.open()?;
    let mut rows = reader.rows(args.kind.as_deref())?;
    if let Some(namespace) = &args.namespace {
        rows.retain(|row| row.key.split('/').next() == Some(namespace));
    }
    match args.output {
        Output::Text if rows.is_empty() => term.say("nothing is stored"),
        Output::Text => {
            let lines = rows.iter().map(|row| {
                let text =
                    |pointer| row.value.pointer(pointer).and_then(Value::as_str).unwrap_or("-").to_owned();
                vec![
                    row.key.clone(),
                    row.kind.clone(),
                    text("/metadata/resourceVersion"),
                    text("/metadata/uid"),
                ]
            });
            term.data(&table(&["KEY", "TYPE", "REVISION", "UID"], lines));
        }
        form => {
            let items: Vec<Value> = rows.into_iter().map(shown).collect();
            term.value(&json!({"apiVersion": "kedge.io/v1", "kind": "MetaList", "items": items}), form)?;
        }
    }
    Ok(Exit::Done)
}

fn get(args: &GetArgs, term: &Term) -> Result<Exit, Failure> {
    let reader = args.database.open()?;
    let row = reader.row(&args.key)?.ok_or_else(|| {
        Failure::new("KE-META-001", format!("{} is not stored on this node", args.key))
            .because(reader.path().display())
            .fix("`kedge meta list` shows what is")
    })?;
    let value = masked(&row.kind, row.value);
    // An object is best read as YAML; JSON on request.
    term.value(&value, if args.output == Output::Text { Output::Yaml } else { args.output })?;
    Ok(Exit::Done)
}

fn export(args: &ExportArgs, term: &Term) -> Result<Exit, Failure> {
    let reader = args.database.open()?;
    let objects: Vec<Value> = reader.rows(None)?.into_iter().map(shown).collect();
    let of_api: Vec<Value> = reader
        .meta_v2()?
        .into_iter()
        .map(|row| json!({"key": row.key, "resource": row.group_version_resource, "revision": row.resource_version}))
        .collect();
    let mut devices = Vec::new();
    for device in reader.devices()? {
        let live = reader.twins(&device.id)?.into_iter().filter(|twin| twin.attr_type != "deleted");
        let twins: serde_json::Map<String, Value> = live
            .map(|twin| (twin.name.clone(), serde_json::to_value(twin.to_property()).unwrap_or_default()))
            .collect();
        devices.push(json!({"device": device.id.to_string(), "description": device.description,
            "state": device.state, "lastOnline": device.last_online, "twins": twins}));
    }
    let document = json!({"apiVersion": "kedge.io/v1", "kind": "MetaExport",
        "at": crate::base::rfc3339(crate::base::now()), "database": reader.path().display().to_string(), "items": objects,
        "apiObjects": of_api, "devices": devices, "reportsWaiting": reader.states("device-outbox")?.len()});
    term.value(&document, if args.output == Output::Text { Output::Yaml } else { args.output })?;
    Ok(Exit::Done)
}

fn shown(row: MetaRow) -> Value {
    let value = masked(&row.kind, row.value);
    json!({"key": row.key, "type": row.kind, "value": value})
}

/// Replaces what nobody may see: data of Secrets, tokens.
fn masked(kind: &str, mut value: Value) -> Value {
    const MASK: &str = "(hidden)";
    let is_secret = kind == "secret" || value.get("kind").is_some_and(|k| k == "Secret");
    if is_secret {
        for field in ["data", "stringData"] {
            if let Some(entries) = value.get_mut(field).and_then(Value::as_object_mut) {
                entries.values_mut().for_each(|entry| *entry = MASK.into());
            }
        }
        // `kubectl apply` repeats the whole object here.
        let applied = "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration";
        if let Some(annotation) = value.pointer_mut(applied) {
            *annotation = MASK.into();
        }
    }
    let is_token = kind == "serviceaccounttoken" || value.get("kind").is_some_and(|k| k == "TokenRequest");
    if is_token && let Some(token) = value.pointer_mut("/status/token") {
        *token = MASK.into();
    }
    if (is_secret || is_token) && !value.is_object() {
        return MASK.into();
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_and_tokens_are_hidden_wherever_they_stand() {
        let secret = json!({"kind": "Secret", "data": {"a": "czNjcmV0"}, "stringData": {"b": "s3cret"},
            "metadata": {"name": "s", "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "czNjcmV0"}}});
        let token = json!({"status": {"token": "s3cret", "expirationTimestamp": "x"}});
        let cases = [
            ("secret", secret.clone()),
            ("", secret),
            ("serviceaccounttoken", token),
            ("secret", json!("s3cret")),
        ];
        for (kind, value) in cases {
            let told = masked(kind, value).to_string();
            assert!(!told.contains("s3cret") && !told.contains("czNjcmV0"), "{told}");
        }
        let config = json!({"data": {"a": "1"}});
        assert_eq!(masked("configmap", config.clone()), config);
    }
}
