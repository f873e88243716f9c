//! The embedded Kubernetes API on SQLite, for one machine and small sites. Knows neither wing; clients reach it over
//! HTTPS, its own controllers through [`Local`].
//!
//! `server` listens -> `rest` understands a request (`auth` says who and whether) -> `ops` decides (`patch`, `apply`,
//! `schema` work the new form out) -> `storage` commits and wakes watchers. `catalog` says which resources there are,
//! `table` and `openapi` how they are shown and described.

pub mod apply;
mod auth;
mod bootstrap;
mod catalog;
pub mod controllers;
mod errors;
pub mod kinds;
mod kubeconfig;
pub mod local;
pub mod openapi;
mod ops;
pub mod patch;
mod rest;
pub mod schema;
pub mod selector;
mod server;
mod storage;
mod strict;
pub mod table;
pub mod types;

use crate::base::{Failure, Module, create_private_dir, errands};
use crate::pki::{Authority, Clients, Identity, server_config};
use auth::Tokens;
use catalog::Kinds;
use local::Local;
use ops::{Ops, ServiceNetwork};
use rest::{Api, Kubelet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use storage::Store;

/// How long the certificates live that are made anew at each start.
/// Exec, attach and port-forward sessions at a time.
const SESSIONS: usize = 256;
const DAYS: u32 = 365;
const ADMIN: &str = "kubernetes-admin";

/// Where the logs of pods are fetched.
#[derive(Clone)]
pub struct KubeletEndpoint {
    pub address: SocketAddr,
    /// Client certificate.
    pub identity: Identity,
    /// Authority of the endpoint's certificate.
    pub ca_pem: String,
}

/// What the API is told at its start.
#[derive(Clone)]
pub struct Config {
    /// Port 0 takes a free one; see [`ApiServer::address`].
    pub listen: SocketAddr,
    /// `api.db` and `pki/` are kept here.
    pub data_dir: PathBuf,
    pub kubelet: Option<KubeletEndpoint>,
    /// Cluster addresses of Services, such as `10.96.0.0/16`.
    pub service_cidr: String,
    /// More names and addresses for the server's certificate.
    pub names: Vec<String>,
}

impl Config {
    /// A configuration with the usual Service network and no way to nodes.
    pub fn new(listen: SocketAddr, data_dir: PathBuf) -> Config {
        let service_cidr = "10.96.0.0/16".to_owned();
        Config { listen, data_dir, kubelet: None, service_cidr, names: Vec::new() }
    }
}

/// The opened API: its database is read, its address is bound, nothing is served yet.
pub struct ApiServer {
    server: server::Server,
    local: Local,
    ca_pem: String,
    admin: String,
    authority: Authority,
}

impl ApiServer {
    /// Opens database and keys and binds the address. Blocking; no runtime is needed.
    pub fn open(config: Config) -> Result<ApiServer, Failure> {
        let network = ServiceNetwork::parse(&config.service_cidr).ok_or_else(|| {
            Failure::new("KE-API-007", format!("{} is no network for Services", config.service_cidr))
                .because("an IPv4 network with a prefix of 8 to 28 bits is needed")
                .fix("use one like 10.96.0.0/16")
        })?;
        let listener = server::bind(config.listen)?;
        let address = listener.local_addr().unwrap_or(config.listen);
        create_private_dir(&config.data_dir)?;
        let pki = config.data_dir.join("pki");
        let authority = Authority::load_or_create(&pki, "ca", "kedge-kubernetes-ca")?;
        let ca_pem = authority.cert_pem();
        let identity = authority.issue_server("kube-apiserver", &names(&config, network, address), DAYS)?;
        let tls = server_config(&identity, Clients::Optional(&ca_pem))?;
        let kinds = Arc::new(Kinds::default());
        let store = Store::open(&config.data_dir.join("api.db"), kinds.observer())?;
        kinds.follow(&store);
        let ops = Ops { store, kinds, network };
        let local = Local::new(ops.clone());
        let kubelet = config.kubelet.as_ref().map(Kubelet::new).transpose()?;
        let tokens = Tokens::load_or_create(&pki)?;
        let (errands, runner) = errands(SESSIONS);
        let api = Arc::new(Api { ops, tokens, kubelet, errands, address: address.to_string() });
        let (served, published) = (local.clone(), ca_pem.clone());
        let server = server::Server {
            ca_pem: published,
            api,
            local: served,
            listener: Some(listener),
            address,
            tls,
            runner,
        };
        let identity = authority.issue_client(ADMIN, &["system:masters"], DAYS)?;
        let admin = kubeconfig::write(address, &ca_pem, &identity, ADMIN);
        Ok(ApiServer { server, local, ca_pem, admin, authority })
    }

    /// The address that is bound.
    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// Access for controllers of this process.
    pub fn local(&self) -> Local {
        self.local.clone()
    }

    /// The certificate of the API's authority.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// A client certificate for a user of these groups.
    pub fn client(&self, user: &str, groups: &[&str]) -> Result<Identity, Failure> {
        self.authority.issue_client(user, groups, DAYS)
    }

    /// A kubeconfig that holds every right, with certificate and key in it.
    pub fn admin_kubeconfig(&self) -> String {
        self.admin.clone()
    }

    /// The module that serves.
    pub fn module(self) -> impl Module {
        self.server
    }
}

fn names(config: &Config, network: ServiceNetwork, address: SocketAddr) -> Vec<String> {
    let mut names: Vec<String> = [
        "127.0.0.1",
        "::1",
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ]
    .map(str::to_owned)
    .to_vec();
    names.push(network.first().to_string());
    let host = rustix::system::uname();
    if let Some(host) = host.nodename().to_str().ok().filter(|host| is_host_name(host)) {
        names.push(host.to_owned());
    }
    if !address.ip().is_unspecified() {
        names.push(address.ip().to_string());
    }
    names.extend(config.names.iter().cloned());
    names.sort();
    names.dedup();
    names
}

/// A host name that a certificate can carry.
fn is_host_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.')
}

#[cfg(test)]
mod tests;
