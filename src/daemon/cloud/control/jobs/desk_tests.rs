//! The desk over an API of the test's own making, which is away for a while, taken up by others, or asked for jobs that do
//! not exist. Real time: what waits for minutes elsewhere waits for a moment here.

use super::*;
use crate::base::mailbox;
use crate::daemon::cloud::control::Indexes;
use crate::daemon::cloud::hub::Hub;
use crate::daemon::cloud::kubernetes::plain::{Answer, Plain, refusal};
use crate::wire::task::{ActionOutcome, CHECK, PULL};
use http::{Method, Uri};
use std::sync::{Mutex, PoisonError};

const NODE: &str = "n1";
/// How long the API is away, several times what the desk is patient for.
const OUTAGE: Duration = Duration::from_millis(400);

/// What was written, and the calls in their order.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<(Vec<Value>, Vec<String>)>>);

impl Seen {
    fn with<T>(&self, look: impl FnOnce(&mut (Vec<Value>, Vec<String>)) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn written(&self) -> Vec<Value> {
        self.with(|seen| seen.0.clone())
    }
}

fn pull_job(status: &Value) -> Value {
    json!({"metadata": {"name": "j", "uid": "u", "resourceVersion": "5"},
        "spec": {"imagePrePullTemplate": {"images": ["i"], "nodeNames": [NODE]}}, "status": status})
}

fn said(job: &str, action: &str) -> Said {
    let node = NodeName::new(NODE).unwrap();
    let target = JobTarget { kind: JobKind::ImagePrePull, job: job.to_owned(), node: NODE.to_owned() };
    let outcome = ActionOutcome {
        action: action.to_owned(),
        success: true,
        finished: "2026-01-01T00:00:00Z".to_owned(),
        ..ActionOutcome::default()
    };
    Said { node, report: TaskReport::Action { target, outcome } }
}

fn shared(plain: &Plain) -> Arc<Shared> {
    Shared::new(plain.kube.clone(), Hub::channel(4).0, Indexes::default(), None)
}

fn desk(plain: &Plain) -> Desk {
    let gate = Gate::new(None).0;
    Desk::new(shared(plain), Engine::Actions, gate, Duration::from_millis(50))
}

/// A pre-pull that is under way; writes are taken and noted, once `refuse` has nothing against the call.
async fn api(seen: Seen, refuse: impl Fn(&Method, usize) -> Answer + Clone + Send + Sync + 'static) -> Plain {
    Plain::serve_with(move |method: &Method, _: &Uri, body: &[u8]| {
        let calls = seen.with(|seen| {
            seen.1.push(method.to_string());
            seen.1.iter().filter(|one| *one == method.as_str()).count()
        });
        if let Some(no) = refuse(method, calls) {
            return Some(no);
        }
        let mut status = json!({"phase": "InProgress", "nodeStatus": [{"nodeName": NODE, "phase": "InProgress",
            "reason": "ordered at 2026-01-01T00:00:00Z"}]});
        if *method == Method::PATCH {
            let patch: Value = serde_json::from_slice(body).unwrap();
            status = patch["status"].clone();
            seen.with(|seen| seen.0.push(patch));
        }
        Some((200, pull_job(&status)))
    })
    .await
}

#[tokio::test]
async fn a_report_outlasts_an_api_that_is_away() {
    let (seen, began) = (Seen::default(), Instant::now());
    let away = move |_: &Method, _: usize| {
        if began.elapsed() < OUTAGE { refusal(503, "ServiceUnavailable") } else { None }
    };
    let plain = api(seen.clone(), away).await;
    let mut desk = desk(&plain);
    desk.said(said("j", PULL)).await;
    assert!(began.elapsed() >= OUTAGE);
    let written = seen.written();
    let [patch] = written.as_slice() else { panic!("{written:?}") };
    assert_eq!(patch.pointer("/status/nodeStatus/0/phase"), Some(&json!("Successful")), "{patch}");
    assert_eq!(patch.pointer("/status/phase"), Some(&json!("Completed")), "{patch}");
}

#[tokio::test]
async fn a_report_is_written_however_often_others_come_first() {
    let seen = Seen::default();
    let busy = |method: &Method, calls: usize| {
        if *method == Method::PATCH && calls <= 12 { refusal(409, "Conflict") } else { None }
    };
    let plain = api(seen.clone(), busy).await;
    desk(&plain).said(said("j", CHECK)).await;
    let written = seen.written();
    let [patch] = written.as_slice() else { panic!("{written:?}") };
    assert_eq!(patch.pointer("/status/nodeStatus/0/actionFlow/0/action"), Some(&json!("Check")), "{patch}");
}

#[tokio::test]
async fn a_node_that_floods_keeps_no_job_waiting() {
    let (seen, begun) = (Seen::default(), Arc::new(tokio::sync::Notify::new()));
    let (notes, first) = (seen.clone(), begun.clone());
    let plain = Plain::serve_with(move |method: &Method, uri: &Uri, _: &[u8]| {
        let path = uri.path();
        notes.with(|seen| seen.1.push(format!("{method} {path}")));
        if uri.query().is_some_and(|query| query.contains("watch=true")) {
            return None;
        }
        if *method == Method::PATCH {
            first.notify_one();
            return refusal(409, "Conflict");
        }
        let items =
            if path.ends_with("/imageprepulljobs") { vec![pull_job(&Value::Null)] } else { Vec::new() };
        if path.ends_with("/none") {
            return refusal(404, "NotFound");
        }
        Some((200, json!({"metadata": {"resourceVersion": "7"}, "items": items})))
    })
    .await;
    let (reports, mail) = mailbox(2048);
    for _ in 0..2000 {
        reports.try_put(said("none", CHECK)).unwrap();
    }
    let settings = Settings { engine: Engine::Actions, registry_ca: None };
    let mut jobs = Jobs { shared: shared(&plain), mail, settings };
    let stop = Stop::new();
    let run = jobs.run(stop.clone(), Ready::detached("jobs"));
    let until = async {
        let told = tokio::time::timeout(Duration::from_secs(20), begun.notified()).await;
        stop.raise();
        told
    };
    let (ended, told) = tokio::join!(run, until);
    ended.unwrap();
    assert!(told.is_ok(), "the new job is not begun: {:?}", seen.with(|seen| seen.1.len()));
    let calls = seen.with(|seen| seen.1.clone());
    let written = calls.iter().position(|call| call.starts_with("PATCH")).unwrap();
    let asked = calls[..written].iter().filter(|call| call.ends_with("/none")).count();
    assert!(asked <= 200, "{asked} look-ups before the job's first status");
}

#[tokio::test]
async fn what_a_node_reports_beyond_measure_costs_no_call_and_is_counted() {
    let calls = Seen::default();
    let plain = api(calls.clone(), |_, _| refusal(404, "NotFound")).await;
    let mut desk = desk(&plain);
    for _ in 0..1000 {
        desk.said(said("none", CHECK)).await;
    }
    let asked = calls.with(|seen| seen.1.len());
    // A slow machine takes a while for those, in which a few more are allowed.
    assert!((128..500).contains(&asked), "{asked} look-ups");
    let refused = desk.shared.hub.refusals().facts();
    assert_eq!(refused["requests"][NODE]["task report"], json!(1000 - asked), "{refused}");
}
