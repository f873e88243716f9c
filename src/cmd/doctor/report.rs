//! The report in every form: for people, for scripts, for CI. Pure; the order is that of the findings.
//! The JSON form has a version and only ever grows.

use super::place::Role;
use crate::base::{Exit, now, rfc3339};
use crate::host::check::{Finding, Group, State};
use serde::Serialize;
use serde_json::{Value, json};
use std::time::Duration;

/// The version of the JSON and YAML forms, and of what drop-in checks print.
pub(super) const API_VERSION: &str = "kedge.io/doctor/v1";

/// Columns of a name; a longer one pushes its value aside.
const NARROW: usize = 30;
const WIDE: usize = 44;

/// How the report is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Form {
    #[default]
    Text,
    Json,
    /// One finding a line
    Jsonl,
    Yaml,
    Junit,
    /// Only what is not fine
    Short,
}

/// How many of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Summary {
    pub fine: usize,
    pub warnings: usize,
    pub failed: usize,
    pub skipped: usize,
}

impl Summary {
    pub fn of(findings: &[Finding]) -> Summary {
        let count = |state| findings.iter().filter(|finding| finding.state == state).count();
        Summary {
            fine: count(State::Fine),
            warnings: count(State::Warning),
            failed: count(State::Failed),
            skipped: count(State::Skipped),
        }
    }

    /// 1 when something failed, 3 when warnings count as failures, else 0.
    pub fn exit(self, strict: bool) -> Exit {
        match self {
            Summary { failed: 1.., .. } => Exit::Failed,
            // The number that warnings have with --strict is also that of a bad configuration.
            Summary { warnings: 1.., .. } if strict => Exit::Configuration,
            _ => Exit::Done,
        }
    }
}

/// Everything that was found.
pub(super) struct Report {
    pub role: Role,
    pub findings: Vec<Finding>,
    pub took: Duration,
}

impl Report {
    /// The document of the JSON and YAML forms.
    pub fn document(&self) -> Value {
        json!({
            "apiVersion": API_VERSION,
            "kind": "Report",
            "role": self.role,
            "version": env!("CARGO_PKG_VERSION"),
            "at": rfc3339(now()),
            "tookMs": u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
            "summary": Summary::of(&self.findings),
            "findings": self.findings,
        })
    }

    /// One JSON value a line, each with the version.
    pub fn lines(&self) -> String {
        let line = |finding: &Finding| {
            let mut value = json!(finding);
            value["apiVersion"] = API_VERSION.into();
            value.to_string()
        };
        self.findings.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// For a person; `plain` means ASCII.
    pub fn text(&self, plain: bool) -> String {
        let mut out = String::new();
        let mut group = None;
        let widest = self.findings.iter().map(|finding| finding.name.chars().count()).max().unwrap_or(0);
        let width = widest.clamp(NARROW, WIDE);
        for finding in &self.findings {
            if group != Some(finding.group) {
                if group.is_some() {
                    out.push('\n');
                }
                out += finding.group.title();
                out.push('\n');
                group = Some(finding.group);
            }
            put(&mut out, finding, width, plain);
        }
        if group.is_some() {
            out.push('\n');
        }
        out + &self.summary()
    }

    fn summary(&self) -> String {
        let Summary { fine, warnings, failed, skipped } = Summary::of(&self.findings);
        let plural = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
        format!(
            "{fine} fine, {}, {failed} failed, {skipped} skipped in {:.1} s",
            plural(warnings, "warning"),
            self.took.as_secs_f64()
        )
    }

    /// What is not fine, one a line.
    pub fn short(&self) -> String {
        let of_note = self.findings.iter().filter(|f| matches!(f.state, State::Warning | State::Failed));
        let line = |finding: &Finding| {
            let word = if finding.state == State::Failed { "failed" } else { "warning" };
            let line = format!("{} {word}: {}: {}", finding.code, finding.name, finding.seen);
            // A finding is a line, whatever was seen.
            line.lines().map(str::trim).collect::<Vec<_>>().join(" ")
        };
        of_note.map(line).collect::<Vec<_>>().join("\n")
    }

    /// The form that CI systems read: a suite per group, a case per finding. Warnings are passed cases that say more.
    pub fn junit(&self) -> String {
        let summary = Summary::of(&self.findings);
        let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        out += &format!(
            "<testsuites name=\"kedge doctor\" tests=\"{}\" failures=\"{}\" skipped=\"{}\" time=\"{:.3}\">\n",
            self.findings.len(),
            summary.failed,
            summary.skipped,
            self.took.as_secs_f64()
        );
        let mut groups: Vec<Group> = self.findings.iter().map(|finding| finding.group).collect();
        groups.dedup();
        for group in groups {
            let of_group: Vec<Finding> =
                self.findings.iter().filter(|finding| finding.group == group).cloned().collect();
            let counts = Summary::of(&of_group);
            out += &format!(
                "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" skipped=\"{}\">\n",
                group.title(),
                of_group.len(),
                counts.failed,
                counts.skipped
            );
            of_group.iter().for_each(|finding| out += &case(finding));
            out += "  </testsuite>\n";
        }
        out + "</testsuites>"
    }
}

fn mark(state: State, plain: bool) -> char {
    match (state, plain) {
        (State::Fine, false) => '✓',
        (State::Warning, _) => '!',
        (State::Failed, false) => '✗',
        (State::Skipped, false) => '–',
        (State::Fine, true) => '+',
        (State::Failed, true) => 'x',
        (State::Skipped, true) => '-',
    }
}

fn put(out: &mut String, finding: &Finding, width: usize, plain: bool) {
    let value = match finding.state {
        State::Skipped => format!("skipped: {}", finding.why),
        _ => finding.seen.clone(),
    };
    out.push_str("  ");
    out.push(mark(finding.state, plain));
    out.push_str(&format!(" {:<width$}  {value}  [{}]\n", finding.name, finding.code));
    if matches!(finding.state, State::Warning | State::Failed) {
        if !finding.why.is_empty() {
            out.push_str(&format!("      because: {}\n", finding.why));
        }
        if !finding.fix.is_empty() {
            let own = if finding.fixable {
                format!(" (or kedge doctor --fix={})", finding.code)
            } else {
                String::new()
            };
            out.push_str(&format!("      fix: {}{own}\n", finding.fix));
        }
    }
}

fn case(finding: &Finding) -> String {
    let open = format!(
        "    <testcase classname=\"{}\" name=\"{}\">",
        escaped(&finding.code),
        escaped(&finding.name)
    );
    let inner = match finding.state {
        State::Failed => format!(
            "<failure message=\"{}\">{}</failure>",
            escaped(&finding.seen),
            escaped(&format!("{}\nfix: {}", finding.why, finding.fix))
        ),
        State::Skipped => format!("<skipped message=\"{}\"/>", escaped(&finding.why)),
        State::Warning => format!(
            "<system-out>{}</system-out>",
            escaped(&format!("warning: {}\n{}\nfix: {}", finding.seen, finding.why, finding.fix))
        ),
        State::Fine => format!("<system-out>{}</system-out>", escaped(&finding.seen)),
    };
    format!("{open}{inner}</testcase>\n")
}

/// XML 1.0 has no place for control characters, not even escaped.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() => out.push('?'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let at = |group, finding: Finding| Finding { group, ..finding };
        let findings = vec![
            at(Group::Host, Finding::fine("KE-HOST-001", "root", "yes")),
            at(
                Group::Host,
                Finding::failed("KE-CGROUP-002", "memory control group", "off \"x\" <y>")
                    .because("pods have no limit")
                    .fix("reboot")
                    .fixable(),
            ),
            at(Group::Network, Finding::warning("KE-MTU-001", "packet size", "1200").fix("ip link")),
            at(Group::Network, Finding::skipped("KE-DNS-001", "name service", "because of KE-ROUTE-001")),
        ];
        Report { role: Role::Edge, findings, took: Duration::from_millis(1234) }
    }

    #[test]
    fn people_get_marks_values_and_what_to_do() {
        let expected = "Host\n  ✓ root                            yes  [KE-HOST-001]\n  \
            ✗ memory control group            off \"x\" <y>  [KE-CGROUP-002]\n      because: pods have no limit\n      \
            fix: reboot (or kedge doctor --fix=KE-CGROUP-002)\n\nNetwork\n  \
            ! packet size                     1200  [KE-MTU-001]\n      fix: ip link\n  \
            – name service                    skipped: because of KE-ROUTE-001  [KE-DNS-001]\n\n\
            1 fine, 1 warning, 1 failed, 1 skipped in 1.2 s";
        assert_eq!(report().text(false), expected);
        assert!(report().text(true).is_ascii());
    }

    #[test]
    fn scripts_get_a_versioned_document_and_the_exit_status() {
        let document = report().document();
        assert_eq!(document["apiVersion"], API_VERSION);
        assert_eq!(document["summary"], json!({"fine": 1, "warnings": 1, "failed": 1, "skipped": 1}));
        assert_eq!(document["findings"][1]["code"], "KE-CGROUP-002");
        assert_eq!(document["findings"][3]["state"], "skipped");
        assert_eq!(report().lines().lines().count(), 4);
        assert_eq!(report().short().lines().count(), 2);
        let summary = Summary::of(&report().findings);
        assert_eq!(summary.exit(false).code(), 1);
        let warned = Summary { failed: 0, ..summary };
        assert_eq!((warned.exit(false).code(), warned.exit(true).code()), (0, 3));
    }

    #[test]
    fn ci_gets_well_formed_xml() {
        let xml = report().junit();
        assert!(xml.contains("tests=\"4\" failures=\"1\" skipped=\"1\""), "{xml}");
        assert!(xml.contains("<failure message=\"off &quot;x&quot; &lt;y&gt;\">"), "{xml}");
        assert!(xml.contains("<skipped message=\"because of KE-ROUTE-001\"/>"), "{xml}");
        assert_eq!(escaped("a\u{1}b\n"), "a?b\n");
    }

    #[test]
    fn what_a_drop_in_prints_is_what_we_print() {
        let line = report().lines();
        let first: Finding = serde_json::from_str(line.lines().next().unwrap()).unwrap();
        assert_eq!(first, report().findings[0]);
    }
}
