//! How much a ConfigMap or a Secret holds, counted as Kubernetes counts it. Pure; the embedded API and the edge refuse
//! what is over the limit.

use serde_json::Value;

/// The most that a ConfigMap or a Secret may hold, in bytes.
pub const DATA_LIMIT: usize = 1 << 20;

/// Bytes of the values; what is written in base64 counts as what it stands for.
pub fn data_size(object: &Value, is_secret: bool) -> usize {
    let size = |field: &str, encoded: bool| -> usize {
        let values = object.get(field).and_then(Value::as_object).into_iter().flatten();
        let texts = values.filter_map(|(_, value)| value.as_str());
        texts.map(|text| if encoded { decoded_length(text) } else { text.len() }).sum()
    };
    size("data", is_secret) + size("binaryData", true) + size("stringData", false)
}

fn decoded_length(text: &str) -> usize {
    let padding = text.bytes().rev().take_while(|byte| *byte == b'=').count();
    (text.len() / 4 * 3).saturating_sub(padding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn base64_counts_as_what_it_stands_for() {
        let object = json!({"data": {"a": "aGVsbG8="}, "binaryData": {"b": "aGk="}});
        assert_eq!(data_size(&object, true), 7);
        assert_eq!(data_size(&object, false), 10);
        assert_eq!(data_size(&json!({"data": [1]}), true), 0);
    }
}
