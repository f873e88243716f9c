//! What every namespace has: the service account `default` and the ConfigMap `kube-root-ca.crt`.

use crate::daemon::apiserver::controllers::collections::{CONFIG_MAPS, NAMESPACES, SERVICE_ACCOUNTS};
use crate::daemon::apiserver::controllers::read::{deleting, name, namespace};
use crate::daemon::apiserver::controllers::runner::{Controller, Next, Seen, World};
use crate::daemon::apiserver::local::Collection;
use crate::model::Status;
use serde_json::{Value, json};

const ROOT_CA: &str = "kube-root-ca.crt";
const DEFAULT: &str = "default";

pub(in crate::daemon::apiserver::controllers) struct Accounts {
    pub(in crate::daemon::apiserver::controllers) world: World,
    pub(in crate::daemon::apiserver::controllers) ca_pem: String,
}

impl Controller for Accounts {
    fn name(&self) -> &'static str {
        "serviceaccount"
    }

    fn follows(&self) -> Vec<Collection> {
        vec![NAMESPACES, SERVICE_ACCOUNTS, CONFIG_MAPS]
    }

    async fn keys(&self, seen: &Seen) -> Vec<String> {
        let object = &seen.object;
        if seen.collection == NAMESPACES {
            return if seen.gone { Vec::new() } else { vec![name(object).to_owned()] };
        }
        let account_gone = seen.collection == SERVICE_ACCOUNTS && name(object) == DEFAULT && seen.gone;
        let root_touched = seen.collection == CONFIG_MAPS && name(object) == ROOT_CA;
        if account_gone || root_touched { vec![namespace(object).to_owned()] } else { Vec::new() }
    }

    async fn reconcile(&self, key: &str) -> Result<Next, Status> {
        let local = &self.world.local;
        match local.get(&NAMESPACES, None, key).await {
            Ok(space) if !deleting(&space) => {}
            Ok(_) => return Ok(Next::Done),
            Err(error) if error.is_not_found() => return Ok(Next::Done),
            Err(error) => return Err(error),
        }
        if !local.exists(&SERVICE_ACCOUNTS, Some(key), DEFAULT) {
            let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
                "metadata": {"name": DEFAULT, "namespace": key}});
            present(local.create(&SERVICE_ACCOUNTS, account).await.map(drop))?;
        }
        let data = json!({"ca.crt": self.ca_pem});
        match local.get(&CONFIG_MAPS, Some(key), ROOT_CA).await {
            Ok(map) if map["data"] == data => Ok(()),
            Ok(map) => {
                let mut map = Value::clone(&map);
                map["data"] = data;
                local.update(&CONFIG_MAPS, map).await.map(drop)
            }
            Err(error) if error.is_not_found() => {
                let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": data, "metadata": {
                    "name": ROOT_CA, "namespace": key, "annotations": {"kubernetes.io/description":
                        "Contains a CA bundle that can be used to verify the kube-apiserver when using internal \
                         endpoints such as the internal service IP or kubernetes.default.svc."}}});
                present(local.create(&CONFIG_MAPS, map).await.map(drop))
            }
            Err(error) => Err(error),
        }?;
        Ok(Next::Done)
    }
}

fn present(created: Result<(), Status>) -> Result<(), Status> {
    match created {
        Err(error) if !error.already_exists() => Err(error),
        _ => Ok(()),
    }
}
