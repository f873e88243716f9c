//! Label and field selectors: what `?labelSelector=`, `?fieldSelector=` and `metav1.LabelSelector` objects say, and
//! whether an object answers to it. Called by list and watch and by the controllers; reads objects, never changes them.

use crate::model::Status;
use serde_json::Value;

/// More requirements than any client writes; the bound keeps a hostile query string cheap.
const MAX_REQUIREMENTS: usize = 256;
const MAX_VALUES: usize = 1024;

/// A conjunction of requirements on labels; the empty one matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
    matches_nothing: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
    GreaterThan(i64),
    LessThan(i64),
}

/// A conjunction of `path=value` and `path!=value` on an object's fields; the empty one matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    terms: Vec<FieldTerm>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct FieldTerm {
    path: String,
    value: String,
    equal: bool,
}

impl LabelSelector {
    /// Matches every object.
    pub fn everything() -> Self {
        LabelSelector::default()
    }

    /// Matches no object: what a missing `metav1.LabelSelector` means.
    pub fn nothing() -> Self {
        LabelSelector { requirements: Vec::new(), matches_nothing: true }
    }

    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty() && !self.matches_nothing
    }

    /// Reads `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1,m<2`.
    pub fn parse(text: &str) -> Result<Self, Status> {
        let mut parser = Parser { tokens: tokens(text)?, at: 0 };
        let mut requirements = Vec::new();
        while !parser.at_end() {
            if requirements.len() == MAX_REQUIREMENTS {
                return Err(bad("unable to parse requirement: too many requirements"));
            }
            requirements.push(parser.requirement()?);
            if !parser.at_end() {
                parser.expect(&Token::Comma, "','")?;
                if parser.at_end() {
                    return Err(bad("unable to parse requirement: found '', expected: identifier after ','"));
                }
            }
        }
        Ok(LabelSelector { requirements, matches_nothing: false })
    }

    /// Reads a `metav1.LabelSelector`; null matches nothing, `{}` everything, as upstream.
    pub fn from_object(selector: &Value) -> Result<Self, Status> {
        if selector.is_null() {
            return Ok(LabelSelector::nothing());
        }
        let Some(fields) = selector.as_object() else {
            return Err(bad("a label selector must be an object"));
        };
        let mut requirements = match fields.get("matchLabels") {
            Some(labels) => equalities(labels)?,
            None => Vec::new(),
        };
        let expressions = fields.get("matchExpressions").and_then(Value::as_array);
        for expression in expressions.into_iter().flatten().take(MAX_REQUIREMENTS) {
            requirements.push(requirement_of(expression)?);
        }
        Ok(LabelSelector { requirements, matches_nothing: false })
    }

    /// Reads a plain map of labels, as in `Service.spec.selector` or `ReplicationController.spec.selector`.
    pub fn from_map(labels: &Value) -> Result<Self, Status> {
        Ok(LabelSelector { requirements: equalities(labels)?, matches_nothing: false })
    }

    /// Whether `object.metadata.labels` satisfies every requirement.
    pub fn matches(&self, object: &Value) -> bool {
        let labels = object.get("metadata").and_then(|metadata| metadata.get("labels"));
        self.matches_labels(labels.unwrap_or(&Value::Null))
    }

    /// Whether a map of labels satisfies every requirement.
    pub fn matches_labels(&self, labels: &Value) -> bool {
        !self.matches_nothing
            && self.requirements.iter().all(|r| r.test.holds(labels.get(&r.key).and_then(Value::as_str)))
    }
}

impl Test {
    fn holds(&self, value: Option<&str>) -> bool {
        match self {
            Test::In(values) => value.is_some_and(|value| values.iter().any(|v| v == value)),
            Test::NotIn(values) => value.is_none_or(|value| values.iter().all(|v| v != value)),
            Test::Exists => value.is_some(),
            Test::DoesNotExist => value.is_none(),
            Test::GreaterThan(bound) => value.and_then(|v| v.parse::<i64>().ok()).is_some_and(|v| v > *bound),
            Test::LessThan(bound) => value.and_then(|v| v.parse::<i64>().ok()).is_some_and(|v| v < *bound),
        }
    }
}

fn equalities(labels: &Value) -> Result<Vec<Requirement>, Status> {
    let Some(labels) = labels.as_object() else {
        return if labels.is_null() { Ok(Vec::new()) } else { Err(bad("labels must be a map")) };
    };
    let mut requirements = Vec::with_capacity(labels.len());
    for (key, value) in labels {
        let Some(value) = value.as_str() else {
            return Err(bad(format!("the value of label {key:?} must be a string")));
        };
        requirements.push(Requirement { key: key.clone(), test: Test::In(vec![value.to_owned()]) });
    }
    Ok(requirements)
}

fn requirement_of(expression: &Value) -> Result<Requirement, Status> {
    let text = |name: &str| expression.get(name).and_then(Value::as_str).unwrap_or_default();
    let values: Vec<String> = expression
        .get("values")
        .and_then(Value::as_array)
        .map(|values| values.iter().filter_map(Value::as_str).map(str::to_owned).collect())
        .unwrap_or_default();
    let one_integer = || match values.as_slice() {
        [value] => {
            value.parse::<i64>().map_err(|_| bad("for 'Gt', 'Lt' operators, the value must be an integer"))
        }
        _ => Err(bad("for 'Gt', 'Lt' operators, exactly one value is required")),
    };
    let test = match text("operator") {
        "In" | "NotIn" if values.is_empty() => {
            return Err(bad("for 'in', 'notin' operators, values set can't be empty"));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            return Err(bad("values set must be empty for exists and does not exist"));
        }
        "In" => Test::In(values),
        "NotIn" => Test::NotIn(values),
        "Exists" => Test::Exists,
        "DoesNotExist" => Test::DoesNotExist,
        "Gt" => Test::GreaterThan(one_integer()?),
        "Lt" => Test::LessThan(one_integer()?),
        other => return Err(bad(format!("{other:?} is not a valid label selector operator"))),
    };
    let key = text("key");
    check_key(key)?;
    Ok(Requirement { key: key.to_owned(), test })
}

// === the language of labelSelector= ===

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Comma,
    Open,
    Close,
    Not,
    Equal,
    NotEqual,
    Greater,
    Less,
}

fn tokens(text: &str) -> Result<Vec<Token>, Status> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let token = match c {
            c if c.is_whitespace() => continue,
            ',' => Token::Comma,
            '(' => Token::Open,
            ')' => Token::Close,
            '>' => Token::Greater,
            '<' => Token::Less,
            '=' => {
                chars.next_if_eq(&'=');
                Token::Equal
            }
            '!' if chars.next_if_eq(&'=').is_some() => Token::NotEqual,
            '!' => Token::Not,
            first => {
                let mut word = String::from(first);
                while let Some(next) = chars.next_if(|c| !c.is_whitespace() && !",()><=!".contains(*c)) {
                    word.push(next);
                }
                Token::Word(word)
            }
        };
        tokens.push(token);
        if tokens.len() > MAX_REQUIREMENTS * MAX_VALUES {
            return Err(bad("unable to parse requirement: selector too long"));
        }
    }
    Ok(tokens)
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn at_end(&self) -> bool {
        self.at >= self.tokens.len()
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn next(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    fn expect(&mut self, token: &Token, name: &str) -> Result<(), Status> {
        match self.next() {
            Some(found) if found == *token => Ok(()),
            found => Err(unexpected(found.as_ref(), name)),
        }
    }

    fn requirement(&mut self) -> Result<Requirement, Status> {
        let negated = self.peek() == Some(&Token::Not);
        if negated {
            self.at += 1;
        }
        let key = match self.next() {
            Some(Token::Word(key)) => key,
            found => return Err(unexpected(found.as_ref(), "!, identifier, or 'end of string'")),
        };
        check_key(&key)?;
        if negated {
            return Ok(Requirement { key, test: Test::DoesNotExist });
        }
        let test = match self.peek().cloned() {
            None | Some(Token::Comma) => return Ok(Requirement { key, test: Test::Exists }),
            Some(operator) => {
                self.at += 1;
                self.test(&operator)?
            }
        };
        Ok(Requirement { key, test })
    }

    fn test(&mut self, operator: &Token) -> Result<Test, Status> {
        Ok(match operator {
            Token::Equal => Test::In(vec![self.value()?]),
            Token::NotEqual => Test::NotIn(vec![self.value()?]),
            Token::Greater => Test::GreaterThan(self.integer()?),
            Token::Less => Test::LessThan(self.integer()?),
            Token::Word(word) if word == "in" => Test::In(self.values()?),
            Token::Word(word) if word == "notin" => Test::NotIn(self.values()?),
            found => return Err(unexpected(Some(found), "in, notin, =, ==, !=, gt, lt")),
        })
    }

    /// A value may be empty: `a=` and `a in (,b)`.
    fn value(&mut self) -> Result<String, Status> {
        match self.peek().cloned() {
            None | Some(Token::Comma | Token::Close) => Ok(String::new()),
            Some(Token::Word(word)) => {
                self.at += 1;
                check_value(&word)?;
                Ok(word)
            }
            found => Err(unexpected(found.as_ref(), "identifier")),
        }
    }

    fn integer(&mut self) -> Result<i64, Status> {
        let value = self.value()?;
        value.parse().map_err(|_| bad("for 'Gt', 'Lt' operators, the value must be an integer"))
    }

    fn values(&mut self) -> Result<Vec<String>, Status> {
        self.expect(&Token::Open, "'('")?;
        let mut values = Vec::new();
        loop {
            values.push(self.value()?);
            if values.len() > MAX_VALUES {
                return Err(bad("unable to parse requirement: too many values"));
            }
            match self.next() {
                Some(Token::Comma) => {}
                Some(Token::Close) => return Ok(values),
                found => return Err(unexpected(found.as_ref(), "',', or ')'")),
            }
        }
    }
}

fn unexpected(found: Option<&Token>, expected: &str) -> Status {
    let found = match found {
        None => "",
        Some(Token::Word(word)) => word,
        Some(Token::Comma) => ",",
        Some(Token::Open) => "(",
        Some(Token::Close) => ")",
        Some(Token::Not) => "!",
        Some(Token::Equal) => "=",
        Some(Token::NotEqual) => "!=",
        Some(Token::Greater) => ">",
        Some(Token::Less) => "<",
    };
    bad(format!("unable to parse requirement: found '{found}', expected: {expected}"))
}

fn bad(message: impl Into<String>) -> Status {
    Status::failure(400, "BadRequest", message)
}

fn is_name(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && edge(text.chars().next())
        && edge(text.chars().next_back())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

fn check_key(key: &str) -> Result<(), Status> {
    let (prefix, name) = key.rsplit_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let prefix_is_domain = prefix.is_none_or(|prefix| {
        !prefix.is_empty()
            && prefix.len() <= 253
            && prefix.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c))
    });
    if is_name(name) && prefix_is_domain {
        return Ok(());
    }
    Err(bad(format!(
        "unable to parse requirement: <nil>: Invalid value: {key:?}: name part must consist of alphanumeric \
         characters, '-', '_' or '.', and must start and end with an alphanumeric character"
    )))
}

fn check_value(value: &str) -> Result<(), Status> {
    if is_name(value) {
        return Ok(());
    }
    Err(bad(format!(
        "unable to parse requirement: values[0]: Invalid value: {value:?}: a valid label must be an empty string or \
         consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
    )))
}

// === FieldSelector ===

impl FieldSelector {
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// Reads `metadata.name=a,status.phase!=Running`; a backslash escapes `\`, `,` and `=` in values.
    pub fn parse(text: &str) -> Result<Self, Status> {
        let mut terms = Vec::new();
        for term in split_unescaped(text) {
            if term.is_empty() {
                continue;
            }
            if terms.len() == MAX_REQUIREMENTS {
                return Err(bad("invalid field selector: too many requirements"));
            }
            terms.push(field_term(&term)?);
        }
        Ok(FieldSelector { terms })
    }

    /// The value that `path` must have, when the selector names one: a list by `metadata.name` needs no scan.
    pub fn exact(&self, path: &str) -> Option<&str> {
        self.terms.iter().find(|term| term.equal && term.path == path).map(|term| term.value.as_str())
    }

    /// Refuses paths that upstream does not index for this kind; `selectable` are a CRD's `selectableFields`
    /// without their leading dot.
    pub fn check(&self, group: &str, kind: &str, selectable: &[String]) -> Result<(), Status> {
        let known = |path: &str| {
            matches!(path, "metadata.name" | "metadata.namespace")
                || supported_fields(group, kind).contains(&path)
                || selectable.iter().any(|s| s == path)
        };
        match self.terms.iter().find(|term| !known(&term.path)) {
            None => Ok(()),
            Some(term) => Err(bad(format!("field label not supported: {}", term.path))),
        }
    }

    /// Whether the object's fields satisfy every term; a missing field counts as its zero value.
    pub fn matches(&self, object: &Value) -> bool {
        self.terms.iter().all(|term| field_equals(object, &term.path, &term.value) == term.equal)
    }
}

/// The fields beyond name and namespace that upstream's API server selects by.
fn supported_fields(group: &str, kind: &str) -> &'static [&'static str] {
    match (group, kind) {
        ("", "Pod") => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.podIPs",
            "status.nominatedNodeName",
        ],
        ("", "Node") => &["spec.unschedulable"],
        ("", "Namespace") => &["status.phase"],
        ("", "Secret") => &["type"],
        ("", "Service") => &["spec.clusterIP", "spec.type"],
        ("", "ReplicationController") => &["status.replicas"],
        ("apps", "ReplicaSet") => &["status.replicas"],
        ("batch", "Job") => &["status.successful"],
        ("certificates.k8s.io", "CertificateSigningRequest") => &["spec.signerName"],
        ("" | "events.k8s.io", "Event") => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
            "regarding.apiVersion",
            "regarding.resourceVersion",
            "regarding.fieldPath",
            "reason",
            "reportingComponent",
            "reportingController",
            "source",
            "type",
        ],
        _ => &[],
    }
}

fn field_term(term: &str) -> Result<FieldTerm, Status> {
    let invalid = || bad(format!("invalid selector: '{term}'; can't understand '{term}'"));
    let bytes = term.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let (length, equal) = match (byte, bytes.get(at + 1)) {
            (b'\\', _) => {
                at += 2;
                continue;
            }
            (b'!', Some(b'=')) => (2, false),
            (b'=', Some(b'=')) => (2, true),
            (b'=', _) => (1, true),
            _ => {
                at += 1;
                continue;
            }
        };
        let path = term.get(..at).map(str::trim).filter(|path| !path.is_empty()).ok_or_else(invalid)?;
        let value = unescape(term.get(at + length..).unwrap_or_default()).ok_or_else(invalid)?;
        return Ok(FieldTerm { path: path.to_owned(), value, equal });
    }
    Err(invalid())
}

fn split_unescaped(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut escaped = false;
    for c in text.chars() {
        if c == ',' && !escaped {
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(c);
        }
        escaped = c == '\\' && !escaped;
    }
    parts
}

fn unescape(value: &str) -> Option<String> {
    let mut plain = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => plain.push(chars.next().filter(|c| "\\,=".contains(*c))?),
            '=' => return None,
            c => plain.push(c),
        }
    }
    Some(plain)
}

fn field_equals(object: &Value, path: &str, wanted: &str) -> bool {
    // An event's source is spelt twice in its history: `source.component` and `reportingComponent`.
    if path == "source" && object.get("source").is_some_and(Value::is_object) {
        let component = at_path(object, "source.component").and_then(Value::as_str).unwrap_or_default();
        let component = if component.is_empty() {
            object.get("reportingComponent").and_then(Value::as_str).unwrap_or_default()
        } else {
            component
        };
        return component == wanted;
    }
    match at_path(object, path) {
        Some(Value::String(text)) => text == wanted,
        Some(Value::Bool(flag)) => wanted == if *flag { "true" } else { "false" },
        Some(Value::Number(number)) => number.to_string() == wanted,
        Some(_) => false,
        None => {
            let flag = matches!(path, "spec.unschedulable" | "spec.hostNetwork");
            let count = matches!(path, "status.replicas" | "status.successful");
            wanted
                == if flag {
                    "false"
                } else if count {
                    "0"
                } else {
                    ""
                }
        }
    }
}

fn at_path<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(object, |value, name| value.get(name)).filter(|value| !value.is_null())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn labelled(labels: Value) -> Value {
        json!({"metadata": {"labels": labels}})
    }

    fn matches(selector: &str, labels: Value) -> bool {
        LabelSelector::parse(selector).unwrap().matches(&labelled(labels))
    }

    #[test]
    fn equality_and_sets_select_by_label() {
        let labels = json!({"app": "web", "tier": "front", "n": "5"});
        for yes in [
            "",
            "app=web",
            "app==web",
            "app = web , tier=front",
            "app!=db",
            "missing!=x",
            "app in (web, db)",
            "app notin (db)",
            "missing notin (db)",
            "app",
            "!missing",
            "n>4",
            "n<6",
        ] {
            assert!(matches(yes, labels.clone()), "{yes}");
        }
        for no in ["app=db", "app!=web", "missing", "!app", "app in (db)", "missing in (a)", "n>5", "app>1"] {
            assert!(!matches(no, labels.clone()), "{no}");
        }
        assert!(matches("a=", json!({"a": ""})));
        assert!(!matches("a=", json!({})));
    }

    #[test]
    fn nonsense_is_a_bad_request() {
        for text in ["=a", "a=b=c", "a in b", "a in (b", "a,", ",a", "!", "a b", "a>x", "a=/"] {
            let status = LabelSelector::parse(text).unwrap_err();
            assert_eq!(status.code, 400, "{text}");
        }
    }

    #[test]
    fn objects_select_as_strings_do() {
        let selector = LabelSelector::from_object(&json!({
            "matchLabels": {"app": "web"},
            "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["front", "back"]},
                {"key": "old", "operator": "DoesNotExist"},
            ],
        }))
        .unwrap();
        assert!(selector.matches_labels(&json!({"app": "web", "tier": "back"})));
        assert!(!selector.matches_labels(&json!({"app": "web", "tier": "back", "old": "1"})));
        assert!(!LabelSelector::from_object(&Value::Null).unwrap().matches(&labelled(json!({}))));
        assert!(LabelSelector::from_object(&json!({})).unwrap().matches(&labelled(json!({}))));
        assert!(
            LabelSelector::from_object(&json!({"matchExpressions": [{"key": "a", "operator": "In"}]}))
                .is_err()
        );
    }

    #[test]
    fn fields_select_by_path() {
        let pod = json!({"metadata": {"name": "a", "namespace": "d"}, "spec": {"nodeName": "n1"}});
        for yes in [
            "",
            "spec.nodeName=n1",
            "metadata.name==a,metadata.namespace=d",
            "status.phase!=Failed",
            "spec.hostNetwork=false",
        ] {
            assert!(FieldSelector::parse(yes).unwrap().matches(&pod), "{yes}");
        }
        assert!(!FieldSelector::parse("spec.nodeName!=n1").unwrap().matches(&pod));
        assert!(FieldSelector::parse("spec.nodeName=").unwrap().matches(&json!({})));
        assert_eq!(FieldSelector::parse("metadata.name=a").unwrap().exact("metadata.name"), Some("a"));
        assert_eq!(FieldSelector::parse("metadata.name=a\\,b").unwrap().exact("metadata.name"), Some("a,b"));
        assert!(FieldSelector::parse("metadata.name").is_err());
        let unsupported = FieldSelector::parse("spec.x=1").unwrap().check("", "Pod", &[]).unwrap_err();
        assert_eq!(unsupported.message, "field label not supported: spec.x");
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in ".{0,60}") {
            let _ = LabelSelector::parse(&text);
            let _ = FieldSelector::parse(&text);
        }

        #[test]
        fn not_equal_is_the_opposite_of_equal(key in "[a-c]", value in "[x-z]", labels in proptest::collection::btree_map("[a-c]", "[x-z]", 0..3)) {
            let labels = json!(labels);
            let equal = LabelSelector::parse(&format!("{key}={value}")).unwrap();
            let different = LabelSelector::parse(&format!("{key}!={value}")).unwrap();
            prop_assert_ne!(equal.matches_labels(&labels), different.matches_labels(&labels));
        }
    }
}
