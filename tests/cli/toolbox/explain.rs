//! `kedge explain`: pages, the list, languages, and what a wrong code is answered with.

use crate::support::{Run, binary, kedge};
use std::process::{Command, Stdio};

fn with_lang(lang: &str, args: &[&str]) -> Run {
    let mut command = Command::new(binary());
    command.args(args).env_remove("LC_ALL").env_remove("LC_MESSAGES").env("LANG", lang).stdin(Stdio::null());
    command.output().unwrap().into()
}

#[test]
fn a_page_says_what_it_means_how_it_comes_about_and_what_to_do() {
    let run = with_lang("C", &["explain", "ke-token-002"]);
    run.assert_status(0);
    let expected = "KE-TOKEN-002  The join token has expired\n\n\
        What it means\n  The token was valid until the moment that is named.\n\n\
        How it comes about\n  It is older than its time to live, or this machine's clock is ahead.\n\n\
        What to do\n  Make a new one with `kedge token create` on the cloud side; check the clock with `date -u`.\n";
    assert_eq!(run.stdout, expected);
}

#[test]
fn the_language_is_the_environments_or_the_flags() {
    let chinese = with_lang("zh_CN.UTF-8", &["explain", "KE-TOKEN-002"]);
    assert!(chinese.stdout.starts_with("KE-TOKEN-002  加入令牌已过期\n\n含义\n"), "{chinese:?}");
    let flag = with_lang("C", &["explain", "KE-TOKEN-002", "--lang", "zh"]);
    assert_eq!(flag.stdout, chinese.stdout);
    let english = with_lang("zh_CN.UTF-8", &["explain", "KE-TOKEN-002", "--lang", "en", "-o", "json"]);
    let value: serde_json::Value = serde_json::from_str(&english.stdout).unwrap();
    assert_eq!(value["kind"], "Explanation");
    assert_eq!((&value["lang"], &value["title"]), (&"en".into(), &"The join token has expired".into()));
}

#[test]
fn all_codes_are_listed() {
    let text = kedge(&["explain", "--lang", "en"]);
    text.assert_status(0);
    assert!(text.stdout.starts_with("CODE "), "{text:?}");
    let json = kedge(&["explain", "-o", "json"]);
    let value: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(value["apiVersion"], "kedge.io/v1");
    assert_eq!(value["items"].as_array().unwrap().len(), text.stdout.lines().count() - 1);
}

#[test]
fn a_wrong_code_is_answered_with_the_nearest() {
    let run = kedge(&["explain", "KE-TOKN-002"]);
    run.assert_status(2);
    assert_eq!(
        run.stderr,
        "error: there is no page for \"KE-TOKN-002\"\n  because: no error of this kedge has the code\n  \
         fix: did you mean KE-TOKEN-002? `kedge explain` lists all codes\n  code: KE-EXPLAIN-001\n"
    );
    let far = kedge(&["explain", "nonsense"]);
    far.assert_status(2);
    assert!(far.stderr.contains("fix: `kedge explain` lists all codes\n"), "{far:?}");
}
