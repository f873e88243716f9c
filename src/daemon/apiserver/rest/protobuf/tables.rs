//! The fields of the kinds that kubectl's commands and cloudcore send as protobuf: number, JSON name, form. [`super`] reads bodies
//! along them. The numbers are upstream's `generated.proto` files; a field that is missing here refuses a body.

use super::Field;
use super::Form::{
    BytesMap, Flag, Inline, Many, MicroTime, Number, NumberOrText, One, Quantities, Quantity, Skip, Text,
    TextMap, Texts, Time,
};

const OWNER: &[Field] = &[
    (1, "kind", Text),
    (3, "name", Text),
    (4, "uid", Text),
    (5, "apiVersion", Text),
    (6, "controller", Flag),
    (7, "blockOwnerDeletion", Flag),
];
const META: &[Field] = &[
    (1, "name", Text),
    (2, "generateName", Text),
    (3, "namespace", Text),
    (4, "selfLink", Text),
    (5, "uid", Text),
    (6, "resourceVersion", Text),
    (7, "generation", Number),
    (8, "creationTimestamp", Skip),
    (11, "labels", TextMap),
    (12, "annotations", TextMap),
    (13, "ownerReferences", Many(OWNER)),
    (14, "finalizers", Texts),
    (17, "managedFields", Skip),
];
const NAMED: &[Field] = &[(1, "name", Text)];
const NAMESPACE: &[Field] =
    &[(1, "metadata", One(META)), (2, "spec", One(&[(1, "finalizers", Texts)])), (3, "", Skip)];
const ACCOUNT: &[Field] = &[
    (1, "metadata", One(META)),
    (3, "imagePullSecrets", Many(NAMED)),
    (4, "automountServiceAccountToken", Flag),
];
const CONFIG: &[Field] =
    &[(1, "metadata", One(META)), (2, "data", TextMap), (3, "binaryData", BytesMap), (4, "immutable", Flag)];
const SECRET: &[Field] = &[
    (1, "metadata", One(META)),
    (2, "data", BytesMap),
    (3, "type", Text),
    (4, "stringData", TextMap),
    (5, "immutable", Flag),
];
const BOUND: &[Field] = &[(1, "kind", Text), (2, "apiVersion", Text), (3, "name", Text), (4, "uid", Text)];
const TOKEN_SPEC: &[Field] =
    &[(1, "audiences", Texts), (3, "boundObjectRef", One(BOUND)), (4, "expirationSeconds", Number)];
const TOKEN: &[Field] = &[(1, "metadata", One(META)), (2, "spec", One(TOKEN_SPEC)), (3, "", Skip)];
const RESOURCE: &[Field] = &[
    (1, "namespace", Text),
    (2, "verb", Text),
    (3, "group", Text),
    (4, "version", Text),
    (5, "resource", Text),
    (6, "subresource", Text),
    (7, "name", Text),
];
const ACCESS_SPEC: &[Field] = &[
    (1, "resourceAttributes", One(RESOURCE)),
    (2, "nonResourceAttributes", One(&[(1, "path", Text), (2, "verb", Text)])),
];
const ACCESS: &[Field] = &[(1, "metadata", One(META)), (2, "spec", One(ACCESS_SPEC)), (3, "", Skip)];
const RULES: &[Field] =
    &[(1, "metadata", One(META)), (2, "spec", One(&[(1, "namespace", Text)])), (3, "", Skip)];
const SELF: &[Field] = &[(1, "metadata", One(META)), (2, "", Skip)];
const RULE: &[Field] = &[
    (1, "verbs", Texts),
    (2, "apiGroups", Texts),
    (3, "resources", Texts),
    (4, "resourceNames", Texts),
    (5, "nonResourceURLs", Texts),
];
const ROLE: &[Field] = &[(1, "metadata", One(META)), (2, "rules", Many(RULE))];
const SUBJECT: &[Field] =
    &[(1, "kind", Text), (2, "apiGroup", Text), (3, "name", Text), (4, "namespace", Text)];
const ROLE_REF: &[Field] = &[(1, "apiGroup", Text), (2, "kind", Text), (3, "name", Text)];
const BINDING: &[Field] =
    &[(1, "metadata", One(META)), (2, "subjects", Many(SUBJECT)), (3, "roleRef", One(ROLE_REF))];
const PRECONDITIONS: &[Field] = &[(1, "uid", Text), (2, "resourceVersion", Text)];
const DELETE: &[Field] = &[
    (1, "gracePeriodSeconds", Number),
    (2, "preconditions", One(PRECONDITIONS)),
    (3, "orphanDependents", Flag),
    (4, "propagationPolicy", Text),
    (5, "dryRun", Texts),
    (6, "", Skip),
];
const EVICTION: &[Field] = &[(1, "metadata", One(META)), (2, "deleteOptions", One(DELETE))];
const PORT: &[Field] = &[
    (1, "name", Text),
    (2, "hostPort", Number),
    (3, "containerPort", Number),
    (4, "protocol", Text),
    (5, "hostIP", Text),
];
const RESOURCES: &[Field] = &[(1, "limits", Quantities), (2, "requests", Quantities)];
const CONTAINER: &[Field] = &[
    (1, "name", Text),
    (2, "image", Text),
    (3, "command", Texts),
    (4, "args", Texts),
    (5, "workingDir", Text),
    (6, "ports", Many(PORT)),
    (7, "env", Many(&[(1, "name", Text), (2, "value", Text)])),
    (8, "resources", One(RESOURCES)),
    (13, "terminationMessagePath", Text),
    (14, "imagePullPolicy", Text),
    (16, "stdin", Flag),
    (17, "stdinOnce", Flag),
    (18, "tty", Flag),
    (20, "terminationMessagePolicy", Text),
];
const POD_SPEC: &[Field] = &[
    (2, "containers", Many(CONTAINER)),
    (3, "restartPolicy", Text),
    (4, "terminationGracePeriodSeconds", Number),
    (6, "dnsPolicy", Text),
    (7, "nodeSelector", TextMap),
    (8, "serviceAccountName", Text),
    (9, "serviceAccount", Text),
    (10, "nodeName", Text),
    (11, "hostNetwork", Flag),
    (19, "schedulerName", Text),
];
const TEMPLATE: &[Field] = &[(1, "metadata", One(META)), (2, "spec", One(POD_SPEC))];
const POD: &[Field] = &[(1, "metadata", One(META)), (2, "spec", One(POD_SPEC)), (3, "", Skip)];
const SELECTOR: &[Field] = &[
    (1, "matchLabels", TextMap),
    (2, "matchExpressions", Many(&[(1, "key", Text), (2, "operator", Text), (3, "values", Texts)])),
];
const DEPLOYMENT_SPEC: &[Field] = &[
    (1, "replicas", Number),
    (2, "selector", One(SELECTOR)),
    (3, "template", One(TEMPLATE)),
    (4, "strategy", One(&[(1, "type", Text)])),
];
const DEPLOYMENT: &[Field] = &[(1, "metadata", One(META)), (2, "spec", One(DEPLOYMENT_SPEC)), (3, "", Skip)];

const JOB_SPEC: &[Field] = &[
    (1, "parallelism", Number),
    (2, "completions", Number),
    (3, "activeDeadlineSeconds", Number),
    (4, "selector", One(SELECTOR)),
    (5, "manualSelector", Flag),
    (6, "template", One(TEMPLATE)),
    (7, "backoffLimit", Number),
    (8, "ttlSecondsAfterFinished", Number),
    (9, "completionMode", Text),
    (10, "suspend", Flag),
];
const JOB: &[Field] = &[(1, "metadata", One(META)), (2, "spec", One(JOB_SPEC)), (3, "", Skip)];
const CRON_JOB_SPEC: &[Field] = &[
    (1, "schedule", Text),
    (2, "startingDeadlineSeconds", Number),
    (3, "concurrencyPolicy", Text),
    (4, "suspend", Flag),
    (5, "jobTemplate", One(&[(1, "metadata", One(META)), (2, "spec", One(JOB_SPEC))])),
    (6, "successfulJobsHistoryLimit", Number),
    (7, "failedJobsHistoryLimit", Number),
    (8, "timeZone", Text),
];
const CRON_JOB: &[Field] = &[(1, "metadata", One(META)), (2, "spec", One(CRON_JOB_SPEC)), (3, "", Skip)];
const QUOTA: &[Field] = &[
    (1, "metadata", One(META)),
    (2, "spec", One(&[(1, "hard", Quantities), (2, "scopes", Texts)])),
    (3, "", Skip),
];
const SERVICE_PORT: &[Field] = &[
    (1, "name", Text),
    (2, "protocol", Text),
    (3, "port", Number),
    (4, "targetPort", NumberOrText),
    (5, "nodePort", Number),
    (6, "appProtocol", Text),
];
const SERVICE_SPEC: &[Field] = &[
    (1, "ports", Many(SERVICE_PORT)),
    (2, "selector", TextMap),
    (3, "clusterIP", Text),
    (4, "type", Text),
    (5, "externalIPs", Texts),
    (7, "sessionAffinity", Text),
    (8, "loadBalancerIP", Text),
    (9, "loadBalancerSourceRanges", Texts),
    (10, "externalName", Text),
    (11, "externalTrafficPolicy", Text),
    (12, "healthCheckNodePort", Number),
    (13, "publishNotReadyAddresses", Flag),
    (17, "ipFamilyPolicy", Text),
    (18, "clusterIPs", Texts),
    (19, "ipFamilies", Texts),
    (22, "internalTrafficPolicy", Text),
];
const SERVICE: &[Field] = &[(1, "metadata", One(META)), (2, "spec", One(SERVICE_SPEC)), (3, "", Skip)];
const BACKEND_PORT: &[Field] = &[(1, "name", Text), (2, "number", Number)];
const BACKEND: &[Field] = &[(4, "service", One(&[(1, "name", Text), (2, "port", One(BACKEND_PORT))]))];
const HTTP_PATH: &[Field] = &[(1, "path", Text), (2, "backend", One(BACKEND)), (3, "pathType", Text)];
const INGRESS_RULE: &[Field] =
    &[(1, "host", Text), (2, "", Inline(&[(1, "http", One(&[(1, "paths", Many(HTTP_PATH))]))]))];
const INGRESS_SPEC: &[Field] = &[
    (1, "defaultBackend", One(BACKEND)),
    (2, "tls", Many(&[(1, "hosts", Texts), (2, "secretName", Text)])),
    (3, "rules", Many(INGRESS_RULE)),
    (4, "ingressClassName", Text),
];
const INGRESS: &[Field] = &[(1, "metadata", One(META)), (2, "spec", One(INGRESS_SPEC)), (3, "", Skip)];
const BUDGET_SPEC: &[Field] = &[
    (1, "minAvailable", NumberOrText),
    (2, "selector", One(SELECTOR)),
    (3, "maxUnavailable", NumberOrText),
    (4, "unhealthyPodEvictionPolicy", Text),
];
const BUDGET: &[Field] = &[(1, "metadata", One(META)), (2, "spec", One(BUDGET_SPEC)), (3, "", Skip)];
const PRIORITY: &[Field] = &[
    (1, "metadata", One(META)),
    (2, "value", Number),
    (3, "globalDefault", Flag),
    (4, "description", Text),
    (5, "preemptionPolicy", Text),
];
const SCALED: &[Field] = &[(1, "kind", Text), (2, "name", Text), (3, "apiVersion", Text)];
const SCALER_V1_SPEC: &[Field] = &[
    (1, "scaleTargetRef", One(SCALED)),
    (2, "minReplicas", Number),
    (3, "maxReplicas", Number),
    (4, "targetCPUUtilizationPercentage", Number),
];
const SCALER_V1: &[Field] = &[(1, "metadata", One(META)), (2, "spec", One(SCALER_V1_SPEC)), (3, "", Skip)];
const METRIC_TARGET: &[Field] = &[
    (1, "type", Text),
    (2, "value", Quantity),
    (3, "averageValue", Quantity),
    (4, "averageUtilization", Number),
];
const METRIC: &[Field] =
    &[(1, "type", Text), (4, "resource", One(&[(1, "name", Text), (2, "target", One(METRIC_TARGET))]))];
const SCALER_SPEC: &[Field] = &[
    (1, "scaleTargetRef", One(SCALED)),
    (2, "minReplicas", Number),
    (3, "maxReplicas", Number),
    (4, "metrics", Many(METRIC)),
];
const SCALER: &[Field] = &[(1, "metadata", One(META)), (2, "spec", One(SCALER_SPEC)), (3, "", Skip)];

const TAINT: &[Field] = &[(1, "key", Text), (2, "value", Text), (3, "effect", Text), (4, "timeAdded", Time)];
const NODE_SPEC: &[Field] = &[
    (1, "podCIDR", Text),
    (2, "externalID", Text),
    (3, "providerID", Text),
    (4, "unschedulable", Flag),
    (5, "taints", Many(TAINT)),
    (7, "podCIDRs", Texts),
];
const NODE_CONDITION: &[Field] = &[
    (1, "type", Text),
    (2, "status", Text),
    (3, "lastHeartbeatTime", Time),
    (4, "lastTransitionTime", Time),
    (5, "reason", Text),
    (6, "message", Text),
];
const NODE_INFO: &[Field] = &[
    (1, "machineID", Text),
    (2, "systemUUID", Text),
    (3, "bootID", Text),
    (4, "kernelVersion", Text),
    (5, "osImage", Text),
    (6, "containerRuntimeVersion", Text),
    (7, "kubeletVersion", Text),
    (8, "kubeProxyVersion", Text),
    (9, "operatingSystem", Text),
    (10, "architecture", Text),
];
const HANDLER: &[Field] = &[
    (1, "name", Text),
    (2, "features", One(&[(1, "recursiveReadOnlyMounts", Flag), (2, "userNamespaces", Flag)])),
];
const NODE_STATUS: &[Field] = &[
    (1, "capacity", Quantities),
    (2, "allocatable", Quantities),
    (3, "phase", Text),
    (4, "conditions", Many(NODE_CONDITION)),
    (5, "addresses", Many(&[(1, "type", Text), (2, "address", Text)])),
    (6, "daemonEndpoints", One(&[(1, "kubeletEndpoint", One(&[(1, "Port", Number)]))])),
    (7, "nodeInfo", One(NODE_INFO)),
    (8, "images", Many(&[(1, "names", Texts), (2, "sizeBytes", Number)])),
    (9, "volumesInUse", Texts),
    (10, "volumesAttached", Many(&[(1, "name", Text), (2, "devicePath", Text)])),
    (12, "runtimeHandlers", Many(HANDLER)),
    (13, "features", One(&[(1, "supplementalGroupsPolicy", Flag)])),
];
const NODE: &[Field] =
    &[(1, "metadata", One(META)), (2, "spec", One(NODE_SPEC)), (3, "status", One(NODE_STATUS))];
const LEASE_SPEC: &[Field] = &[
    (1, "holderIdentity", Text),
    (2, "leaseDurationSeconds", Number),
    (3, "acquireTime", MicroTime),
    (4, "renewTime", MicroTime),
    (5, "leaseTransitions", Number),
    (6, "strategy", Text),
    (7, "preferredHolder", Text),
];
const LEASE: &[Field] = &[(1, "metadata", One(META)), (2, "spec", One(LEASE_SPEC))];
const REFERENCE: &[Field] = &[
    (1, "kind", Text),
    (2, "namespace", Text),
    (3, "name", Text),
    (4, "uid", Text),
    (5, "apiVersion", Text),
    (6, "resourceVersion", Text),
    (7, "fieldPath", Text),
];
const EVENT: &[Field] = &[
    (1, "metadata", One(META)),
    (2, "involvedObject", One(REFERENCE)),
    (3, "reason", Text),
    (4, "message", Text),
    (5, "source", One(&[(1, "component", Text), (2, "host", Text)])),
    (6, "firstTimestamp", Time),
    (7, "lastTimestamp", Time),
    (8, "count", Number),
    (9, "type", Text),
    (10, "eventTime", MicroTime),
    (11, "series", One(&[(1, "count", Number), (2, "lastObservedTime", MicroTime)])),
    (12, "action", Text),
    (13, "related", One(REFERENCE)),
    (14, "reportingComponent", Text),
    (15, "reportingInstance", Text),
];

/// The fields of a kind in protobuf, as far as kubectl's commands and cloudcore set them.
pub(super) fn table(api_version: &str, kind: &str) -> Option<&'static [Field]> {
    Some(match kind {
        "Namespace" => NAMESPACE,
        "ServiceAccount" => ACCOUNT,
        "ConfigMap" => CONFIG,
        "Secret" => SECRET,
        "TokenRequest" => TOKEN,
        "SelfSubjectAccessReview" => ACCESS,
        "SelfSubjectRulesReview" => RULES,
        "SelfSubjectReview" => SELF,
        "Role" | "ClusterRole" => ROLE,
        "RoleBinding" | "ClusterRoleBinding" => BINDING,
        "DeleteOptions" => DELETE,
        "Eviction" => EVICTION,
        "Pod" => POD,
        "Node" => NODE,
        "Lease" => LEASE,
        "Event" if api_version == "v1" => EVENT,
        "Deployment" => DEPLOYMENT,
        "Job" => JOB,
        "CronJob" => CRON_JOB,
        "ResourceQuota" => QUOTA,
        "Service" => SERVICE,
        "Ingress" => INGRESS,
        "PodDisruptionBudget" => BUDGET,
        "PriorityClass" => PRIORITY,
        "HorizontalPodAutoscaler" if api_version == "autoscaling/v1" => SCALER_V1,
        "HorizontalPodAutoscaler" => SCALER,
        _ => return None,
    })
}
