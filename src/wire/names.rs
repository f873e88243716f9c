//! KubeEdge's words in routes: sources, groups, operations, fixed resources (protocol.md §1.3).

pub(super) const WEBSOCKET: &str = "websocket";
pub(super) const EDGED: &str = "edged";
pub(super) const META_MANAGER: &str = "metamanager";
pub(super) const BUS: &str = "bus";
pub(super) const EDGE_CONTROLLER: &str = "edgecontroller";
pub(super) const DEVICE_CONTROLLER: &str = "devicecontroller";
pub(super) const DYNAMIC_CONTROLLER: &str = "dynamiccontroller";
pub(super) const POLICY_CONTROLLER: &str = "policycontroller";
pub(super) const CLOUD_HUB: &str = "cloudhub";
pub(super) const META_SERVER: &str = "metaserver";
pub(super) const TASK_MANAGER: &str = "taskmanager";
pub(super) const UPGRADE_CONTROLLER: &str = "nodeupgradejobcontroller";
pub(super) const SERVICE_BUS: &str = "servicebus";
pub(super) const ROUTER_EVENT_BUS: &str = "router_eventbus";
pub(super) const ROUTER_SERVICE_BUS: &str = "router_servicebus";

pub(super) const RESOURCE: &str = "resource";
pub(super) const FUNC: &str = "func";
pub(super) const META: &str = "meta";
pub(super) const TWIN: &str = "twin";
pub(super) const USER: &str = "user";
pub(super) const HUB: &str = "hub";

pub(super) const INSERT: &str = "insert";
pub(super) const UPDATE: &str = "update";
pub(super) const DELETE: &str = "delete";
pub(super) const QUERY: &str = "query";
pub(super) const PATCH: &str = "patch";
pub(super) const UPLOAD: &str = "upload";
pub(super) const RESPONSE: &str = "response";
pub(super) const ERROR: &str = "error";
pub(super) const KEEPALIVE: &str = "keepalive";
pub(super) const GET: &str = "get";
pub(super) const SUBSCRIBE: &str = "subscribe";
pub(super) const UNSUBSCRIBE: &str = "unsubscribe";
pub(super) const PUBLISH: &str = "publish";
pub(super) const START: &str = "start";
pub(super) const STOP: &str = "stop";
pub(super) const UPDATE_ACTION: &str = "UpdateNodeActionStatus";
pub(super) const APPLICATION_RESPONSE: &str = "applicationResponse";

pub(super) const EVENT: &str = "event";
pub(super) const NODE_STATUS: &str = "nodestatus";
pub(super) const POD_STATUS: &str = "podstatus";
pub(super) const MEMBERSHIP: &str = "membership";
pub(super) const MEMBERSHIP_DETAIL: &str = "membership/detail";
pub(super) const CLUSTER_CA: &str = "k8s/ca.crt";
pub(super) const WATCH_SYNC: &str = "watchapp/sync";
pub(super) const APPLICATION_ANSWER: &str = "ignore/Application/ignore";
pub(super) const JOB_VERSION: &str = "operations.kubeedge.io/v1alpha2";
/// Stands where a path or an operation is empty, and for the namespace of what has none.
pub(super) const NULL: &str = "null";
pub(super) const OK: &str = "OK";
