//! The form of a page: `# CODE`, then for `en:` and `zh:`, each with its title, the lines `means:`, `how:` and `do:`.
//! One line each, blank lines between. `explain` reads them from inside the binary; a test reads them strictly.

use serde::Serialize;

/// A page in one language.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Text {
    pub(super) title: String,
    pub(super) means: String,
    pub(super) how: String,
    #[serde(rename = "do")]
    pub(super) act: String,
}

/// What is to be said of one code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) code: String,
    pub(super) en: Text,
    pub(super) zh: Text,
}

impl Text {
    fn is_whole(&self) -> bool {
        [&self.title, &self.means, &self.how, &self.act].into_iter().all(|text| !text.is_empty())
    }
}

/// All pages of these files, by code. What is malformed is left out: a test keeps it from being shipped.
pub(super) fn read(files: &[&str]) -> Vec<Page> {
    let mut pages: Vec<Page> = files.iter().filter_map(|text| parse(text).ok()).flatten().collect();
    pages.sort_by(|a, b| a.code.cmp(&b.code));
    pages
}

/// The pages of one file, or what is wrong in which line.
pub(super) fn parse(text: &str) -> Result<Vec<Page>, String> {
    let mut pages: Vec<Page> = Vec::new();
    let mut chinese = false;
    for (number, line) in text.lines().enumerate() {
        let wrong = |why: &str| format!("line {}: {why}", number + 1);
        if line.trim().is_empty() {
            continue;
        }
        if let Some(code) = line.strip_prefix("# ") {
            pages.push(Page { code: code.trim().to_owned(), ..Page::default() });
            chinese = false;
            continue;
        }
        let page = pages.last_mut().ok_or_else(|| wrong("text before the first code"))?;
        let (field, said) = line.split_once(": ").ok_or_else(|| wrong("no `field: text`"))?;
        chinese = match field {
            "en" => false,
            "zh" => true,
            _ => chinese,
        };
        let text = if chinese { &mut page.zh } else { &mut page.en };
        let slot = match field {
            "en" | "zh" => &mut text.title,
            "means" => &mut text.means,
            "how" => &mut text.how,
            "do" => &mut text.act,
            _ => return Err(wrong("a field other than en, zh, means, how, do")),
        };
        if !slot.is_empty() {
            return Err(wrong("the field stands twice"));
        }
        said.trim().clone_into(slot);
    }
    match pages.iter().find(|page| !page.en.is_whole() || !page.zh.is_whole()) {
        Some(page) => Err(format!("{} lacks a field in one of its languages", page.code)),
        None => Ok(pages),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "# KE-A-001\nen: t\nmeans: m: n\nhow: h\ndo: d\nzh: 标题\nmeans: a\nhow: b\ndo: c\n";

    #[test]
    fn a_page_has_both_languages() {
        let pages = parse(WHOLE).unwrap();
        assert_eq!(pages.len(), 1);
        assert_eq!((pages[0].en.means.as_str(), pages[0].zh.title.as_str()), ("m: n", "标题"));
    }

    #[test]
    fn what_is_malformed_is_told_with_its_line() {
        for (text, told) in [
            ("en: t\n", "line 1: text before the first code"),
            ("# KE-A-001\nword\n", "line 2: no `field: text`"),
            ("# KE-A-001\nen: t\nwhy: x\n", "line 3: a field other than en, zh, means, how, do"),
            ("# KE-A-001\nen: t\nen: x\n", "line 3: the field stands twice"),
            ("# KE-A-001\nen: t\n", "KE-A-001 lacks a field in one of its languages"),
        ] {
            assert_eq!(parse(text).unwrap_err(), told);
        }
    }
}
