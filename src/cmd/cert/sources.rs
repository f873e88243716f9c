//! Finds the certificates: the edge's in the files of its configuration, the cloud's in its Secrets and in the files of a
//! data directory. Reads certificates only, never a key.

use super::Place;
use super::life::{Verdict, days_left};
use crate::base::{Failure, now, read_limited, rfc3339};
use crate::config::edge::EdgeConfig;
use crate::daemon::cloud;
use crate::pki;
use jiff::Timestamp;
use serde::Serialize;
use std::path::{Path, PathBuf};

const FILE_LIMIT: u64 = 256 << 10;

/// One certificate as it is shown; JSON only ever grows.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shown {
    /// `edge` or `cloud`.
    pub(super) role: &'static str,
    /// What it is for, such as `node` or `authority`.
    pub(super) name: String,
    /// File or Secret.
    pub(super) place: String,
    pub(super) subject: String,
    pub(super) names: Vec<String>,
    pub(super) not_before: String,
    pub(super) not_after: String,
    pub(super) days_left: i64,
    pub(super) state: Verdict,
    /// SHA-256 of the certificate; an authority's is what a join token holds.
    pub(super) fingerprint: String,
    #[serde(skip)]
    pub(super) der: Vec<u8>,
}

/// What was found, and what could not be read.
#[derive(Default)]
pub(super) struct Found {
    pub(super) certificates: Vec<Shown>,
    pub(super) troubles: Vec<Failure>,
}

impl Found {
    fn add(&mut self, role: &'static str, name: &str, place: &str, der: Vec<u8>) {
        let Some(facts) = pki::facts_of(&der) else {
            self.troubles.push(Failure::new("KE-PKI-003", format!("{place} holds no certificate")).fix(
                match name {
                    "authority" => "put it back from a copy: nodes trust this authority only",
                    _ => "put the certificate back, or remove it to have a new one issued",
                },
            ));
            return;
        };
        let time = |seconds| Timestamp::from_second(seconds).map(rfc3339).unwrap_or_default();
        let days = days_left(facts.not_after, now().as_second());
        self.certificates.push(Shown {
            role,
            name: name.to_owned(),
            place: place.to_owned(),
            subject: subject(&facts.peer),
            names: pki::names_of(&der),
            not_before: time(facts.not_before),
            not_after: time(facts.not_after),
            days_left: days,
            state: Verdict::of(days),
            fingerprint: pki::fingerprint(&der),
            der,
        });
    }

    /// The certificates of a PEM file, of which the first is the one that counts unless all are authorities.
    fn file(&mut self, role: &'static str, name: &str, path: &Path, all: bool) {
        if !path.exists() {
            return;
        }
        let place = path.display().to_string();
        // Two purposes may share a file.
        let told = |trouble: &Failure| trouble.what == cannot_read(&place);
        if self.certificates.iter().any(|known| known.place == place) || self.troubles.iter().any(told) {
            return;
        }
        let read = read_limited(path, FILE_LIMIT).and_then(|bytes| {
            pki::certificates_of(&String::from_utf8_lossy(&bytes)).map_err(|failure| {
                let fix = match failure.fix.as_str() {
                    "" => "put the certificate back from a copy".to_owned(),
                    fix => fix.to_owned(),
                };
                Failure::new(failure.code, cannot_read(&place)).because(failure.why).fix(fix)
            })
        });
        match read {
            Ok(found) => {
                let count = if all { found.len() } else { 1 };
                found.into_iter().take(count).for_each(|der| self.add(role, name, &place, der));
            }
            Err(failure) => self.troubles.push(failure),
        }
    }

    fn edge(&mut self, config: &EdgeConfig) {
        self.file("edge", "authority", &config.hub.ca_file, true);
        self.file("edge", "node", &config.hub.cert_file, false);
        self.file("edge", "stream", &config.stream.cert_file, false);
        self.file("edge", "stream authority", &config.stream.ca_file, true);
        if let Some(tls) = &config.mqtt.external_tls {
            self.file("edge", "mqtt authority", &tls.ca_file, true);
            self.file("edge", "mqtt client", &tls.cert_file, false);
        }
    }

    /// What `kedge up` and `kedge cloud run --embedded` keep in files.
    fn data_dir(&mut self, dir: &Path) {
        let cloud = dir.join("cloud");
        let places = if cloud.is_dir() { cloud } else { dir.to_owned() };
        self.file("cloud", "stream authority", &places.join("ca/streamCA.crt"), true);
        self.file("cloud", "stream", &places.join("certs/stream.crt"), false);
    }
}

fn cannot_read(place: &str) -> String {
    format!("cannot read {place}")
}

fn subject(peer: &pki::Peer) -> String {
    let mut parts: Vec<String> = peer.organizations.iter().map(|name| format!("O={name}")).collect();
    parts.push(format!("CN={}", peer.common_name));
    parts.join(", ")
}

impl Place {
    /// The kubeconfig that was named, or the one in the data directory. Where no edge node is, any other that is known: on
    /// a node, somebody's own cluster is not meant.
    fn kubeconfig(&self, is_node: bool) -> Option<PathBuf> {
        let dir = &self.edge.data_dir.data_dir;
        let own = || Some(dir.join("kubeconfig")).filter(|path| path.is_file());
        let known = || if is_node { own() } else { crate::cmd::cloud::known_kubeconfig(dir) };
        self.kubeconfig.clone().or_else(known)
    }

    /// Everything that can be found; a source that fails is noted and the others are read all the same.
    pub(super) fn find(&self) -> Result<Found, Failure> {
        let mut found = Found::default();
        let node = self.edge.find();
        let is_node = !matches!(node, Ok(None));
        let mut missing = None;
        match node {
            Ok(Some(config)) => {
                found.edge(&config);
                missing = Some(no_certificate(&config));
            }
            Ok(None) => {}
            Err(failure) => found.troubles.push(failure),
        }
        if let Some(kubeconfig) = self.kubeconfig(is_node) {
            match in_cluster(kubeconfig) {
                Ok(certificates) => {
                    for kept in certificates {
                        found.add("cloud", kept.name, &kept.place, kept.der);
                    }
                }
                Err(failure) => found.troubles.push(failure),
            }
            found.data_dir(&self.edge.data_dir.data_dir);
        }
        if found.certificates.is_empty() {
            return Err(match (found.troubles.into_iter().next(), missing) {
                (Some(failure), _) => failure,
                (None, Some(missing)) => missing,
                (None, None) => Failure::new("KE-CERT-010", "there are no certificates here")
                    .because("neither an edge node nor a kubeconfig of a cloud was found")
                    .fix("name an edgecore.yaml with --config, a data directory with --data-dir, or the cluster with --kube-config")
                    .exit(crate::base::Exit::Unreachable),
            });
        }
        Ok(found)
    }
}

/// What is said of a node that has not joined.
pub(super) fn no_certificate(config: &EdgeConfig) -> Failure {
    Failure::new("KE-CERT-008", format!("{} has no certificate yet", config.node))
        .because(format!("{} does not exist", config.hub.cert_file.display()))
        .fix("make a token with `kedge token create` on the cloud side, then `kedge join` here")
        .exit(crate::base::Exit::Unreachable)
}

fn in_cluster(kubeconfig: PathBuf) -> Result<Vec<cloud::KeptCertificate>, Failure> {
    pki::install_crypto_provider();
    crate::cmd::block_on(async move { cloud::kept_certificates(&kubeconfig).await })
}
