//! The syntax of Kubernetes labels, for flags and files in which a person writes them. Pure.

/// Checks a label as the API would: `[prefix/]name` of at most 253 and 63 characters, a value of at most 63.
pub fn check_label(key: &str, value: &str) -> Result<(), String> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if !is_name(name) || name.is_empty() {
        return Err(format!(
            "{key:?} is not a label's name: letters, digits, '-', '_', '.', at most 63 of them"
        ));
    }
    if prefix.is_some_and(|prefix| !is_domain(prefix)) {
        return Err(format!("the prefix of {key:?} is not a domain name"));
    }
    if !is_name(value) {
        return Err(format!(
            "{value:?} is not a label's value: letters, digits, '-', '_', '.', at most 63 of them"
        ));
    }
    Ok(())
}

/// Reads `name=value`; a bare `name` has an empty value.
pub fn parse_label(text: &str) -> Result<(String, String), String> {
    let (key, value) =
        text.split_once('=').ok_or("a label is written NAME=VALUE, or NAME= without a value")?;
    check_label(key, value).map(|()| (key.to_owned(), value.to_owned()))
}

fn is_name(text: &str) -> bool {
    let outer = |byte: Option<u8>| byte.is_none_or(|byte| byte.is_ascii_alphanumeric());
    text.len() <= 63
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        && outer(text.bytes().next())
        && outer(text.bytes().last())
}

fn is_domain(text: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_kubernetes() {
        for good in ["a=b", "kubernetes.io/arch=amd64", "Site_1.x=North-1", "a="] {
            assert!(parse_label(good).is_ok(), "{good}");
        }
        let long = "x".repeat(64);
        for bad in [
            "",
            "a",
            "=b",
            "a=b c",
            "-a=b",
            "a=-b",
            "A.io/x=1",
            "/x=1",
            "a/=1",
            "a=b=c",
            &format!("{long}=1"),
        ] {
            assert!(parse_label(bad).is_err(), "{bad}");
        }
    }
}
