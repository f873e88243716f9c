//! `kedge explain`: the page for a code, from inside the binary, in English or Chinese. One file of pages per area stands
//! in `pages/`; a test demands a page for every code in the sources and a code for every page.

mod page;

use super::edge_store::table;
use super::lang::Lang;
use crate::base::{Exit, Failure, Output, Term, nearest};
use page::{Page, Text, read};
use serde::Serialize;
use serde_json::json;

/// Explain an error code, or list all of them
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  kedge explain KE-TOKEN-001\n  kedge explain --lang zh -o json")]
pub struct Args {
    /// The code; all are listed when it is left out
    #[arg(value_name = "CODE")]
    code: Option<String>,
    /// Language of the page; that of the environment (LC_ALL, LC_MESSAGES, LANG) when left out
    #[arg(long, value_enum)]
    lang: Option<Lang>,
    /// Form of the output
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

impl Page {
    fn text(&self, lang: Lang) -> &Text {
        match lang {
            Lang::En => &self.en,
            Lang::Zh => &self.zh,
        }
    }
}

/// What JSON and YAML show of a page.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    code: &'a str,
    lang: Lang,
    #[serde(flatten)]
    text: &'a Text,
}

pub fn run(args: Args, term: &Term) -> Result<Exit, Failure> {
    let lang = Lang::chosen(args.lang);
    let pages = read(PAGES);
    match args.code {
        Some(code) => show(find(&pages, &code)?, lang, args.output, term)?,
        None => list(&pages, lang, args.output, term)?,
    }
    Ok(Exit::Done)
}

fn find<'a>(pages: &'a [Page], code: &str) -> Result<&'a Page, Failure> {
    let wanted = code.trim().to_uppercase();
    pages.iter().find(|page| page.code == wanted).ok_or_else(|| {
        let near = nearest(&wanted, pages.iter().map(|page| page.code.as_str()));
        let fix = match near {
            Some(near) => format!("did you mean {near}? `kedge explain` lists all codes"),
            None => "`kedge explain` lists all codes".to_owned(),
        };
        Failure::new("KE-EXPLAIN-001", format!("there is no page for {code:?}"))
            .because("no error of this kedge has the code")
            .fix(fix)
            .exit(Exit::Usage)
    })
}

fn show(page: &Page, lang: Lang, output: Output, term: &Term) -> Result<(), Failure> {
    let text = page.text(lang);
    if output != Output::Text {
        let shown = Shown { code: &page.code, lang, text };
        let mut value = json!({"apiVersion": "kedge.io/v1", "kind": "Explanation"});
        if let (Some(all), Ok(serde_json::Value::Object(page))) =
            (value.as_object_mut(), serde_json::to_value(shown))
        {
            all.extend(page);
        }
        return term.value(&value, output);
    }
    let [means, how, act] = match lang {
        Lang::En => ["What it means", "How it comes about", "What to do"],
        Lang::Zh => ["含义", "原因", "处理"],
    };
    term.data(&format!(
        "{}  {}\n\n{means}\n  {}\n\n{how}\n  {}\n\n{act}\n  {}",
        page.code, text.title, text.means, text.how, text.act
    ));
    Ok(())
}

fn list(pages: &[Page], lang: Lang, output: Output, term: &Term) -> Result<(), Failure> {
    if output != Output::Text {
        let items: Vec<Shown> =
            pages.iter().map(|page| Shown { code: &page.code, lang, text: page.text(lang) }).collect();
        let list = json!({"apiVersion": "kedge.io/v1", "kind": "ExplanationList", "items": items});
        return term.value(&list, output);
    }
    let rows = pages.iter().map(|page| vec![page.code.clone(), page.text(lang).title.clone()]);
    term.data(&table(&["CODE", "TITLE"], rows));
    Ok(())
}

/// The pages of every area, in the order of their names.
const PAGES: &[&str] = &[
    include_str!("pages/api.md"),
    include_str!("pages/arch.md"),
    include_str!("pages/ask.md"),
    include_str!("pages/autonomy.md"),
    include_str!("pages/broker.md"),
    include_str!("pages/bugreport.md"),
    include_str!("pages/bundle.md"),
    include_str!("pages/cert.md"),
    include_str!("pages/cgroup.md"),
    include_str!("pages/clock.md"),
    include_str!("pages/cloud.md"),
    include_str!("pages/cni.md"),
    include_str!("pages/config.md"),
    include_str!("pages/crd.md"),
    include_str!("pages/cri.md"),
    include_str!("pages/daemon.md"),
    include_str!("pages/db.md"),
    include_str!("pages/disk.md"),
    include_str!("pages/dns.md"),
    include_str!("pages/doctor.md"),
    include_str!("pages/dropin.md"),
    include_str!("pages/dup.md"),
    include_str!("pages/edgecore.md"),
    include_str!("pages/etc.md"),
    include_str!("pages/exec.md"),
    include_str!("pages/explain.md"),
    include_str!("pages/file.md"),
    include_str!("pages/fleet.md"),
    include_str!("pages/help.md"),
    include_str!("pages/host.md"),
    include_str!("pages/image.md"),
    include_str!("pages/init.md"),
    include_str!("pages/job.md"),
    include_str!("pages/join.md"),
    include_str!("pages/journal.md"),
    include_str!("pages/keadm.md"),
    include_str!("pages/kernel.md"),
    include_str!("pages/kube.md"),
    include_str!("pages/kubelet.md"),
    include_str!("pages/link.md"),
    include_str!("pages/mapper.md"),
    include_str!("pages/mem.md"),
    include_str!("pages/mesh.md"),
    include_str!("pages/meta.md"),
    include_str!("pages/module.md"),
    include_str!("pages/mqtt.md"),
    include_str!("pages/mtu.md"),
    include_str!("pages/node.md"),
    include_str!("pages/pki.md"),
    include_str!("pages/pod.md"),
    include_str!("pages/port.md"),
    include_str!("pages/proxy.md"),
    include_str!("pages/quic.md"),
    include_str!("pages/reset.md"),
    include_str!("pages/route.md"),
    include_str!("pages/router.md"),
    include_str!("pages/run.md"),
    include_str!("pages/runtime.md"),
    include_str!("pages/sched.md"),
    include_str!("pages/service.md"),
    include_str!("pages/skew.md"),
    include_str!("pages/status.md"),
    include_str!("pages/store.md"),
    include_str!("pages/stream.md"),
    include_str!("pages/sync.md"),
    include_str!("pages/term.md"),
    include_str!("pages/token.md"),
    include_str!("pages/twin.md"),
    include_str!("pages/undo.md"),
    include_str!("pages/up.md"),
    include_str!("pages/upgrade.md"),
    include_str!("pages/usage.md"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    fn place(below: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(below)
    }

    /// Every `"KE-AREA-NNN"` in the sources.
    fn codes(dir: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                codes(&path, found);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.extend(named(&text, r#""(KE-([A-Z0-9]+)-[0-9]{3})""#));
            }
        }
    }

    #[test]
    fn every_code_has_a_page_and_every_page_a_code() {
        let mut used = BTreeSet::new();
        codes(&place("src"), &mut used);
        let told: BTreeSet<String> = read(PAGES).into_iter().map(|page| page.code).collect();
        let untold: Vec<_> = used.difference(&told).collect();
        let unused: Vec<_> = told.difference(&used).collect();
        assert!(
            untold.is_empty() && unused.is_empty(),
            "codes without a page in src/cmd/explain/pages: {untold:?}; pages without a code: {unused:?}"
        );
    }

    /// The codes that a pattern finds in a text; TEST and areas of one letter are those of tests.
    fn named(text: &str, pattern: &str) -> Vec<String> {
        let code = regex::Regex::new(pattern).unwrap();
        let all = code.captures_iter(text).filter(|found| found[2].len() > 1 && &found[2] != "TEST");
        all.map(|found| found[1].to_owned()).collect()
    }

    /// The modules that a source declares for tests alone.
    fn test_modules(text: &str) -> Vec<String> {
        let declared = regex::Regex::new(r"#\[cfg\(test\)\]\n(?:pub(?:\([a-z ]+\))? )?mod (\w+);").unwrap();
        declared.captures_iter(text).map(|found| found[1].to_owned()).collect()
    }

    /// Codes that the sources below a directory raise, and those that its tests name.
    fn raised_and_tested(
        dir: &Path,
        whole: bool,
        raised: &mut BTreeSet<String>,
        tested: &mut BTreeSet<String>,
    ) {
        let within = regex::Regex::new(r"#\[cfg\(test\)\]\n(?:pub(?:\([a-z ]+\))? )?mod \w+ \{").unwrap();
        // A directory's modules are declared in it, or in the file of its name beside it.
        let parent =
            fs::read_to_string(dir.join("mod.rs")).or_else(|_| fs::read_to_string(dir.with_extension("rs")));
        let parent = parent.unwrap_or_default();
        let of_tests = test_modules(&parent);
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let whole =
                whole || of_tests.iter().any(|name| path.file_stem().is_some_and(|stem| *stem == **name));
            if path.is_dir() {
                raised_and_tested(&path, whole, raised, tested);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let whole = whole || text.contains("\n#![cfg(test)]\n");
                let start =
                    if whole { 0 } else { within.find(&text).map_or(text.len(), |found| found.start()) };
                let (product, tests) = text.split_at(start);
                raised.extend(named(product, r#""(KE-([A-Z0-9]+)-[0-9]{3})""#));
                tested.extend(named(tests, r"(KE-([A-Z0-9]+)-[0-9]{3})"));
            }
        }
    }

    #[test]
    fn every_code_is_named_by_a_test() {
        let (mut raised, mut tested) = (BTreeSet::new(), BTreeSet::new());
        raised_and_tested(&place("src"), false, &mut raised, &mut tested);
        raised_and_tested(&place("tests"), true, &mut BTreeSet::new(), &mut tested);
        let untested: Vec<_> = raised.difference(&tested).collect();
        assert!(untested.is_empty(), "codes that no test names: {untested:?}");
    }

    #[test]
    fn every_page_is_well_formed_and_stands_in_its_areas_file() {
        let mut listed = 0;
        for entry in fs::read_dir(place("src/cmd/explain/pages")).unwrap() {
            let path = entry.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            assert!(PAGES.contains(&text.as_str()), "{} is not in the list of pages", path.display());
            listed += 1;
            let pages = page::parse(&text).unwrap_or_else(|wrong| panic!("{}: {wrong}", path.display()));
            let area = path.file_stem().unwrap().to_string_lossy().to_uppercase();
            for page in pages {
                assert!(page.code.starts_with(&format!("KE-{area}-")), "{} in {area}", page.code);
            }
        }
        assert_eq!(listed, PAGES.len());
        let codes: Vec<String> = read(PAGES).into_iter().map(|page| page.code).collect();
        let unique: BTreeSet<&String> = codes.iter().collect();
        assert_eq!(unique.len(), codes.len(), "a code has two pages");
    }

    /// What a person would type or look for: quoted words, flags, paths, codes and settings.
    fn facts(text: &Text) -> Vec<String> {
        let whole = [&text.title, &text.means, &text.how, &text.act].map(String::as_str).join(" ");
        let fact =
            r"`[^`]+`|--[a-z][a-z-]+|KE-[A-Z]+-[0-9]{3}|(?:^|[ (])/[a-z][\w./*-]+\w|\b[a-z]\w+(?:\.\w+)+";
        let fact = regex::Regex::new(fact).unwrap();
        fact.find_iter(&whole).map(|found| found.as_str().trim_matches([' ', '(']).to_owned()).collect()
    }

    #[test]
    fn a_chinese_page_says_what_the_english_one_says() {
        let mut missing = Vec::new();
        for page in read(PAGES) {
            let (en, zh) = (&page.en, &page.zh);
            let told = [&zh.title, &zh.means, &zh.how, &zh.act].map(String::as_str).join(" ");
            missing.extend(
                facts(en)
                    .into_iter()
                    .filter(|fact| !told.contains(fact))
                    .map(|fact| format!("{}: {fact}", page.code)),
            );
            // A Chinese sentence has about a third of an English one's letters.
            let pairs =
                [(&en.title, &zh.title), (&en.means, &zh.means), (&en.how, &zh.how), (&en.act, &zh.act)];
            for (en, zh) in pairs {
                if zh.chars().count() * 8 < en.chars().count() {
                    missing.push(format!("{}: {zh} is less than {en}", page.code));
                }
            }
            let count = |text: &Text| {
                [&text.means, &text.how, &text.act]
                    .into_iter()
                    .map(|text| text.chars().count())
                    .sum::<usize>()
            };
            if count(zh) * 4 < count(en) {
                missing.push(format!("{} is {} letters for {}", page.code, count(zh), count(en)));
            }
        }
        assert!(missing.is_empty(), "Chinese pages that say less: {missing:#?}");
    }
}
