//! What an edgecore.yaml asks for that kedge does not serve: QUIC, the edge's own Kubernetes API, the mesh and its name
//! service. Each is a warning with its code, never a refusal: a node that came from KubeEdge starts and says so once.

use super::Problem;
use serde_json::Value;
use std::net::IpAddr;

/// Warnings for a file and the same file laid over the defaults.
pub(super) fn warnings(file: &Value, merged: &Value) -> Vec<Problem> {
    let on = |path: &str| merged.pointer(path) == Some(&Value::Bool(true));
    let mut found = Vec::new();
    if on("/modules/edgeHub/enable") && on("/modules/edgeHub/quic/enable") {
        let way = "kedge speaks WebSocket only and connects by it; set it to false";
        found.push(Problem::new("modules.edgeHub.quic.enable", true, way).coded("KE-QUIC-001"));
    }
    if on("/modules/metaManager/metaServer/enable") {
        let path = "modules.metaManager.metaServer.enable";
        let way = "kedge does not serve the edge's Kubernetes API yet; `kedge doctor --only KE-META` names the pods \
            that need it and what works instead";
        found.push(Problem::new(path, true, way).coded("KE-META-011"));
    }
    if file.pointer("/modules/edgeMesh").is_some() {
        let way = "kedge has no mesh yet; `kedge doctor --only KE-MESH` says what works instead";
        found.push(Problem::new("modules.edgeMesh", "", way).coded("KE-MESH-002"));
    }
    let servers = merged.pointer("/modules/edged/tailoredKubeletConfig/clusterDNS").and_then(Value::as_array);
    let servers = servers.into_iter().flatten().filter_map(Value::as_str);
    for server in servers.filter(|server| is_of_the_node(server)) {
        let path = "modules.edged.tailoredKubeletConfig.clusterDNS";
        let way = "an address that an agent on the node answers, such as EdgeMesh's; kedge serves no names, so pods \
            resolve nothing unless that agent runs; `kedge doctor --only KE-MESH` asks it";
        found.push(Problem::new(path, server, way).coded("KE-MESH-002"));
    }
    found
}

/// Link-local addresses belong to agents on the node itself: EdgeMesh's 169.254.96.16, a node-local cache's 169.254.20.10.
fn is_of_the_node(server: &str) -> bool {
    matches!(server.parse(), Ok(IpAddr::V4(address)) if address.is_link_local())
}

#[cfg(test)]
mod tests {
    use super::super::edge::EdgeConfig;
    use serde_json::{Value, json};

    fn told(modules: Value) -> Vec<(Option<&'static str>, String)> {
        let mut file = json!({"modules": {"edged": {"hostnameOverride": "n1"}}});
        json_patch::merge(&mut file, &json!({"modules": modules}));
        let warnings = EdgeConfig::from_value(&file, "edgecore.yaml").unwrap().warnings;
        warnings.into_iter().map(|warning| (warning.code, warning.to_string())).collect()
    }

    #[test]
    fn what_is_asked_for_and_not_served_is_told_with_its_code() {
        assert_eq!(told(json!({})), []);
        let quic = told(json!({"edgeHub": {"quic": {"enable": true}}}));
        assert_eq!(quic[0].0, Some("KE-QUIC-001"));
        assert!(quic[0].1.ends_with("[KE-QUIC-001]"), "{quic:?}");
        assert_eq!(told(json!({"metaManager": {"metaServer": {"enable": true}}}))[0].0, Some("KE-META-011"));
        // An old module is named once: not as an unknown key too.
        let mesh = told(json!({"edgeMesh": {"enable": true, "subNet": "9.251.0.0/16"}}));
        assert_eq!((mesh.len(), mesh[0].0), (1, Some("KE-MESH-002")));
        let dns = |server: &str| told(json!({"edged": {"tailoredKubeletConfig": {"clusterDNS": [server]}}}));
        assert_eq!(dns("169.254.96.16")[0].0, Some("KE-MESH-002"));
        assert_eq!(dns("10.96.0.10"), []);
        let off =
            json!({"edgeHub": {"enable": false, "quic": {"enable": true}, "websocket": {"enable": false}}});
        assert_eq!(told(off), []);
    }
}
