//! cloudcore.yaml and edgecore.yaml: KubeEdge's schema plus a `kedge:` section; the join file. Typed and checked, all
//! problems at once.
//! The default document is the schema: a key it does not have is a warning, a value of another type is a problem.
//! Commands load files here; daemons receive the typed result and never read a file themselves.

mod check;
pub mod cloud;
pub mod edge;
mod edge_check;
mod edge_raw;
pub mod edit;
pub mod join_file;
pub mod login;
mod merge;
pub mod patch;
mod read;
pub mod set;
pub mod shown;
pub mod survey;
mod unserved;

pub use check::{api_url, go_duration};
pub use merge::{Problem, overlay};

use crate::base::{Exit, Failure, read_limited};
use serde_json::Value;
use std::fmt;
use std::path::Path;

/// No configuration is this large; a larger file is a mistake.
pub const FILE_LIMIT: u64 = 1 << 20;

/// A checked configuration with what deserves a look in it.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    pub config: T,
    pub warnings: Vec<Problem>,
}

/// A secret that does not show itself in debug output.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Hidden(String);

impl Hidden {
    pub fn new(secret: impl Into<String>) -> Self {
        Hidden(secret.into())
    }

    /// The secret itself; never for a log or a person.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "(none)" } else { "(hidden)" })
    }
}

/// Reads a YAML file into a value.
pub fn read_yaml(path: &Path) -> Result<Value, Failure> {
    read_document(path).map(|(document, _)| document)
}

/// Reads a YAML file into a value, with a warning where its end makes one doubt that it is whole.
pub(crate) fn read_document(path: &Path) -> Result<(Value, Option<Problem>), Failure> {
    let bytes = read_limited(path, FILE_LIMIT).map_err(|failure| failure.exit(Exit::Configuration))?;
    if let Some(why) = survey::half_written(&bytes) {
        return Err(Failure::new("KE-CONFIG-005", format!("{} was written only half", path.display()))
            .because(why)
            .fix("put it back from a copy, or write it anew with `kedge edge config --minconfig`")
            .exit(Exit::Configuration));
    }
    let document = yaml(&bytes).map_err(|error| {
        Failure::new("KE-CONFIG-001", format!("{} is not valid YAML", path.display()))
            .because(error)
            .fix("mend the line that is named; indent with spaces, not tabs")
            .exit(Exit::Configuration)
    })?;
    Ok((document, survey::unended(&bytes)))
}

/// Brackets within brackets that a file may have; what the parser takes for more grows with the square of their number.
const NESTED: usize = 256;

/// Reads YAML; a key that stands twice in one map is an error, as one of the two would be lost. A mark of the byte order,
/// as some editors put it before a text, is none of it.
pub fn yaml(bytes: &[u8]) -> Result<Value, serde_yaml::Error> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut open = 0usize;
    for byte in bytes {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        if open > NESTED {
            let why = format!("more than {NESTED} brackets are open at once");
            return Err(serde::de::Error::custom(why));
        }
    }
    serde_yaml::from_slice::<read::Any>(bytes).map(|read::Any(value)| value)
}

/// One failure that tells all problems of a file.
pub fn refuse(file: &str, problems: &[Problem]) -> Failure {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let count = match lines.len() {
        1 => "1 problem".to_owned(),
        n => format!("{n} problems"),
    };
    Failure::new("KE-CONFIG-002", format!("{file} has {count}"))
        .because(lines.join("; "))
        .fix(format!("mend {file} and start again"))
        .exit(Exit::Configuration)
}

/// The same, with the unknown keys that look like known ones: one of them may be the cause.
pub fn refuse_beside(file: &str, problems: &[Problem], warnings: &[Problem]) -> Failure {
    let mut failure = refuse(file, problems);
    for typo in warnings.iter().filter(|warning| warning.nearest.is_some()) {
        failure.why += &format!("; {typo}");
    }
    failure
}
