//! Configuration as people may see it: a text, a document, or the values to look for, without what is secret. `config`,
//! `doctor --fix` and `bugreport` show nothing of a file that has not gone through here. It rather hides too much: a text
//! may be wrong, and a secret that is shown is lost. Pure.

use super::login::{HIDDEN, passwords, without_login};
use super::survey::is_secret;
use serde_json::Value;

/// Replaces secrets in a document: all that stands below a secret's key, and logins within URLs. A number right behind
/// such a key is a setting about secrets, such as how long a token is good.
pub fn mask(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, below) in map.iter_mut() {
                if is_secret(key) && !below.is_number() {
                    conceal(below);
                } else {
                    mask(below);
                }
            }
        }
        Value::String(text) => *text = without_login(text),
        Value::Array(list) => list.iter_mut().for_each(mask),
        _ => {}
    }
}

fn conceal(value: &mut Value) {
    match value {
        Value::Object(map) => map.values_mut().for_each(conceal),
        Value::Array(list) => list.iter_mut().for_each(conceal),
        Value::String(text) if text.is_empty() => {}
        Value::String(_) | Value::Number(_) => *value = Value::from(HIDDEN),
        _ => {}
    }
}

/// The secrets of a document by value: what `mask` hides of it, and what passwords within URLs mean.
pub fn secrets_of(value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    collect(value, false, &mut found);
    found
}

fn collect(value: &Value, secret: bool, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, below) in map {
                collect(below, secret || is_secret(key) && !below.is_number(), found);
            }
        }
        Value::Array(list) => list.iter().for_each(|below| collect(below, secret, found)),
        Value::String(text) if secret => found.push(text.clone()),
        Value::String(text) => found.extend(passwords(text)),
        Value::Number(number) if secret => found.push(number.to_string()),
        _ => {}
    }
}

/// A text of YAML or TOML without the values of secrets and without logins, line for line: each line of a value that goes
/// on over lines is hidden on its own.
pub fn without_secrets(text: &str) -> String {
    let mut reader = Reader::default();
    text.lines().map(|line| reader.shown(line)).collect::<Vec<_>>().join("\n")
}

/// How far a text has been read.
#[derive(Default)]
struct Reader {
    /// The secret to which lines may still belong.
    secret: Option<Secret>,
    /// The column of the key below which a block of text (`|`, `>`) stands: marks within it mean nothing.
    block: Option<usize>,
    /// The quote that is open.
    quote: Option<char>,
    /// How many brackets are open.
    depth: usize,
    /// The letter before, and the last one that is no blank; `None` where a line begins.
    before: Option<char>,
    last: Option<char>,
}

/// Where the key of a secret stands.
#[derive(Clone, Copy)]
struct Secret {
    /// What is indented deeper is of its value.
    column: usize,
    /// It was commented out, and comments alone belong to it.
    comment: bool,
    /// How many brackets are open around it.
    depth: usize,
}

/// A key that is that of a secret.
struct Found {
    /// Bytes before its value.
    before: usize,
    /// Whether its value may stand on deeper lines.
    nests: bool,
}

impl Reader {
    fn shown(&mut self, line: &str) -> String {
        let bare = line.trim_start();
        let indent = line.len() - bare.len();
        if bare.is_empty() {
            return line.to_owned();
        }
        if self.depth == 0 && self.quote.is_none() {
            self.last = None;
        }
        self.before = None;
        let comment = bare.starts_with('#') && self.quote.is_none();
        if let Some(secret) = self.secret {
            if self.is_within(secret) || secret.holds(indent, bare) {
                self.read(bare, secret.column);
                return format!("{}{HIDDEN}", " ".repeat(indent));
            }
            if comment && !secret.comment {
                // It may stand between a key and its value.
                return keyed(line, indent, bare, secret_key(bare).as_ref());
            }
            self.secret = None;
        }
        if self.block.is_some_and(|column| indent <= column) {
            self.block = None;
        }
        let column = column(indent, bare);
        let found = secret_key(bare);
        let end = found.as_ref().map_or(bare.len(), |found| found.before);
        let (key, value) = bare.split_at_checked(end).unwrap_or((bare, ""));
        if !comment {
            self.read(key, column);
        }
        if let Some(found) = &found {
            let column = if found.nests { column } else { usize::MAX };
            self.secret = Some(Secret { column, comment, depth: self.depth });
            if !comment {
                self.read(value, column);
            }
        }
        keyed(line, indent, bare, found.as_ref())
    }

    /// Reads on, to know which quotes and brackets stay open, and whether a block of text follows a key in this column.
    fn read(&mut self, part: &str, column: usize) {
        if self.block.is_some() {
            return;
        }
        let mut letters = part.chars().peekable();
        while let Some(letter) = letters.next() {
            match (self.quote, letter) {
                (Some('"'), '\\') => {
                    letters.next();
                }
                (Some('\''), '\'') if letters.peek() == Some(&'\'') => {
                    letters.next();
                }
                (Some(open), _) if letter == open => self.quote = None,
                (Some(_), _) => {}
                (None, '#') if self.before.is_none_or(char::is_whitespace) => return,
                (None, '"' | '\'') if self.begins() => self.quote = Some(letter),
                // Three of them open a text of TOML.
                (None, '"') if self.before == Some('"') => self.quote = Some('"'),
                (None, '{' | '[') if self.depth > 0 || self.begins() => self.depth += 1,
                (None, '}' | ']') => self.depth = self.depth.saturating_sub(1),
                (None, '|' | '>') if self.depth == 0 && self.begins() => {
                    self.block = Some(column);
                    return;
                }
                // A tag or an anchor stands before the value.
                (None, '!' | '&') if self.begins() => {
                    while letters.next_if(|letter| !letter.is_whitespace()).is_some() {}
                    self.before = Some(letter);
                    continue;
                }
                (None, _) => {}
            }
            self.before = Some(letter);
            if !letter.is_whitespace() {
                self.last = Some(letter);
            }
        }
    }

    /// Whether the value goes on by its quotes or brackets. One within brackets ends with a comma; a line may have more
    /// keys behind it, so that only a comma at its end counts.
    fn is_within(&self, secret: Secret) -> bool {
        let ended = self.last == Some(',') && self.depth <= secret.depth;
        self.quote.is_some() || self.depth > 0 && !ended
    }

    /// Whether a value may begin here: elsewhere quotes and brackets are letters as others.
    fn begins(&self) -> bool {
        if self.depth > 0 {
            return matches!(self.last, None | Some('{' | '[' | ',' | ':' | '?' | '='));
        }
        let apart = self.before.is_none_or(|before| before.is_whitespace() || before == '=');
        apart && matches!(self.last, None | Some(':' | '-' | '?' | '='))
    }
}

impl Secret {
    /// Whether a line belongs to the value by where it stands.
    fn holds(self, indent: usize, bare: &str) -> bool {
        if self.comment {
            return bare.starts_with('#') && column(indent, bare) > self.column;
        }
        // A list may stand right below its key, so may the head of a block; the value of a key with a question mark does.
        let below = bare == "-" || bare.starts_with("- ") || bare.starts_with([':', '|', '>']);
        indent > self.column || indent == self.column && below
    }
}

/// Where the key of a line stands, behind the marks of lists and comments; a list's entry without a key stands at its mark.
fn column(indent: usize, bare: &str) -> usize {
    let inner = bare.trim_start_matches(['-', '#', ' ']);
    let keyed = inner.contains(": ") || inner.ends_with(':') || bare.starts_with('#');
    if keyed { indent + bare.len() - inner.len() } else { indent }
}

/// The first key of a secret in a line.
fn secret_key(bare: &str) -> Option<Found> {
    if bare.strip_prefix("? ").is_some_and(is_hidden) {
        return Some(Found { before: bare.len(), nests: true });
    }
    let ends = bare.char_indices().filter(|(_, letter)| matches!(letter, ':' | '='));
    for (at, letter) in ends {
        let name = bare.get(..at).unwrap_or_default().trim_end();
        let name = name.rsplit([' ', '\t', ',', '{', '[', ':', '=']).next().unwrap_or_default();
        if is_hidden(name) {
            return Some(Found { before: at + 1, nests: letter == ':' });
        }
    }
    None
}

/// Whether a key is that of a secret; `auth` is one in a runtime's configuration.
fn is_hidden(name: &str) -> bool {
    let name = name.trim().trim_matches(['"', '\'']);
    is_secret(name) || name.eq_ignore_ascii_case("auth")
}

/// The line up to the value of its secret; the whole of it, where it has none.
fn keyed(line: &str, indent: usize, bare: &str, found: Option<&Found>) -> String {
    let whole = || match line.split_once(": ") {
        Some((key, value)) => format!("{key}: {}", without_login(value)),
        None => without_login(line),
    };
    let Some((key, value)) = found.and_then(|found| bare.split_at_checked(found.before)) else {
        return whole();
    };
    if matches!(value.trim(), "" | "\"\"" | "''") {
        return whole();
    }
    let key = match key.split_once(": ") {
        Some((first, rest)) => format!("{first}: {}", without_login(rest)),
        None => key.to_owned(),
    };
    let gap = if value.starts_with([' ', '\t']) { " " } else { "" };
    format!("{}{key}{gap}{HIDDEN}", " ".repeat(indent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn no_form_of_yaml_shows_a_secret() {
        for text in [
            "  token: s3cret",
            "mqttPassword: \"s3cret\"",
            "edgeHub: {token: s3cret, heartbeat: 1}",
            "edgeHub: {token: s3cret,",
            "edgeHub: {heartbeat: 1,\n  b: 2, token: s3cret}",
            "edgeHub: {heartbeat: 1, token:\ns3cret, b: 2}",
            "{\"edgeHub\": {\"token\": \"a\ns3cret\"}}",
            "{token: [a,\ns3cret],\npassword: x, tokens:\n[s3cret,\ns3cret]}",
            "  mqttServerExternal: tcp://usr:s3cret@h:1883",
            "mqttServerExternal: \"usr:s3cret@h:1883\" # ours",
            "eventBus: {mqttServerExternal: 'tcp://usr:s3cret@h:1883', mqttMode: 2}",
            "eventBus: {mqttServerExternal: 'tcp://usr:s3cret@h:1883', mqttPassword: s3cret}",
            "- tcp://usr:s3cret@h:1883",
            "  token: >-\n    s3cret",
            "token: |\n  s3cret",
            "token: | # of ours\n\n  it's\n  s3cret\n",
            "token: !!str &a |-\n  s3cret",
            "token:\n  s3cret",
            "token:\n>-\n  s3cret",
            "token:\n# of ours\n  s3cret",
            "token: \"s3\n  s3cret\"",
            "token: \"a\\\"\ns3cret\"",
            "token: 'it''s\ns3cret'",
            "token: s3cret\n  s3cret",
            "tokens:\n- s3cret\n- s3cret",
            "tokens:\n  edge-1: s3cret",
            "- token: >\n   s3cret",
            "? token\n: s3cret",
            "# token: s3cret",
            "  # token: >-\n  #   s3cret",
            "other: |\n  token: |\n    s3cret",
            "  password = \"s3cret\"",
            "password=\"\"\"\ns3cret\"\"\"",
            "  auth = \"s3cret\"",
        ] {
            let shown = without_secrets(text);
            assert!(!shown.contains("s3cret"), "{text} -> {shown}");
            assert_eq!(shown.lines().count(), text.lines().count(), "{text} -> {shown}");
        }
    }

    #[test]
    fn what_follows_a_secret_is_shown() {
        for (text, shown) in [
            ("a:\n  token: \"\"\n  b: 1", "a:\n  token: \"\"\n  b: 1"),
            ("a:\n  token: >-\n    x\n  b: 1", "a:\n  token: (hidden)\n    (hidden)\n  b: 1"),
            ("- token: x\n  b: 1\n- c", "- token: (hidden)\n  b: 1\n- c"),
            ("token: \"x\n y\" # it's\nb: 1", "token: (hidden)\n (hidden)\nb: 1"),
            ("tokens:\n- x\nb: it's\nc: 1", "tokens:\n(hidden)\nb: it's\nc: 1"),
            ("{a: 1, token: x}\nb: 1", "{a: 1, token: (hidden)\nb: 1"),
            ("{\n  \"token\": \"x,\",\n  \"b\": 1\n}", "{\n  \"token\": (hidden)\n  \"b\": 1\n}"),
            ("# token: x\na:\n  b: 1", "# token: (hidden)\na:\n  b: 1"),
            ("# don't\na: [\"x\", 'y'] # {\nb: 1", "# don't\na: [\"x\", 'y'] # {\nb: 1"),
            (
                "quic:\n  enable: true\ntoken: x\nenable: false",
                "quic:\n  enable: true\ntoken: (hidden)\nenable: false",
            ),
            ("[a.\"b\"]\n  password = 'x'\n  c = \"d\"", "[a.\"b\"]\n  password = (hidden)\n  c = \"d\""),
        ] {
            assert_eq!(without_secrets(text), shown, "{text}");
        }
        for plain in [super::super::edge::DEFAULT_CONFIG, super::super::edge::MIN_CONFIG] {
            assert_eq!(without_secrets(plain), plain.trim_end_matches('\n'));
        }
    }

    #[test]
    fn a_document_is_masked_as_deep_as_it_goes() {
        let mut document = json!({"token": "s3cret", "tokenRefreshDuration": 12, "mqttPassword": ["s3cret", 123_456],
            "tokens": {"edge-1": "s3cret"}, "empty": {"token": ""}, "server": "tcp://usr:s3cret@h"});
        let mut secrets = secrets_of(&document);
        secrets.sort();
        secrets.dedup();
        assert_eq!(secrets, ["", "123456", "s3cret"]);
        mask(&mut document);
        let hidden = json!({"token": "(hidden)", "tokenRefreshDuration": 12, "mqttPassword": ["(hidden)", "(hidden)"],
            "tokens": {"edge-1": "(hidden)"}, "empty": {"token": ""}, "server": "tcp://(hidden)@h"});
        assert_eq!(document, hidden);
    }

    proptest::proptest! {
        /// Whatever stands around it, the value that YAML reads for a secret is not in the text.
        #[test]
        fn what_yaml_reads_as_a_secret_is_not_shown(
            before in proptest::collection::vec("( {0,2}){0,2}[a-c]: ?(|1|x|'q'|\"q\"|\\{\\}|\\[1\\]|it's|# c|\\||>-)", 0..6),
            indent in "( {0,2}){0,2}",
            value in "( |\n *|\n *[-a-c:,]* *|'|\"|\\||>-|\\[|\\{|!!str |&a ){0,4}s3cret( |\n *s3cret|'|\"|\\]|\\}|,){0,3}",
        ) {
            let text = format!("{}\n{indent}token:{value}\n", before.join("\n"));
            let read = serde_yaml::from_str::<Value>(&text);
            let secrets = read.map(|read| secrets_of(&read)).unwrap_or_default();
            if secrets.iter().any(|secret| secret.contains("s3cret")) {
                let shown = without_secrets(&text);
                proptest::prop_assert!(!shown.contains("s3cret"), "{} -> {}", text, shown);
            }
        }
    }
}
