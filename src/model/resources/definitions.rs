//! The list of custom resources and the CustomResourceDefinition of each.

use super::schema;
use serde_json::{Value, json};

/// One version of a resource.
#[derive(Clone, Copy, Debug)]
struct Version {
    name: &'static str,
    table: &'static str,
}

/// A custom resource as the API server names it. The last version is the one that is stored.
#[derive(Clone, Copy, Debug)]
pub struct Resource {
    pub group: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
    pub namespaced: bool,
    short: Option<&'static str>,
    status_subresource: bool,
    versions: &'static [Version],
    columns: &'static [(&'static str, &'static str)],
}

macro_rules! version {
    ($kind:literal, $name:literal) => {
        Version { name: $name, table: include_str!(concat!("schemas/", $kind, ".", $name, ".txt")) }
    };
}

const RESOURCES: [Resource; 13] = [
    Resource {
        group: "apps.kubeedge.io",
        kind: "EdgeApplication",
        plural: "edgeapplications",
        namespaced: true,
        short: Some("eapp"),
        status_subresource: true,
        versions: &[version!("edgeapplication", "v1alpha1")],
        columns: &[],
    },
    Resource {
        group: "apps.kubeedge.io",
        kind: "NodeGroup",
        plural: "nodegroups",
        namespaced: false,
        short: Some("ng"),
        status_subresource: true,
        versions: &[version!("nodegroup", "v1alpha1")],
        columns: &[],
    },
    Resource {
        group: "devices.kubeedge.io",
        kind: "Device",
        plural: "devices",
        namespaced: true,
        short: None,
        status_subresource: false,
        versions: &[version!("device", "v1alpha2"), version!("device", "v1beta1")],
        columns: &[("Node", ".spec.nodeName"), ("Model", ".spec.deviceModelRef.name")],
    },
    Resource {
        group: "devices.kubeedge.io",
        kind: "DeviceModel",
        plural: "devicemodels",
        namespaced: true,
        short: None,
        status_subresource: false,
        versions: &[version!("devicemodel", "v1alpha2"), version!("devicemodel", "v1beta1")],
        columns: &[],
    },
    Resource {
        group: "devices.kubeedge.io",
        kind: "DeviceStatus",
        plural: "devicestatuses",
        namespaced: true,
        short: None,
        status_subresource: false,
        versions: &[version!("devicestatus", "v1alpha2"), version!("devicestatus", "v1beta1")],
        columns: &[("State", ".status.state"), ("Last online", ".status.lastOnlineTime")],
    },
    Resource {
        group: "operations.kubeedge.io",
        kind: "ConfigUpdateJob",
        plural: "configupdatejobs",
        namespaced: false,
        short: None,
        status_subresource: true,
        versions: &[version!("configupdatejob", "v1alpha2")],
        columns: &[("Phase", ".status.phase")],
    },
    Resource {
        group: "operations.kubeedge.io",
        kind: "ImagePrePullJob",
        plural: "imageprepulljobs",
        namespaced: false,
        short: None,
        status_subresource: true,
        versions: &[version!("imageprepulljob", "v1alpha1"), version!("imageprepulljob", "v1alpha2")],
        columns: &[("Phase", ".status.phase")],
    },
    Resource {
        group: "operations.kubeedge.io",
        kind: "NodeUpgradeJob",
        plural: "nodeupgradejobs",
        namespaced: false,
        short: None,
        status_subresource: true,
        versions: &[version!("nodeupgradejob", "v1alpha1"), version!("nodeupgradejob", "v1alpha2")],
        columns: &[("Version", ".spec.version"), ("Phase", ".status.phase"), ("Reason", ".status.reason")],
    },
    Resource {
        group: "policy.kubeedge.io",
        kind: "ServiceAccountAccess",
        plural: "serviceaccountaccesses",
        namespaced: true,
        short: Some("saaccess"),
        status_subresource: true,
        versions: &[version!("serviceaccountaccess", "v1alpha1")],
        columns: &[],
    },
    Resource {
        group: "reliablesyncs.kubeedge.io",
        kind: "ClusterObjectSync",
        plural: "clusterobjectsyncs",
        namespaced: false,
        short: None,
        status_subresource: true,
        versions: &[version!("objectsync", "v1alpha1")],
        columns: &[],
    },
    Resource {
        group: "reliablesyncs.kubeedge.io",
        kind: "ObjectSync",
        plural: "objectsyncs",
        namespaced: true,
        short: None,
        status_subresource: true,
        versions: &[version!("objectsync", "v1alpha1")],
        columns: &[],
    },
    Resource {
        group: "rules.kubeedge.io",
        kind: "Rule",
        plural: "rules",
        namespaced: true,
        short: None,
        status_subresource: false,
        versions: &[version!("rule", "v1")],
        columns: &[],
    },
    Resource {
        group: "rules.kubeedge.io",
        kind: "RuleEndpoint",
        plural: "ruleendpoints",
        namespaced: true,
        short: Some("re"),
        status_subresource: false,
        versions: &[version!("ruleendpoint", "v1")],
        columns: &[],
    },
];

/// Every custom resource of KubeEdge.
pub fn all() -> &'static [Resource] {
    &RESOURCES
}

/// The CustomResourceDefinition of every custom resource.
pub fn all_crds() -> Vec<Value> {
    RESOURCES.iter().map(Resource::crd).collect()
}

impl Resource {
    /// The name of the definition, `{plural}.{group}`.
    pub fn crd_name(&self) -> String {
        format!("{}.{}", self.plural, self.group)
    }

    /// The version that is stored.
    pub fn stored_version(&self) -> &'static str {
        self.versions.last().map_or("", |version| version.name)
    }

    /// The definition as `apiextensions.k8s.io/v1`.
    pub fn crd(&self) -> Value {
        let versions: Vec<Value> = self.versions.iter().map(|version| self.version(version)).collect();
        let mut names = json!({
            "kind": self.kind,
            "listKind": format!("{}List", self.kind),
            "plural": self.plural,
            "singular": self.kind.to_lowercase(),
        });
        if let Some(short) = self.short {
            names["shortNames"] = json!([short]);
        }
        json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": self.crd_name()},
            "spec": {
                "group": self.group,
                "names": names,
                "scope": if self.namespaced { "Namespaced" } else { "Cluster" },
                "versions": versions,
            },
        })
    }

    fn version(&self, version: &Version) -> Value {
        let stored = version.name == self.stored_version();
        let mut out = json!({
            "name": version.name,
            "served": true,
            "storage": stored,
            "schema": {"openAPIV3Schema": schema::from_table(version.table)},
        });
        if self.status_subresource {
            out["subresources"] = json!({"status": {}});
        }
        if stored && !self.columns.is_empty() {
            let mut columns: Vec<Value> = self
                .columns
                .iter()
                .map(|(name, path)| json!({"name": name, "type": "string", "jsonPath": path}))
                .collect();
            columns.push(json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}));
            out["additionalPrinterColumns"] = json!(columns);
        }
        out
    }
}
