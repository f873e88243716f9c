//! What a kubeconfig says of its cluster: name, URL, authority. For commands, which name the file themselves; it connects to
//! nothing. A file that cannot be read is told by its place alone: its text holds secrets.

use crate::base::{Exit, Failure, deepest, read_limited};
use crate::config::api_url;
use crate::config::login::without_login;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use serde_json::{Value, json};
use std::path::Path;

/// The most that a kubeconfig may have, in bytes; certificates of many clusters are in some.
const FILE_LIMIT: u64 = 8 << 20;

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
        let refused = |why: String| refused(path, why);
        let read = read(path).await.map_err(refused)?;
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

fn refused(path: &Path, why: String) -> Failure {
    Failure::new("KE-KUBE-003", format!("cannot use the kubeconfig {}", path.display()))
        .because(why)
        .fix("name another with --kube-config; `kubectl config view` shows what it says")
        .exit(Exit::Configuration)
}

/// Reads the file, or says in words what is wrong with it.
pub(super) async fn read(path: &Path) -> Result<Kubeconfig, String> {
    let named = path.to_owned();
    let read = tokio::task::spawn_blocking(move || read_one(&named));
    read.await.map_err(|error| error.to_string())?
}

/// Read with the YAML library that reads every other file here: kube's own brings a second one along.
fn read_one(path: &Path) -> Result<Kubeconfig, String> {
    let bytes = read_limited(path, FILE_LIMIT).map_err(|failure| failure.why)?;
    if bytes.trim_ascii().is_empty() {
        return Ok(Kubeconfig::default());
    }
    let mut config: Kubeconfig = serde_yaml::from_slice(&bytes).map_err(|error| {
        let place = error.location().map(|at| format!(" at line {}, column {}", at.line(), at.column()));
        format!("it is not the YAML of a kubeconfig{}", place.unwrap_or_default())
    })?;
    if let Some(directory) = path.parent() {
        stand_beside(&mut config, directory);
    }
    Ok(config)
}

/// File names in a kubeconfig are relative to its directory; a command is too, unless it is a bare name for the search path.
fn stand_beside(config: &mut Kubeconfig, directory: &Path) {
    let clusters = config.clusters.iter_mut().filter_map(|named| named.cluster.as_mut());
    let authorities = clusters.filter_map(|cluster| cluster.certificate_authority.as_mut());
    let users = config.auth_infos.iter_mut().filter_map(|named| named.auth_info.as_mut());
    let of_users = users.flat_map(|user| {
        let command = user.exec.as_mut().and_then(|exec| exec.command.as_mut());
        let command = command.filter(|command| command.contains('/'));
        let files = [&mut user.client_certificate, &mut user.client_key, &mut user.token_file];
        files.into_iter().filter_map(Option::as_mut).chain(command)
    });
    for file in authorities.chain(of_users).filter(|file| Path::new(file).is_relative()) {
        *file = directory.join(&*file).to_string_lossy().into_owned();
    }
}

/// How the API is reached by a kubeconfig that a person named; fails with KE-KUBE-003.
pub async fn access(path: &Path) -> Result<kube::Config, Failure> {
    let config = read(path).await.map_err(|why| refused(path, why))?;
    let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await;
    let config = config.map_err(|error| refused(path, unusable(&error)))?;
    reachable(&config).map_err(|why| refused(path, why))?;
    Ok(config)
}

/// Whether the API's address can be dialled at all; the client below panics at one that lacks its scheme.
pub(super) fn reachable(config: &kube::Config) -> Result<(), String> {
    let url = config.cluster_url.to_string();
    let shown = without_login(&url);
    api_url(&url).map(drop).map_err(|wrong| format!("its server {shown} cannot be used: it {wrong}"))
}

/// What is wrong with a kubeconfig that is YAML.
pub(super) fn unusable(error: &KubeconfigError) -> String {
    deepest(error)
}
