//! What KubeEdge's DMI leaves in a node's database: the mappers that have registered. Read only, for those who look.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::path::PathBuf;

/// The kind of rows that hold registered mappers.
pub const MAPPER_ROWS: &str = "devicemapper";

/// A mapper as it has registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapper {
    pub name: String,
    pub protocol: String,
    /// Where it serves gRPC for the node.
    pub socket: PathBuf,
}

impl Mapper {
    /// Reads a row; its address is bytes, which JSON carries in base64.
    pub fn of_row(row: &Value) -> Option<Mapper> {
        let text = |field: &str| row.get(field).and_then(Value::as_str);
        let address = String::from_utf8(STANDARD.decode(text("address")?).ok()?).ok()?;
        let path = address.strip_prefix("unix://").unwrap_or(&address);
        let mapper = Mapper {
            name: text("name")?.to_owned(),
            protocol: text("protocol").unwrap_or_default().to_owned(),
            socket: path.into(),
        };
        path.starts_with('/').then_some(mapper)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_registered_mapper_is_read() {
        // As edgecore 1.23 writes it.
        let row = json!({"name": "modbus-mapper", "version": "v1.13.0", "api_version": "v1.0.0", "protocol": "modbus",
            "address": "L2V0Yy9rdWJlZWRnZS9tb2RidXMuc29jaw==", "state": "ok"});
        let mapper = Mapper::of_row(&row).unwrap();
        assert_eq!((mapper.name.as_str(), mapper.protocol.as_str()), ("modbus-mapper", "modbus"));
        assert_eq!(mapper.socket, PathBuf::from("/etc/kubeedge/modbus.sock"));
        for bad in [
            json!(null),
            json!({"name": "x"}),
            json!({"name": "x", "address": "??"}),
            json!({"name": "x", "address": "YQ=="}),
        ] {
            assert_eq!(Mapper::of_row(&bad), None, "{bad}");
        }
    }
}
