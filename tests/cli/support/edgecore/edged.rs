//! edgecore's pods on paper (protocol.md §4.2.2): what a pod needs is asked for, its status goes up as a patch, its end is
//! told with a delete that carries the uid. No container runs.

use super::{Core, meta};
use crate::support::letter::{message, text};
use kedge::base::Crew;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Looks after every pod of the database.
pub async fn run(core: Arc<Core>) {
    let mut change = core.change.subscribe();
    let mut crew = Crew::new();
    let mut known = BTreeSet::new();
    loop {
        for (key, uid) in pods(&core) {
            if known.insert((key.clone(), uid.clone())) {
                crew.spawn(look_after(core.clone(), key, uid));
            }
        }
        drop(change.changed().await);
    }
}

/// Path and uid of the pods that are this node's; others are ignored silently.
fn pods(core: &Core) -> Vec<(String, String)> {
    let state = core.state();
    let rows = state.db.iter().filter(|(key, _)| meta::type_of(key) == "pod");
    let own = rows.filter(|(_, pod)| text(pod, "/spec/nodeName") == core.name);
    own.map(|(key, pod)| (key.clone(), text(pod, "/metadata/uid").to_owned())).collect()
}

async fn look_after(core: Arc<Core>, key: String, uid: String) {
    let mut change = core.change.subscribe();
    let (mut told, mut ended) = (false, false);
    loop {
        let pod = core.state().db.get(&key).cloned();
        let Some(pod) = pod.filter(|pod| text(pod, "/metadata/uid") == uid) else { return };
        let deleted = !text(&pod, "/metadata/deletionTimestamp").is_empty();
        let step = match (deleted, told, ended) {
            (true, _, true) | (false, true, _) => {
                drop(change.changed().await);
                continue;
            }
            (true, _, false) => end(&core, &key, &pod).await.map(|()| ended = true),
            (false, false, _) => start(&core, &key, &pod).await.map(|()| told = true),
        };
        if step.is_err() {
            tokio::time::sleep(core.times.retry).await;
        }
    }
}

async fn start(core: &Core, key: &str, pod: &Value) -> Result<(), String> {
    let namespace = key.split('/').next().unwrap_or_default();
    for (kind, name) in needs(pod) {
        if let Err(why) = object(core, namespace, kind, &name).await {
            drop(patch(core, key, pod, "Pending", false).await);
            return Err(why);
        }
    }
    if wants_token(pod) {
        token(core, namespace, pod).await?;
    }
    patch(core, key, pod, "Running", true).await
}

async fn end(core: &Core, key: &str, pod: &Value) -> Result<(), String> {
    patch(core, key, pod, "Succeeded", false).await?;
    let options = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": pod["metadata"]["uid"]}});
    let answer = core.ask(message(["edged", "meta", "delete", key], options)).await?;
    if answer["content"] == "OK" {
        Ok(())
    } else {
        Err(format!("unsupported content: {}", answer["content"]))
    }
}

/// ConfigMaps and Secrets that a pod's environment and volumes name.
fn needs(pod: &Value) -> BTreeSet<(&'static str, String)> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut found = BTreeSet::new();
    let mut add = |kind, name: &Value| found.extend(name.as_str().map(|name| (kind, name.to_owned())));
    for volume in list(&pod["spec"]["volumes"]) {
        add("configmap", &volume["configMap"]["name"]);
        add("secret", &volume["secret"]["secretName"]);
        for source in list(&volume["projected"]["sources"]) {
            add("configmap", &source["configMap"]["name"]);
            add("secret", &source["secret"]["name"]);
        }
    }
    for container in list(&pod["spec"]["containers"]) {
        for from in list(&container["envFrom"]) {
            add("configmap", &from["configMapRef"]["name"]);
            add("secret", &from["secretRef"]["name"]);
        }
        for variable in list(&container["env"]) {
            add("configmap", &variable["valueFrom"]["configMapKeyRef"]["name"]);
            add("secret", &variable["valueFrom"]["secretKeyRef"]["name"]);
        }
    }
    found
}

/// The database first, then the cloud; what cannot be decoded is an error, and `{"ErrStatus":…}` is an empty object.
async fn object(core: &Core, namespace: &str, kind: &str, name: &str) -> Result<Value, String> {
    let resource = format!("{namespace}/{kind}/{name}");
    let kept = core.state().db.get(&resource).cloned();
    if let Some(object) = kept {
        return Ok(object);
    }
    let answer = meta::remote(core, "query", &resource, Value::Null).await?;
    match &answer["content"] {
        object @ Value::Object(_) => Ok(object.clone()),
        other => Err(format!("unmarshal message to {kind} failed: {other}")),
    }
}

fn wants_token(pod: &Value) -> bool {
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    let sources = volumes.filter_map(|volume| volume["projected"]["sources"].as_array()).flatten();
    sources.into_iter().any(|source| source["serviceAccountToken"].is_object())
}

async fn token(core: &Core, namespace: &str, pod: &Value) -> Result<(), String> {
    let account = match text(pod, "/spec/serviceAccountName") {
        "" => "default",
        account => account,
    };
    let bound = json!({"kind": "Pod", "apiVersion": "v1", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]});
    let request = json!({"metadata": {"creationTimestamp": null},
        "spec": {"audiences": null, "expirationSeconds": 3607, "boundObjectRef": bound},
        "status": {"token": "", "expirationTimestamp": null}});
    let resource = format!("{namespace}/serviceaccounttoken/{account}");
    let answer = meta::remote(core, "query", &resource, request).await?;
    if text(&answer, "/content/status/token").is_empty() {
        return Err(format!("no token: {}", answer["content"]));
    }
    Ok(())
}

async fn patch(core: &Core, key: &str, pod: &Value, phase: &str, ready: bool) -> Result<(), String> {
    let flag = if ready { "True" } else { "False" };
    let kinds = ["Initialized", "Ready", "ContainersReady", "PodScheduled"];
    let conditions: Vec<Value> = kinds.iter().map(|kind| json!({"type": kind, "status": flag})).collect();
    let order: Vec<Value> = kinds.iter().map(|kind| json!({"type": kind})).collect();
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let state = match phase {
        "Running" => {
            json!({"running": {"startedAt": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()}})
        }
        "Pending" => json!({"waiting": {"reason": "ContainerCreating"}}),
        _ => json!({"terminated": {"exitCode": 0, "reason": "Completed"}}),
    };
    let statuses: Vec<Value> = containers
        .map(|one| {
            json!({"name": one["name"], "image": one["image"], "imageID": "", "ready": ready, "started": ready,
            "restartCount": 0, "state": state})
        })
        .collect();
    let body = json!({"metadata": {"uid": pod["metadata"]["uid"]}, "status": {
        "$setElementOrder/conditions": order, "conditions": conditions, "containerStatuses": statuses,
        "phase": phase, "podIP": "192.0.2.10", "podIPs": [{"ip": "192.0.2.10"}], "hostIP": "192.0.2.2"}});
    let resource = key.replacen("/pod/", "/podpatch/", 1);
    core.state().db.insert(resource.clone(), json!(body.to_string()));
    let answer = core.ask(message(["edged", "meta", "patch", &resource], json!(body.to_string()))).await?;
    if text(&answer, "/route/operation") == "error" {
        return Err(answer["content"].to_string());
    }
    let mut object = meta::unwrap(core, &answer, true)?;
    object["apiVersion"] = json!("v1");
    object["kind"] = json!("Pod");
    if core.state().db.contains_key(key) {
        core.state().db.insert(key.to_owned(), object);
    }
    Ok(())
}
