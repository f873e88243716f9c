//! YAML as a JSON value, with whatever numbers people write: one too large for a whole number is kept as a fraction, so that
//! whoever looks at its key can say what is wrong with it. A key that stands twice in one map is an error, as one of the two
//! would be lost.

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// A value of any kind.
pub(super) struct Any(pub(super) Value);

impl<'de> Deserialize<'de> for Any {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Any, D::Error> {
        from.deserialize_any(Whatever).map(Any)
    }
}

struct Whatever;

/// What JSON has no number for, as infinity, is kept as its text.
fn fraction(number: f64) -> Value {
    Number::from_f64(number).map_or_else(|| Value::from(number.to_string()), Value::Number)
}

impl<'de> Visitor<'de> for Whatever {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value without a tag")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(fraction(value as f64))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Value, E> {
        Ok(fraction(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(fraction(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(Whatever)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Any(value)) = from.next_element()? {
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = from.next_key::<String>()? {
            let Any(value) = from.next_value()?;
            if map.contains_key(&key) {
                return Err(A::Error::custom(format_args!("the key {key} stands twice")));
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use crate::config::yaml;
    use serde_json::json;

    #[test]
    fn a_document_is_read_as_it_is_written() {
        let text = "a: {b: [1, -2, 0.5, true, ~, x, '1'], 7: y}\nbig: 99999999999999999999\nempty:\n";
        let read = yaml(text.as_bytes()).unwrap();
        assert_eq!(
            read,
            json!({"a": {"b": [1, -2, 0.5, true, null, "x", "1"], "7": "y"}, "big": 1e20, "empty": null})
        );
        assert_eq!(yaml(b"").unwrap(), json!(null));
        assert_eq!(yaml(b"a: .inf\n").unwrap(), json!({"a": "inf"}));
        let twice = yaml(b"a: 1\nb: 2\na: 3\n").unwrap_err().to_string();
        assert!(twice.contains("a stands twice"), "{twice}");
        assert!(yaml(b"a: [1\n").is_err());
    }
}
