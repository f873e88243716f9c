//! JSON patch with the bounds that keep a small request from growing into a huge object.

use crate::model::Status;
use json_patch::{Patch, PatchOperation};
use serde_json::Value;

/// Upstream's bound on operations.
const MAX_OPERATIONS: usize = 10_000;
/// Upstream's bound on what `copy` operations may add up to, in bytes.
const MAX_COPIED: usize = 3 * 1024 * 1024;
/// As deep as serde_json reads; a deeper object could not be read back.
const MAX_DEPTH: usize = 120;

/// Applies a JSON patch document to `target`.
pub fn json(target: &Value, patch: &[u8]) -> Result<Value, Status> {
    let Patch(operations) = serde_json::from_slice(patch)
        .map_err(|error| Status::failure(400, "BadRequest", format!("error decoding patch: {error}")))?;
    if operations.len() > MAX_OPERATIONS {
        let message = format!(
            "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
            operations.len()
        );
        return Err(Status::failure(413, "RequestEntityTooLarge", message));
    }
    let mut object = target.clone();
    let mut copied = 0;
    for operation in operations {
        check_growth(&object, &operation, &mut copied)?;
        json_patch::patch(&mut object, std::slice::from_ref(&operation))
            .map_err(|error| refused(error.to_string()))?;
    }
    Ok(object)
}

fn check_growth(object: &Value, operation: &PatchOperation, copied: &mut usize) -> Result<(), Status> {
    let (path, value) = match operation {
        PatchOperation::Add(add) => (&add.path, Some(&add.value)),
        PatchOperation::Replace(replace) => (&replace.path, Some(&replace.value)),
        PatchOperation::Copy(copy) => {
            let source = copy.from.resolve(object).ok();
            *copied += source.map_or(0, size);
            (&copy.path, source)
        }
        PatchOperation::Move(moved) => (&moved.path, moved.from.resolve(object).ok()),
        PatchOperation::Remove(_) | PatchOperation::Test(_) => return Ok(()),
    };
    if *copied > MAX_COPIED {
        return Err(Status::failure(
            413,
            "RequestEntityTooLarge",
            "the copy operations of the patch add too much",
        ));
    }
    if path.count() + value.map_or(0, depth) > MAX_DEPTH {
        return Err(refused("the patched object is nested too deeply".to_owned()));
    }
    Ok(())
}

fn refused(message: String) -> Status {
    Status::failure(
        422,
        "Invalid",
        format!("the server rejected our request due to an error in our request: {message}"),
    )
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// About the bytes its JSON takes.
fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 2,
        Value::Array(items) => 2 + items.iter().map(|item| 1 + size(item)).sum::<usize>(),
        Value::Object(fields) => {
            2 + fields.iter().map(|(name, value)| name.len() + 4 + size(value)).sum::<usize>()
        }
        _ => 8,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn operations_apply_in_order() {
        let patch = br#"[{"op":"test","path":"/a","value":1},{"op":"add","path":"/b/-","value":2},{"op":"remove","path":"/a"}]"#;
        assert_eq!(super::json(&json!({"a": 1, "b": [1]}), patch).unwrap(), json!({"b": [1, 2]}));
    }

    #[test]
    fn refusals_carry_upstreams_codes() {
        let code = |patch: &[u8]| super::json(&json!({"a": 1}), patch).unwrap_err().code;
        assert_eq!(code(b"{"), 400);
        assert_eq!(code(br#"[{"op":"test","path":"/a","value":2}]"#), 422);
        assert_eq!(code(br#"[{"op":"remove","path":"/zz"}]"#), 422);
    }

    #[test]
    fn copies_cannot_blow_the_object_up() {
        let mut operations = vec![json!({"op": "add", "path": "/a", "value": []})];
        for _ in 0..64 {
            operations.push(json!({"op": "copy", "from": "", "path": "/a/-"}));
        }
        let status =
            super::json(&json!({"x": "0123456789"}), json!(operations).to_string().as_bytes()).unwrap_err();
        assert!(matches!(status.code, 413 | 422));
    }

    proptest! {
        #[test]
        fn never_panics(bytes in "\\PC{0,80}") {
            let _ = super::json(&json!({"a": [1, {"b": null}]}), bytes.as_bytes());
        }
    }
}
