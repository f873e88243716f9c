//! Service-account tokens as KubeEdge keeps them: the key that its Go code formats (protocol.md §10.3) and the age at
//! which a token is renewed. Pure.

use jiff::Timestamp;
use serde_json::Value;
use std::fmt::Write;

/// No token is used longer than this before it is renewed, whatever its life.
const RENEW_AFTER_SECONDS: i64 = 24 * 3600;

/// How a kept token stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Age {
    Fresh,
    /// Still valid, and time for the next one.
    Due,
    Expired,
}

/// The key of a token request: `"name"/"namespace"/audiences/expiration/reference` in Go's verbs.
pub(super) fn key(namespace: &str, account: &str, request: &Value) -> String {
    let (before, after) = around_audiences(namespace, account, request);
    format!("{before}{}{after}", audiences(request))
}

/// The key up to and after its audiences. KubeEdge writes a token under the audiences that the answer names, and looks
/// it up under those of the request, which mostly names none.
pub(super) fn around_audiences(namespace: &str, account: &str, request: &Value) -> (String, String) {
    let spec = |pointer: &str| request.pointer(pointer).filter(|value| !value.is_null());
    let expiration = spec("/spec/expirationSeconds").and_then(Value::as_i64).unwrap_or(0);
    let reference = |field: &str| {
        let text = request.pointer(&format!("/spec/boundObjectRef/{field}")).and_then(Value::as_str);
        quoted(text.unwrap_or(""))
    };
    let after = format!(
        "/{expiration}/v1.BoundObjectReference{{Kind:{}, APIVersion:{}, Name:{}, UID:{}}}",
        reference("kind"),
        reference("apiVersion"),
        reference("name"),
        reference("uid")
    );
    (format!("{}/{}/", quoted(account), quoted(namespace)), after)
}

/// Whether the request leaves the audiences to the cluster.
pub(super) fn names_no_audience(request: &Value) -> bool {
    request.pointer("/spec/audiences").and_then(Value::as_array).is_none_or(Vec::is_empty)
}

/// An absent list, a null and an empty one are one thing to the cluster; KubeEdge's own requests have no list.
fn audiences(request: &Value) -> String {
    if names_no_audience(request) {
        return "[]string(nil)".to_owned();
    }
    let list = request.pointer("/spec/audiences").and_then(Value::as_array);
    let quoted: Vec<String> = list.into_iter().flatten().filter_map(Value::as_str).map(quoted).collect();
    format!("[]string{{{}}}", quoted.join(", "))
}

/// Go's `%q` for the names that Kubernetes allows.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => {
                // Writing to a string cannot fail.
                let _infallible = write!(out, "\\x{:02x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Whether an answer carries a token.
pub(super) fn is_complete(answer: &Value) -> bool {
    answer.pointer("/status/token").and_then(Value::as_str).is_some_and(|token| !token.is_empty())
}

/// Fresh for 80 % of its life and at most a day.
pub(super) fn age(answer: &Value, now: Timestamp) -> Age {
    let expires = answer.pointer("/status/expirationTimestamp").and_then(Value::as_str);
    let Some(expires) = expires.and_then(|text| text.parse::<Timestamp>().ok()) else { return Age::Expired };
    let life = answer.pointer("/spec/expirationSeconds").and_then(Value::as_i64).unwrap_or(3600).max(0);
    let left = expires.as_second() - now.as_second();
    let used = life - left;
    if !is_complete(answer) || left <= 0 {
        Age::Expired
    } else if used.saturating_mul(10) >= life.saturating_mul(8) || used >= RENEW_AFTER_SECONDS {
        Age::Due
    } else {
        Age::Fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_are_those_of_kubeedge() {
        let request = json!({"spec": {"audiences": null, "expirationSeconds": 3607,
            "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": "u"}}});
        assert_eq!(
            key("kube-system", "default", &request),
            r#""default"/"kube-system"/[]string(nil)/3607/v1.BoundObjectReference{Kind:"Pod", APIVersion:"v1", Name:"p", UID:"u"}"#
        );
        for none in [json!({"spec": {"audiences": []}}), json!({"spec": {}})] {
            assert!(key("d", "s", &none).starts_with(r#""s"/"d"/[]string(nil)/0/"#), "{none}");
        }
        let request = json!({"spec": {"audiences": ["a", "b"]}});
        assert!(key("d", "s", &request).starts_with(r#""s"/"d"/[]string{"a", "b"}/0/"#));
    }

    #[test]
    fn a_token_is_renewed_after_four_fifths_of_its_life_or_a_day() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let token = |life: i64, left: i64| {
            let at = Timestamp::from_second(1_000_000 + left).unwrap().to_string();
            json!({"spec": {"expirationSeconds": life}, "status": {"token": "t", "expirationTimestamp": at}})
        };
        assert_eq!(age(&token(1000, 900), now), Age::Fresh);
        assert_eq!(age(&token(1000, 201), now), Age::Fresh);
        assert_eq!(age(&token(1000, 200), now), Age::Due);
        assert_eq!(age(&token(1000, 0), now), Age::Expired);
        assert_eq!(age(&token(10 * 86_400, 9 * 86_400), now), Age::Due);
        assert_eq!(age(&json!({}), now), Age::Expired);
    }
}
