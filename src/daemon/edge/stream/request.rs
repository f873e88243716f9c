//! What a connect frame asks for. Pure.

use crate::wire::tunnel::Connect;

/// A request for a container's log, as `kubectl logs` makes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogRequest {
    pub namespace: String,
    pub pod: String,
    pub container: String,
    pub follow: bool,
    /// The last lines only.
    pub tail: Option<u64>,
    pub since_seconds: Option<i64>,
    /// RFC 3339.
    pub since_time: Option<String>,
    pub timestamps: bool,
    /// Of the container's former run.
    pub previous: bool,
    pub limit_bytes: Option<u64>,
}

/// The header in which the cloud says how many frames may be under way.
pub(super) const WINDOW_HEADER: &str = "Kedge-Window";

/// The window that the cloud gives; a KubeEdge cloud gives none.
pub(super) fn window(connect: &Connect) -> Option<usize> {
    connect.header.get(WINDOW_HEADER)?.first()?.parse().ok().filter(|window| (1..=4096).contains(window))
}

/// Reads path and query; `None` when they do not name a container's log.
pub(super) fn logs(connect: &Connect) -> Option<LogRequest> {
    let rest = connect.url.path.strip_prefix("/containerLogs/")?;
    let mut parts = rest.split('/').map(decoded);
    let (namespace, pod, container) = (parts.next()??, parts.next()??, parts.next()??);
    let plain = |text: &str| !text.is_empty() && text != "." && text != ".." && !text.contains('/');
    if parts.next().is_some() || ![&namespace, &pod, &container].into_iter().all(|text| plain(text)) {
        return None;
    }
    let mut request = LogRequest { namespace, pod, container, ..LogRequest::default() };
    for pair in connect.url.raw_query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decoded(value)?;
        let yes = matches!(value.as_str(), "true" | "1" | "True" | "t");
        match name {
            "follow" => request.follow = yes,
            "timestamps" => request.timestamps = yes,
            "previous" => request.previous = yes,
            "tailLines" | "tail" => request.tail = value.parse().ok(),
            "sinceSeconds" => request.since_seconds = value.parse().ok(),
            "sinceTime" => request.since_time = Some(value),
            "limitBytes" => request.limit_bytes = value.parse().ok(),
            _ => {}
        }
    }
    Some(request)
}

/// A request for what the node and its pods use, as metrics-server and Prometheus make it. Who answers knows the paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetricRequest {
    pub path: String,
    pub query: String,
}

pub(super) fn metrics(connect: Connect) -> MetricRequest {
    MetricRequest { path: connect.url.path, query: connect.url.raw_query }
}

/// A session with a container or a pod, as `kubectl exec`, `attach` and `port-forward` ask for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionRequest {
    pub namespace: String,
    pub pod: String,
    /// Empty to forward ports of the pod.
    pub container: String,
    /// Empty to attach.
    pub command: Vec<String>,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

/// Reads path and query; `None` when they do not name a session. A pod's uid may stand before the container.
pub(super) fn session(connect: &Connect) -> Option<SessionRequest> {
    let path = &connect.url.path;
    let parts: Vec<String> = path.strip_prefix('/')?.split('/').map(decoded).collect::<Option<_>>()?;
    if parts.iter().any(|text| text.is_empty() || text.contains('/')) {
        return None;
    }
    let (verb, names) = parts.split_first()?;
    let (namespace, pod, container) = match (verb.as_str(), names) {
        ("exec" | "attach", [namespace, pod, container] | [namespace, pod, _, container]) => {
            (namespace, pod, container)
        }
        ("portForward", [namespace, pod] | [namespace, pod, _]) => {
            let (namespace, pod) = (namespace.clone(), pod.clone());
            return Some(SessionRequest { namespace, pod, ..SessionRequest::default() });
        }
        _ => return None,
    };
    let (namespace, pod, container) = (namespace.clone(), pod.clone(), container.clone());
    let mut request = SessionRequest { namespace, pod, container, ..SessionRequest::default() };
    for pair in connect.url.raw_query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decoded(value)?;
        let yes = matches!(value.as_str(), "true" | "1");
        match name {
            "command" => request.command.push(value),
            "input" | "stdin" => request.stdin = yes,
            "output" | "stdout" => request.stdout = yes,
            "error" | "stderr" => request.stderr = yes,
            "tty" => request.tty = yes,
            _ => {}
        }
    }
    ((verb == "exec") != request.command.is_empty()).then_some(request)
}

fn decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
                u8::try_from(high * 16 + low).ok()?
            }
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_of_kubectl_is_read() {
        let query = "follow=true&tailLines=10&sinceTime=2026-01-01T00%3A00%3A00Z&timestamps=true";
        let request = logs(&Connect::new(1, "/containerLogs/default/web-1/nginx", query)).unwrap();
        let expected = LogRequest {
            namespace: "default".to_owned(),
            pod: "web-1".to_owned(),
            container: "nginx".to_owned(),
            follow: true,
            tail: Some(10),
            since_time: Some("2026-01-01T00:00:00Z".to_owned()),
            timestamps: true,
            ..LogRequest::default()
        };
        assert_eq!(request, expected);
    }

    #[test]
    fn a_session_of_kubectl_is_read() {
        let query = "command=sh&command=-c&command=echo+out%3B+exit+3&error=1&output=1";
        let request = session(&Connect::new(1, "/exec/default/web-1/c", query)).unwrap();
        assert_eq!(request.command, ["sh", "-c", "echo out; exit 3"]);
        assert_eq!((request.stdin, request.stdout, request.stderr, request.tty), (false, true, true, false));
        let attach = session(&Connect::new(1, "/attach/d/p/uid-1/c", "input=1&tty=true")).unwrap();
        assert_eq!((attach.container.as_str(), attach.stdin, attach.tty), ("c", true, true));
        for (path, query) in [
            ("/exec/d/p/c", ""),
            ("/attach/d/p/c", "command=sh"),
            ("/exec/d/p", "command=sh"),
            ("/run/d/p/c", ""),
        ] {
            assert_eq!(session(&Connect::new(1, path, query)), None, "{path}");
        }
    }

    #[test]
    fn other_paths_are_refused() {
        let paths = [
            "/exec/d/p/c",
            "/containerLogs/d/p",
            "/containerLogs/d/p/c/e",
            "/containerLogs/../p/c",
            "/containerLogs/d/%2e%2e/c",
            "http://x/containerLogs/d/p/c",
        ];
        for path in paths {
            assert_eq!(logs(&Connect::new(1, path, "")), None, "{path}");
        }
        assert_eq!(logs(&Connect::new(1, "/containerLogs/d/p/c", "tailLines=%zz")), None);
    }
}
