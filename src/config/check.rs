//! Reads values out of their text form and collects what is wrong with them: names, addresses, durations, paths.
//! Both configurations use it.

use super::Problem;
use crate::model::NodeName;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Notes every problem and returns a stand-in, which is never used once there is a problem.
pub(super) struct Checker<'a>(pub(super) &'a mut Vec<Problem>);

impl Checker<'_> {
    pub(super) fn wrong(&mut self, path: &str, value: impl std::fmt::Display, reason: &str) {
        self.0.push(Problem::new(path, value, reason));
    }

    pub(super) fn absolute(&mut self, path: &str, value: &Path) {
        if !value.is_absolute() {
            self.wrong(path, value.display(), "must be an absolute path");
        }
    }

    pub(super) fn node_name(&mut self, name: &str) -> Option<NodeName> {
        let name = if name.is_empty() { host_name() } else { name.to_owned() };
        NodeName::new(name.clone())
            .map_err(|reason| self.wrong("modules.edged.hostnameOverride", name, &reason))
            .ok()
    }

    pub(super) fn optional_ip(&mut self, path: &str, text: &str) -> Option<IpAddr> {
        if text.is_empty() {
            return None;
        }
        text.parse().map_err(|_| self.wrong(path, text, "must be an IP address")).ok()
    }

    pub(super) fn ips(&mut self, path: &str, texts: Vec<String>) -> Vec<String> {
        for text in &texts {
            if text.parse::<IpAddr>().is_err() {
                self.wrong(path, text, "must be an IP address");
            }
        }
        texts
    }

    pub(super) fn seconds(&mut self, path: &str, value: f64) -> Duration {
        match Duration::try_from_secs_f64(value) {
            Ok(duration) if !duration.is_zero() => duration,
            _ => {
                self.wrong(path, value, "must be more than 0 seconds");
                Duration::from_secs(1)
            }
        }
    }

    /// Go's `time.Duration` text, such as `1m30s`.
    pub(super) fn duration(&mut self, path: &str, text: &str) -> Duration {
        go_duration(text).filter(|duration| !duration.is_zero()).unwrap_or_else(|| {
            self.wrong(path, text, "must be a duration such as 10s or 5m0s, and more than 0");
            Duration::from_secs(1)
        })
    }

    pub(super) fn host_port(&mut self, path: &str, text: &str) -> String {
        let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty());
        if port.is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
            self.wrong(path, text, "must be host:port");
        }
        text.to_owned()
    }

    pub(super) fn url(&mut self, path: &str, text: &str) -> String {
        let bare = text.split_once("://").map_or(text, |(_, rest)| rest);
        self.host_port(path, bare.trim_end_matches('/'))
    }

    pub(super) fn socket(&mut self, path: &str, text: &str) -> PathBuf {
        let socket = PathBuf::from(text.strip_prefix("unix://").unwrap_or(text));
        if !socket.is_absolute() {
            self.wrong(path, text, "must be unix:///absolute/path");
        }
        socket
    }
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().to_lowercase()
}

/// Reads the URL of a Kubernetes API, or says what it lacks: without a scheme and a host nothing can be dialled.
pub fn api_url(text: &str) -> Result<http::Uri, &'static str> {
    let uri: http::Uri = text.parse().map_err(|_| "must be a URL such as https://10.0.0.5:6443")?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err("must begin with https:// or http://, as in https://10.0.0.5:6443");
    }
    let Some(authority) = uri.authority().filter(|authority| !authority.host().is_empty()) else {
        return Err("must name a host, as in https://10.0.0.5:6443");
    };
    if authority.as_str().contains('@') {
        return Err("must hold no login: credentials belong in the kubeconfig");
    }
    let port = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
    if !port.is_empty() && authority.port_u16().is_none_or(|port| port == 0) {
        return Err("must have a port of 1 to 65535 behind its colon");
    }
    Ok(uri)
}

/// Reads Go's duration text; `None` for anything else and for negative ones.
pub fn go_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at_checked(digits)?;
        let number: f64 = number.parse().ok()?;
        let units =
            [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("h", 3600.0), ("m", 60.0), ("s", 1.0)];
        let (unit, scale) = units.into_iter().find(|(unit, _)| after.starts_with(unit))?;
        total = total.checked_add(Duration::try_from_secs_f64(number * scale).ok()?)?;
        rest = after.strip_prefix(unit)?;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_of_an_api_has_a_scheme_and_a_host() {
        for fine in ["https://10.0.0.5:6443", "http://h", "https://[::1]:6443/below", "https://h.example/"] {
            assert!(api_url(fine).is_ok(), "{fine}");
        }
        for (wrong, told) in [
            ("nonsense", "begin with"),
            ("0", "begin with"),
            ("a=b=c", "URL"),
            ("10.0.0.5:6443", "begin with"),
            ("/no/such", "begin with"),
            ("ftp://h", "begin with"),
            ("https://", "URL"),
            ("https://:6443", "URL"),
            ("https://u:p@h:6443", "login"),
            ("https://h:99999", "URL"),
            ("https://h:", "URL"),
            ("", "URL"),
            ("no url", "URL"),
        ] {
            let refused = api_url(wrong).unwrap_err();
            assert!(
                refused.starts_with("must ") && (told == "URL" || refused.contains(told)),
                "{wrong}: {refused}"
            );
        }
    }

    #[test]
    fn durations_are_gos() {
        assert_eq!(go_duration("1h2m3.5s"), Some(Duration::from_millis(3_723_500)));
        assert_eq!(go_duration("100ms"), Some(Duration::from_millis(100)));
        for bad in ["", "5", "s", "-1s", "1x", "1.2.3s"] {
            assert_eq!(go_duration(bad), None, "{bad}");
        }
    }
}
