//! Which edge node a command is about: that of an edgecore.yaml, or the one below a data directory as `kedge up` lays
//! it out. The node's own files tell what no configuration says.

use super::DataDir;
use crate::base::{Exit, Failure, read_limited};
use crate::config::edge::{DEFAULT_PATH, EdgeConfig, UpEdge};
use crate::model::NodeName;
use crate::pki;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const CERTIFICATE_LIMIT: u64 = 256 << 10;

/// Flags that name an edge node.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct EdgePlace {
    /// The node's edgecore.yaml; else the data directory, else the usual file is looked at
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    pub(super) data_dir: DataDir,
}

impl EdgePlace {
    /// The configuration of the node; `None` where there is no edge node.
    pub(super) fn find(&self) -> Result<Option<EdgeConfig>, Failure> {
        if let Some(path) = &self.config {
            return Ok(Some(EdgeConfig::load(path)?.config));
        }
        let dir = &self.data_dir.data_dir;
        if dir.join("edge").is_dir() {
            return below(dir).map(Some);
        }
        let usual = Path::new(DEFAULT_PATH);
        if dir.as_path() == Path::new(super::DATA_DIR) && usual.is_file() {
            return Ok(Some(EdgeConfig::load(usual)?.config));
        }
        Ok(None)
    }

    /// The configuration of the node, which must be there.
    pub(super) fn load(&self) -> Result<EdgeConfig, Failure> {
        self.find()?.ok_or_else(|| {
            Failure::new("KE-CONFIG-006", "there is no edge node here")
                .because(format!(
                    "neither {DEFAULT_PATH} nor {}/edge exists",
                    self.data_dir.data_dir.display()
                ))
                .fix("name its edgecore.yaml with --config, or its data directory with --data-dir")
                .exit(Exit::Configuration)
        })
    }

    /// The edgecore.yaml that is meant, if a file is.
    pub(super) fn file(&self) -> Option<PathBuf> {
        let of_dir = || self.data_dir.data_dir.join("edge").is_dir();
        match &self.config {
            Some(path) => Some(path.clone()),
            None if of_dir() => None,
            None => Some(PathBuf::from(DEFAULT_PATH)).filter(|path| path.is_file()),
        }
    }
}

/// The layout of `kedge up`; the node's name is the one in its certificate, the cloud's address is not kept anywhere.
fn below(dir: &Path) -> Result<EdgeConfig, Failure> {
    let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let name = certified_name(&dir.join("edge/certs/server.crt"));
    let host = || NodeName::new(rustix::system::uname().nodename().to_string_lossy().to_lowercase());
    let node = match name {
        Some(name) => name,
        None => host().or_else(|_| NodeName::new("localhost")).map_err(|why| {
            Failure::new("KE-UP-001", "the host name cannot be a node's name")
                .because(why)
                .fix("give this machine a host name of small letters, digits and dashes: `hostname NAME`")
                .exit(Exit::Usage)
        })?,
    };
    EdgeConfig::for_data_dir(&UpEdge {
        data_dir: dir,
        node,
        cloud_host: "127.0.0.1".to_owned(),
        websocket_port: 10000,
        https_port: 10002,
        stream_port: 10004,
        mqtt_port: 1883,
        kubelet_port: 10350,
        token: String::new(),
        labels: BTreeMap::new(),
    })
}

/// The node's name in its certificate.
fn certified_name(path: &Path) -> Option<NodeName> {
    let pem = String::from_utf8(read_limited(path, CERTIFICATE_LIMIT).ok()?).ok()?;
    let certificates = pki::certificates_of(&pem).ok()?;
    let name = pki::facts_of(certificates.first()?)?.peer.common_name;
    NodeName::new(name.strip_prefix("system:node:")?).ok()
}
