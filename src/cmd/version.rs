//! `kedge version`: what this binary is.

use crate::base::{Exit, Failure, Output, Term};
use serde::Serialize;

/// Show the version of this binary
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  kedge version\n  kedge version -o json")]
pub struct Args {
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    api_version: &'static str,
    kind: &'static str,
    version: &'static str,
    kube_edge: &'static str,
    kubernetes: &'static str,
    platform: String,
    /// The newest layout of the node's database that it reads: an upgrade asks.
    database_layout: u32,
}

pub fn run(args: Args, term: &Term) -> Result<Exit, Failure> {
    let version = Version {
        api_version: "kedge.io/v1",
        kind: "Version",
        version: env!("CARGO_PKG_VERSION"),
        kube_edge: "v1.23.1",
        kubernetes: "v1.36.0",
        platform: format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
        database_layout: crate::store::LAYOUT,
    };
    match args.output {
        Output::Text => term.data(&format!(
            "kedge {} ({}; speaks KubeEdge {}, Kubernetes {})",
            version.version, version.platform, version.kube_edge, version.kubernetes
        )),
        other => term.value(&version, other)?,
    }
    Ok(Exit::Done)
}
