//! Messages on paper: what both simulated ends write and read, apart from `kedge::wire`.

use kedge::base::{now_ms, uuid4};
use serde_json::{Value, json};

pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

pub fn id(message: &Value) -> &str {
    text(message, "/header/msg_id")
}

pub fn parent(message: &Value) -> &str {
    text(message, "/header/parent_msg_id")
}

/// A new message: source, group, operation, resource.
pub fn message(route: [&str; 4], content: Value) -> Value {
    let [source, group, operation, resource] = route;
    json!({
        "header": {"msg_id": uuid4(), "timestamp": now_ms()},
        "route": {"source": source, "group": group, "operation": operation, "resource": resource},
        "content": content,
    })
}

/// The answer to a message: route echoed, operation `response`.
pub fn response(to: &Value, content: Value) -> Value {
    let route = |name: &str| text(to, &format!("/route/{name}"));
    let mut answer = message([route("source"), route("group"), "response", route("resource")], content);
    answer["header"]["parent_msg_id"] = json!(id(to));
    answer
}

/// The text of a message as Go writes it.
pub fn go_text(message: &Value) -> String {
    let part = |name: &str| message.get(name).cloned().unwrap_or_default().to_string();
    let text = format!(
        "{{\"header\":{},\"route\":{},\"content\":{}}}\n",
        part("header"),
        part("route"),
        part("content")
    );
    // These characters stand in strings only.
    text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

pub fn brief(message: &Value) -> String {
    let content = message.get("content").map(Value::to_string).unwrap_or_default();
    let content: String = content.chars().take(300).collect();
    format!("{} {} {content}", message["header"], message["route"])
}
