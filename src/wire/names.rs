//! KubeEdge's words in routes: sources, groups, operations, fixed resources (protocol.md §1.3).

pub(super) const WEBSOCKET: &str = "websocket";
pub(super) const EDGED: &str = "edged";
pub(super) const META_MANAGER: &str = "metamanager";
pub(super) const BUS: &str = "bus";
pub(super) const EDGE_CONTROLLER: &str = "edgecontroller";
pub(super) const DEVICE_CONTROLLER: &str = "devicecontroller";
pub(super) const DYNAMIC_CONTROLLER: &str = "dynamiccontroller";
pub(super) const POLICY_CONTROLLER: &str = "policycontroller";

pub(super) const RESOURCE: &str = "resource";
pub(super) const FUNC: &str = "func";
pub(super) const META: &str = "meta";
pub(super) const TWIN: &str = "twin";
pub(super) const USER: &str = "user";

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

pub(super) const MEMBERSHIP: &str = "membership";
pub(super) const MEMBERSHIP_DETAIL: &str = "membership/detail";
pub(super) const OK: &str = "OK";
