//! The embedded Kubernetes API under the hands of somebody who knows kubectl: manifests, patches, server-side apply,
//! custom resources, rights, pages and watches. No containers run: nothing here fits the node. Every step works with
//! kubectl 1.20, Debian's.

use crate::support::world::World;
use crate::support::{Run, eventually, run};
use serde_json::{Value, json};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);
const WEB: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      nodeSelector: {no: such-node}
      containers:
      - name: a
        image: example.com/a:1
        env: [{name: A, value: '1'}, {name: B, value: '2'}]
        ports: [{containerPort: 80}, {containerPort: 81}]
      - name: b
        image: example.com/b:1
";

const GADGETS: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gadgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: gadgets, singular: gadget, kind: Gadget, shortNames: [gg]}
  versions:
  - name: v1
    served: true
    storage: true
    additionalPrinterColumns: [{name: Size, type: integer, jsonPath: .spec.size}]
    subresources: {status: {}, scale: {specReplicasPath: .spec.size, statusReplicasPath: .status.size}}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            required: [size]
            properties:
              size: {type: integer, maximum: 5, description: How big.}
              color: {type: string, default: red}
          status: {type: object, x-kubernetes-preserve-unknown-fields: true}
"#;

#[test]
fn somebody_who_knows_kubectl_feels_at_home() {
    let world = World::new("kubectl");
    let mut up = world.up(&[]);
    manifests_are_merged(&world);
    fields_have_owners(&world);
    mistakes_are_refused(&world);
    objects_are_changed_by_command(&world);
    deployments_are_rolled(&world);
    custom_resources_have_a_schema(&world);
    rights_are_those_that_are_bound(&world);
    deletions_wait_and_cascade(&world);
    pages_show_one_moment(&world);
    let before = world.get(&["configmap", "paged-000"]);
    let old = revision(&before);
    assert_eq!(up.interrupt(), 0);
    let _up = world.up(&[]);
    assert_eq!(world.get(&["configmap", "paged-000"]), before);
    let watch = format!("/api/v1/configmaps?watch=1&timeoutSeconds=1&resourceVersion={old}");
    let told = world.kubectl_ok(&["get", "--raw", &watch]);
    assert!(told.contains("\"code\":410"), "a watch from before the restart: {told}");
}

/// Runs a command that must fail and returns what it said.
#[track_caller]
fn refused(world: &World, args: &[&str]) -> String {
    let done = world.kubectl(args);
    assert_ne!(done.status, 0, "kubectl {args:?}: {done:?}");
    done.stderr
}

/// Runs kubectl on a manifest.
fn with_file(world: &World, verb: &[&str], manifest: &str) -> Run {
    let file = world.dir.join("kubectl.yaml");
    std::fs::write(&file, manifest).unwrap();
    let mut args = verb.to_vec();
    args.extend(["-f", file.to_str().unwrap()]);
    world.kubectl(&args)
}

fn revision(object: &Value) -> String {
    object.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap().to_owned()
}

fn at(world: &World, object: &[&str], pointer: &str) -> Value {
    world.get(object).pointer(pointer).cloned().unwrap_or_default()
}

fn changed() -> String {
    WEB.replace("{name: B, value: '2'}", "{name: C, value: '3'}")
        .replace(", {containerPort: 81}", "")
        .replace("      - name: b\n        image: example.com/b:1\n", "")
}

fn manifests_are_merged(world: &World) {
    world.apply(WEB);
    let again = with_file(world, &["apply"], WEB);
    assert_eq!(again.stdout, "deployment.apps/web unchanged\n", "{again:?}");
    let scale = world.kubectl(&["scale", "deployment", "web", "--replicas=0"]);
    scale.assert_status(0);
    with_file(world, &["diff"], &changed()).assert_status(1);
    with_file(world, &["apply", "--dry-run=server"], &changed()).assert_status(0);
    let containers = "/spec/template/spec/containers";
    assert_eq!(at(world, &["deploy", "web"], containers).as_array().map(Vec::len), Some(2));
    world.apply(&changed());
    let now = at(world, &["deploy", "web"], containers);
    let env = json!([{"name": "A", "value": "1"}, {"name": "C", "value": "3"}]);
    let ports = json!([{"containerPort": 80, "protocol": "TCP"}]);
    assert_eq!((now.as_array().map(Vec::len), &now[0]["env"], &now[0]["ports"]), (Some(1), &env, &ports));
    with_file(world, &["diff"], &changed()).assert_status(0);
    world.kubectl_ok(&["delete", "deployment", "web"]);
}

fn fields_have_owners(world: &World) {
    let apply = |manager: &str, extra: &[&str], manifest: &str| {
        let manager = format!("--field-manager={manager}");
        let mut verb = vec!["apply", "--server-side", "--validate=false", &manager];
        verb.extend(extra);
        with_file(world, &verb, manifest)
    };
    apply("one", &[], WEB).assert_status(0);
    let other = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {replicas: 0}\n";
    let conflict = apply("two", &[], other);
    assert_eq!(conflict.status, 1);
    assert!(conflict.stderr.contains("conflict with \"one\": .spec.replicas"), "{conflict:?}");
    apply("two", &["--force-conflicts"], other).assert_status(0);
    apply("one", &[], &changed().replace("  replicas: 1\n", "")).assert_status(0);
    let web = world.get(&["deploy", "web"]);
    assert_eq!(web.pointer("/spec/replicas"), Some(&json!(0)));
    assert_eq!(web.pointer("/spec/template/spec/containers/1"), None, "what was applied no more is gone");
    world.kubectl_ok(&["delete", "deployment", "web"]);
}

fn mistakes_are_refused(world: &World) {
    let typo = with_file(world, &["apply"], &WEB.replace("replicas", "replicsa"));
    assert!(typo.status == 1 && typo.stderr.contains("replicsa"), "{typo:?}");
    let kind = with_file(world, &["apply", "--validate=false"], &WEB.replace("replicas: 1", "replicas: one"));
    assert!(kind.stderr.contains("cannot unmarshal string into Go struct field"), "{kind:?}");
    let empty = with_file(
        world,
        &["apply", "--validate=false"],
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {}\n",
    );
    assert!(empty.stderr.contains("spec.containers"), "{empty:?}");
    assert!(refused(world, &["get", "pods", "--field-selector", "spec.nope=x"]).contains("not supported"));
    assert!(refused(world, &["get", "unicorns"]).contains("doesn't have a resource type"));
    assert!(refused(world, &["create", "configmap", "Bad_Name"]).contains("RFC 1123"));
    assert!(refused(world, &["top", "nodes"]).contains("Metrics API not available"));
}

fn objects_are_changed_by_command(world: &World) {
    world.kubectl_ok(&["create", "configmap", "c", "--from-literal=a=1"]);
    let stale = world.kubectl_ok(&["get", "configmap", "c", "-o", "json"]);
    world.kubectl_ok(&["label", "configmap", "c", "x=y"]);
    let late = with_file(world, &["replace"], &stale);
    assert!(late.stderr.contains("the object has been modified"), "{late:?}");
    world.kubectl_ok(&["patch", "configmap", "c", "--type=merge", "-p", r#"{"data":{"a":null,"b":"2"}}"#]);
    let steps = r#"[{"op":"test","path":"/data/b","value":"2"},{"op":"add","path":"/data/c","value":"3"}]"#;
    world.kubectl_ok(&["patch", "configmap", "c", "--type=json", "-p", steps]);
    let config = world.kubeconfig().display().to_string();
    let editor = "EDITOR=sed -i 's/c: .3./c: \"4\"/'";
    run("env", &[editor, "kubectl", "--kubeconfig", &config, "edit", "configmap", "c"]).assert_status(0);
    assert_eq!(at(world, &["configmap", "c"], "/data"), json!({"b": "2", "c": "4"}));
    world.kubectl_ok(&["annotate", "configmap", "c", "note=1"]);
    world.kubectl_ok(&["create", "service", "clusterip", "s", "--tcp=80:8080"]);
    world.kubectl_ok(&["create", "quota", "q", "--hard=pods=3"]);
    world.kubectl_ok(&["create", "priorityclass", "high", "--value=1000"]);
    world.kubectl_ok(&["create", "ingress", "i", "--rule=example.com/x=s:80"]);
    assert_eq!(at(world, &["service", "s"], "/spec/ports/0/targetPort"), json!(8080));
    world.kubectl_ok(&["taint", "node", "edge-1", "a=b:NoSchedule"]);
    world.kubectl_ok(&["cordon", "edge-1"]);
    assert_eq!(at(world, &["node", "edge-1"], "/spec/unschedulable"), json!(true));
    world.kubectl_ok(&["uncordon", "edge-1"]);
    world.kubectl_ok(&["taint", "node", "edge-1", "a-"]);
}

fn deployments_are_rolled(world: &World) {
    world.apply(&WEB.replace("replicas: 1", "replicas: 0"));
    world.kubectl_ok(&["rollout", "status", "deployment/web", "--timeout=10s"]);
    world.kubectl_ok(&["set", "image", "deployment/web", "a=example.com/a:2"]);
    eventually("the second revision", SOON, || {
        let history = world.kubectl_ok(&["rollout", "history", "deployment/web"]);
        if history.lines().any(|line| line.starts_with("2 ")) { Ok(()) } else { Err(history) }
    });
    world.kubectl_ok(&["rollout", "undo", "deployment/web"]);
    let image = "/spec/template/spec/containers/0/image";
    assert_eq!(at(world, &["deploy", "web"], image), json!("example.com/a:1"));
    world.kubectl_ok(&["autoscale", "deployment", "web", "--max=3", "--cpu-percent=80"]);
    let path = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers/web";
    let scaler: Value = serde_json::from_str(&world.kubectl_ok(&["get", "--raw", path])).unwrap();
    assert_eq!(scaler.pointer("/spec/targetCPUUtilizationPercentage"), Some(&json!(80)));
    assert!(world.kubectl_ok(&["describe", "deployment", "web"]).contains("0 desired"));
}

fn custom_resources_have_a_schema(world: &World) {
    world.apply(GADGETS);
    world.kubectl_ok(&["wait", "--for=condition=established", "crd/gadgets.example.com", "--timeout=5s"]);
    let gadget = |size: &str| {
        format!("apiVersion: example.com/v1\nkind: Gadget\nmetadata: {{name: g}}\nspec: {{size: {size}}}\n")
    };
    let large = with_file(world, &["apply"], &gadget("9"));
    assert!(large.stderr.contains("less than or equal to 5"), "{large:?}");
    world.apply(&gadget("2"));
    world.kubectl_ok(&["scale", "gadget", "g", "--replicas=3"]);
    let table = world.kubectl_ok(&["get", "gg"]);
    assert!(table.contains("SIZE") && table.contains("g      3"), "{table}");
    assert_eq!(at(world, &["gg", "g"], "/spec/color"), json!("red"));
    assert!(world.kubectl_ok(&["explain", "gadget.spec.size"]).contains("How big."));
    assert!(world.kubectl_ok(&["explain", "deployment.spec.replicas"]).contains("<integer>"));
    world.kubectl_ok(&["delete", "crd", "gadgets.example.com"]);
    let gone = world.kubectl(&["get", "--raw", "/apis/example.com/v1/gadgets"]);
    assert_ne!(gone.status, 0, "{gone:?}");
}

fn rights_are_those_that_are_bound(world: &World) {
    world.kubectl_ok(&["create", "serviceaccount", "bot"]);
    world.kubectl_ok(&["create", "role", "reader", "--verb=get,list", "--resource=configmaps"]);
    let account = "--serviceaccount=default:bot";
    world.kubectl_ok(&["create", "rolebinding", "reader", "--role=reader", account]);
    let path = "/api/v1/namespaces/default/serviceaccounts/bot/token";
    let request = r#"{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{}}"#;
    let issued = with_file(world, &["create", "--raw", path], request);
    let issued: Value = serde_json::from_str(&issued.stdout).unwrap();
    let token = format!("--token={}", issued.pointer("/status/token").and_then(Value::as_str).unwrap());
    world.kubectl_ok(&[&token, "get", "configmaps"]);
    let secrets = refused(world, &[&token, "get", "secrets"]);
    let who = "User \"system:serviceaccount:default:bot\" cannot list resource \"secrets\"";
    assert!(secrets.contains(who), "{secrets}");
    assert!(refused(world, &[&token, "--as=bob", "get", "configmaps"]).contains("cannot impersonate"));
    assert!(refused(world, &["--as=bob", "get", "configmaps"]).contains("User \"bob\" cannot list"));
    world.kubectl_ok(&["auth", "can-i", "get", "configmaps", "--as=system:serviceaccount:default:bot"]);
    assert!(refused(world, &["--token=wrong", "get", "configmaps"]).contains("Unauthorized"));
    world.kubectl_ok(&["delete", "serviceaccount", "bot"]);
    assert!(refused(world, &[&token, "get", "configmaps"]).contains("Unauthorized"));
}

fn deletions_wait_and_cascade(world: &World) {
    world.kubectl_ok(&[
        "patch",
        "configmap",
        "c",
        "-p",
        r#"{"metadata":{"finalizers":["example.com/keep"]}}"#,
    ]);
    world.kubectl_ok(&["delete", "configmap", "c", "--wait=false"]);
    assert_ne!(at(world, &["configmap", "c"], "/metadata/deletionTimestamp"), Value::Null);
    let more = r#"{"metadata":{"finalizers":["example.com/more"]}}"#;
    assert!(refused(world, &["patch", "configmap", "c", "-p", more]).contains("no new finalizers"));
    world.kubectl_ok(&[
        "patch",
        "configmap",
        "c",
        "--type=merge",
        "-p",
        r#"{"metadata":{"finalizers":null}}"#,
    ]);
    assert!(refused(world, &["get", "configmap", "c"]).contains("not found"));
    world.kubectl_ok(&["delete", "deployment", "web", "--cascade=orphan"]);
    let sets = world.get(&["replicasets", "-l", "app=web"]);
    assert_eq!(sets.pointer("/items/0/metadata/ownerReferences"), None, "{sets:#}");
    world.kubectl_ok(&["delete", "replicasets", "-l", "app=web"]);
    world.kubectl_ok(&["create", "namespace", "short"]);
    world.kubectl_ok(&["-n", "short", "create", "configmap", "inside"]);
    world.kubectl_ok(&["delete", "namespace", "short"]);
    assert!(refused(world, &["-n", "short", "create", "configmap", "late"]).contains("not found"));
}

fn pages_show_one_moment(world: &World) {
    let item = |n: usize| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("paged-{n:03}"), "labels": {"paged": ""}}});
    let list = json!({"apiVersion": "v1", "kind": "List", "items": (0..30).map(item).collect::<Vec<_>>()});
    with_file(world, &["create", "--validate=false"], &list.to_string()).assert_status(0);
    let query = "/api/v1/namespaces/default/configmaps?labelSelector=paged&limit=10";
    let page = |rest: &str| -> Value {
        serde_json::from_str(&world.kubectl_ok(&["get", "--raw", &format!("{query}{rest}")])).unwrap()
    };
    let first = page("");
    world.kubectl_ok(&["delete", "configmap", "paged-015"]);
    let token = first.pointer("/metadata/continue").and_then(Value::as_str).unwrap();
    let second = page(&format!("&continue={token}"));
    let name = |at: usize| second.pointer(&format!("/items/{at}/metadata/name")).cloned();
    assert_eq!(name(5), Some(json!("paged-015")), "the second page shows the moment of the first");
    assert_eq!(revision(&second), revision(&first));
    let watch = format!(
        "/api/v1/namespaces/default/configmaps?watch=1&timeoutSeconds=1&resourceVersion={}",
        revision(&first)
    );
    let told = world.kubectl_ok(&["get", "--raw", &watch]);
    assert!(told.contains("DELETED") && told.contains("paged-015"), "{told}");
    let chunked = world.kubectl_ok(&["get", "configmaps", "-l", "paged", "--chunk-size=7", "-o", "name"]);
    assert_eq!(chunked.lines().count(), 29);
    let stream = "/api/v1/namespaces/default/configmaps?watch=1&timeoutSeconds=1&sendInitialEvents=true\
        &resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&labelSelector=paged";
    let streamed = world.kubectl_ok(&["get", "--raw", stream]);
    assert_eq!(streamed.matches("\"type\":\"ADDED\"").count(), 29);
    assert!(streamed.contains("k8s.io/initial-events-end"), "{streamed}");
}
