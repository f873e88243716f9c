//! A name and a password within a URL, `tcp://name:password@host:1883`, as paho and thereby KubeEdge takes them for an
//! MQTT broker. The configuration takes them apart; whoever shows a value to a person shows it without them. Pure.

use super::Hidden;

/// What stands in place of a secret.
pub(super) const HIDDEN: &str = "(hidden)";

/// A URL without its login, and the login: a name, and a password where one stands there. Both are percent-decoded.
pub(super) fn taken_apart(url: &str) -> (String, Option<(String, Option<Hidden>)>) {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), url),
    };
    let (authority, path) = match rest.find(['/', '?', '#']) {
        Some(end) => rest.split_at_checked(end).unwrap_or((rest, "")),
        None => (rest, ""),
    };
    let Some((login, host)) = authority.rsplit_once('@') else { return (url.to_owned(), None) };
    let (name, password) = match login.split_once(':') {
        Some((name, password)) => (name, Some(Hidden::new(decoded(password)))),
        None => (login, None),
    };
    (format!("{scheme}{host}{path}"), Some((decoded(name), password)))
}

/// A value as people may see it: a login before its last `@` is hidden, and with it what a wrong URL may have of one.
pub fn without_login(value: &str) -> String {
    let Some((before, host)) = value.rsplit_once('@') else { return value.to_owned() };
    // An image with its digest is no address.
    if host.starts_with("sha256:") {
        return value.to_owned();
    }
    match before.split_once("://") {
        Some((scheme, _)) => format!("{scheme}://{HIDDEN}@{host}"),
        None if before.contains(':') => format!("{HIDDEN}@{host}"),
        None => value.to_owned(),
    }
}

/// The password within a URL, as it stands there and as it is meant; nothing where there is none.
pub fn passwords(value: &str) -> Vec<String> {
    let Some((before, host)) = value.rsplit_once('@') else { return Vec::new() };
    if host.starts_with("sha256:") {
        return Vec::new();
    }
    let login = before.split_once("://").map_or(before, |(_, login)| login);
    let Some((_, password)) = login.split_once(':') else { return Vec::new() };
    let mut found = vec![password.to_owned()];
    let meant = decoded(password);
    if meant != password {
        found.push(meant);
    }
    found
}

fn decoded(text: &str) -> String {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::new(), 0);
    while let Some(byte) = bytes.get(at) {
        let pair = (digit(bytes.get(at + 1)), digit(bytes.get(at + 2)));
        match (byte, pair) {
            (b'%', (Some(high), Some(low))) => {
                out.push(u8::try_from(high * 16 + low).unwrap_or_default());
                at += 3;
            }
            _ => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_taken_out_of_a_url() {
        let apart = |url: &str| {
            let (bare, login) = taken_apart(url);
            let login = login.map(|(name, password)| (name, password.map(|word| word.reveal().to_owned())));
            (bare, login)
        };
        let login = |name: &str, password: Option<&str>| Some((name.to_owned(), password.map(str::to_owned)));
        for (url, bare, expected) in [
            ("tcp://usr:s3cret@h:1883", "tcp://h:1883", login("usr", Some("s3cret"))),
            ("usr:s3cret@h:1883/", "h:1883/", login("usr", Some("s3cret"))),
            ("ssl://usr@[::1]:8883", "ssl://[::1]:8883", login("usr", None)),
            ("tcp://u%40x:a%3Ab%zz@h:1", "tcp://h:1", login("u@x", Some("a:b%zz"))),
            ("tcp://u:p@q@h:1", "tcp://h:1", login("u", Some("p@q"))),
            ("tcp://h:1883", "tcp://h:1883", None),
            ("", "", None),
        ] {
            assert_eq!(apart(url), (bare.to_owned(), expected), "{url}");
        }
    }

    #[test]
    fn a_login_is_not_shown_however_wrong_its_url_is() {
        for url in ["tcp://usr:s3cret@h:1883", "usr:s3cret@h", "tcp://usr:s3cret/s3cret@h", "a: b s3cret@h@x"]
        {
            let shown = without_login(url);
            assert!(!shown.contains("s3cret") && shown.contains(HIDDEN), "{url} -> {shown}");
        }
        for plain in ["tcp://h:1883", "me@example.org", "a/pause:3.9@sha256:0123", "10.0.0.5:10000", ""] {
            assert_eq!(without_login(plain), plain);
        }
        assert_eq!(passwords("tcp://usr:s3%2Fcret@h:1"), ["s3%2Fcret", "s3/cret"]);
        assert!(passwords("tcp://usr@h:1").is_empty() && passwords("tcp://h:1").is_empty());
    }
}
