//! Flags that the commands which run daemons share: the log's form, and the ports of a cloud.

use crate::base::{LogFormat, check_level, start_log};
use crate::config::cloud::CloudPorts;

/// How a daemon logs on stderr.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct LogFlags {
    /// Form of the log on stderr
    #[arg(long, value_enum, default_value = "text")]
    log_format: Format,
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = check_level)]
    log_level: String,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    Text,
    Json,
}

impl LogFlags {
    pub(super) fn start(&self) {
        let format = match self.log_format {
            Format::Text => LogFormat::Text,
            Format::Json => LogFormat::Json,
        };
        start_log(format, &self.log_level);
    }

    /// The flags as they are typed, for a process that shall log in the same way.
    pub(super) fn arguments(&self) -> [std::ffi::OsString; 4] {
        let format = match self.log_format {
            Format::Text => "text",
            Format::Json => "json",
        };
        ["--log-format".into(), format.into(), "--log-level".into(), self.log_level.clone().into()]
    }
}

/// Where nodes find a cloud.
#[derive(clap::Args, Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinkPorts {
    /// Port of the cloud's WebSocket
    #[arg(long, value_name = "PORT", default_value_t = LinkPorts::USUAL.hub_port)]
    pub hub_port: u16,
    /// Port of the cloud's certificate service
    #[arg(long, value_name = "PORT", default_value_t = LinkPorts::USUAL.cert_port)]
    pub cert_port: u16,
    /// Port of the cloud's tunnel
    #[arg(long, value_name = "PORT", default_value_t = LinkPorts::USUAL.tunnel_port)]
    pub tunnel_port: u16,
}

impl LinkPorts {
    const USUAL: LinkPorts = LinkPorts { hub_port: 10000, cert_port: 10002, tunnel_port: 10004 };

    /// Whether one is not the usual one.
    pub(super) fn differ(&self) -> bool {
        *self != LinkPorts::USUAL
    }
}

/// Where a cloud with its embedded API listens.
#[derive(clap::Args, Clone, Copy, Debug)]
pub(super) struct CloudFlags {
    /// Port of the Kubernetes API
    #[arg(long, value_name = "PORT", default_value_t = 6443)]
    pub api_port: u16,
    #[command(flatten)]
    pub link: LinkPorts,
    /// Port of the cloud's kubelet API
    #[arg(long, value_name = "PORT", default_value_t = 10003)]
    pub stream_port: u16,
}

impl CloudFlags {
    pub(super) fn ports(&self) -> CloudPorts {
        CloudPorts {
            api: self.api_port,
            websocket: self.link.hub_port,
            https: self.link.cert_port,
            stream: self.stream_port,
            tunnel: self.link.tunnel_port,
        }
    }
}
