//! Tasks of nodes: upgrade, image pre-pull, configuration update (protocol.md §4.8), in both versions of the protocol.
//! `up`, `down` and the cloud's HTTPS endpoints decode here; which step follows which is said by [`JobKind::flow`].

use super::down::parsed;
use super::envelope::{Envelope, MessageId};
use super::names::*;
use super::parts::Parts;
use super::upgrade::shown;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A kind of job of `operations.kubeedge.io/v1alpha2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobKind {
    NodeUpgrade,
    ImagePrePull,
    ConfigUpdate,
}

/// The action with which every flow begins.
pub const CHECK: &str = "Check";
/// The action in which images are pulled.
pub const PULL: &str = "Pull";
/// The action that keeps what an update is about to change.
pub const BACK_UP: &str = "BackUp";
/// The action that stops until somebody agrees on the node, where a job asks for it.
pub const CONFIRM: &str = "WaitingConfirmation";
/// The action that changes the node's binary.
pub const UPGRADE: &str = "Upgrade";
/// The action that changes the configuration.
pub const UPDATE_CONFIG: &str = "Update";
/// The action that follows a failed change.
pub const ROLL_BACK: &str = "RollBack";

/// Begins the reason of a node of which a job has asked nothing: it does not fit, or was away when its turn came. KubeEdge
/// has no word for that and calls it a failure of the node too.
pub const SKIPPED: &str = "skipped: ";

impl JobKind {
    pub const ALL: [JobKind; 3] = [JobKind::NodeUpgrade, JobKind::ImagePrePull, JobKind::ConfigUpdate];

    /// KubeEdge's word in paths.
    pub fn as_str(self) -> &'static str {
        match self {
            JobKind::NodeUpgrade => "nodeupgradejob",
            JobKind::ImagePrePull => "imageprepulljob",
            JobKind::ConfigUpdate => "configupdatejob",
        }
    }

    /// The inverse of [`JobKind::as_str`].
    pub fn parse(word: &str) -> Option<JobKind> {
        JobKind::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// The actions in the order in which a node runs them when each succeeds.
    pub fn flow(self) -> &'static [&'static str] {
        match self {
            JobKind::NodeUpgrade => &[CHECK, CONFIRM, BACK_UP, UPGRADE],
            JobKind::ImagePrePull => &[CHECK, PULL],
            JobKind::ConfigUpdate => &[CHECK, BACK_UP, UPDATE_CONFIG],
        }
    }

    /// Whether a failure of the last action is followed by [`ROLL_BACK`].
    pub fn undoes(self) -> bool {
        self != JobKind::ImagePrePull
    }

    /// Whether this kind of job has an action; a genuine edge crashes when it is told to begin with any other.
    pub fn has(self, action: &str) -> bool {
        self.flow().contains(&action) || (self.undoes() && action == ROLL_BACK)
    }
}

/// Names a job on a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobTarget {
    pub kind: JobKind,
    pub job: String,
    pub node: String,
}

impl JobTarget {
    fn parse(resource: &str) -> Option<JobTarget> {
        let rest = resource.strip_prefix(JOB_VERSION)?.strip_prefix('/')?;
        let parts: Vec<&str> = rest.split('/').collect();
        match *parts.as_slice() {
            [kind, job, "node", node] if !job.is_empty() && !node.is_empty() => {
                Some(JobTarget { kind: JobKind::parse(kind)?, job: job.to_owned(), node: node.to_owned() })
            }
            _ => None,
        }
    }

    fn path(&self) -> String {
        format!("{JOB_VERSION}/{}/{}/node/{}", self.kind.as_str(), self.job, self.node)
    }
}

/// A kind of task of v1alpha1, KubeEdge 1.16 to 1.20.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StageKind {
    Upgrade,
    PrePull,
}

impl StageKind {
    /// KubeEdge's word in paths and operations.
    pub fn as_str(self) -> &'static str {
        match self {
            StageKind::Upgrade => "upgrade",
            StageKind::PrePull => "prepull",
        }
    }

    /// The inverse of [`StageKind::as_str`].
    pub fn parse(word: &str) -> Option<StageKind> {
        [StageKind::Upgrade, StageKind::PrePull].into_iter().find(|kind| kind.as_str() == word)
    }
}

/// What a node is to do. Not acknowledged; reports answer it.
#[derive(Clone, Debug, PartialEq)]
pub enum TaskOrder {
    /// Run a job's flow from this action on; `action` is checked by whoever carries it out.
    Job { target: JobTarget, action: String, spec: Value },
    /// One stage of a v1alpha1 task.
    Stage { kind: StageKind, task: String, node: String, state: String, item: Value },
    /// Upgrade at once, for edges before 1.16; `request` is KubeEdge's NodeUpgradeJobRequest.
    Upgrade { task: String, node: String, request: Value },
}

/// What a node says of a task. No answer.
#[derive(Clone, Debug, PartialEq)]
pub enum TaskReport {
    Action { target: JobTarget, outcome: ActionOutcome },
    Stage(StageReport),
}

/// How an action of a job ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ActionOutcome {
    pub action: String,
    #[serde(rename = "succ")]
    pub success: bool,
    /// RFC 3339; genuine edges leave it empty for configuration updates.
    #[serde(rename = "finishTime")]
    pub finished: String,
    pub reason: String,
    /// For `Pull` a JSON list of images, for the steps of an upgrade `from,to`.
    pub extend: String,
}

/// How a stage of a v1alpha1 task ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageReport {
    pub kind: StageKind,
    pub task: String,
    pub node: String,
    pub facts: StageFacts,
}

/// KubeEdge's NodeTaskResponse.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct StageFacts {
    pub node_name: String,
    pub state: String,
    pub event: String,
    pub action: String,
    pub reason: String,
    pub time: String,
    pub external_message: String,
}

impl TaskReport {
    /// The node that the report is about.
    pub fn node(&self) -> &str {
        match self {
            TaskReport::Action { target, .. } => &target.node,
            TaskReport::Stage(report) => &report.node,
        }
    }

    /// Reads the body of `POST /task/{kind}/name/{task}/node/{node}/status` (protocol.md §2.4).
    pub fn of_request(kind: &str, task: &str, node: &str, body: &[u8]) -> Option<TaskReport> {
        let facts = serde_json::from_slice(body).ok()?;
        let kind = StageKind::parse(kind)?;
        let named = !task.is_empty() && !node.is_empty();
        named.then(|| {
            TaskReport::Stage(StageReport { kind, task: task.to_owned(), node: node.to_owned(), facts })
        })
    }

    /// Reads the body of `POST /nodeupgrade` (protocol.md §2.4), which names task and node itself.
    pub fn of_upgrade(body: &[u8]) -> Option<TaskReport> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Body {
            #[serde(rename = "UpgradeID")]
            task: String,
            #[serde(rename = "NodeName")]
            node: String,
            #[serde(rename = "Status")]
            status: String,
            #[serde(rename = "Reason")]
            reason: String,
        }
        let Body { task, node, status, reason } = serde_json::from_slice(body).ok()?;
        if task.is_empty() || node.is_empty() {
            return None;
        }
        let (event, action) = match status.as_str() {
            "upgrade_success" => ("Upgrade", "Success"),
            "upgrade_failed_rollback_success" => ("Rollback", "Failure"),
            "upgrade_failed_rollback_failed" => ("Rollback", "Success"),
            _ => return None,
        };
        let facts = StageFacts {
            node_name: node.clone(),
            event: event.to_owned(),
            action: action.to_owned(),
            reason,
            ..StageFacts::default()
        };
        Some(TaskReport::Stage(StageReport { kind: StageKind::Upgrade, task, node, facts }))
    }
}

/// Reads an order; the error is constant text.
pub(super) fn decode_order(
    source: &str,
    operation: &str,
    resource: &str,
    content: Value,
) -> Result<TaskOrder, &'static str> {
    if resource.starts_with(JOB_VERSION) {
        let target = JobTarget::parse(resource).ok_or("the path names no known job")?;
        return Ok(TaskOrder::Job { target, action: operation.to_owned(), spec: parsed(content) });
    }
    let parts: Vec<&str> = resource.split('/').collect();
    let [kind, task, "node", node] = *parts.as_slice() else { return Err("the path names no known task") };
    let kind = StageKind::parse(kind).ok_or("unknown kind of task")?;
    let (task, node) = (task.to_owned(), node.to_owned());
    let mut request = parsed(content);
    if source == UPGRADE_CONTROLLER {
        return Ok(TaskOrder::Upgrade { task, node, request });
    }
    if !request.is_object() {
        return Err("the task is not an object");
    }
    let state = request.get("State").and_then(Value::as_str).unwrap_or_default().to_owned();
    let item = request.get_mut("Item").map(Value::take).unwrap_or_default();
    Ok(TaskOrder::Stage { kind, task, node, state, item })
}

pub(super) fn encode_order(order: TaskOrder) -> Envelope {
    let id = MessageId::default();
    match order {
        TaskOrder::Job { target, action, spec } => {
            let parts = Parts {
                source: TASK_MANAGER,
                group: TASK_MANAGER,
                operation: "",
                resource: target.path(),
                content: spec,
            };
            let mut envelope = parts.envelope(id);
            envelope.route.operation = action;
            envelope
        }
        TaskOrder::Stage { kind, task, node, state, item } => {
            let content = json!({"TaskID": task, "Type": kind.as_str(), "State": state, "Item": item});
            stage(TASK_MANAGER, kind, &task, &node, content).envelope(id)
        }
        TaskOrder::Upgrade { task, node, request } => {
            stage(UPGRADE_CONTROLLER, StageKind::Upgrade, &task, &node, request).envelope(id)
        }
    }
}

fn stage(source: &'static str, kind: StageKind, task: &str, node: &str, content: Value) -> Parts {
    let resource = format!("{}/{task}/node/{node}", kind.as_str());
    Parts { source, group: source, operation: kind.as_str(), resource, content }
}

/// Reads a report; the error is constant text.
pub(super) fn decode_report(
    operation: &str,
    resource: &str,
    content: Value,
) -> Result<TaskReport, &'static str> {
    let wrong = "the task report cannot be read";
    if operation == UPDATE_ACTION {
        let target = JobTarget::parse(resource).ok_or("the path names no known job")?;
        let outcome = serde_json::from_value(parsed(content)).map_err(|_| wrong)?;
        return Ok(TaskReport::Action { target, outcome });
    }
    let kind = StageKind::parse(operation).ok_or("unknown kind of task")?;
    let parts: Vec<&str> = resource.split('/').collect();
    let ["task", task, "node", node] = *parts.as_slice() else { return Err("the path names no known task") };
    let facts = serde_json::from_value(parsed(content)).map_err(|_| wrong)?;
    Ok(TaskReport::Stage(StageReport { kind, task: task.to_owned(), node: node.to_owned(), facts }))
}

pub(super) fn encode_report(report: &TaskReport) -> Parts {
    let (operation, resource, content) = match report {
        TaskReport::Action { target, outcome } => (UPDATE_ACTION, target.path(), json!(outcome)),
        TaskReport::Stage(StageReport { kind, task, node, facts }) => {
            (kind.as_str(), format!("task/{task}/node/{node}"), json!(facts))
        }
    };
    Parts { source: WEBSOCKET, group: HUB, operation, resource, content }
}

/// Whether an operation of the edge is a task report.
pub(super) fn is_report(operation: &str) -> bool {
    operation == UPDATE_ACTION || StageKind::parse(operation).is_some()
}

/// What of the node is measured before a job begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckItem {
    Cpu,
    Memory,
    Disk,
}

impl CheckItem {
    /// Reads KubeEdge's word; the error is a sentence.
    pub fn parse(word: &str) -> Result<CheckItem, String> {
        match word {
            "cpu" => Ok(CheckItem::Cpu),
            "mem" => Ok(CheckItem::Memory),
            "disk" => Ok(CheckItem::Disk),
            other => {
                Err(format!("check item {} is not supported: there are cpu, mem and disk", shown(other)))
            }
        }
    }
}

/// Images that a node is to pull ahead of need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PullSpec {
    pub images: Vec<String>,
    /// Namespace and name of the pull secret.
    pub secret: Option<(String, String)>,
    pub retries: u32,
    pub checks: Vec<CheckItem>,
}

impl PullSpec {
    /// Reads the spec of a job or the item of a stage; the error is a sentence.
    pub fn parse(spec: &Value) -> Result<PullSpec, String> {
        let template = spec.get("imagePrePullTemplate").unwrap_or(spec);
        let field = |names: [&str; 2]| {
            let found = names.into_iter().find_map(|name| template.get(name));
            found.filter(|value| !value.is_null())
        };
        let texts = |names| -> Vec<String> {
            let list = field(names).and_then(Value::as_array).into_iter().flatten();
            list.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let secret =
            field(["imageSecrets", "Secret"]).and_then(Value::as_str).filter(|text| !text.is_empty());
        let secret = match secret.map(|text| text.split_once('/')) {
            None => None,
            Some(Some((namespace, name))) if !name.contains('/') => {
                Some((namespace.to_owned(), name.to_owned()))
            }
            Some(_) => return Err("the pull secret is not namespace/name".to_owned()),
        };
        let retries = field(["retryTimes", "RetryTimes"]).and_then(Value::as_u64).unwrap_or(0);
        Ok(PullSpec {
            images: texts(["images", "Images"]),
            secret,
            retries: u32::try_from(retries).unwrap_or(u32::MAX),
            checks: texts(["checkItems", "CheckItems"])
                .iter()
                .map(|item| CheckItem::parse(item))
                .collect::<Result<_, _>>()?,
        })
    }
}

/// What became of one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    pub image: String,
    pub failure: Option<String>,
}

/// The images as a job's `Pull` reports them in `extend`.
pub fn images_of_job(images: &[Pulled]) -> String {
    let one = |pulled: &Pulled| match &pulled.failure {
        None => json!({"image": pulled.image, "status": "True"}),
        Some(why) => json!({"image": pulled.image, "status": "False", "reason": why}),
    };
    Value::Array(images.iter().map(one).collect()).to_string()
}

/// The images as a stage reports them in its external message.
pub fn images_of_stage(images: &[Pulled]) -> String {
    let one = |pulled: &Pulled| match &pulled.failure {
        None => json!({"image": pulled.image, "state": "Successful"}),
        Some(why) => json!({"image": pulled.image, "state": "Failed", "reason": why}),
    };
    Value::Array(images.iter().map(one).collect()).to_string()
}

/// A stage of a v1alpha1 task by the state in which the cloud orders it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Begin,
    Check,
    BackUp,
    Upgrade,
    RollBack,
    Pull,
}

impl Stage {
    /// Reads the state of an order.
    pub fn parse(state: &str) -> Option<Stage> {
        Some(match state {
            "" | "Init" => Stage::Begin,
            "Checking" => Stage::Check,
            "BackingUp" => Stage::BackUp,
            "Upgrading" => Stage::Upgrade,
            "RollingBack" => Stage::RollBack,
            "Pulling" => Stage::Pull,
            _ => return None,
        })
    }

    fn event(self) -> &'static str {
        match self {
            Stage::Begin => "Init",
            Stage::Check => "Check",
            Stage::BackUp => "Backup",
            Stage::Upgrade => "Upgrade",
            Stage::RollBack => "Rollback",
            Stage::Pull => "Pull",
        }
    }
}

impl TaskReport {
    /// An action of a job has ended, with what its report extends to; `finished` is RFC 3339.
    pub fn action(
        target: JobTarget,
        action: &str,
        finished: String,
        result: Result<(), String>,
        extend: String,
    ) -> TaskReport {
        let outcome = ActionOutcome {
            action: action.to_owned(),
            success: result.is_ok(),
            finished,
            reason: result.err().unwrap_or_default(),
            extend,
        };
        TaskReport::Action { target, outcome }
    }

    /// A stage of a v1alpha1 task has ended.
    pub fn stage(
        (kind, task, node): (StageKind, String, String),
        stage: Stage,
        result: Result<(), String>,
        external: String,
    ) -> TaskReport {
        let facts = StageFacts {
            node_name: node.clone(),
            event: stage.event().to_owned(),
            action: if result.is_ok() { "Success" } else { "Failure" }.to_owned(),
            reason: result.err().unwrap_or_default(),
            external_message: external,
            ..StageFacts::default()
        };
        TaskReport::Stage(StageReport { kind, task, node, facts })
    }
}
