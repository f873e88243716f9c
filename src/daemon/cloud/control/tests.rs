//! Controllers that lose what they need: the records, the hub, those who report to them. The API is of the test's own
//! making.

use super::super::kubernetes::plain::{Answer, Plain, refusal};
use super::*;
use crate::base::{Ready, Stop};
use crate::daemon::cloud::hub::{NodeLink, Order};
use crate::wire::{Down, LeaseVerb, MessageId};
use http::{Method, Uri};
use serde_json::json;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

const NODE: &str = "n1";

fn node() -> NodeName {
    NodeName::new(NODE).unwrap()
}

/// Lists that are empty, except for one pod of the node; watches on which nothing happens.
fn quiet(_: &Method, uri: &Uri) -> Answer {
    if uri.query().is_some_and(|query| query.contains("watch=true")) {
        return None;
    }
    let pod = json!({"metadata": {"name": "p", "namespace": "default", "uid": "u", "resourceVersion": "5"},
        "spec": {"nodeName": NODE, "containers": []}});
    let items = if uri.path().ends_with("/pods") { vec![pod] } else { Vec::new() };
    Some((200, json!({"metadata": {"resourceVersion": "7"}, "items": items})))
}

/// A hub with one node connected; whoever keeps the receiver keeps it alive.
fn hub() -> (Hub, mpsc::Receiver<Order>, watch::Sender<BTreeMap<NodeName, NodeLink>>) {
    let (hub, orders, links) = Hub::channel(4);
    let link = NodeLink { remote: "127.0.0.1:1".to_owned(), since: 1, queued: 0, digests: false };
    links.send_replace(BTreeMap::from([(node(), link)]));
    (hub, orders, links)
}

fn actions() -> JobSettings {
    JobSettings { engine: JobEngine::Actions, registry_ca: None }
}

#[tokio::test]
async fn without_the_definitions_of_kubeedge_nothing_is_controlled() {
    let plain = Plain::serve(|_, _| refusal(404, "NotFound")).await;
    let wanted = (false, None, actions());
    let made = new(plain.kube.clone(), hub().0, Indexes::default(), None, wanted).await;
    let failure = made.err().unwrap();
    assert_eq!(failure.code, "KE-CLOUD-012");
    failure.is_as_committed();
    assert!(failure.why.contains("the test says NotFound"), "{failure}");
    assert!(failure.fix.contains("kedge.installCRDs") && failure.fix.contains("kedge init"), "{failure:?}");
}

#[tokio::test]
async fn a_controller_whose_hub_has_ended_ends_too() {
    let plain = Plain::serve(quiet).await;
    let (hub, orders, _links) = hub();
    drop(orders);
    let shared = Shared::new(plain.kube.clone(), hub, Indexes::default(), None);
    let (notices, mail) = mailbox(NOTICES);
    notices.put(Notice::Connected(node())).await.unwrap();
    let mut pods = pods::Pods { shared, mail };
    let failure = pods.run(Stop::new(), Ready::detached("pods")).await.unwrap_err();
    assert_eq!(failure.code, "KE-CLOUD-010");
    failure.is_as_committed();
    assert!(failure.why.contains("hub") && failure.fix.contains("kedge status"), "{failure:?}");
}

#[tokio::test]
async fn a_name_is_free_only_once_the_nodes_are_listed() {
    let plain = Plain::serve(quiet).await;
    let (hub, _orders, _links) = hub();
    let indexes = Indexes::default();
    let known = |name| indexes.nodes.lock().unwrap().known(name);
    let shared = Shared::new(plain.kube.clone(), hub, indexes.clone(), None);
    shared.note_node("n2", Some(KnownNode::default()));
    assert_eq!((known("n2"), known("n3")), (Err(NotYet), Err(NotYet)));
    let (_notices, mail) = mailbox(NOTICES);
    let mut nodes = nodes::Nodes { shared: shared.clone(), mail };
    tokio::select! {
        ended = nodes.run(Stop::new(), Ready::detached("nodes")) => panic!("{ended:?}"),
        () = shared.listed(shared::Listed::Nodes) => {}
    }
    assert_eq!((known("n2"), known("n3")), (Ok(Some(KnownNode::default())), Ok(None)));
}

#[tokio::test]
async fn while_the_api_is_away_nobody_waits_to_be_heard() {
    const SAID: usize = 4000;
    // So many are under way or wait for room.
    const KEPT: usize = 512 + 1024;
    let plain = Plain::serve(|_, _| refusal(503, "ServiceUnavailable")).await;
    let (hub, mut orders, _links) = hub();
    let shared = Shared::new(plain.kube.clone(), hub, Indexes::default(), None);
    let (asked, mail) = mailbox(LETTERS);
    let registrations =
        answers::Registrations { notices: Vec::new(), devices: mailbox(1).0, drift: mailbox(1).0 };
    let mut answers = answers::Answers { shared, mail, registrations };
    let saying = async {
        for n in 0..SAID {
            let lease = json!({"metadata": {"name": NODE}});
            let (namespace, name) = ("kube-node-lease".to_owned(), NODE.to_owned());
            let up = Up::Lease { verb: LeaseVerb::Update, namespace, name, lease };
            let question = Question { id: MessageId(n.to_string()), resource: "the lease".to_owned(), up };
            asked.put(Asked { node: node(), question }).await.unwrap();
        }
    };
    let hearing = async {
        for _ in KEPT..SAID {
            let Some(Order::Tell { down, .. }) = orders.recv().await else { panic!("an answer") };
            let Down::Reply { result, .. } = *down else { panic!("an answer") };
            let status = result.unwrap_err();
            assert_eq!((status.code, status.message.as_str()), (503, "the cloud is busy"));
        }
    };
    let both = async { tokio::join!(saying, hearing) };
    tokio::select! {
        ended = answers.run(Stop::new(), Ready::detached("answers")) => panic!("{ended:?}"),
        heard = tokio::time::timeout(Duration::from_secs(10), both) => assert!(heard.is_ok()),
    }
}

#[tokio::test]
async fn a_controller_that_hears_nothing_more_ends_to_begin_anew() {
    let plain = Plain::serve(quiet).await;
    let (hub, _orders, _links) = hub();
    let shared = Shared::new(plain.kube.clone(), hub, Indexes::default(), None);
    let (reports, mail) = mailbox(LETTERS);
    drop(reports);
    let mut jobs = jobs::Jobs { shared, mail, settings: actions() };
    let failure = jobs.run(Stop::new(), Ready::detached("jobs")).await.unwrap_err();
    assert_eq!(failure.code, "KE-CLOUD-011");
    failure.is_as_committed();
    assert!(failure.what.contains("task reports") && !failure.why.is_empty(), "{failure}");
    assert!(failure.fix.contains("kedge bugreport"), "{failure:?}");
}
