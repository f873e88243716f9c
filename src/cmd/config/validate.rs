//! `kedge config validate`: everything that is wrong in the files of this machine, at once.

use super::{FileFlags, Source};
use crate::base::{Exit, Failure, Output, Term};
use crate::config::survey::{Role, Survey, half_written, unended};
use crate::config::{Problem, yaml};
use serde::Serialize;
use serde_json::json;
use std::path::PathBuf;

/// What was found in one file.
#[derive(Serialize)]
struct Report {
    file: String,
    role: Role,
    fit: bool,
    #[serde(flatten)]
    survey: Survey,
}

pub(super) fn run(
    files: &[PathBuf],
    file: &FileFlags,
    strict: bool,
    output: Output,
    term: &Term,
) -> Result<Exit, Failure> {
    let mut reports = Vec::new();
    let paths = if files.is_empty() { file.paths()? } else { files.to_vec() };
    for path in paths {
        reports.push(report(&file.open(&path)?, strict)?);
    }
    match output {
        Output::Text => reports.iter().for_each(|report| told(report, term)),
        form => {
            let list = json!({"apiVersion": "kedge.io/v1", "kind": "ConfigReportList", "items": reports});
            term.value(&list, form)?;
        }
    }
    Ok(if reports.iter().all(|report| report.fit) { Exit::Done } else { Exit::Configuration })
}

fn report(source: &Source, strict: bool) -> Result<Report, Failure> {
    let mut survey = match yaml(source.text.as_bytes()) {
        Ok(value) => source.role.survey(&value)?,
        Err(error) => Survey {
            problems: vec![Problem::new("(whole file)", "", format!("not valid YAML: {error}"))],
            warnings: Vec::new(),
        },
    };
    if let Some(why) = half_written(source.text.as_bytes()) {
        survey.problems.insert(0, Problem::new("(whole file)", "", format!("written only half: {why}")));
    } else {
        survey.warnings.extend(unended(source.text.as_bytes()));
    }
    let fit = survey.problems.is_empty() && (!strict || survey.warnings.is_empty());
    Ok(Report { file: source.path.display().to_string(), role: source.role, fit, survey })
}

fn told(report: &Report, term: &Term) {
    let file = &report.file;
    let Survey { problems, warnings } = &report.survey;
    let mut lines: Vec<String> = Vec::new();
    lines.extend(problems.iter().map(|problem| format!("{file}: error: {problem}")));
    lines.extend(warnings.iter().map(|warning| format!("{file}: warning: {warning}")));
    if problems.is_empty() {
        let count = warnings.len();
        let more = if count == 0 { String::new() } else { format!(", with {count} to look at") };
        let verdict = if report.fit { "is fine" } else { "is not fine" };
        lines.push(format!("{file}: {verdict}{more}"));
    }
    term.data(&lines.join("\n"));
}
