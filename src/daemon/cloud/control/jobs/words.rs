//! What a node says of its part, cut to what a status keeps: an object of the API has its limits, and one node's row leaves
//! room for those of the others. Pure; `plan` and `stages` write with it.

use super::Engine;
use crate::wire::task::SKIPPED;
use serde_json::{Value, json};

/// Characters of a node's reason that are kept.
pub(super) const REASON: usize = 1024;
/// Images that are kept, and characters of the name and of the reason of each.
const IMAGES: usize = 64;
const NAME: usize = 256;
const WHY: usize = 512;
/// Bytes of a list of images that are read; a longer one is none.
const LIST: usize = 4 << 20;

/// A node's own words, cut to what is kept; none makes it one that was skipped.
pub(super) fn words(reason: &str) -> String {
    reason.trim_start_matches(SKIPPED).chars().take(REASON).collect()
}

/// The images of a report in the words of the engine's API, whichever of the two forms the node speaks; `None` when the
/// text is no list.
pub(super) fn images(engine: Engine, said: &str) -> Option<Value> {
    if said.len() > LIST {
        return None;
    }
    let Ok(Value::Array(list)) = serde_json::from_str(said) else { return None };
    Some(list.iter().take(IMAGES).map(|one| image(engine, one)).collect())
}

fn image(engine: Engine, said: &Value) -> Value {
    let text = |field: &str, most: usize| -> String {
        let whole = said.get(field).and_then(Value::as_str).unwrap_or_default();
        words(whole).chars().take(most).collect()
    };
    let done = said.get("status").is_some_and(|status| status == "True")
        || said.get("state").is_some_and(|state| state == "Successful");
    let (field, word) = match (engine, done) {
        (Engine::Actions, true) => ("status", "True"),
        (Engine::Actions, false) => ("status", "False"),
        (Engine::Stages, true) => ("state", "Successful"),
        (Engine::Stages, false) => ("state", "Failed"),
    };
    let mut image = json!({"image": text("image", NAME), field: word});
    let why = text("reason", WHY);
    if !why.is_empty() {
        image["reason"] = json!(why);
    }
    image
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_of_either_form_are_written_in_the_words_of_the_api() {
        let actions = r#"[{"image":"a","status":"True"},{"image":"b","status":"False","reason":"why"}]"#;
        let stages = r#"[{"image":"a","state":"Successful"},{"image":"b","state":"Failed","reason":"why"}]"#;
        for said in [actions, stages] {
            assert_eq!(images(Engine::Actions, said), serde_json::from_str(actions).ok());
            assert_eq!(images(Engine::Stages, said), serde_json::from_str(stages).ok());
        }
        for none in ["", "{}", "7", "[", "v1,v2"] {
            assert_eq!(images(Engine::Actions, none), None, "{none}");
        }
    }

    #[test]
    fn what_is_no_text_or_too_long_is_not_kept() {
        let odd = images(Engine::Actions, r#"[7,{"status":5},{"image":["x"],"status":"True"}]"#).unwrap();
        let nothing = json!({"image": "", "status": "False"});
        assert_eq!(odd, json!([nothing, nothing, {"image": "", "status": "True"}]));
        let why = format!("skipped: {}", "r".repeat(9000));
        let long = json!({"image": "i".repeat(9000), "status": "False", "reason": why});
        let kept = images(Engine::Stages, &json!([long]).to_string()).unwrap();
        let length = |field: &str| kept[0][field].as_str().unwrap().len();
        assert_eq!((length("image"), length("reason")), (NAME, WHY));
        assert!(kept[0]["reason"].as_str().unwrap().starts_with('r'));
        assert_eq!(images(Engine::Actions, &format!("[{}]", " ".repeat(LIST))), None);
    }
}
