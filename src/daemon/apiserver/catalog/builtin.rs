//! The table of built-in resources. Read once at start by [`super::Kinds`].

use super::{Catalog, Resource, Scale, Version};
use crate::daemon::apiserver::local::Collection;
use std::sync::Arc;

/// group | versions, preferred first | plural | Kind | short names | flags.
/// Flags: N namespaced, s status, c scale, g generation, a category `all`, r review.
const TABLE: &str = "
|v1|pods|Pod|po|Nsag
|v1|nodes|Node|no|s
|v1|namespaces|Namespace|ns|s
|v1|events|Event|ev|N
|v1|services|Service|svc|Nsa
|v1|endpoints|Endpoints|ep|N
|v1|configmaps|ConfigMap|cm|N
|v1|secrets|Secret||N
|v1|serviceaccounts|ServiceAccount|sa|N
|v1|persistentvolumes|PersistentVolume|pv|s
|v1|persistentvolumeclaims|PersistentVolumeClaim|pvc|Ns
|v1|limitranges|LimitRange|limits|N
|v1|resourcequotas|ResourceQuota|quota|Ns
|v1|replicationcontrollers|ReplicationController|rc|Nscga
|v1|podtemplates|PodTemplate||N
apps|v1|deployments|Deployment|deploy|Nscga
apps|v1|replicasets|ReplicaSet|rs|Nscga
apps|v1|daemonsets|DaemonSet|ds|Nsga
apps|v1|statefulsets|StatefulSet|sts|Nscga
apps|v1|controllerrevisions|ControllerRevision||N
batch|v1|jobs|Job||Nsga
batch|v1|cronjobs|CronJob|cj|Nsga
coordination.k8s.io|v1|leases|Lease||N
discovery.k8s.io|v1|endpointslices|EndpointSlice||Ng
events.k8s.io|v1|events|Event|ev|N
rbac.authorization.k8s.io|v1|roles|Role||N
rbac.authorization.k8s.io|v1|rolebindings|RoleBinding||N
rbac.authorization.k8s.io|v1|clusterroles|ClusterRole||
rbac.authorization.k8s.io|v1|clusterrolebindings|ClusterRoleBinding||
apiextensions.k8s.io|v1|customresourcedefinitions|CustomResourceDefinition|crd,crds|sg
authentication.k8s.io|v1|tokenreviews|TokenReview||r
authentication.k8s.io|v1|selfsubjectreviews|SelfSubjectReview||r
authorization.k8s.io|v1|subjectaccessreviews|SubjectAccessReview||r
authorization.k8s.io|v1|selfsubjectaccessreviews|SelfSubjectAccessReview||r
authorization.k8s.io|v1|selfsubjectrulesreviews|SelfSubjectRulesReview||r
authorization.k8s.io|v1|localsubjectaccessreviews|LocalSubjectAccessReview||Nr
certificates.k8s.io|v1|certificatesigningrequests|CertificateSigningRequest|csr|s
storage.k8s.io|v1|storageclasses|StorageClass|sc|
storage.k8s.io|v1|volumeattachments|VolumeAttachment||s
storage.k8s.io|v1|csidrivers|CSIDriver||
storage.k8s.io|v1|csinodes|CSINode||
networking.k8s.io|v1|ingresses|Ingress|ing|Nsg
networking.k8s.io|v1|ingressclasses|IngressClass||g
networking.k8s.io|v1|networkpolicies|NetworkPolicy|netpol|Ng
policy|v1|poddisruptionbudgets|PodDisruptionBudget|pdb|Nsg
scheduling.k8s.io|v1|priorityclasses|PriorityClass|pc|
apiregistration.k8s.io|v1|apiservices|APIService||s
node.k8s.io|v1|runtimeclasses|RuntimeClass||
autoscaling|v2,v1|horizontalpodautoscalers|HorizontalPodAutoscaler|hpa|Nsga
";

/// Whether built-in kinds stand in this group.
pub(super) fn is_group(group: &str) -> bool {
    TABLE.lines().any(|line| line.split('|').next() == Some(group))
}

const EXTRA: [(&str, &str, &[&str]); 4] = [
    ("", "pods", &["log", "binding", "eviction", "exec", "attach", "portforward"]),
    ("", "serviceaccounts", &["token"]),
    ("", "namespaces", &["finalize"]),
    ("certificates.k8s.io", "certificatesigningrequests", &["approval"]),
];

/// All built-in resources in the order in which discovery shows them.
pub(super) fn all() -> Catalog {
    TABLE.lines().filter_map(row).map(Arc::new).collect()
}

fn row(line: &'static str) -> Option<Resource> {
    let mut fields = line.split('|');
    let (group, versions, plural) = (fields.next()?, fields.next()?, fields.next()?);
    let (kind, short, flags) = (fields.next()?, fields.next()?, fields.next()?);
    let flag = |c: char| flags.contains(c);
    let scale = flag('c').then(|| Scale {
        spec: ".spec.replicas".to_owned(),
        status: ".status.replicas".to_owned(),
        selector: None,
    });
    let version = |name: &str| Version {
        name: name.to_owned(),
        served: true,
        status: flag('s'),
        scale: scale.clone(),
        schema: None,
        columns: None,
        deprecated: None,
    };
    let storage_group = if group == "events.k8s.io" { "" } else { group };
    Some(Resource {
        group: group.to_owned(),
        plural: plural.to_owned(),
        singular: kind.to_lowercase(),
        kind: kind.to_owned(),
        list_kind: format!("{kind}List"),
        short_names: short.split(',').filter(|s| !s.is_empty()).map(str::to_owned).collect(),
        categories: if flag('a') { vec!["all".to_owned()] } else { Vec::new() },
        namespaced: flag('N'),
        storage: versions.split(',').next()?.to_owned(),
        versions: versions.split(',').map(version).collect(),
        collection: Collection::of(storage_group, plural),
        custom: false,
        generation: flag('g'),
        review: flag('r'),
        extra: EXTRA.iter().find(|(g, p, _)| *g == group && *p == plural).map_or(&[], |(_, _, e)| e),
    })
}
