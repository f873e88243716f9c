//! Which database an offline command reads, and the plain tables that such commands print.

use crate::base::{Failure, is_there, now};
use crate::store::Reader;
use std::path::{Path, PathBuf};

/// Where KubeEdge and `kedge edge run` keep the database.
const KUBEEDGE_DATABASE: &str = "/var/lib/kubeedge/edgecore.db";

/// Flags that name an edge node's database.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct DatabaseArgs {
    /// The database file; also one of a genuine edgecore
    #[arg(long, value_name = "FILE")]
    db: Option<PathBuf>,
    #[command(flatten)]
    data_dir: super::DataDir,
}

impl DatabaseArgs {
    /// The named file, else the one of `kedge up`, else the one of `kedge edge run`.
    pub(super) fn path(&self) -> PathBuf {
        if let Some(path) = &self.db {
            return path.clone();
        }
        database(&self.data_dir.data_dir)
    }

    pub(super) fn open(&self) -> Result<Reader, Failure> {
        Reader::open(self.path()).map_err(|failure| match failure.code {
            "KE-STORE-006" => {
                failure.fix("name the right file with --db, or the right directory with --data-dir")
            }
            _ => failure,
        })
    }

    pub(super) fn data_dir(&self) -> &Path {
        &self.data_dir.data_dir
    }

    /// Whether one database is meant and no other.
    pub(super) fn is_named(&self) -> bool {
        self.db.is_some()
    }

    /// Sockets on which a daemon with this database may tell its state.
    pub(super) fn sockets(&self) -> Vec<PathBuf> {
        if let Some(db) = &self.db {
            return vec![db.with_file_name("kedge.sock")];
        }
        let of_up = self.data_dir.data_dir.join("kedge.sock");
        let beside = self.path().with_file_name("kedge.sock");
        if of_up == beside { vec![of_up] } else { vec![of_up, beside] }
    }
}

/// The database of a data directory: the one of `kedge up`, else the one of `kedge edge run`, which for the usual directory
/// is KubeEdge's.
pub(super) fn database(data_dir: &Path) -> PathBuf {
    let up = data_dir.join("edge/edgecore.db");
    let usual = (data_dir == Path::new(super::DATA_DIR)).then(|| PathBuf::from(KUBEEDGE_DATABASE));
    let places = [up.clone(), data_dir.join("edgecore.db")].into_iter().chain(usual);
    // One that this user may not see is not absent.
    let found = |path: &PathBuf| path.is_file() || is_there(path).is_err();
    places.into_iter().find(found).unwrap_or(up)
}

/// Columns as wide as their widest cell, two spaces apart, as kubectl prints them.
pub(super) fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let head: Vec<String> = head.iter().map(|&cell| cell.to_owned()).collect();
    let lines: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            lines
                .iter()
                .filter_map(|line| line.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let text = lines.iter().map(|line| {
        let cells: Vec<String> =
            line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("   ").trim_end().to_owned()
    });
    text.collect::<Vec<_>>().join("\n")
}

/// How long ago an RFC 3339 time was, as kubectl writes it; `-` when there is none.
pub(super) fn age(since: &str) -> String {
    let Ok(at) = since.parse::<jiff::Timestamp>() else { return "-".to_owned() };
    let seconds = (now().as_second() - at.as_second()).max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_database_has_one_socket() {
        let args = DatabaseArgs {
            db: Some(PathBuf::from("/srv/a/edgecore.db")),
            data_dir: super::super::DataDir { data_dir: PathBuf::from("/srv/b") },
        };
        assert_eq!(args.sockets(), [PathBuf::from("/srv/a/kedge.sock")]);
    }

    #[test]
    fn columns_line_up() {
        let rows = vec![vec!["a".to_owned(), "long cell".to_owned()], vec!["bcd".to_owned(), String::new()]];
        assert_eq!(table(&["X", "Y"], rows), "X     Y\na     long cell\nbcd");
    }

    #[test]
    fn ages_are_short() {
        assert_eq!(age(""), "-");
        assert_eq!(age("1970-01-01T00:00:00Z").chars().last(), Some('d'));
    }
}
