//! Join files on disk: a new one never takes the place of another unasked, what is replaced gives up its token, and a token
//! that nobody could be told is not made. `kedge token create` and `kedge init` write through here.

use crate::base::{Failure, read_limited, write_atomic};
use crate::config::join_file::JoinFile;
use crate::daemon::cloud::{Draft, TokenDesk};
use crate::pki::Token;
use std::fs;
use std::path::{Path, PathBuf};

const FILE_LIMIT: u64 = 1 << 20;

/// Places for join files, free or to be replaced.
pub(in crate::cmd) struct Places {
    paths: Vec<PathBuf>,
    /// Ids of the tokens in files that are replaced.
    former: Vec<String>,
}

impl Places {
    /// Looks at the places before anything is made. What is there and no join file is never replaced.
    pub(in crate::cmd) fn look(paths: Vec<PathBuf>, replace: bool) -> Result<Places, Failure> {
        let taken: Vec<&PathBuf> = paths.iter().filter(|path| path.symlink_metadata().is_ok()).collect();
        let mut former = Vec::new();
        for path in &taken {
            if !replace {
                let more =
                    if taken.len() > 1 { format!(", and {} more", taken.len() - 1) } else { String::new() };
                return Err(Failure::new(
                    "KE-TOKEN-017",
                    format!("{} is there already{more}", path.display()),
                )
                .because("a new token in its place would leave the former one valid")
                .fix("take another name; --replace writes it anew and revokes the token in it"));
            }
            former.extend(token_in(path)?.id);
        }
        Ok(Places { paths, former })
    }

    /// Whether the files can be written, for whoever changes much before he does.
    pub(in crate::cmd) fn are_open(&self) -> Result<(), Failure> {
        for path in &self.paths {
            let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
            rustix::fs::access(dir, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK).map_err(
                |error| {
                    Failure::new("KE-FILE-001", format!("cannot write {}", path.display()))
                        .because(format!("{}: {error}", dir.display()))
                        .fix("check that the directory exists and is writable; nothing was changed")
                },
            )?;
        }
        Ok(())
    }

    /// How many tokens go with the files that are replaced.
    pub(in crate::cmd) fn revokes(&self) -> usize {
        self.former.len()
    }

    /// Writes the files, and only then makes their tokens good; when either fails, the places are as they were.
    pub(in crate::cmd) async fn write(
        &self,
        desk: &TokenDesk,
        draft: &Draft,
        files: &[JoinFile],
    ) -> Result<(), Failure> {
        let mut before = Vec::new();
        let written = self.paths.iter().zip(files).try_for_each(|(path, file)| {
            before.push((path, fs::read(path).ok()));
            write_atomic(path, file.render().as_bytes(), 0o600)
        });
        let done = match written {
            Ok(()) => desk.publish(draft, &self.former).await,
            Err(failure) => Err(failure),
        };
        if done.is_err() {
            for (path, content) in before {
                // What was wrong is told already.
                match content {
                    Some(content) => drop(write_atomic(path, &content, 0o600)),
                    None => drop(fs::remove_file(path)),
                }
            }
        }
        done
    }
}

fn token_in(path: &Path) -> Result<Token, Failure> {
    let refused = |why: String| {
        Failure::new("KE-TOKEN-017", format!("{} is there already", path.display()))
            .because(format!("it is not replaced: {why}"))
            .fix("take another name, or remove it by hand")
    };
    let text = read_limited(path, FILE_LIMIT).map_err(|failure| refused(failure.why))?;
    let text = String::from_utf8_lossy(&text);
    let file = JoinFile::parse(&text, "it").map_err(|_| refused("it is no join file".to_owned()))?;
    Token::parse(file.config.token.reveal()).map_err(|_| refused("its token cannot be read".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Hidden;
    use crate::config::join_file::JoinPorts;
    use crate::pki::{Authority, Grant, mint};
    use std::collections::BTreeMap;
    use std::time::Duration;

    #[test]
    fn a_place_is_free_or_gives_up_its_token() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("edge-7.yaml");
        assert_eq!(Places::look(vec![path.clone()], false).unwrap().revokes(), 0);
        let authority = Authority::generate("KubeEdge").unwrap();
        let minted = mint(&authority, Duration::from_secs(3600), Grant::default());
        let file = JoinFile {
            addresses: vec!["192.0.2.10".to_owned()],
            ports: JoinPorts::default(),
            token: Hidden::new(minted.token),
            ca_hash: authority.hash(),
            node: None,
            labels: BTreeMap::new(),
        };
        fs::write(&path, file.render()).unwrap();
        let refused = Places::look(vec![path.clone()], false).err().unwrap();
        assert_eq!(refused.code, "KE-TOKEN-017");
        refused.is_as_committed();
        assert!(refused.fix.contains("--replace"), "{refused:?}");
        assert_eq!(Places::look(vec![path.clone()], true).unwrap().former, [minted.id]);
        fs::write(&path, "my notes\n").unwrap();
        let other = Places::look(vec![path], true).err().unwrap();
        assert!(other.why.contains("no join file"), "{other:?}");
    }
}
