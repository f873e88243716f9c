//! Takes secrets out of text: those of this machine by their values, and whatever looks like one by its form. It rather
//! hides too much. Pure; `bugreport` sends every part through it.

use regex::Regex;
use std::collections::BTreeSet;

const HIDDEN: &str = "(hidden)";
/// Shorter values would tear holes into ordinary words; they are only hidden where a name says that they are secrets.
const SHORTEST: usize = 6;

/// The known values and the forms.
pub(super) struct Scrubber {
    values: Vec<String>,
    forms: Vec<(Regex, &'static str)>,
}

/// What stands before a secret, with any prefix and suffix, as a key of YAML, JSON, a shell or a log line.
const NAMES: &str = r#"(?i)([\w.-]*(?:token|passw(?:or)?d|passphrase|secret|api[_-]?key|private[_-]?key|access[_-]?key|credential|authorization)[\w.-]*\\?["']?\s*[:=]\s*)"#;

impl Scrubber {
    pub(super) fn new(secrets: impl IntoIterator<Item = String>) -> Scrubber {
        let mut values = BTreeSet::new();
        for secret in secrets {
            // A file's secret shows line by line in a log.
            let lines = secret.lines().map(str::trim).map(str::to_owned).collect::<Vec<_>>();
            values.extend(lines);
            values.insert(secret.trim().to_owned());
        }
        let mut values: Vec<String> = values.into_iter().filter(|value| value.len() >= SHORTEST).collect();
        values.retain(|value| !value.starts_with("-----"));
        // Of two secrets that begin alike the longer one goes first.
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        let forms = [
            (
                r"(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)",
                HIDDEN,
            ),
            (r"(?:\b[0-9a-f]{64}\.)?\beyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*", HIDDEN),
            (r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}", "$1 (hidden)"),
            (r#"([a-z][a-z0-9+.-]*://)[^/\s"'@]+@"#, "${1}(hidden)@"),
        ];
        let mut forms: Vec<(Regex, &'static str)> =
            forms.into_iter().filter_map(|(form, instead)| Some((Regex::new(form).ok()?, instead))).collect();
        let assigned = format!(r#"{NAMES}(?:\\+"[^"]*"|"(?:[^"\\]|\\.)*"|'[^']*'|[^\s,;}}\]"']+)"#);
        forms.extend(Regex::new(&assigned).ok().map(|form| (form, "${1}(hidden)")));
        Scrubber { values, forms }
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
        text
    }
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
        assert_eq!(clean, "said (hidden) and (hidden), abc, (hidden)");
    }

    #[test]
    fn what_is_no_secret_stays() {
        let scrubber = Scrubber::new([]);
        for text in [
            "node edge-1 is ready at 10.0.0.5:10000",
            "https://cloud.example:10002/ca.crt",
            "the list of join tokens ended",
            "{\"kind\":\"secret\",\"count\":3}",
        ] {
            assert_eq!(scrubber.clean(text), text);
        }
    }
}
