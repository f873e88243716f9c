//! edgecore's task manager (protocol.md §4.8), both versions: it walks a v1alpha2 flow by itself and reports every action,
//! takes v1alpha1 orders stage by stage, and loses its connection for an upgrade, whose result is told afterwards: by
//! the next connection, or in v1alpha1 by a POST of keadm.

use super::enrol::{Join, post};
use super::{Core, Version};
use crate::support::letter::{message, text};
use kedge::pki::client_config;
use serde_json::{Value, json};

/// The actions of the tasks that a node carries out by itself.
const ACTIONS: [(&str, &[&str]); 3] = [
    ("nodeupgradejob", &["Check", "WaitingConfirmation", "BackUp", "Upgrade", "RollBack"]),
    ("imageprepulljob", &["Check", "Pull"]),
    ("configupdatejob", &["Check", "BackUp", "Update", "RollBack"]),
];

/// How tasks go on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Tasks {
    /// `modules.taskManager.enable` is false, as KubeEdge has it: orders vanish.
    #[default]
    Off,
    Work,
    /// This action or stage fails, with this reason.
    FailAt(String, String),
    /// Orders are taken and nothing is ever reported.
    Hang,
}

/// What is told after the restart that an upgrade is.
#[derive(Clone, Debug)]
pub enum Aftermath {
    Message(Value),
    /// Task and content, posted by keadm.
    Post(String, Value),
}

/// Takes a task of the cloud.
pub fn take(core: &Core, order: &Value) {
    let resource = text(order, "/route/resource").to_owned();
    let operation = text(order, "/route/operation").to_owned();
    core.state().orders.push(order.clone());
    let tasks = core.state().tasks.clone();
    match resource.strip_prefix("operations.kubeedge.io/v1alpha2/") {
        Some(rest) => {
            let job = rest.split('/').next().unwrap_or_default();
            let Some((_, actions)) =
                ACTIONS.iter().find(|(name, actions)| *name == job && actions.contains(&operation.as_str()))
            else {
                return core.crash(format!("nil dereference: no action {operation} of {job}"));
            };
            if !matches!(tasks, Tasks::Off | Tasks::Hang) {
                flow(core, &resource, (job, actions), &operation, &order["content"]);
            }
        }
        None if !matches!(tasks, Tasks::Off | Tasks::Hang) => {
            stage(core, &resource, &operation, &order["content"])
        }
        None => {}
    }
}

fn failure(core: &Core, step: &str) -> Option<String> {
    match &core.state().tasks {
        Tasks::FailAt(at, why) if at == step => Some(why.clone()),
        _ => None,
    }
}

fn flow(core: &Core, resource: &str, (job, actions): (&str, &[&str]), from: &str, spec: &Value) {
    for action in actions.iter().skip_while(|action| **action != from) {
        // The way back is taken after a failure only.
        if *action == "RollBack" && from != "RollBack" {
            return;
        }
        let why = failure(core, action).or_else(|| (*action == "Check").then(|| refuse(job, spec)).flatten());
        let extend = match (*action, job) {
            ("BackUp" | "Upgrade" | "RollBack", "nodeupgradejob") => {
                format!("{},{}", core.release(), text(spec, "/version"))
            }
            _ => String::new(),
        };
        let report = report(resource, action, &why, &extend, job == "configupdatejob");
        if *action == "Upgrade" {
            if why.is_none() {
                core.state().runs = Some(text(spec, "/version").to_owned());
            } else {
                let back = self::report(resource, "RollBack", &None, &extend, false);
                core.state().aftermath.push(Aftermath::Message(back));
            }
            // keadm stops edgecore; the outcome is read from a file when it is back.
            core.state().aftermath.insert(0, Aftermath::Message(report));
            core.leave();
            return;
        }
        drop(core.send(report));
        let waits = *action == "WaitingConfirmation" && spec["requireConfirmation"] == json!(true);
        if why.is_some() || waits {
            return;
        }
    }
}

/// What edgecore's own check refuses; written apart from `kedge::wire`.
fn refuse(job: &str, spec: &Value) -> Option<String> {
    if job != "nodeupgradejob" {
        return None;
    }
    let version = text(spec, "/version");
    let plain = version
        .strip_prefix('v')
        .is_some_and(|rest| rest.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c)));
    if !plain {
        return Some(format!("invalid version {version}"));
    }
    let image = text(spec, "/image");
    (!image.contains('/')).then(|| format!("failed to pull image {image}:{version}"))
}

fn report(resource: &str, action: &str, why: &Option<String>, extend: &str, timeless: bool) -> Value {
    let time = if timeless { String::new() } else { kedge::base::rfc3339(kedge::base::now()) };
    let content = json!({"action": action, "succ": why.is_none(), "finishTime": time,
        "reason": why.clone().unwrap_or_default(), "extend": extend});
    message(["websocket", "hub", "UpdateNodeActionStatus", resource], content)
}

fn stage(core: &Core, resource: &str, kind: &str, request: &Value) {
    let task = resource.split('/').nth(1).unwrap_or_default().to_owned();
    let state = text(request, "/State");
    let event = match state {
        "" | "Init" => "Init",
        "Checking" => "Check",
        "BackingUp" => "Backup",
        "Upgrading" => "Upgrade",
        "Pulling" => "Pull",
        other => return core.crash(format!("method {other} is not implemented")),
    };
    if event == "Init" && kind == "upgrade" && text(request, "/Item/UpgradeID").is_empty() {
        return core.crash("upgradeID cannot be empty");
    }
    let why = failure(core, event);
    let confirm = event == "Init" && request["Item"]["RequireConfirmation"] == json!(true);
    let action = if confirm {
        "Confirmation"
    } else if why.is_none() {
        "Success"
    } else {
        "Failure"
    };
    let event = if confirm { "Confirm" } else { event };
    let content = json!({"NodeName": core.name, "State": "", "Event": event, "Action": action,
        "Reason": why.clone().unwrap_or_default(), "Time": "", "ExternalMessage": ""});
    if event == "Upgrade" && why.is_none() {
        core.state().runs = Some(text(request, "/Item/Version").to_owned());
        core.state().aftermath.push(Aftermath::Post(task, content));
        core.leave();
        return;
    }
    let resource = format!("task/{task}/node/{}", core.name);
    drop(core.send(message(["websocket", "hub", kind, &resource], content)));
}

/// What is told when the connection is back.
pub async fn connected(core: &Core, join: &Join) {
    let aftermath = std::mem::take(&mut core.state().aftermath);
    for one in aftermath {
        match one {
            Aftermath::Message(message) => drop(core.send(message)),
            Aftermath::Post(task, content) => {
                let (join, port) = (join.clone(), core.cert);
                let posted = tokio::task::spawn_blocking(move || {
                    let tls = client_config(&join.ca_pem, Some(&join.identity)).unwrap();
                    let path = format!("/task/upgrade/name/{task}/node/{}/status", join.node);
                    post(port, &path, &tls, content.to_string().as_bytes())
                });
                assert_eq!(posted.await.unwrap().0, 200, "keadm's report is taken");
            }
        }
    }
}

impl Core {
    /// Ends the connection behind what was said on it.
    fn leave(&self) {
        if let Some(line) = self.state().line.take() {
            drop(line.try_send(String::new()));
        }
    }

    /// The release that this node runs.
    fn release(&self) -> String {
        let built = self.kubelet();
        built.rsplit_once("-kubeedge-").map(|(_, release)| release.to_owned()).unwrap_or_default()
    }

    /// The version that the node reports.
    pub fn kubelet(&self) -> String {
        let built = Version::kubelet(self.version);
        match (&self.state().runs, built.split_once("-kubeedge-")) {
            (Some(runs), Some((kubernetes, _))) => format!("{kubernetes}-kubeedge-{runs}"),
            _ => built.to_owned(),
        }
    }
}
