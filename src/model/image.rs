//! References to container images, parsed by the grammar of the distribution specification, so that nothing else can
//! hide in one. Whoever reads a reference from outside before acting on it goes through here.

use std::fmt;

/// A repository has no more characters.
const MOST: usize = 255;

/// `[DOMAIN/]PATH[:TAG][@sha256:HEX]`, kept as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ImageRef {
    /// With the domain, when there is one.
    pub repository: String,
    pub tag: Option<String>,
    /// `sha256:` and 64 digits.
    pub digest: Option<String>,
}

impl ImageRef {
    /// Reads a reference; `None` for anything that is none.
    pub fn parse(text: &str) -> Option<ImageRef> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest).filter(|digest| is_digest(digest))?),
            None => (text, ""),
        };
        // A colon in the last part is the tag's; one before a slash is the port's.
        let name = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (repository, tag) = match rest.get(name..)?.split_once(':') {
            Some((last, tag)) if is_tag(tag) => (rest.get(..name + last.len())?, Some(tag.to_owned())),
            Some(_) => return None,
            None => (rest, None),
        };
        let digest = Some(digest).filter(|digest| !digest.is_empty()).map(str::to_owned);
        is_repository(repository).then(|| ImageRef { repository: repository.to_owned(), tag, digest })
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// Whether this is `sha256:` and 64 lower-case hexadecimal digits.
pub fn is_digest(text: &str) -> bool {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.strip_prefix("sha256:").is_some_and(|digits| digits.len() == 64 && digits.bytes().all(hex))
}

fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let mut bytes = text.bytes();
    bytes.next().is_some_and(word)
        && text.len() <= 128
        && bytes.all(|byte| word(byte) || byte == b'.' || byte == b'-')
}

fn is_repository(text: &str) -> bool {
    let (domain, path) = match text.split_once('/') {
        // As everywhere: the first part is a domain when it cannot be a path, or is `localhost`.
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (Some(first), rest),
        _ => (None, text),
    };
    text.len() <= MOST && domain.is_none_or(is_domain) && path.split('/').all(is_component)
}

/// Whether this is a registry's host, with a port or without.
pub fn is_host(text: &str) -> bool {
    text.len() <= MOST && is_domain(text)
}

fn is_domain(text: &str) -> bool {
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, port.parse::<u16>().is_ok() && !port.starts_with('+')),
        None => (text, true),
    };
    let label = |part: &str| {
        let inner = part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        inner && !part.is_empty() && !part.starts_with('-') && !part.ends_with('-')
    };
    port && host.split('.').all(label)
}

/// Lower-case letters and digits, parted by one dot, one or two underscores, or hyphens.
fn is_component(text: &str) -> bool {
    let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = text.as_bytes().first().is_some_and(plain) && text.as_bytes().last().is_some_and(plain);
    let separator = |part: &str| {
        part.is_empty() || part == "." || part == "_" || part == "__" || part.bytes().all(|byte| byte == b'-')
    };
    ends && text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).all(separator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_taken_apart() {
        let read = |text: &str| {
            let image = ImageRef::parse(text).unwrap();
            assert_eq!(image.to_string(), text);
            (image.repository, image.tag.unwrap_or_default(), image.digest.is_some())
        };
        assert_eq!(read("nginx"), ("nginx".to_owned(), String::new(), false));
        assert_eq!(
            read("kubeedge/installation-package:v1.23.1"),
            ("kubeedge/installation-package".to_owned(), "v1.23.1".to_owned(), false)
        );
        assert_eq!(read("r.example:5000/a/b_c__d").0, "r.example:5000/a/b_c__d");
        let digest = format!("localhost/a@sha256:{}", "0a".repeat(32));
        assert_eq!(read(&digest), ("localhost/a".to_owned(), String::new(), true));
    }

    #[test]
    fn nothing_else_is_a_reference() {
        let hostile = [
            "",
            "/",
            "a/",
            "/a",
            "a b",
            "a;reboot",
            "$(id)/a",
            "a/`id`",
            "a\n",
            "a|b",
            "a&&b",
            "-a/b",
            "--help",
            "a/../b",
            "A/b",
            "a/b:",
            "a:-x",
            "a@sha256:12",
            "a@md5:1",
            "a___b",
            "r.example:port/a",
            "_a/b",
            "a'b",
            "a\"b",
            "a\\b",
        ];
        for text in hostile {
            assert_eq!(ImageRef::parse(text), None, "{text:?}");
        }
        assert_eq!(ImageRef::parse(&"a/".repeat(200)), None);
    }
}
