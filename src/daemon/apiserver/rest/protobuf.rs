//! Kubernetes' protobuf bodies, for the kinds that kubectl's own commands send that way (`create namespace`, `create
//! token`, `auth can-i`, …). They become JSON at the door. A set field that the tables below do not know refuses the
//! whole body: nothing is lost silently.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

const MAGIC: &[u8] = b"k8s\0";
const MAX_DEPTH: usize = 24;

/// How the bytes of a field become JSON.
#[derive(Clone, Copy)]
enum Form {
    Text,
    Texts,
    Number,
    Flag,
    TextMap,
    BytesMap,
    One(&'static [Field]),
    Many(&'static [Field]),
    Quantities,
    /// Always written by clients and never theirs to set.
    Skip,
}

type Field = (u64, &'static str, Form);

use Form::{BytesMap, Flag, Many, Number, One, Quantities, Skip, Text, TextMap, Texts};

const OWNER: &[Field] = &[
    (1, "kind", Text),
    (3, "name", Text),
    (4, "uid", Text),
    (5, "apiVersion", Text),
    (6, "controller", Flag),
    (7, "blockOwnerDeletion", Flag),
];
const META: &[Field] = &[
    (1, "name", Text),
    (2, "generateName", Text),
    (3, "namespace", Text),
    (4, "selfLink", Text),
    (5, "uid", Text),
    (6, "resourceVersion", Text),
    (7, "generation", Number),
    (8, "creationTimestamp", Skip),
    (11, "labels", TextMap),
    (12, "annotations", TextMap),
    (13, "ownerReferences", Many(OWNER)),
    (14, "finalizers", Texts),
    (17, "managedFields", Skip),
];
const NAMED: &[Field] = &[(1, "name", Text)];
const NAMESPACE: &[Field] =
    &[(1, "metadata", One(META)), (2, "spec", One(&[(1, "finalizers", Texts)])), (3, "", Skip)];
const ACCOUNT: &[Field] = &[
    (1, "metadata", One(META)),
    (3, "imagePullSecrets", Many(NAMED)),
    (4, "automountServiceAccountToken", Flag),
];
const CONFIG: &[Field] =
    &[(1, "metadata", One(META)), (2, "data", TextMap), (3, "binaryData", BytesMap), (4, "immutable", Flag)];
const SECRET: &[Field] = &[
    (1, "metadata", One(META)),
    (2, "data", BytesMap),
    (3, "type", Text),
    (4, "stringData", TextMap),
    (5, "immutable", Flag),
];
const BOUND: &[Field] = &[(1, "kind", Text), (2, "apiVersion", Text), (3, "name", Text), (4, "uid", Text)];
const TOKEN_SPEC: &[Field] =
    &[(1, "audiences", Texts), (3, "boundObjectRef", One(BOUND)), (4, "expirationSeconds", Number)];
const TOKEN: &[Field] = &[(1, "metadata", One(META)), (2, "spec", One(TOKEN_SPEC)), (3, "", Skip)];
const RESOURCE: &[Field] = &[
    (1, "namespace", Text),
    (2, "verb", Text),
    (3, "group", Text),
    (4, "version", Text),
    (5, "resource", Text),
    (6, "subresource", Text),
    (7, "name", Text),
];
const ACCESS_SPEC: &[Field] = &[
    (1, "resourceAttributes", One(RESOURCE)),
    (2, "nonResourceAttributes", One(&[(1, "path", Text), (2, "verb", Text)])),
];
const ACCESS: &[Field] = &[(1, "metadata", One(META)), (2, "spec", One(ACCESS_SPEC)), (3, "", Skip)];
const RULES: &[Field] =
    &[(1, "metadata", One(META)), (2, "spec", One(&[(1, "namespace", Text)])), (3, "", Skip)];
const SELF: &[Field] = &[(1, "metadata", One(META)), (2, "", Skip)];
const RULE: &[Field] = &[
    (1, "verbs", Texts),
    (2, "apiGroups", Texts),
    (3, "resources", Texts),
    (4, "resourceNames", Texts),
    (5, "nonResourceURLs", Texts),
];
const ROLE: &[Field] = &[(1, "metadata", One(META)), (2, "rules", Many(RULE))];
const SUBJECT: &[Field] =
    &[(1, "kind", Text), (2, "apiGroup", Text), (3, "name", Text), (4, "namespace", Text)];
const ROLE_REF: &[Field] = &[(1, "apiGroup", Text), (2, "kind", Text), (3, "name", Text)];
const BINDING: &[Field] =
    &[(1, "metadata", One(META)), (2, "subjects", Many(SUBJECT)), (3, "roleRef", One(ROLE_REF))];
const PRECONDITIONS: &[Field] = &[(1, "uid", Text), (2, "resourceVersion", Text)];
const DELETE: &[Field] = &[
    (1, "gracePeriodSeconds", Number),
    (2, "preconditions", One(PRECONDITIONS)),
    (3, "orphanDependents", Flag),
    (4, "propagationPolicy", Text),
    (5, "dryRun", Texts),
];
const EVICTION: &[Field] = &[(1, "metadata", One(META)), (2, "deleteOptions", One(DELETE))];
const PORT: &[Field] = &[
    (1, "name", Text),
    (2, "hostPort", Number),
    (3, "containerPort", Number),
    (4, "protocol", Text),
    (5, "hostIP", Text),
];
const RESOURCES: &[Field] = &[(1, "limits", Quantities), (2, "requests", Quantities)];
const CONTAINER: &[Field] = &[
    (1, "name", Text),
    (2, "image", Text),
    (3, "command", Texts),
    (4, "args", Texts),
    (5, "workingDir", Text),
    (6, "ports", Many(PORT)),
    (7, "env", Many(&[(1, "name", Text), (2, "value", Text)])),
    (8, "resources", One(RESOURCES)),
    (13, "terminationMessagePath", Text),
    (14, "imagePullPolicy", Text),
    (16, "stdin", Flag),
    (17, "stdinOnce", Flag),
    (18, "tty", Flag),
    (20, "terminationMessagePolicy", Text),
];
const POD_SPEC: &[Field] = &[
    (2, "containers", Many(CONTAINER)),
    (3, "restartPolicy", Text),
    (4, "terminationGracePeriodSeconds", Number),
    (6, "dnsPolicy", Text),
    (7, "nodeSelector", TextMap),
    (8, "serviceAccountName", Text),
    (9, "serviceAccount", Text),
    (10, "nodeName", Text),
    (11, "hostNetwork", Flag),
    (19, "schedulerName", Text),
];
const TEMPLATE: &[Field] = &[(1, "metadata", One(META)), (2, "spec", One(POD_SPEC))];
const POD: &[Field] = &[(1, "metadata", One(META)), (2, "spec", One(POD_SPEC)), (3, "", Skip)];
const SELECTOR: &[Field] = &[(1, "matchLabels", TextMap)];
const DEPLOYMENT_SPEC: &[Field] = &[
    (1, "replicas", Number),
    (2, "selector", One(SELECTOR)),
    (3, "template", One(TEMPLATE)),
    (4, "strategy", One(&[(1, "type", Text)])),
];
const DEPLOYMENT: &[Field] = &[(1, "metadata", One(META)), (2, "spec", One(DEPLOYMENT_SPEC)), (3, "", Skip)];

fn table(kind: &str) -> Option<&'static [Field]> {
    Some(match kind {
        "Namespace" => NAMESPACE,
        "ServiceAccount" => ACCOUNT,
        "ConfigMap" => CONFIG,
        "Secret" => SECRET,
        "TokenRequest" => TOKEN,
        "SelfSubjectAccessReview" => ACCESS,
        "SelfSubjectRulesReview" => RULES,
        "SelfSubjectReview" => SELF,
        "Role" | "ClusterRole" => ROLE,
        "RoleBinding" | "ClusterRoleBinding" => BINDING,
        "DeleteOptions" => DELETE,
        "Eviction" => EVICTION,
        "Pod" => POD,
        "Deployment" => DEPLOYMENT,
        _ => return None,
    })
}

/// One field as it stands in the bytes.
enum Raw<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn next<'a>(bytes: &mut &'a [u8]) -> Option<(u64, Raw<'a>)> {
    let tag = varint(bytes)?;
    let raw = match tag & 7 {
        0 => Raw::Varint(varint(bytes)?),
        2 => {
            let length = usize::try_from(varint(bytes)?).ok()?;
            let (value, rest) = bytes.split_at_checked(length)?;
            *bytes = rest;
            Raw::Bytes(value)
        }
        _ => return None,
    };
    Some((tag >> 3, raw))
}

fn text(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}

/// The two fields of a map's entry.
fn entry(mut bytes: &[u8]) -> Option<(String, &[u8])> {
    let (mut key, mut value): (&[u8], &[u8]) = (&[], &[]);
    while !bytes.is_empty() {
        match next(&mut bytes)? {
            (1, Raw::Bytes(found)) => key = found,
            (2, Raw::Bytes(found)) => value = found,
            _ => return None,
        }
    }
    Some((text(key)?, value))
}

fn message(mut bytes: &[u8], fields: &[Field], depth: usize) -> Option<Map<String, Value>> {
    if depth > MAX_DEPTH {
        return None;
    }
    let mut object = Map::new();
    while !bytes.is_empty() {
        let (number, raw) = next(&mut bytes)?;
        let known = fields.iter().find(|(at, _, _)| *at == number);
        match (known, raw) {
            (None, Raw::Varint(0) | Raw::Bytes([])) | (Some((_, _, Skip)), _) => {}
            (Some((_, name, form)), raw) => set(&mut object, name, *form, raw, depth)?,
            (None, _) => return None,
        }
    }
    Some(object)
}

fn set(object: &mut Map<String, Value>, name: &str, form: Form, raw: Raw<'_>, depth: usize) -> Option<()> {
    let push = |value: Value, object: &mut Map<String, Value>| {
        if let Some(list) = object.entry(name).or_insert_with(|| json!([])).as_array_mut() {
            list.push(value);
        }
    };
    match (form, raw) {
        // Empty texts and numbers are written where nothing was set.
        (Text, Raw::Bytes([])) => {}
        (Text, Raw::Bytes(bytes)) => drop(object.insert(name.to_owned(), text(bytes)?.into())),
        (Texts, Raw::Bytes(bytes)) => push(text(bytes)?.into(), object),
        (Number, Raw::Varint(0)) if name != "gracePeriodSeconds" && name != "replicas" => {}
        (Number, Raw::Varint(value)) => drop(object.insert(name.to_owned(), value.cast_signed().into())),
        (Flag, Raw::Varint(value)) => drop(object.insert(name.to_owned(), (value != 0).into())),
        (One(fields), Raw::Bytes(bytes)) => {
            drop(object.insert(name.to_owned(), message(bytes, fields, depth + 1)?.into()));
        }
        (Many(fields), Raw::Bytes(bytes)) => push(message(bytes, fields, depth + 1)?.into(), object),
        (TextMap | BytesMap | Quantities, Raw::Bytes(bytes)) => {
            let (key, value) = entry(bytes)?;
            let value = match form {
                BytesMap => STANDARD.encode(value),
                Quantities => {
                    message(value, &[(1, "text", Text)], depth + 1)?.get("text")?.as_str()?.to_owned()
                }
                _ => text(value)?,
            };
            if let Some(map) = object.entry(name).or_insert_with(|| json!({})).as_object_mut() {
                map.insert(key, value.into());
            }
        }
        _ => return None,
    }
    Some(())
}

/// The object in a body, or `None` where it cannot be read without loss.
pub fn object(body: &[u8]) -> Option<Value> {
    let mut bytes = body.strip_prefix(MAGIC)?;
    let (mut kind, mut raw) = (Map::new(), &[][..]);
    while !bytes.is_empty() {
        match next(&mut bytes)? {
            (1, Raw::Bytes(found)) => {
                kind = message(found, &[(1, "apiVersion", Text), (2, "kind", Text)], 0)?
            }
            (2, Raw::Bytes(found)) => raw = found,
            (3 | 4, Raw::Bytes(_)) => {}
            _ => return None,
        }
    }
    let mut object = message(raw, table(kind.get("kind")?.as_str()?)?, 0)?;
    object.extend(kind);
    Some(object.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_read() {
        let mut body = b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09Namespace\x12\x0f".to_vec();
        body.extend_from_slice(b"\x0a\x07\x0a\x01x\x12\x00\x1a\x00\x12\x00\x1a\x02\x0a\x00");
        let read = object(&body).unwrap();
        assert_eq!(
            read,
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}, "spec": {}})
        );
    }

    #[test]
    fn what_is_not_known_is_refused_and_nothing_panics() {
        for body in
            [&b""[..], b"k8s\0", b"k8s\0\xff\xff\xff", b"k8s\0\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01x"]
        {
            assert!(object(body).is_none());
        }
        let mut unknown = b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09Namespace\x12\x04".to_vec();
        unknown.extend_from_slice(b"\xa2\x06\x01x");
        assert!(object(&unknown).is_none());
    }
}
