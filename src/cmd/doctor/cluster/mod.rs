//! What the cloud side sees through the Kubernetes API: one connection for all, the API itself and the definitions here;
//! papers, nodes, the way of logs and DaemonSets in files of their own. Reads only.

mod daemonsets;
mod logs;
mod nodes;
mod papers;
mod read;

use super::place::Place;
use crate::base::deepest;
use crate::daemon::cloud;
use crate::host::check::{Check, Cost, Finding, Group};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ListParams};
use papers::SERVED;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

const CALL: Duration = Duration::from_secs(5);
const EDGE_LABEL: &str = "node-role.kubernetes.io/edge";
const NO_API: &[&str] = &["KE-KUBE-010"];
/// What kedge is tested against.
const OLDEST: (u32, u32) = (1, 30);
/// The groups whose definitions the cloud brings.
const GROUPS: [&str; 5] = [
    "apps.kubeedge.io",
    "devices.kubeedge.io",
    "operations.kubeedge.io",
    "reliablesyncs.kubeedge.io",
    "rules.kubeedge.io",
];

type Connected = Result<kube::Client, String>;
type Connecting = Shared<BoxFuture<'static, Connected>>;

pub(super) fn checks(place: &Arc<Place>) -> Vec<Check> {
    let file = place.kubeconfig.clone();
    let connecting: Connecting = connect(file).boxed().shared();
    let look = |id: &'static str,
                group: Group,
                name: &'static str,
                judge: fn(kube::Client) -> BoxFuture<'static, Vec<Finding>>| {
        let connecting = connecting.clone();
        let check = Check::asking(id, group, name, async move {
            match connecting.await {
                Ok(client) => judge(client).await,
                Err(_) => vec![Finding::skipped(id, name, "because of KE-KUBE-010")],
            }
        });
        check.cost(Cost::Large).after(NO_API)
    };
    let api = connecting.clone();
    let advertised = place.cloud.as_ref().map(|cloud| cloud.hub.advertise.clone()).unwrap_or_default();
    let (certificates, reloading) = (connecting.clone(), connecting.clone());
    let serving = place.daemon.as_ref().and(place.cloud.as_ref()).map(|cloud| cloud.hub.websocket);
    vec![
        Check::asking("KE-KUBE-010", Group::Network, "Kubernetes API", async move {
            vec![version(api.await).await]
        })
        .cost(Cost::Large),
        look("KE-CRD-010", Group::Network, "definitions", |client| definitions(client).boxed()),
        Check::asking("KE-CERT-030", Group::Identity, "Secrets", async move {
            match certificates.await {
                Ok(client) => papers::secrets(client, advertised).await,
                Err(_) => vec![Finding::skipped("KE-CERT-030", "Secrets", "because of KE-KUBE-010")],
            }
        })
        .cost(Cost::Large)
        .also(&["KE-CERT-031", "KE-CERT-032", "KE-TOKEN-021"])
        .after(NO_API),
        Check::asking("KE-CERT-033", Group::Identity, SERVED, async move {
            match reloading.await {
                Ok(client) => vec![papers::reloaded(client, serving).await],
                Err(_) => vec![Finding::skipped("KE-CERT-033", SERVED, "because of KE-KUBE-010")],
            }
        })
        .cost(Cost::Large)
        .after(NO_API),
        look("KE-NODE-010", Group::CloudLink, "edge nodes", |client| nodes::nodes(client).boxed())
            .also(&["KE-DUP-002", "KE-SKEW-002"]),
        look("KE-STREAM-001", Group::CloudLink, "logs through the tunnel", |client| {
            logs::stream(client).boxed()
        }),
        look("KE-STREAM-013", Group::CloudLink, "the API server's way to nodes", |client| {
            logs::way(client).boxed()
        }),
        look("KE-SCHED-001", Group::Workloads, "cloud-only DaemonSets", |client| {
            daemonsets::scheduled(client).boxed()
        }),
    ]
}

async fn connect(file: Option<PathBuf>) -> Connected {
    crate::pki::install_crypto_provider();
    let file = file.ok_or_else(|| "no kubeconfig is known; name one with --kube-config".to_owned())?;
    let config =
        cloud::kubeconfig(&file).await.map_err(|refused| format!("{}: {}", file.display(), refused.why))?;
    kube::Client::try_from(config).map_err(|error| format!("{}: {error}", file.display()))
}

async fn within<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, String> {
    match tokio::time::timeout(CALL, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) => Err(status.message.clone()),
        Ok(Err(error)) => Err(deepest(&error)),
        Err(_) => Err(format!("no answer within {} s", CALL.as_secs())),
    }
}

/// Whether the API refused because of the account, which says nothing of the cluster: that of a cloud may not look
/// everywhere.
fn is_forbidden(error: &str) -> bool {
    error.contains(" is forbidden: ")
}

fn not_for_this_account(code: &'static str, name: impl Into<String>) -> Finding {
    Finding::skipped(code, name, "this kubeconfig's account may not look")
        .fix("kedge doctor --kube-config FILE, with an administrator's")
}

fn unasked(code: &'static str, name: &'static str, error: String) -> Finding {
    if is_forbidden(&error) {
        return not_for_this_account(code, name);
    }
    Finding::failed(code, name, error)
        .because("the API refused the question; the account of the kubeconfig may not read this")
        .fix("kubectl auth can-i --list")
}

async fn version(connected: Connected) -> Finding {
    let (code, name) = ("KE-KUBE-010", "Kubernetes API");
    let fix = "kubectl --kubeconfig FILE version, with the file that kedge uses";
    let client = match connected {
        Ok(client) => client,
        Err(error) => {
            return Finding::failed(code, name, error)
                .because("the cloud does everything through this API")
                .fix(fix);
        }
    };
    let started = Instant::now();
    match within(client.apiserver_version()).await {
        Ok(info) => judge_version(&info.major, &info.minor, &info.git_version, started.elapsed()),
        Err(error) => {
            Finding::failed(code, name, error).because("the cloud does everything through this API").fix(fix)
        }
    }
}

fn judge_version(major: &str, minor: &str, text: &str, took: Duration) -> Finding {
    let (code, name) = ("KE-KUBE-010", "Kubernetes API");
    let seen = format!("{text} in {} ms", took.as_millis());
    let number = |text: &str| text.trim_end_matches('+').parse::<u32>().unwrap_or(0);
    if (number(major), number(minor)) < OLDEST {
        return Finding::warning(code, name, seen)
            .because(format!("kedge is made for Kubernetes {}.{} and newer", OLDEST.0, OLDEST.1))
            .fix("upgrade the control plane");
    }
    Finding::fine(code, name, seen)
}

async fn definitions(client: kube::Client) -> Vec<Finding> {
    let (code, name) = ("KE-CRD-010", "definitions");
    let api: Api<CustomResourceDefinition> = Api::all(client);
    match within(api.list_metadata(&ListParams::default())).await {
        Ok(list) => {
            let names: Vec<String> = list.items.into_iter().filter_map(|item| item.metadata.name).collect();
            vec![judge_definitions(&names)]
        }
        Err(error) => vec![unasked(code, name, error)],
    }
}

fn judge_definitions(names: &[String]) -> Finding {
    let (code, title) = ("KE-CRD-010", "definitions");
    let of = |group: &str| {
        names.iter().filter(|name| name.split_once('.').is_some_and(|(_, rest)| rest == group)).count()
    };
    let missing: Vec<&str> = GROUPS.into_iter().filter(|group| of(group) == 0).collect();
    if missing.is_empty() {
        let all: usize = GROUPS.into_iter().map(of).sum();
        return Finding::fine(code, title, format!("{all} of KubeEdge's kinds"));
    }
    Finding::failed(code, title, format!("none of {}", missing.join(", ")))
        .because("devices, jobs and rules have no place in this cluster")
        .fix("kedge init")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::check::State;

    #[test]
    fn old_kubernetes_is_told() {
        let state = |minor| judge_version("1", minor, "v1", Duration::ZERO).state;
        assert_eq!((state("32"), state("30+"), state("28")), (State::Fine, State::Fine, State::Warning));
    }

    #[test]
    fn missing_definitions_are_named_by_group() {
        let all: Vec<String> = GROUPS.into_iter().map(|group| format!("things.{group}")).collect();
        assert_eq!(judge_definitions(&all).seen, "5 of KubeEdge's kinds");
        let few = judge_definitions(&all[1..]);
        assert_eq!((few.state, few.seen.as_str()), (State::Failed, "none of apps.kubeedge.io"));
    }

    #[tokio::test]
    async fn without_a_kubeconfig_the_api_is_a_failure() {
        assert_eq!(version(connect(None).await).await.state, State::Failed);
    }

    #[test]
    fn an_account_that_may_not_look_is_no_failure() {
        let account =
            "pods \"p\" is forbidden: User \"system:serviceaccount:kubeedge:kedge-cloud\" cannot get";
        let asked = |error: &str| unasked("KE-CRD-010", "definitions", error.to_owned()).state;
        assert_eq!((asked(account), asked("no answer within 5 s")), (State::Skipped, State::Failed));
    }
}
