//! The record of clouds and the ports at which an API server reaches the kubelet API of their nodes (protocol.md §8.5): an
//! annotation of ConfigMap `kubeedge/tunnelport`, shared with every cloudcore of the cluster. Each cloud has a port of its
//! own; rules of the network lead connections to it. Pure.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The ConfigMap's name.
pub const CONFIG_MAP: &str = "tunnelport";
/// The annotation that holds the record.
pub const ANNOTATION: &str = "tunnelportrecord.kubeedge.io";
/// Ports are given out from here on.
const FIRST: u16 = 10351;
/// A record may have so many bytes: thousands of clouds.
const LIMIT: usize = 256 << 10;

/// Who has which port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TunnelPorts {
    ip_tunnel_port: Option<BTreeMap<String, u16>>,
    /// Ports that were ever given out; KubeEdge never takes one back.
    port: Option<BTreeMap<u16, bool>>,
}

impl TunnelPorts {
    /// Reads a record; `None` when it is none.
    pub fn decode(text: &str) -> Option<TunnelPorts> {
        (text.len() <= LIMIT).then(|| serde_json::from_str(text).ok()).flatten()
    }

    /// The annotation's text, as Go writes it.
    pub fn encode(&self) -> String {
        let full = TunnelPorts {
            ip_tunnel_port: Some(self.ip_tunnel_port.clone().unwrap_or_default()),
            port: Some(self.port.clone().unwrap_or_default()),
        };
        serde_json::to_string(&full).unwrap_or_default()
    }

    /// The port of the cloud at this address; gives it the next free one where it has none.
    pub fn take(&mut self, address: IpAddr) -> Option<u16> {
        let known = self.ip_tunnel_port.get_or_insert_default();
        if let Some(port) = known.get(&address.to_string()) {
            return Some(*port);
        }
        let given = self.port.get_or_insert_default();
        let free = (FIRST..=u16::MAX).find(|port| !given.contains_key(port))?;
        given.insert(free, true);
        known.insert(address.to_string(), free);
        Some(free)
    }

    /// Addresses and ports, in the order of the addresses' text; what is no address is left out.
    pub fn clouds(&self) -> impl Iterator<Item = (IpAddr, u16)> {
        let known = self.ip_tunnel_port.iter().flatten();
        known.filter_map(|(address, port)| Some((address.parse().ok()?, *port)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cloud_has_a_port_of_its_own_and_keeps_it() {
        let mut record = TunnelPorts::default();
        let [one, two]: [IpAddr; 2] = [[192, 0, 2, 1].into(), [192, 0, 2, 2].into()];
        assert_eq!(
            (record.take(one), record.take(two), record.take(one)),
            (Some(10351), Some(10352), Some(10351))
        );
        let text = record.encode();
        assert_eq!(
            text,
            r#"{"ipTunnelPort":{"192.0.2.1":10351,"192.0.2.2":10352},"port":{"10351":true,"10352":true}}"#
        );
        assert_eq!(TunnelPorts::decode(&text), Some(record));
    }

    #[test]
    fn what_others_left_in_the_record_is_lived_with() {
        let mut record =
            TunnelPorts::decode(r#"{"ipTunnelPort":{"host.example":10351},"port":{"10351":true},"x":1}"#)
                .unwrap();
        assert_eq!(record.clouds().count(), 0);
        assert_eq!(record.take([192, 0, 2, 1].into()), Some(10352));
        let mut empty = TunnelPorts::decode(r#"{"ipTunnelPort":null,"port":null}"#).unwrap();
        assert_eq!(empty.encode(), r#"{"ipTunnelPort":{},"port":{}}"#);
        assert_eq!(empty.take([192, 0, 2, 1].into()), Some(10351));
        for wrong in ["", "7", r#"{"port":{"x":true}}"#, r#"{"ipTunnelPort":{"a":99999}}"#] {
            assert_eq!(TunnelPorts::decode(wrong), None, "{wrong}");
        }
        assert_eq!(TunnelPorts::decode(&format!("{}{{}}", " ".repeat(LIMIT))), None);
        let all = BTreeMap::from_iter((FIRST..=u16::MAX).map(|port| (port, true)));
        let mut full = TunnelPorts { port: Some(all), ..TunnelPorts::default() };
        assert_eq!(full.take([192, 0, 2, 1].into()), None);
    }
}
