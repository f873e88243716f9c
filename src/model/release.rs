//! Versions of releases: parsed and compared as semantic versions, so that nothing else can hide in one.
//! Whoever reads a version from outside goes through here; the text is made from the parts again.

use std::cmp::Ordering;
use std::fmt;

/// No version is longer.
const MOST: usize = 64;

/// A release such as `v1.23.1` or `0.2.0-rc.1`; it is written with a `v`, as KubeEdge has it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Release {
    numbers: [u64; 3],
    /// Identifiers of letters, digits and hyphens, without the first hyphen.
    pre: String,
}

impl Release {
    /// Reads `X.Y.Z` or `X.Y.Z-PRE`, with or without a `v` before it; `None` for anything else.
    pub fn parse(text: &str) -> Option<Release> {
        if text.len() > MOST {
            return None;
        }
        let text = text.strip_prefix('v').unwrap_or(text);
        let (numbers, pre) = match text.split_once('-') {
            Some((numbers, pre)) => (numbers, pre),
            None => (text, ""),
        };
        if text.len() != numbers.len() && !pre.split('.').all(is_identifier) {
            return None;
        }
        let mut parts = numbers.split('.').map(number);
        let numbers = [parts.next()??, parts.next()??, parts.next()??];
        parts.next().is_none().then(|| Release { numbers, pre: pre.to_owned() })
    }

    /// `v0.0.0`.
    pub fn oldest() -> Release {
        Release { numbers: [0; 3], pre: String::new() }
    }

    /// The version without the `v`, as it stands in file names and in Cargo's manifest.
    pub fn bare(&self) -> String {
        let [major, minor, patch] = self.numbers;
        match self.pre.as_str() {
            "" => format!("{major}.{minor}.{patch}"),
            pre => format!("{major}.{minor}.{patch}-{pre}"),
        }
    }

    /// Major and minor number.
    pub fn line(&self) -> (u64, u64) {
        let [major, minor, _] = self.numbers;
        (major, minor)
    }
}

/// Digits alone; a zero before others would give one version two texts.
fn number(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let single = text == "0" || !text.starts_with('0');
    (plain && single).then(|| text.parse().ok()).flatten()
}

fn is_identifier(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.bare())
    }
}

impl Ord for Release {
    fn cmp(&self, other: &Release) -> Ordering {
        let pre = || match (self.pre.is_empty(), other.pre.is_empty()) {
            // What is released comes after its candidates.
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            _ => {
                let keys = |pre: &str| pre.split('.').map(precedence).collect::<Vec<_>>();
                keys(&self.pre).cmp(&keys(&other.pre)).then_with(|| self.pre.cmp(&other.pre))
            }
        };
        self.numbers.cmp(&other.numbers).then_with(pre)
    }
}

impl PartialOrd for Release {
    fn partial_cmp(&self, other: &Release) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl serde::Serialize for Release {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.bare())
    }
}

impl<'de> serde::Deserialize<'de> for Release {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Release, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Release::parse(&text).ok_or_else(|| serde::de::Error::custom("not a version"))
    }
}

/// Numbers before words, each by its value.
fn precedence(identifier: &str) -> (bool, u64, String) {
    match number(identifier) {
        Some(value) => (false, value, String::new()),
        None => (true, 0, identifier.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_written_alike() {
        for (text, written) in [
            ("v1.23.1", "v1.23.1"),
            ("0.2.0", "v0.2.0"),
            ("v1.2.3-rc.1", "v1.2.3-rc.1"),
            ("1.0.0-beta-2", "v1.0.0-beta-2"),
        ] {
            assert_eq!(Release::parse(text).unwrap().to_string(), written);
        }
        assert_eq!(Release::parse("v0.2.0").unwrap().bare(), "0.2.0");
        assert_eq!(Release::parse("v1.20.3").unwrap().line(), (1, 20));
    }

    #[test]
    fn nothing_else_is_a_version() {
        let hostile = [
            "",
            "v",
            "1",
            "1.2",
            "1.2.3.4",
            "v1.2.x",
            "latest",
            "v1.2.3;reboot",
            "v1.2.3$(id)",
            "v1.2.3\n",
            " v1.2.3",
            "v1.2.3 ",
            "v1.2.3-",
            "v1.2.3-a..b",
            "v1.2.3-`id`",
            "v1.2.3/../..",
            "../1.2.3",
            "v01.2.3",
            "-1.2.3",
            "v1.2.3-a_b|c",
            "vv1.2.3",
            "v1.2.3+meta",
            "v99999999999999999999.0.0",
        ];
        for text in hostile {
            assert_eq!(Release::parse(text), None, "{text:?}");
        }
        assert_eq!(Release::parse(&format!("v1.2.3-{}", "a".repeat(64))), None);
    }

    #[test]
    fn versions_are_ordered_as_semver_has_it() {
        let ordered = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0", "1.2.0"];
        let ordered = ordered.map(|text| Release::parse(text).unwrap());
        assert!(ordered.windows(2).all(|pair| pair[0] < pair[1]), "{ordered:?}");
        assert_eq!(Release::parse("v1.0.0"), Release::parse("1.0.0"));
    }
}
