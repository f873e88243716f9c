//! Structural schemas of custom resources: compiled once per CRD version, then used to prune, to fill in defaults and
//! to validate objects, with upstream's wording. The CRD registry compiles them; create, update and patch use them.
//! Server-side apply reads list and map types from the same nodes. Bounded in size and depth; no I/O.
//!
//! `compile` JSON -> [`Schema`] · `shape` prune, defaults, unknown fields · `validate` -> [`FieldError`]s

mod compile;
mod shape;
mod validate;

pub use validate::{FieldError, invalid_status};

use regex::Regex;
use serde_json::{Number, Value};
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// A node of a structural schema.
#[derive(Debug, Default)]
pub struct Schema {
    kind: Option<Kind>,
    nullable: bool,
    int_or_string: bool,
    preserve_unknown: bool,
    embedded: bool,
    properties: BTreeMap<Box<str>, Schema>,
    additional: Additional,
    items: Option<Box<Schema>>,
    required: Vec<Box<str>>,
    default: Option<Value>,
    list: ListType,
    map_atomic: bool,
    limits: Option<Box<Limits>>,
    logic: Option<Box<Logic>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

#[derive(Debug, Default)]
enum Additional {
    #[default]
    Unsaid,
    Any,
    Schema(Box<Schema>),
}

/// How the items of a list merge and which may stand twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListType {
    #[default]
    Atomic,
    Set,
    Map(Vec<String>),
}

/// Bounds on a value; rare, so they stand apart from the node.
#[derive(Debug, Default)]
struct Limits {
    choices: Option<Vec<Value>>,
    pattern: Option<Pattern>,
    format: Option<Box<str>>,
    minimum: Option<Number>,
    maximum: Option<Number>,
    exclusive_minimum: bool,
    exclusive_maximum: bool,
    multiple_of: Option<f64>,
    min_length: Option<u64>,
    max_length: Option<u64>,
    min_items: Option<u64>,
    max_items: Option<u64>,
    unique_items: bool,
    min_properties: Option<u64>,
    max_properties: Option<u64>,
}

/// A regular expression that takes memory only once an object has been checked against it.
#[derive(Debug)]
struct Pattern {
    text: Box<str>,
    compiled: OnceLock<Option<Regex>>,
}

#[derive(Debug, Default)]
struct Logic {
    all_of: Vec<Schema>,
    any_of: Vec<Schema>,
    one_of: Vec<Schema>,
    not: Option<Schema>,
}

impl Schema {
    /// The schema of a field of an object, named or any.
    pub fn field(&self, name: &str) -> Option<&Schema> {
        self.properties.get(name).or(match &self.additional {
            Additional::Schema(schema) => Some(schema),
            Additional::Unsaid | Additional::Any => None,
        })
    }

    /// Whether `name` is one of the properties rather than an entry of a map.
    pub fn declares(&self, name: &str) -> bool {
        self.properties.contains_key(name)
    }

    /// The schema of a list's items.
    pub fn item(&self) -> Option<&Schema> {
        self.items.as_deref()
    }

    pub fn list_type(&self) -> &ListType {
        &self.list
    }

    /// Whether server-side apply owns the object as a whole.
    pub fn is_atomic_map(&self) -> bool {
        self.map_atomic
    }

    pub fn is_embedded_resource(&self) -> bool {
        self.embedded
    }

    /// The value of a list key that an item leaves out.
    pub fn default_value(&self) -> Option<&Value> {
        self.default.as_ref()
    }
}

#[cfg(test)]
mod tests;
