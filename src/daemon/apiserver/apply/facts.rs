//! How the lists and maps of a kind are owned and merged, whether the kind is built in or described by a schema.

use super::super::schema::{ListType, Schema};
use super::super::types::{Shape, Spec, Type, key_default};
use serde_json::{Map, Value};
use std::sync::Arc;

/// The merge facts of one kind.
#[derive(Clone, Debug)]
pub struct Facts {
    root: Root,
}

#[derive(Clone, Debug)]
enum Root {
    BuiltIn(Type),
    Custom(Arc<Schema>),
    Unknown,
}

/// A place in an object of that kind.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    known: Known<'a>,
    place: Place,
}

#[derive(Clone, Copy)]
enum Known<'a> {
    Type(Type),
    Spec(Spec),
    Custom(&'a Schema),
    /// Without a description maps are walked and lists are whole.
    Nothing,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Root,
    Metadata,
    Inside,
}

/// How a value is taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Relation<'a> {
    Whole,
    Fields,
    Set,
    Keyed(Vec<&'a str>),
}

impl Facts {
    /// The facts of a built-in kind; one that is not known is treated like an object without a schema.
    pub fn built_in(group: &str, version: &str, kind: &str) -> Facts {
        let of = Type::of_kind(group, Some(version), kind).or_else(|| Type::of_kind(group, None, kind));
        Facts { root: of.map_or(Root::Unknown, Root::BuiltIn) }
    }

    /// The facts of a custom resource.
    pub fn custom(schema: Option<Arc<Schema>>) -> Facts {
        Facts { root: schema.map_or(Root::Unknown, Root::Custom) }
    }

    pub(super) fn root(&self) -> Node<'_> {
        let known = match &self.root {
            Root::BuiltIn(of) => Known::Type(*of),
            Root::Custom(schema) => Known::Custom(schema),
            Root::Unknown => Known::Nothing,
        };
        Node { known, place: Place::Root }
    }
}

impl<'a> Node<'a> {
    /// Identity and bookkeeping that nobody owns.
    pub(super) fn skips(self, name: &str) -> bool {
        match self.place {
            Place::Root => matches!(name, "apiVersion" | "kind"),
            Place::Metadata => matches!(
                name,
                "name"
                    | "namespace"
                    | "creationTimestamp"
                    | "selfLink"
                    | "uid"
                    | "clusterName"
                    | "generation"
                    | "managedFields"
                    | "resourceVersion"
            ),
            Place::Inside => false,
        }
    }

    /// The node of a field, and whether it is a declared one rather than an entry of a map.
    pub(super) fn field(self, name: &str) -> (Node<'a>, bool) {
        let inside = |known| Node { known, place: Place::Inside };
        let entry = (inside(Known::Nothing), false);
        if self.place == Place::Root && name == "metadata" {
            let known = Type::named("meta.v1.ObjectMeta").map_or(Known::Nothing, Known::Type);
            return (Node { known, place: Place::Metadata }, true);
        }
        let declared = |of: Type| of.field(name).map_or(entry, |spec| (inside(Known::Spec(spec)), true));
        match self.known {
            Known::Type(of) => declared(of),
            Known::Spec(spec) => match spec.shape() {
                Shape::Struct(of) => declared(of),
                Shape::Map(value) => (inside(Known::Spec(value)), false),
                Shape::List(_) | Shape::Scalar(_) | Shape::Any => entry,
            },
            Known::Custom(schema) if schema.is_embedded_resource() && name == "metadata" => {
                (inside(Type::named("meta.v1.ObjectMeta").map_or(Known::Nothing, Known::Type)), true)
            }
            Known::Custom(schema) => match schema.field(name) {
                Some(field) => (inside(Known::Custom(field)), schema.declares(name)),
                None => entry,
            },
            Known::Nothing => entry,
        }
    }

    pub(super) fn item(self) -> Node<'a> {
        let known = match self.known {
            Known::Spec(spec) => match spec.shape() {
                Shape::List(item) => Known::Spec(item),
                _ => Known::Nothing,
            },
            Known::Custom(schema) => schema.item().map_or(Known::Nothing, Known::Custom),
            Known::Type(_) | Known::Nothing => Known::Nothing,
        };
        Node { known, place: Place::Inside }
    }

    pub(super) fn relation(self, value: &Value) -> Relation<'a> {
        match value {
            Value::Object(_) => match self.known {
                Known::Spec(spec) if spec.is_atomic() && !matches!(spec.shape(), Shape::Any) => {
                    Relation::Whole
                }
                Known::Custom(schema) if schema.is_atomic_map() => Relation::Whole,
                _ => Relation::Fields,
            },
            Value::Array(_) => match self.known {
                Known::Spec(spec) => match spec.list_keys() {
                    Some(keys) => Relation::Keyed(sorted(keys.split(',').collect())),
                    None if spec.is_set() => Relation::Set,
                    None => Relation::Whole,
                },
                Known::Custom(schema) => match schema.list_type() {
                    ListType::Map(keys) => Relation::Keyed(sorted(keys.iter().map(String::as_str).collect())),
                    ListType::Set => Relation::Set,
                    ListType::Atomic => Relation::Whole,
                },
                Known::Type(_) | Known::Nothing => Relation::Whole,
            },
            _ => Relation::Whole,
        }
    }

    /// The path element of a list item: `k:{"name":"a"}`. This node is the list's.
    pub(super) fn key_of(self, keys: &[&str], item: &Value) -> String {
        let mut parts = Map::new();
        for key in keys {
            if let Some(value) = item.get(*key).cloned().or_else(|| self.default_of(key)) {
                parts.insert((*key).to_owned(), value);
            }
        }
        format!("k:{}", Value::Object(parts))
    }

    fn default_of(self, key: &str) -> Option<Value> {
        match self.known {
            Known::Custom(schema) => schema.item()?.field(key)?.default_value().cloned(),
            Known::Spec(_) => key_default(key).map(Value::from),
            Known::Type(_) | Known::Nothing => None,
        }
    }
}

fn sorted(mut keys: Vec<&str>) -> Vec<&str> {
    keys.sort_unstable();
    keys
}
