//! The languages of pages and topics, and which one a person reads. `explain` and `help` come here.

use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(super) enum Lang {
    /// English
    En,
    /// Chinese
    Zh,
}

impl Lang {
    /// The one that was said, else that of the environment.
    pub(super) fn chosen(said: Option<Lang>) -> Lang {
        said.unwrap_or_else(|| Lang::of(|name| std::env::var(name).ok()))
    }

    /// The first of the usual variables that is set decides, as it does for other programs.
    fn of(read: impl Fn(&str) -> Option<String>) -> Lang {
        let set =
            ["LC_ALL", "LC_MESSAGES", "LANG"].into_iter().filter_map(read).find(|text| !text.is_empty());
        if set.is_some_and(|text| text.to_lowercase().starts_with("zh")) { Lang::Zh } else { Lang::En }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_chooses_the_language() {
        let lang = |set: &[(&str, &str)]| {
            let set: Vec<(String, String)> =
                set.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            Lang::of(|name| set.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone()))
        };
        assert_eq!(lang(&[]), Lang::En);
        assert_eq!(lang(&[("LANG", "zh_CN.UTF-8")]), Lang::Zh);
        assert_eq!(lang(&[("LC_ALL", "C.UTF-8"), ("LANG", "zh_CN.UTF-8")]), Lang::En);
    }
}
