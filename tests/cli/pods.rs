//! Workloads as `kubectl` users run them, in the real containerd.

use crate::support::eventually;
use crate::support::world::World;
use serde_json::{Value, json};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);

const APP: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: app}
data: {greeting: hello, file.txt: "from the config map"}
---
apiVersion: v1
kind: Secret
metadata: {name: app}
stringData: {password: "s3cret"}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      initContainers:
      - name: prepare
        image: kedge.local/busybox:1
        command: [sh, -c, "echo prepared > /prepared/ready"]
        volumeMounts: [{name: work, mountPath: /prepared}]
      containers:
      - name: main
        image: kedge.local/busybox:1
        command: [sh, -c, "cat /prepared/ready; echo $GREETING $PASSWORD $POD_NAME $LITERAL; cat /etc/app/file.txt; echo; exec sleep 100000"]
        env:
        - {name: LITERAL, value: "$(GREETING)-literal"}
        - {name: GREETING, valueFrom: {configMapKeyRef: {name: app, key: greeting}}}
        - {name: PASSWORD, valueFrom: {secretKeyRef: {name: app, key: password}}}
        - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        readinessProbe: {exec: {command: [test, -f, /prepared/ready]}, periodSeconds: 1}
        volumeMounts:
        - {name: work, mountPath: /prepared}
        - {name: config, mountPath: /etc/app}
        - {name: both, mountPath: /both}
      - name: second
        image: kedge.local/busybox:1
        command: [sh, -c, "mkdir -p /tmp/www; echo served > /tmp/www/index.html; exec busybox httpd -f -p 8080 -h /tmp/www"]
        readinessProbe: {httpGet: {path: /index.html, port: 8080}, periodSeconds: 1}
        livenessProbe: {tcpSocket: {port: 8080}, periodSeconds: 5}
        volumeMounts: [{name: host, mountPath: /host}]
      volumes:
      - {name: work, emptyDir: {}}
      - {name: config, configMap: {name: app}}
      - {name: host, hostPath: {path: /tmp, type: Directory}}
      - name: both
        projected:
          sources:
          - {configMap: {name: app}}
          - {secret: {name: app}}
          - {downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
"#;

fn pods(world: &World, selector: &str) -> Vec<Value> {
    world
        .get(&["pods", "-l", selector])
        .pointer("/items")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default()
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

#[test]
fn a_deployment_with_everything_runs_changes_and_goes() {
    let world = World::new("pods");
    let _up = world.up(&[]);
    world.apply(APP);
    world.wait_value(&["deployment", "web"], "/status/readyReplicas", &json!(2), SOON);

    let first = pods(&world, "app=web").remove(0);
    let name = text(&first, "/metadata/name").to_owned();
    assert_eq!(text(&first, "/status/phase"), "Running");
    assert_eq!(first.pointer("/status/initContainerStatuses/0/state/terminated/exitCode"), Some(&json!(0)));
    let logs = world.kubectl_ok(&["logs", &name, "-c", "main"]);
    let expected = format!("prepared\nhello s3cret {name} hello-literal\nfrom the config map\n");
    // $(GREETING) is declared after LITERAL, so Kubernetes leaves it as it stands.
    let expected = expected.replace("hello-literal", "$(GREETING)-literal");
    assert_eq!(logs, expected);

    let ip = text(&first, "/status/podIP");
    let page =
        crate::support::run("busybox", &["wget", "-q", "-O", "-", &format!("http://{ip}:8080/index.html")]);
    assert_eq!(page.stdout, "served\n", "{page:?}");
    eventually("two addresses in the EndpointSlice", SOON, || {
        let slices = world.get(&["endpointslices", "-l", "kubernetes.io/service-name=web"]);
        let ends = slices.pointer("/items/0/endpoints").and_then(Value::as_array).map_or(0, Vec::len);
        if ends == 2 { Ok(()) } else { Err(slices) }
    });

    world.kubectl_ok(&["scale", "deployment/web", "--replicas=3"]);
    world.wait_value(&["deployment", "web"], "/status/readyReplicas", &json!(3), SOON);
    world.kubectl_ok(&["set", "env", "deployment/web", "-c", "main", "LITERAL=changed"]);
    let rolled = world.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    rolled.assert_status(0);

    world.kubectl_ok(&["delete", "deployment", "web", "--wait=false"]);
    eventually("all pods are gone", SOON, || {
        let left = pods(&world, "app=web");
        if left.is_empty() { Ok(()) } else { Err(left.len()) }
    });
}

#[test]
fn a_changed_config_map_reaches_the_volume() {
    let world = World::new("configmap");
    let _up = world.up(&[]);
    world.apply(
        r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: live}
data: {v: "one"}
---
apiVersion: v1
kind: Pod
metadata: {name: reader}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: kedge.local/busybox:1
    command: [sh, -c, "while true; do cat /live/v; echo; sleep 0.2; done"]
    volumeMounts: [{name: live, mountPath: /live}]
  volumes: [{name: live, configMap: {name: live}}]
"#,
    );
    world.wait_value(&["pod", "reader"], "/status/phase", &json!("Running"), SOON);
    world.kubectl_ok(&["patch", "configmap", "live", "-p", r#"{"data":{"v":"two"}}"#]);
    eventually("the pod reads the new value", SOON, || {
        let tail = world.kubectl_ok(&["logs", "reader", "--tail=1"]);
        if tail.trim() == "two" { Ok(()) } else { Err(tail) }
    });
}

#[test]
fn restart_policies_jobs_and_probes_behave() {
    let world = World::new("restarts");
    let _up = world.up(&[]);
    world.apply(
        r#"
apiVersion: batch/v1
kind: Job
metadata: {name: once}
spec:
  template:
    spec:
      restartPolicy: Never
      containers: [{name: c, image: "kedge.local/busybox:1", command: [sh, -c, "echo done; exit 0"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: crashes}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: c, image: "kedge.local/busybox:1", command: [sh, -c, "exit 3"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: unwell}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: kedge.local/busybox:1
    command: [sleep, "100000"]
    livenessProbe: {exec: {command: ["false"]}, periodSeconds: 1, failureThreshold: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: noimage}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: c, image: "127.0.0.1:1/no/such:1"}]
"#,
    );
    world.wait_value(&["job", "once"], "/status/succeeded", &json!(1), SOON);
    let waiting = "/status/containerStatuses/0/state/waiting/reason";
    world.wait_value(&["pod", "crashes"], waiting, &json!("CrashLoopBackOff"), SOON);
    let crashed = world.get(&["pod", "crashes"]);
    let last = "/status/containerStatuses/0/lastState/terminated/exitCode";
    assert_eq!(crashed.pointer(last), Some(&json!(3)), "{crashed:#}");
    eventually("the liveness probe restarts the container", SOON, || {
        let pod = world.get(&["pod", "unwell"]);
        match pod.pointer("/status/containerStatuses/0/restartCount").and_then(Value::as_u64) {
            Some(count) if count > 0 => Ok(()),
            other => Err(other),
        }
    });
    eventually("the missing image is named", SOON, || {
        let pod = world.get(&["pod", "noimage"]);
        let reason = text(&pod, waiting).to_owned();
        if ["ErrImagePull", "ImagePullBackOff"].contains(&reason.as_str()) { Ok(()) } else { Err(reason) }
    });
    world.kubectl_ok(&["delete", "pod", "crashes", "unwell", "noimage", "--timeout=30s"]);
}
