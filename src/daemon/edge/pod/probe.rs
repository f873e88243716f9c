//! Probes and lifecycle hooks of running containers. One task per container with probes; it tells the worker verdicts,
//! never acts itself. Startup holds the others back; liveness and readiness then run side by side.

use super::ask;
use crate::cri::Runtime;
use k8s_openapi::api::core::v1::{Container, ExecAction, HTTPGetAction, LifecycleHandler, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    Started,
    Ready(bool),
    /// Liveness or startup failed for good, with the last complaint.
    Unhealthy(String),
}

/// A finding and the container that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub container: String,
    pub id: String,
    pub finding: Finding,
}

/// The container that is probed.
#[derive(Clone)]
pub(super) struct Target {
    pub runtime: Runtime,
    pub name: String,
    pub id: String,
    /// The pod's address; the machine's own for a pod in its network.
    pub ip: String,
    /// Named ports of the container.
    pub ports: Vec<(String, u16)>,
    /// For how long it has been running.
    pub age: Duration,
}

/// The probes of a container.
#[derive(Clone)]
pub(super) struct Probes {
    startup: Option<Probe>,
    liveness: Option<Probe>,
    readiness: Option<Probe>,
}

impl Probes {
    /// `None` when the container has none.
    pub fn of(container: &Container) -> Option<Probes> {
        let probes = Probes {
            startup: container.startup_probe.clone(),
            liveness: container.liveness_probe.clone(),
            readiness: container.readiness_probe.clone(),
        };
        let any = probes.startup.is_some() || probes.liveness.is_some() || probes.readiness.is_some();
        any.then_some(probes)
    }
}

pub(super) fn named_ports(container: &Container) -> Vec<(String, u16)> {
    let ports = container.ports.iter().flatten();
    ports.filter_map(|port| Some((port.name.clone()?, u16::try_from(port.container_port).ok()?))).collect()
}

/// Probes until the worker drops the receiver or the task is ended with its crew.
pub(super) async fn watch(target: Target, probes: Probes, verdicts: mpsc::Sender<Verdict>) {
    let say = |finding| Verdict { container: target.name.clone(), id: target.id.clone(), finding };
    if let Some(startup) = &probes.startup {
        let mut series = Series::new(startup, target.age);
        loop {
            match series.next(&target).await {
                Some(Outcome { ok: true, .. }) => break,
                Some(Outcome { complaint, .. }) => {
                    drop(
                        verdicts
                            .send(say(Finding::Unhealthy(format!("startup probe failed: {complaint}"))))
                            .await,
                    );
                    return;
                }
                None => {}
            }
        }
    }
    if verdicts.send(say(Finding::Started)).await.is_err() {
        return;
    }
    let liveness = async {
        let Some(probe) = &probes.liveness else { return };
        let mut series = Series::new(probe, target.age);
        loop {
            if let Some(Outcome { ok: false, complaint }) = series.next(&target).await {
                drop(
                    verdicts
                        .send(say(Finding::Unhealthy(format!("liveness probe failed: {complaint}"))))
                        .await,
                );
                return;
            }
        }
    };
    let readiness = async {
        let Some(probe) = &probes.readiness else { return };
        let mut series = Series::new(probe, target.age);
        loop {
            if let Some(outcome) = series.next(&target).await
                && verdicts.send(say(Finding::Ready(outcome.ok))).await.is_err()
            {
                return;
            }
        }
    };
    tokio::join!(liveness, readiness);
}

struct Outcome {
    ok: bool,
    complaint: String,
}

/// One probe's repetitions: a verdict changes only after as many equal results as its threshold says.
struct Series<'a> {
    probe: &'a Probe,
    due: Instant,
    said: Option<bool>,
    run: u32,
    last: Option<bool>,
}

impl<'a> Series<'a> {
    fn new(probe: &'a Probe, age: Duration) -> Self {
        let delay = seconds(probe.initial_delay_seconds, 0).saturating_sub(age);
        Series { probe, due: Instant::now() + delay, said: None, run: 0, last: None }
    }

    /// Waits for the next probe; a changed verdict, or `None` when it is as before.
    async fn next(&mut self, target: &Target) -> Option<Outcome> {
        tokio::time::sleep_until(self.due).await;
        let limit = seconds(self.probe.timeout_seconds, 1);
        let result = check(self.probe, target, limit).await;
        self.due = Instant::now() + seconds(self.probe.period_seconds, 10);
        let ok = result.is_ok();
        self.run = if self.last == Some(ok) { self.run.saturating_add(1) } else { 1 };
        self.last = Some(ok);
        let threshold = if ok {
            self.probe.success_threshold.unwrap_or(1)
        } else {
            self.probe.failure_threshold.unwrap_or(3)
        };
        if self.run < u32::try_from(threshold).unwrap_or(1) || self.said == Some(ok) {
            return None;
        }
        self.said = Some(ok);
        Some(Outcome { ok, complaint: result.err().unwrap_or_default() })
    }
}

fn seconds(value: Option<i32>, default: u64) -> Duration {
    Duration::from_secs(
        value.and_then(|value| u64::try_from(value).ok()).filter(|v| *v > 0).unwrap_or(default),
    )
}

async fn check(probe: &Probe, target: &Target, limit: Duration) -> Result<(), String> {
    if let Some(action) = &probe.exec {
        return exec(target, action, limit).await;
    }
    let network = async {
        if let Some(action) = &probe.http_get {
            http_get(target, action).await
        } else if let Some(action) = &probe.tcp_socket {
            let host = host(action.host.as_deref(), target);
            ask::connect(host, port(&action.port, target)?).await.map(drop)
        } else if let Some(action) = &probe.grpc {
            let port = u16::try_from(action.port).map_err(|_| "the port is out of range".to_owned())?;
            ask::grpc(&target.ip, port, action.service.as_deref().unwrap_or_default()).await
        } else {
            Err("the probe has no action".to_owned())
        }
    };
    match tokio::time::timeout(limit, network).await {
        Ok(result) => result,
        Err(_) => Err(format!("no answer within {} s", limit.as_secs())),
    }
}

/// Carries out a lifecycle hook.
pub(super) async fn hook(handler: &LifecycleHandler, target: &Target, limit: Duration) -> Result<(), String> {
    let work = async {
        if let Some(action) = &handler.exec {
            exec(target, action, limit).await
        } else if let Some(action) = &handler.http_get {
            http_get(target, action).await
        } else if let Some(action) = &handler.sleep {
            tokio::time::sleep(Duration::from_secs(u64::try_from(action.seconds).unwrap_or(0))).await;
            Ok(())
        } else {
            Ok(())
        }
    };
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(format!("not done within {} s", limit.as_secs())),
    }
}

async fn exec(target: &Target, action: &ExecAction, limit: Duration) -> Result<(), String> {
    let command = action.command.clone().unwrap_or_default();
    match target.runtime.exec_sync(&target.id, command, limit).await {
        Ok(answer) if answer.exit_code == 0 => Ok(()),
        Ok(answer) => {
            let output = if answer.stderr.is_empty() { answer.stdout } else { answer.stderr };
            let text =
                String::from_utf8_lossy(output.get(..output.len().min(512)).unwrap_or_default()).into_owned();
            Err(format!("the command ended with {}: {}", answer.exit_code, text.trim()))
        }
        Err(error) => Err(error.to_string()),
    }
}

fn port(port: &IntOrString, target: &Target) -> Result<u16, String> {
    match port {
        IntOrString::Int(number) => u16::try_from(*number).map_err(|_| format!("{number} is no port")),
        IntOrString::String(name) => {
            let named = target.ports.iter().find(|(known, _)| known == name).map(|(_, number)| *number);
            named.or_else(|| name.parse().ok()).ok_or_else(|| format!("the container has no port {name}"))
        }
    }
}

async fn http_get(target: &Target, action: &HTTPGetAction) -> Result<(), String> {
    let host = host(action.host.as_deref(), target);
    ask::http_get(host, port(&action.port, target)?, action).await
}

fn host<'a>(named: Option<&'a str>, target: &'a Target) -> &'a str {
    named.filter(|host| !host.is_empty()).unwrap_or(&target.ip)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    fn target() -> Target {
        Target {
            runtime: Runtime::new("/nonexistent"),
            name: "c".into(),
            id: "id".into(),
            ip: "127.0.0.1".into(),
            ports: vec![("web".into(), 80)],
            age: Duration::ZERO,
        }
    }

    fn probe(value: Value) -> Probe {
        serde_json::from_value(value).unwrap()
    }

    #[tokio::test]
    async fn an_http_status_decides() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut crew = crate::base::Crew::new();
        crew.spawn(async move {
            for status in ["200 OK", "500 Bad"] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut buffer = [0; 512];
                let _read = stream.read(&mut buffer).await.unwrap();
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let probe = probe(json!({"httpGet": {"path": "/", "port": port}}));
        assert_eq!(check(&probe, &target(), Duration::from_secs(5)).await, Ok(()));
        let refused = check(&probe, &target(), Duration::from_secs(5)).await;
        assert_eq!(refused, Err("HTTP status 500".to_owned()));
    }

    #[tokio::test]
    async fn an_open_port_alone_is_no_answer_to_a_grpc_probe() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let limit = Duration::from_secs(1);
        let grpc = probe(json!({"grpc": {"port": port}}));
        assert!(check(&grpc, &target(), limit).await.is_err());
        let tls = probe(json!({"httpGet": {"port": port, "scheme": "HTTPS"}}));
        assert!(check(&tls, &target(), limit).await.is_err());
        let tcp = probe(json!({"tcpSocket": {"port": port}}));
        assert_eq!(check(&tcp, &target(), limit).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_verdict_needs_as_many_results_as_the_threshold() {
        let probe = probe(json!({"exec": {"command": ["x"]}, "failureThreshold": 2, "periodSeconds": 1}));
        let mut series = Series::new(&probe, Duration::ZERO);
        assert!(series.next(&target()).await.is_none());
        assert!(series.next(&target()).await.is_some_and(|outcome| !outcome.ok));
        assert!(series.next(&target()).await.is_none());
    }

    #[tokio::test]
    async fn ports_are_found_by_name_or_number() {
        assert_eq!(port(&IntOrString::String("web".into()), &target()), Ok(80));
        assert_eq!(port(&IntOrString::Int(8080), &target()), Ok(8080));
        assert!(port(&IntOrString::String("no".into()), &target()).is_err());
        assert!(port(&IntOrString::Int(70_000), &target()).is_err());
    }
}
