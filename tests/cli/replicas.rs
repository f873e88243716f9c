//! Two clouds against one Kubernetes API and nodes that move from one to the other, as a load balancer moves them: one
//! authority, everything once, records that both agree on.

use crate::support::edgecore::{Edgecore, Times, Version, enrol, join};
use crate::support::eventually;
use crate::support::letter::text;
use crate::support::machine::signal;
use crate::support::relay::Relay;
use crate::support::replica::{EdgeFile, Replica};
use crate::support::world::{Daemon, World};
use kedge::base::Failure;
use kedge::daemon::edge::uplink::{Enrolled, Enrolment, Files, enrol as enrol_edge};
use kedge::model::NodeName;
use kedge::pki::{install_crypto_provider, unverified_client_config};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(40);

/// Two clouds that run, beside the one that serves the API.
struct Pair {
    clouds: [Replica; 2],
    running: [Daemon; 3],
    token: String,
    world: World,
}

impl Pair {
    fn new(name: &str) -> Pair {
        install_crypto_provider();
        let world = World::new(name);
        let api = world.cloud();
        let clouds = ["first", "second"].map(|name| Replica::new(&world, name));
        // At once, as a Deployment starts them.
        let mut running = [clouds[0].spawn(&world), clouds[1].spawn(&world)];
        for cloud in &mut running {
            cloud.wait_for("ready", SOON);
        }
        let [first, second] = running;
        let token = world.kedge(&["gettoken"]).stdout.trim().to_owned();
        Pair { clouds, running: [api, first, second], token, world }
    }

    fn pod(&self, node: &str, name: &str) {
        self.world.apply(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{nodeName: {node}, containers: [{{name: c, image: x, envFrom: [{{configMapRef: {{name: settings}}}}]}}]}}\n"
        ));
    }

    fn settings(&self, value: &str) {
        self.world.apply(&format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: settings}}\ndata: {{k: {value:?}}}\n"
        ));
    }

    fn label(&self, pod: &str) {
        self.world.kubectl_ok(&["label", "--overwrite", "pod", pod, "mark=set"]);
    }

    /// What the API records of a node: name of the object, its revision.
    fn records(&self, node: &str) -> BTreeMap<String, String> {
        let list = self.world.get(&["objectsyncs", "-n", "default"]);
        let items = list["items"].as_array().unwrap().iter();
        let of_node = items.filter(|sync| text(sync, "/metadata/name").starts_with(&format!("{node}.")));
        let about = |sync: &Value| {
            let object = format!("{}/{}", text(sync, "/spec/objectKind"), text(sync, "/spec/objectName"));
            (object, text(sync, "/status/objectResourceVersion").to_owned())
        };
        of_node.map(about).collect()
    }

    #[track_caller]
    fn recorded(&self, edge: &Edgecore) {
        eventually("the records agree with what the node has", SOON, || {
            let (records, wanted) = (self.records("gen"), given(edge));
            if records == wanted { Ok(()) } else { Err((records, wanted)) }
        });
    }
}

/// The revisions of pods and ConfigMaps in which the node was given them last; answers to its own reports do not count.
fn given(edge: &Edgecore) -> BTreeMap<String, String> {
    edge.with_state(|state| {
        let mut last = BTreeMap::new();
        for message in &state.heard {
            let is_answer = !text(message, "/header/parent_msg_id").is_empty();
            let path: Vec<&str> = text(message, "/route/resource").split('/').collect();
            let object = match path.as_slice() {
                ["default", "pod", name] if !is_answer => format!("Pod/{name}"),
                ["default", "configmap", name] => format!("ConfigMap/{name}"),
                _ => continue,
            };
            last.insert(object, text(message, "/header/resourceversion").to_owned());
        }
        last
    })
}

/// What was pushed since the given message, without the node's own Node. What is sent again under its id counts once.
fn pushed(edge: &Edgecore, since: usize) -> Vec<String> {
    edge.with_state(|state| {
        let mut ids = BTreeSet::new();
        let pushes = state.heard[since..]
            .iter()
            .filter(|message| text(message, "/header/parent_msg_id").is_empty())
            .filter(|message| ids.insert(text(message, "/header/msg_id").to_owned()));
        let own = |path: &&str| !path.contains("/node/") && !path.starts_with("membership");
        pushes.map(|message| text(message, "/route/resource")).filter(own).map(str::to_owned).collect()
    })
}

#[test]
fn the_replicas_have_one_authority() {
    let pair = Pair::new("replicas-ca");
    let anyone = unverified_client_config().unwrap();
    let ports = [pair.world.ports.cert, pair.clouds[0].cert, pair.clouds[1].cert];
    let served = ports.map(|port| enrol::get(port, "/ca.crt", &anyone, &[], &[]).1);
    assert!(!served[0].is_empty());
    assert!(served.iter().all(|ca| *ca == served[0]));
    // A certificate of one is good at the other.
    let edge = join(pair.clouds[0].cert, "gen", &pair.token).unwrap();
    let edge = edge.renew(pair.clouds[1].cert).unwrap();
    let edge = Edgecore::with(edge, pair.clouds[1].hub, Version::V1_23, Times::faster(20));
    edge.wait("registered", |state| state.registered.then_some(()));
}

#[test]
fn an_edgecore_that_moves_between_replicas_gets_everything_once() {
    let pair = Pair::new("replicas-edgecore");
    let relay = Relay::to(pair.clouds[0].hub);
    let identity = join(pair.clouds[0].cert, "gen", &pair.token).unwrap();
    let edge = Edgecore::with(identity, relay.port, Version::V1_23, Times::faster(20));
    edge.wait("registered", |state| state.registered.then_some(()));
    pair.settings("1");
    for name in ["one", "two", "three"] {
        pair.pod("gen", name);
        pair.world.wait_value(&["pod", name], "/status/phase", &json!("Running"), SOON);
    }
    pair.recorded(&edge);

    // What changes while it is between the two comes once, and nothing else does.
    relay.point_at(0);
    edge.wait("away", |state| (!state.connected).then_some(()));
    let since = edge.with_state(|state| state.heard.len());
    pair.pod("gen", "four");
    pair.settings("2");
    relay.point_at(pair.clouds[1].hub);
    edge.wait("at the second cloud", |state| (state.connections >= 2 && state.connected).then_some(()));
    pair.world.wait_value(&["pod", "four"], "/status/phase", &json!("Running"), SOON);
    pair.label("one");
    edge.wait("the last change", |state| {
        (text(state.db.get("default/pod/one")?, "/metadata/labels/mark") == "set").then_some(())
    });
    let mut told = pushed(&edge, since);
    told.sort();
    assert_eq!(told, ["default/configmap/settings", "default/pod/four", "default/pod/one"]);
    pair.recorded(&edge);

    // And back, with nothing changed meanwhile: the first cloud knows what the second has told.
    let (since, before) = edge.with_state(|state| (state.heard.len(), state.connections));
    relay.point_at(pair.clouds[0].hub);
    edge.wait("at the first cloud", |state| (state.connections > before && state.connected).then_some(()));
    pair.label("two");
    edge.wait("the last change", |state| {
        (text(state.db.get("default/pod/two")?, "/metadata/labels/mark") == "set").then_some(())
    });
    assert_eq!(pushed(&edge, since), ["default/pod/two"]);
    pair.recorded(&edge);
}

/// The objects that a cloud has found lacking at nodes, in order; a node that holds too much fails the test.
fn mended(world: &World, cloud: &str) -> Vec<String> {
    let log = world.whole_log(&format!("{cloud}.err"));
    let lines = log.lines().filter(|line| line.contains("what the node holds is mended"));
    let lacking = lines.flat_map(|line| {
        assert!(line.contains("surplus=0"), "{line}");
        let named = line.split("first=").nth(1).unwrap_or_default().trim_matches('"');
        named.split(' ').map(str::to_owned).collect::<Vec<_>>()
    });
    lacking.collect()
}

#[test]
fn a_kedge_edge_that_moves_between_replicas_gets_everything_once() {
    let pair = Pair::new("replicas-edge");
    let relay = Relay::to(pair.clouds[0].hub);
    let file = EdgeFile {
        node: "edge-2",
        hub: relay.port,
        cert: pair.clouds[0].cert,
        mqtt: pair.world.ports.mqtt,
        token: Some(&pair.token),
    };
    let _edge = file.start(&pair.world);
    pair.world.wait_value(&["node", "edge-2"], "/metadata/name", &json!("edge-2"), SOON);
    let db = pair.world.dir.join("edge-2/edgecore.db").display().to_string();
    let held = || -> BTreeMap<String, String> {
        let listed = crate::support::kedge(&["meta", "list", "--db", &db, "--type", "pod", "-o", "json"]);
        let listed: Value = serde_json::from_str(&listed.stdout).unwrap_or_else(|_| panic!("{listed:?}"));
        let rows = listed.pointer("/items").and_then(Value::as_array).cloned().unwrap_or_default();
        let one = |row: &Value| {
            let name = text(row, "/value/metadata/name");
            (format!("Pod/{name}"), text(row, "/value/metadata/resourceVersion").to_owned())
        };
        rows.iter().map(one).collect()
    };
    // It holds the authority of the cluster too.
    let recorded = || {
        eventually("the records agree with what the node has", SOON, || {
            let mut records = pair.records("edge-2");
            records.retain(|object, _| object.starts_with("Pod/"));
            let held = held();
            if records == held { Ok(()) } else { Err((records, held)) }
        });
    };
    let connected = |cloud: &str, times: usize| {
        eventually(&format!("the node is at {cloud}"), SOON, || {
            let log = pair.world.whole_log(&format!("{cloud}.err"));
            let seen = log.matches("the node is connected").count();
            if seen >= times { Ok(()) } else { Err(seen) }
        });
    };
    for name in ["one", "two", "three"] {
        pair.pod("edge-2", name);
    }
    eventually("the pods are stored", SOON, || if held().len() == 3 { Ok(()) } else { Err(held()) });
    recorded();

    relay.point_at(0);
    pair.pod("edge-2", "four");
    pair.label("one");
    relay.point_at(pair.clouds[1].hub);
    connected("second", 1);
    eventually("the new pod is stored", SOON, || if held().len() == 4 { Ok(()) } else { Err(held()) });
    recorded();
    // The pods refer to the authority of the cluster, for which a node without a runtime has not asked.
    eventually("the authority of the cluster is stored", SOON, || {
        let maps = ["meta", "list", "--db", &db, "--type", "configmap", "-o", "json"];
        let listed = crate::support::kedge(&maps);
        if listed.stdout.contains("kube-root-ca.crt") { Ok(()) } else { Err(listed) }
    });
    // A comparison may have begun again, and a change may come by itself before it.
    let mut lacking = mended(&pair.world, "second");
    lacking.sort();
    lacking.dedup();
    let expected = ["default/configmap/kube-root-ca.crt", "default/pod/four", "default/pod/one"];
    assert!(lacking.iter().all(|object| expected.contains(&object.as_str())), "{lacking:?}");

    let before = mended(&pair.world, "first");
    relay.point_at(pair.clouds[0].hub);
    connected("first", 2);
    pair.pod("edge-2", "five");
    eventually("the next pod is stored", SOON, || if held().len() == 5 { Ok(()) } else { Err(held()) });
    recorded();
    // The comparison may be what brings the next pod.
    let mut since = mended(&pair.world, "first").split_off(before.len());
    since.retain(|object| object != "default/pod/five");
    assert_eq!(since, Vec::<String>::new());
}

/// Gets a certificate for a node of this machine.
fn enrolled(world: &World, node: &str, cert: u16, token: &str) -> Result<Enrolled, Failure> {
    let at = |name: &str| world.dir.join(node).join(name);
    let wanted = Enrolment {
        node: NodeName::new(node).unwrap(),
        https: format!("https://127.0.0.1:{cert}"),
        token: Some(token.to_owned()),
        files: Files { ca: at("ca.crt"), cert: at("node.crt"), key: at("node.key") },
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(enrol_edge(&wanted))
}

/// Whom the cluster has counted for the only token that is listed.
fn counted(world: &World) -> usize {
    let listed = world.kedge(&["token", "list", "-o", "json"]);
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap_or_default();
    let entry = listed["items"].as_array().and_then(|all| all.first());
    entry.and_then(|entry| entry["holders"].as_array()).map_or(0, Vec::len)
}

#[test]
fn a_one_use_token_outlives_a_cloud_that_is_killed_while_it_counts() {
    let mut pair = Pair::new("replicas-token");
    let [first, second] = [pair.clouds[0].cert, pair.clouds[1].cert];
    let made = pair.world.kedge(&["token", "create", "--uses", "1"]);
    made.assert_status(0);
    let token = made.stdout.trim().to_owned();
    std::thread::scope(|scope| {
        // Whether its answer comes in time or not: the machine loses power before it has written it.
        let asking = scope.spawn(|| drop(enrolled(&pair.world, "edge-1", first, &token)));
        eventually("the use is counted", SOON, || {
            let count = counted(&pair.world);
            if count == 1 { Ok(()) } else { Err(count) }
        });
        signal(pair.running[1].pid(), "KILL");
        asking.join().unwrap();
    });
    pair.running[1].wait_end(SOON);
    drop(std::fs::remove_dir_all(pair.world.dir.join("edge-1")));
    assert_eq!(enrolled(&pair.world, "edge-1", second, &token), Ok(Enrolled::Issued));
    assert_eq!(counted(&pair.world), 1);
    // It is still good for one machine only, and the cloud that comes back knows that too.
    assert_eq!(enrolled(&pair.world, "edge-2", second, &token).unwrap_err().code, "KE-TOKEN-003");
    let _again = pair.clouds[0].start(&pair.world);
    assert_eq!(enrolled(&pair.world, "edge-3", first, &token).unwrap_err().code, "KE-TOKEN-003");
}
