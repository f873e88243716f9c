//! What a kubeconfig says of its cluster: name, URL, authority. For commands that install or remove a cloud; it connects to
//! nothing.

use crate::base::{Exit, Failure, deepest};
use serde_json::{Value, json};
use std::path::Path;

/// One cluster, as a kubeconfig names it.
#[derive(Clone, Debug)]
pub(in crate::daemon::cloud) struct Origin {
    pub cluster: String,
    pub server: String,
    insecure: bool,
    tls_server_name: Option<String>,
}

impl Origin {
    /// Reads the current context.
    pub async fn of(path: &Path) -> Result<Origin, Failure> {
        let refused = |why: String| {
            Failure::new("KE-KUBE-003", format!("cannot use the kubeconfig {}", path.display()))
                .because(why)
                .fix("name another with --kube-config; `kubectl config view` shows what it says")
                .exit(Exit::Configuration)
        };
        let owned = path.to_owned();
        let read = tokio::task::spawn_blocking(move || kube::config::Kubeconfig::read_from(owned)).await;
        let read =
            read.map_err(|error| refused(error.to_string()))?.map_err(|error| refused(deepest(&error)))?;
        let context = read.current_context.clone().unwrap_or_default();
        let found = read.contexts.iter().find(|it| it.name == context).and_then(|it| it.context.as_ref());
        let found = found.ok_or_else(|| refused(format!("its current context {context:?} is not in it")))?;
        let cluster = read.clusters.iter().find(|it| it.name == found.cluster);
        let cluster = cluster.and_then(|it| it.cluster.as_ref());
        let cluster = cluster.ok_or_else(|| refused(format!("it has no cluster {:?}", found.cluster)))?;
        let server = cluster.server.clone().filter(|server| !server.is_empty());
        Ok(Origin {
            cluster: found.cluster.clone(),
            server: server.ok_or_else(|| refused("its cluster has no server".to_owned()))?,
            insecure: cluster.insecure_skip_tls_verify.unwrap_or(false),
            tls_server_name: cluster.tls_server_name.clone(),
        })
    }

    /// A kubeconfig for the same cluster and another user. JSON is YAML.
    pub fn kubeconfig(&self, user: &str, token: &str, ca_pem: Option<&str>) -> String {
        use base64::Engine;
        let mut cluster = json!({"server": self.server});
        if let Some(pem) = ca_pem {
            let data = base64::engine::general_purpose::STANDARD.encode(pem);
            cluster["certificate-authority-data"] = json!(data);
        }
        if let Some(name) = &self.tls_server_name {
            cluster["tls-server-name"] = json!(name);
        }
        if self.insecure {
            cluster["insecure-skip-tls-verify"] = json!(true);
        }
        let name = &self.cluster;
        let config: Value = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": name,
            "clusters": [{"name": name, "cluster": cluster}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": user}}],
            "users": [{"name": user, "user": {"token": token}}],
        });
        serde_yaml::to_string(&config).unwrap_or_default()
    }
}
