//! Takes secrets out of text: those of this machine by their values, and whatever looks like one by its form. It rather
//! hides too much. Pure; `bugreport` sends every part through it.

use regex::Regex;
use std::collections::BTreeSet;

const HIDDEN: &str = "(hidden)";
/// Shorter values would tear holes into ordinary words: they are hidden where they stand as words of their own.
const SHORTEST: usize = 6;
/// What is shorter still stands everywhere, and hides nothing that could not be guessed.
const NO_SECRET: usize = 3;
/// Values of Secrets that are switches.
const SWITCHES: [&str; 6] = ["true", "false", "null", "none", "yes", "off"];

/// The known values and the forms.
pub(super) struct Scrubber {
    values: Vec<String>,
    words: Vec<String>,
    forms: Vec<(Regex, &'static str)>,
}

/// Words that make a name that of a secret, wherever they stand in it.
const WORDS: &str = "token|passw(?:or)?d|passphrase|passcode|pwd|psk|secret|api[_-]?key|private[_-]?key|access[_-]?key|auth[_-]?key|credential|authorization";

impl Scrubber {
    pub(super) fn new(secrets: impl IntoIterator<Item = String>) -> Scrubber {
        let mut values = BTreeSet::new();
        for secret in secrets {
            // A file's secret shows line by line in a log.
            for line in secret.lines().map(str::trim).chain([secret.trim()]) {
                values.extend(written(line));
            }
        }
        values.retain(|value| !value.starts_with("-----"));
        let (mut values, mut words): (Vec<String>, Vec<String>) =
            values.into_iter().partition(|value| value.len() >= SHORTEST);
        words.retain(|word| word.len() >= NO_SECRET && !SWITCHES.contains(&word.to_lowercase().as_str()));
        // Of two secrets that begin alike the longer one goes first.
        for list in [&mut values, &mut words] {
            list.sort_by_key(|value| std::cmp::Reverse(value.len()));
        }
        Scrubber { values, words, forms: forms() }
    }

    /// The text without secrets.
    pub(super) fn clean(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for value in &self.values {
            if text.contains(value.as_str()) {
                text = text.replace(value.as_str(), HIDDEN);
            }
        }
        for (form, instead) in &self.forms {
            text = form.replace_all(&text, *instead).into_owned();
        }
        for word in &self.words {
            if text.contains(word.as_str()) {
                text = without_word(&text, word);
            }
        }
        text
    }
}

/// The ways in which a value may stand in a text: as it is, within JSON, within JSON in JSON, as Rust and Go quote it, in
/// YAML's single quotes, and within a URL.
fn written(value: &str) -> BTreeSet<String> {
    let bare = |quoted: String| {
        let inside = quoted.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        inside.unwrap_or(&quoted).to_owned()
    };
    let json = |text: &str| serde_json::to_string(text).map(bare).unwrap_or_default();
    let once = json(value);
    // A log line that holds a line of JSON has its backslashes twice.
    let twice = json(&once);
    let debug = bare(format!("{value:?}"));
    // Go's JSON writes these as numbers.
    let go = once.replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e");
    let in_url: String = value
        .bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            byte => format!("%{byte:02X}"),
        })
        .collect();
    [value.to_owned(), once, twice, debug, go, in_url, value.replace('\'', "''")].into()
}

/// The forms, and what stands in their place. Names come before their values as keys of YAML, JSON, a shell or a log line,
/// and as flags.
fn forms() -> Vec<(Regex, &'static str)> {
    const VALUE: &str = r#"(?:\\+"[^"]*"|"(?:[^"\\]|\\.)*"|'[^']*'|[^\s,;}\]"']+)"#;
    let assigned =
        format!(r#"(?i)((?:[\w.-]*(?:{WORDS})[\w.-]*|[\w.-]*pass|[\w.-]*auth)\\*["']?\s*[:=]\s*){VALUE}"#);
    let flag = format!(r"(?i)((?:^|[\s\x22'])--?[\w-]*(?:{WORDS}|pass|auth)[\w-]*\s+){VALUE}");
    let forms = [
        (r"(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)", HIDDEN),
        (r"(?:\b[0-9a-f]{64}\.)?\beyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*", HIDDEN),
        (r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}", "$1 (hidden)"),
        // The last @ of a word ends the login: a password may hold one, and a slash.
        (r#"([A-Za-z][A-Za-z0-9+.-]*://)[^\s"'<>]*@"#, "${1}(hidden)@"),
        (r#"(?m)(^|[\s"'=(,\[{])[^\s"'=(,:@/\[{]+:[^\s"'/][^\s"']*@([A-Za-z0-9\[])"#, "${1}(hidden)@$2"),
        // Cookies end with their line.
        (r#"(?i)(cookie\\*["']?\s*[:=]\s*\\*["']?)[^\r\n"'\\]+"#, "${1}(hidden)"),
        (assigned.as_str(), "${1}(hidden)"),
        (flag.as_str(), "${1}(hidden)"),
        // mysql -pPASSWORD, mosquitto_pub -P PASSWORD, curl -u NAME:PASSWORD, keadm join -t TOKEN.
        (r#"(?m)((?:^|[\s"'])-p)[^\s"'=-][^\s"']{2,}"#, "${1}(hidden)"),
        (r#"(?m)((?:^|[\s"'])(?:-P|-u|--user)[\s=]+)[^\s"']+"#, "${1}(hidden)"),
        (r#"((?:keadm|kedge)\s[^\n]*?\s-t\s+)[^\s"']+"#, "${1}(hidden)"),
    ];
    forms.into_iter().filter_map(|(form, instead)| Some((Regex::new(form).ok()?, instead))).collect()
}

/// The text without a word, where it stands between other letters than those of words.
fn without_word(text: &str, word: &str) -> String {
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
    let (mut out, mut from) = (String::new(), 0);
    for (at, _) in text.match_indices(word) {
        let before = text.get(..at).unwrap_or_default();
        let after = text.get(at + word.len()..).unwrap_or_default();
        // What is escaped, as the end of a line is in JSON, is no letter of the word.
        let escaped = ["\\n", "\\t", "\\r"].iter().any(|end| before.ends_with(end));
        let begins = escaped || !before.chars().next_back().is_some_and(is_part);
        if begins && !after.chars().next().is_some_and(is_part) {
            out.push_str(text.get(from..at).unwrap_or_default());
            out.push_str(HIDDEN);
            from = at + word.len();
        }
    }
    out.push_str(text.get(from..).unwrap_or_default());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_by_their_form() {
        let scrubber = Scrubber::new([]);
        for text in [
            "token: s3cret-value",
            "mqttPassword: \"s3cret value\"",
            "{\"access_token\":\"s3cret\",\"a\":1}",
            "{\\\"password\\\": \\\"s3cret\\\"}",
            "DB_PASSWORD=s3cret",
            "Authorization: Bearer s3cret.s3cret",
            "curl -H 'Authorization: Basic czNjcmV0OnMzY3JldA=='",
            "tcp://user:s3cret@broker:1883",
            "-----BEGIN EC PRIVATE KEY-----\ns3cret\n-----END EC PRIVATE KEY-----",
            "-----BEGIN PRIVATE KEY-----\ns3cret",
            "--token s3cret --node n1",
            "run [\"kedge\", \"join\"] with --password 's3cret s3cret'",
            "mysql -ps3cret -h db",
            "mosquitto_pub -u me -P s3cret",
            "curl -u me:s3cret https://h",
            "keadm join -t s3cret",
            "pwd=s3cret",
            "pass: s3cret",
            "psk: s3cret",
            "passcode = s3cret",
            "Cookie: a=b; session=s3cret",
            "X-Auth-Key: s3cret",
            "{\"auths\":{\"r\":{\"auth\":\"czNjcmV0\"}}}",
            "{\\\"auth\\\":\\\"czNjcmV0\\\"}",
            "tcp://me:s3cret@s3cret-10@broker",
            "tcp://me:s3cret/s3cret@broker:1883",
            "broker=\"usr:s3cret@127.0.0.1:1899\"",
            "at usr:s3cret@s3cret@[::1]:1899",
            "joined with 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef.eyJhbGciOiJF.czNjcmV0.s3cret",
        ] {
            let clean = scrubber.clean(text);
            for secret in ["s3cret", "czNjcmV0"] {
                assert!(!clean.contains(secret), "{text} -> {clean}");
            }
            assert!(clean.contains(HIDDEN), "{text} -> {clean}");
        }
    }

    #[test]
    fn known_values_are_hidden_wherever_they_stand() {
        let scrubber = Scrubber::new([
            "hunter22".to_owned(),
            "hunter22-long".to_owned(),
            "abc".to_owned(),
            "line-one\nline-two\n".to_owned(),
        ]);
        let clean = scrubber.clean("said hunter22-long and hunter22, abc, line-two");
        assert_eq!(clean, "said (hidden) and (hidden), (hidden), (hidden)");
    }

    #[test]
    fn known_values_are_hidden_however_they_are_written() {
        let secret = "it's \"a\\b\" <c&d>\tä 100%";
        let scrubber = Scrubber::new([secret.to_owned()]);
        let json = |text: &str| serde_json::to_string(text).unwrap();
        let once = json(secret);
        let go = once.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
        let yaml = format!("'{}'", secret.replace('\'', "''"));
        for text in [secret.to_owned(), json(&once), format!("{secret:?}"), go, yaml, once] {
            let clean = scrubber.clean(&format!("said {text} twice: {text}"));
            for part in ["100", "u003c", "c&d"] {
                assert!(!clean.contains(part), "{text} -> {clean}");
            }
        }
        let scrubber = Scrubber::new(["p/q r=s".to_owned()]);
        assert_eq!(scrubber.clean("GET /x?y=p%2Fq%20r%3Ds"), "GET /x?y=(hidden)");
    }

    #[test]
    fn short_values_are_hidden_where_they_are_words() {
        let scrubber = Scrubber::new(["7q4z", "on", "true", "a+b"].map(str::to_owned));
        for (text, clean) in [
            ("pin 7q4z, 7q4z", "pin (hidden), (hidden)"),
            ("{\"pin\":\"7q4z\"}", "{\"pin\":\"(hidden)\"}"),
            ("first\\n7q4z\\n", "first\\n(hidden)\\n"),
            ("x7q4z 7q4zz 7q4z_", "x7q4z 7q4zz 7q4z_"),
            ("a+b is on: true", "(hidden) is on: true"),
        ] {
            assert_eq!(scrubber.clean(text), clean);
        }
    }

    #[test]
    fn what_is_no_secret_stays() {
        let scrubber = Scrubber::new([]);
        for text in [
            "node edge-1 is ready at 10.0.0.5:10000",
            "https://cloud.example:10002/ca.crt",
            "the list of join tokens ended",
            "image a/pause:3.9 is there, mail me@example.org",
            "5 tests passed: all of them",
            "{\"kind\":\"secret\",\"count\":3}",
        ] {
            assert_eq!(scrubber.clean(text), text);
        }
    }
}
