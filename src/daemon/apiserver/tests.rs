use super::*;
use crate::base::{Crew, Ready, Stop};
use serde_json::{Value, json};

struct Running {
    client: reqwest::Client,
    base: String,
    anonymous: reqwest::Client,
    stop: Stop,
    crew: Crew,
    local: Local,
    _dir: tempfile::TempDir,
}

fn client(server: &ApiServer, identity: Option<&Identity>) -> reqwest::Client {
    let tls = crate::pki::client_config(server.ca_pem(), identity).unwrap();
    reqwest::Client::builder()
        .tls_backend_preconfigured(rustls::ClientConfig::clone(&tls))
        .no_proxy()
        .build()
        .unwrap()
}

async fn start() -> Running {
    crate::pki::install_crypto_provider();
    let dir = tempfile::tempdir().unwrap();
    let config = Config::new("127.0.0.1:0".parse().unwrap(), dir.path().to_owned());
    let server = ApiServer::open(config).unwrap();
    let admin = server.client("admin", &["system:masters"]).unwrap();
    let running_client = client(&server, Some(&admin));
    let anonymous = client(&server, None);
    let base = format!("https://{}", server.address());
    let local = server.local();
    let stop = Stop::new();
    let mut crew = Crew::new();
    let mut module = server.module();
    let child = stop.clone();
    crew.spawn(async move {
        module.run(child, Ready::detached("api")).await.unwrap();
    });
    Running { client: running_client, base, anonymous, stop, crew, local, _dir: dir }
}

impl Running {
    async fn call(&self, method: &str, path: &str, kind: &str, body: Option<Value>) -> (u16, Value) {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        if let Some(body) = body {
            request = request.header("content-type", kind).body(body.to_string());
        }
        let answer = request.send().await.unwrap();
        let code = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        (code, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.call("GET", path, "", None).await
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.call("POST", path, "application/json", Some(body)).await
    }

    async fn end(mut self) {
        self.stop.raise();
        self.crew.finish().await;
    }
}

fn config(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"n": name}},
        "data": {"k": "v"}})
}

const CONFIGS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn objects_go_round_over_https() {
    let api = start().await;
    let (code, made) = api.post(CONFIGS, config("a")).await;
    assert_eq!((code, made["metadata"]["namespace"].as_str()), (201, Some("default")));
    let (code, status) = api.post(CONFIGS, config("a")).await;
    assert_eq!((code, status["message"].as_str()), (409, Some("configmaps \"a\" already exists")));
    let patch = json!({"data": {"k": "w"}});
    let path = format!("{CONFIGS}/a");
    let (code, after) = api.call("PATCH", &path, "application/merge-patch+json", Some(patch)).await;
    assert_eq!((code, after["data"]["k"].as_str()), (200, Some("w")));
    let (code, status) = api.call("PUT", &path, "application/json", Some(made)).await;
    assert_eq!((code, status["reason"].as_str()), (409, Some("Conflict")));
    let applied =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "x"}});
    let query = format!("{path}?fieldManager=other");
    let (code, status) =
        api.call("PATCH", &query, "application/apply-patch+yaml", Some(applied.clone())).await;
    assert_eq!(code, 409, "{status}");
    let query = format!("{path}?fieldManager=other&force=true");
    let (code, after) = api.call("PATCH", &query, "application/apply-patch+yaml", Some(applied)).await;
    assert_eq!((code, after["data"]["k"].as_str()), (200, Some("x")));
    let (code, _) = api.call("DELETE", &path, "", None).await;
    assert_eq!(code, 200);
    let (code, status) = api.get(&path).await;
    assert_eq!((code, status["message"].as_str()), (404, Some("configmaps \"a\" not found")));
    api.end().await;
}

#[tokio::test]
async fn lists_select_and_come_in_pages() {
    let api = start().await;
    for name in ["a", "b", "c"] {
        api.post(CONFIGS, config(name)).await;
    }
    let (_, list) = api.get(&format!("{CONFIGS}?labelSelector=n%20in%20(a,c)")).await;
    assert_eq!(list["items"].as_array().unwrap().len(), 2);
    let (_, page) = api.get(&format!("{CONFIGS}?limit=2")).await;
    assert_eq!(page["metadata"]["remainingItemCount"], 1);
    let next = page["metadata"]["continue"].as_str().unwrap();
    let (_, page) = api.get(&format!("{CONFIGS}?limit=2&continue={next}")).await;
    assert_eq!(page["items"][0]["metadata"]["name"], "c");
    assert!(page["metadata"]["continue"].is_null());
    api.end().await;
}

#[tokio::test]
async fn watches_tell_changes_as_they_happen() {
    let api = start().await;
    let (_, list) = api.get(CONFIGS).await;
    let revision = list["metadata"]["resourceVersion"].as_str().unwrap();
    let url = format!("{}{CONFIGS}?watch=1&labelSelector=n=a&resourceVersion={revision}", api.base);
    let mut watch = api.client.get(url).send().await.unwrap();
    api.post(CONFIGS, config("b")).await;
    api.post(CONFIGS, config("a")).await;
    let line = watch.chunk().await.unwrap().unwrap();
    let event: Value = serde_json::from_slice(&line).unwrap();
    assert_eq!(
        (event["type"].as_str(), event["object"]["metadata"]["name"].as_str()),
        (Some("ADDED"), Some("a"))
    );
    let patch = json!({"metadata": {"labels": {"n": "z"}}});
    api.call("PATCH", &format!("{CONFIGS}/a"), "application/merge-patch+json", Some(patch)).await;
    let line = watch.chunk().await.unwrap().unwrap();
    let event: Value = serde_json::from_slice(&line).unwrap();
    assert_eq!(event["type"], "DELETED");
    let old = format!("{}{CONFIGS}?watch=1&resourceVersion=1", api.base);
    let text = api.client.get(old).send().await.unwrap().text().await.unwrap();
    let event: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((event["type"].as_str(), event["object"]["code"].as_u64()), (Some("ERROR"), Some(410)));
    api.end().await;
}

#[tokio::test]
async fn custom_resources_are_served_at_once() {
    let api = start().await;
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "properties": {
                        "size": {"type": "integer", "minimum": 1, "default": 3}}},
                    "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}}]}});
    let crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let (code, made) = api.post(crds, definition).await;
    assert_eq!(
        (code, made["status"]["conditions"][1]["type"].as_str()),
        (201, Some("Established")),
        "{made}"
    );
    let things = "/apis/example.com/v1/namespaces/default/things";
    let thing = |size: Value| {
        json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "t"},
        "spec": {"size": size, "other": 1}})
    };
    let (code, status) = api.post(things, thing(json!(0))).await;
    assert_eq!((code, status["reason"].as_str()), (422, Some("Invalid")));
    let (code, _) = api.post(&format!("{things}?fieldValidation=Strict"), thing(json!(5))).await;
    assert_eq!(code, 400);
    let (code, made) = api.post(things, thing(json!(5))).await;
    assert_eq!((code, made["spec"].clone()), (201, json!({"size": 5})));
    let patch = json!({"status": {"x": 1}});
    let (code, after) =
        api.call("PATCH", &format!("{things}/t/status"), "application/merge-patch+json", Some(patch)).await;
    assert_eq!((code, after["status"]["x"].as_u64()), (200, Some(1)));
    api.call("DELETE", &format!("{crds}/things.example.com"), "", None).await;
    assert_eq!(api.get(things).await.0, 404);
    api.end().await;
}

#[tokio::test]
async fn strangers_see_health_only() {
    let api = start().await;
    let get = async |path: &str| {
        let answer = api.anonymous.get(format!("{}{path}", api.base)).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(get("/healthz").await, (200, "ok".to_owned()));
    let (code, text) = get("/api/v1/pods").await;
    assert_eq!(code, 403);
    assert!(
        text.contains(r#"pods is forbidden: User \"system:anonymous\" cannot list resource \"pods\""#),
        "{text}"
    );
    let wrong =
        api.anonymous.get(format!("{}/version", api.base)).bearer_auth("nonsense").send().await.unwrap();
    assert_eq!(wrong.status().as_u16(), 401);
    api.end().await;
}

#[tokio::test]
async fn service_accounts_have_the_rights_that_are_bound() {
    let api = start().await;
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    api.post(accounts, json!({"metadata": {"name": "bot"}})).await;
    let (code, made) = api.post(&format!("{accounts}/bot/token"), json!({"spec": {}})).await;
    assert_eq!(code, 201, "{made}");
    let token = made["status"]["token"].as_str().unwrap().to_owned();
    let list = async || {
        let url = format!("{}{CONFIGS}", api.base);
        api.anonymous.get(url).bearer_auth(&token).send().await.unwrap().status().as_u16()
    };
    assert_eq!(list().await, 403);
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}]);
    api.post(&format!("{rbac}/roles"), json!({"metadata": {"name": "r"}, "rules": rules})).await;
    let binding = json!({"metadata": {"name": "r"},
        "subjects": [{"kind": "ServiceAccount", "name": "bot", "namespace": "default"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}});
    api.post(&format!("{rbac}/rolebindings"), binding).await;
    assert_eq!(list().await, 200);
    api.end().await;
}

#[tokio::test]
async fn bad_requests_get_their_status() {
    let api = start().await;
    let call = async |kind: &str, body: Vec<u8>| {
        let url = format!("{}{CONFIGS}", api.base);
        let answer = api.client.post(url).header("content-type", kind).body(body).send().await.unwrap();
        answer.status().as_u16()
    };
    assert_eq!(call("application/vnd.kubernetes.protobuf", vec![1]).await, 415);
    assert_eq!(call("application/json", b"{nonsense".to_vec()).await, 400);
    assert_eq!(call("application/json", vec![b' '; 4 << 20]).await, 413);
    let big = config("big").to_string().replace("\"v\"", &format!("\"{}\"", "x".repeat((1 << 20) + 1)));
    assert_eq!(call("application/json", big.into_bytes()).await, 422);
    assert_eq!(call("application/yaml", b"metadata: {name: y}\ndata: {a: b}\n".to_vec()).await, 201);
    assert_eq!(api.post("/api/v1/namespaces/none/configmaps", config("a")).await.0, 404);
    assert_eq!(api.get("/apis/none/v1/things").await.0, 404);
    api.end().await;
}

#[tokio::test]
async fn scale_and_dry_run() {
    let api = start().await;
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    let (code, _) = api.post(&format!("{deployments}?dryRun=All"), deployment.clone()).await;
    assert_eq!(code, 201);
    assert_eq!(api.get(&format!("{deployments}/d")).await.0, 404);
    let (code, made) = api.post(deployments, deployment).await;
    assert_eq!((code, made["spec"]["replicas"].as_u64()), (201, Some(1)), "{made}");
    let patch = json!({"spec": {"replicas": 4}});
    let path = format!("{deployments}/d/scale");
    let (code, scale) = api.call("PATCH", &path, "application/merge-patch+json", Some(patch)).await;
    assert_eq!((code, scale["spec"]["replicas"].as_u64()), (200, Some(4)), "{scale}");
    assert_eq!(scale["status"]["selector"], "a=b");
    let after =
        api.local.get(&local::Collection::of("apps", "deployments"), Some("default"), "d").await.unwrap();
    assert_eq!(after["metadata"]["generation"], 2);
    api.end().await;
}

#[test]
fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = Config::new(taken.local_addr().unwrap(), dir.path().to_owned());
    let failure = ApiServer::open(config).err().unwrap();
    assert_eq!(failure.code, "KE-PORT-001");
    failure.is_as_committed();
}

#[tokio::test]
async fn what_a_cluster_needs_cannot_be_taken_away() {
    let api = start().await;
    for name in ["default", "kube-system"] {
        let (code, status) = api.call("DELETE", &format!("/api/v1/namespaces/{name}"), "", None).await;
        assert_eq!(code, 403, "{status}");
    }
    api.post("/api/v1/namespaces", json!({"metadata": {"name": "held"}})).await;
    let merge = "application/merge-patch+json";
    let patch = json!({"spec": {"finalizers": []}});
    let (code, after) = api.call("PATCH", "/api/v1/namespaces/held", merge, Some(patch)).await;
    assert_eq!((code, &after["spec"]["finalizers"]), (200, &json!(["kubernetes"])));
    for path in ["/api/v1/configmaps", "/api/v1/namespaces"] {
        assert_eq!(api.call("DELETE", path, "", None).await.0, 405, "{path}");
    }
    let definition = |group: &str, plural: &str| {
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.{group}")},
            "spec": {"group": group, "scope": "Namespaced", "names": {"plural": plural, "kind": "Thing"},
                "versions": [{"name": "v1", "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": {"type": "object"}}}]}})
    };
    for group in ["apps", "rbac.authorization.k8s.io", "flat", "mine.k8s.io"] {
        let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        let (code, status) = api.post(path, definition(group, "deployments")).await;
        assert_eq!(code, 422, "{group}: {status}");
    }
    api.end().await;
}

#[tokio::test]
async fn wishes_that_are_half_understood_are_refused() {
    let api = start().await;
    let name = http::HeaderValue::from_bytes("jürgen".as_bytes()).unwrap();
    let extra = http::HeaderValue::from_static("x");
    for (header, value) in [("impersonate-user", name), ("impersonate-extra-scopes", extra)] {
        let url = format!("{}/api/v1/namespaces", api.base);
        let answer = api.client.get(url).header(header, value).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 400, "{header}");
    }
    let template = |container: &str| json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": container, "image": "i"}]}});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"a": "b"}}, "template": template("c")}});
    let path = "/apis/apps/v1/namespaces/default/deployments";
    assert_eq!(api.post(path, deployment).await.0, 201);
    let merge = "application/merge-patch+json";
    let scale = format!("{path}/d/scale");
    for wrong in [json!("5"), json!(1.5)] {
        let patch = json!({"spec": {"replicas": wrong}});
        assert_eq!(api.call("PATCH", &scale, merge, Some(patch)).await.0, 400);
    }
    let (_, kept) = api.get(&scale).await;
    assert_eq!(kept["spec"]["replicas"], 2);
    for container in ["../../other/pod/main", "A", "-a"] {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": template(container)["spec"]});
        assert_eq!(api.post("/api/v1/namespaces/default/pods", pod).await.0, 422, "{container}");
    }
    api.end().await;
}

#[test]
fn an_api_that_is_told_nonsense_does_not_open() {
    crate::pki::install_crypto_provider();
    let dir = tempfile::tempdir().unwrap();
    let config = || Config::new("127.0.0.1:0".parse().unwrap(), dir.path().to_owned());
    for network in ["10.96.0.0/30", "10.96.0.0", "fd00::/112", "services"] {
        let service_cidr = network.to_owned();
        let failure = ApiServer::open(Config { service_cidr, ..config() }).err().unwrap();
        assert_eq!(failure.code, "KE-API-007");
        failure.is_as_committed();
        assert!(failure.what.contains(network) && failure.why.contains("8 to 28"), "{failure}");
        assert!(failure.fix.contains("10.96.0.0/16"), "{failure:?}");
    }
    let authority = Authority::generate("stream").unwrap();
    let identity = authority.issue_client("kube-apiserver", &[], 1).unwrap();
    let stranger = Authority::generate("stream").unwrap().issue_client("kube-apiserver", &[], 1).unwrap();
    let mixed = Identity { cert_pem: identity.cert_pem.clone(), key_pem: stranger.key_pem };
    for (identity, ca_pem, why) in [
        (identity, "nothing", "the authority's certificate is missing"),
        (mixed, &*authority.cert_pem(), "KE-PKI-007"),
    ] {
        let address = "127.0.0.1:1".parse().unwrap();
        let kubelet = Some(KubeletEndpoint { address, identity, ca_pem: ca_pem.to_owned() });
        let failure = ApiServer::open(Config { kubelet, ..config() }).err().unwrap();
        assert_eq!(failure.code, "KE-API-005");
        failure.is_as_committed();
        assert!(failure.why.contains(why), "{failure}");
        assert!(failure.fix.contains("stream.*"), "{failure:?}");
    }
}

#[tokio::test]
async fn an_api_whose_database_takes_nothing_does_not_serve() {
    crate::pki::install_crypto_provider();
    let dir = tempfile::tempdir().unwrap();
    let config = || Config::new("127.0.0.1:0".parse().unwrap(), dir.path().to_owned());
    drop(ApiServer::open(config()).unwrap());
    // A file that refuses every new row, as one on a failing disk does.
    let database = rusqlite::Connection::open(dir.path().join("api.db")).unwrap();
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON objects BEGIN SELECT RAISE(ABORT, 'worn out'); END";
    database.execute_batch(refuse).unwrap();
    drop(database);
    let mut module = ApiServer::open(config()).unwrap().module();
    let failure = module.run(Stop::new(), Ready::detached("api")).await.unwrap_err();
    assert_eq!(failure.code, "KE-API-006");
    failure.is_as_committed();
    assert!(failure.why.contains("worn out"), "{failure}");
    assert!(failure.fix.contains("api.db"), "{failure:?}");
}
