//! New join tokens: one that is printed, one in a join file, or a join file for each line of a list. All that can be wrong
//! is found before a token is made, and all tokens of a list are made in one change.

use super::files::Places;
use super::{Api, Ports};
use crate::base::{Exit, Failure, Output, Term, create_private_dir, read_limited};
use crate::config::Hidden;
use crate::config::join_file::{JoinFile, JoinPorts};
use crate::daemon::cloud::{Draft, TokenDesk};
use crate::model::{NodeName, parse_label};
use crate::pki::Grant;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

const FILE_LIMIT: u64 = 4 << 20;
/// More entries would not fit into the Secret in which the list stands.
const NODES: usize = 5000;
/// Problems of a list that are told at once.
const TOLD: usize = 20;

type Labels = BTreeMap<String, String>;

/// Where tokens go.
pub(super) enum Place {
    Print,
    File(PathBuf),
    Each { nodes: Vec<Line>, out: PathBuf },
}

/// One line of a list of nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    name: NodeName,
    labels: Labels,
}

/// What was asked for.
pub(super) struct Order {
    pub api: Api,
    pub ttl: Duration,
    pub grant: Grant,
    pub place: Place,
    /// Join files that are there are written anew.
    pub replace: bool,
    pub labels: Labels,
    pub cloud: Vec<String>,
    pub ports: Ports,
}

/// Reads a list of nodes; the failure tells all its problems with their lines.
pub(super) fn read(path: &Path) -> Result<Vec<Line>, Failure> {
    let text = read_limited(path, FILE_LIMIT).map_err(|failure| failure.exit(Exit::Configuration))?;
    let refused = |why: String| {
        Failure::new("KE-TOKEN-015", format!("the list of nodes {} cannot be used", path.display()))
            .because(why)
            .fix("write one node per line: name[,label=value;label=value]")
            .exit(Exit::Configuration)
    };
    let text = String::from_utf8(text).map_err(|_| refused("it is not text".to_owned()))?;
    parse(&text).map_err(refused)
}

fn parse(text: &str) -> Result<Vec<Line>, String> {
    let (mut nodes, mut problems, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim();
        let (name, rest) = line.split_once(',').unwrap_or((line, ""));
        let (name, rest) = (unquoted(name), unquoted(rest));
        let head = number == 0 && (name == "name" || name == "node");
        if line.is_empty() || line.starts_with('#') || head {
            continue;
        }
        let labels = rest.split(';').map(str::trim).filter(|text| !text.is_empty()).map(parse_label);
        match (NodeName::new(name), labels.collect::<Result<Labels, String>>()) {
            (Ok(name), _) if !seen.insert(name.clone()) => {
                problems.push(format!("line {}: {name} stands there twice", number + 1));
            }
            (Ok(name), Ok(labels)) => nodes.push(Line { name, labels }),
            (Err(why), _) | (_, Err(why)) => problems.push(format!("line {}: {why}", number + 1)),
        }
    }
    if nodes.len() > NODES {
        problems.push(format!("it has more than {NODES} nodes; split it"));
    }
    if nodes.is_empty() && problems.is_empty() {
        problems.push("it names no node".to_owned());
    }
    if problems.is_empty() {
        return Ok(nodes);
    }
    let more = problems.len().saturating_sub(TOLD);
    problems.truncate(TOLD);
    if more > 0 {
        problems.push(format!("and {more} more"));
    }
    Err(problems.join("; "))
}

fn unquoted(text: &str) -> &str {
    let text = text.trim();
    text.strip_prefix('"').and_then(|inner| inner.strip_suffix('"')).unwrap_or(text).trim()
}

/// A dry run promises nothing that the directory of the file stands against.
fn has_directory(path: &Path) -> Result<(), Failure> {
    match path.parent().filter(|dir| !dir.as_os_str().is_empty() && !dir.is_dir()) {
        Some(dir) => Err(Failure::new("KE-FILE-001", format!("cannot write {}", path.display()))
            .because(format!("{} is no directory", dir.display()))
            .fix(format!("mkdir -p {}", dir.display()))),
        None => Ok(()),
    }
}

/// Makes what was asked for.
pub(super) async fn create(order: Order, dry: bool, output: Output, term: &Term) -> Result<(), Failure> {
    let paths = match &order.place {
        Place::Print => Vec::new(),
        Place::File(path) => vec![path.clone()],
        Place::Each { nodes, out } => nodes.iter().map(|line| file(out, line)).collect(),
    };
    if let Place::File(path) = &order.place {
        has_directory(path)?;
    }
    let places = Places::look(paths.clone(), order.replace)?;
    let desk = order.api.desk().await?;
    // An API that does not answer, or a list that cannot be added to, is told at once.
    desk.list().await?;
    let cloud = match order.place {
        Place::Print => None,
        Place::File(_) | Place::Each { .. } => Some(cloud(&desk, &order).await?),
    };
    if dry {
        // The one file that is named is known to whoever named it.
        let listed = if let Place::Each { .. } = &order.place { paths.as_slice() } else { &[] };
        show("file", listed.iter().map(|path| path.display().to_string()), output, term)?;
        if let Place::Each { nodes, .. } = &order.place {
            term.say(&format!("{} tokens can be created; nothing was changed", nodes.len()));
        } else {
            term.say("a token can be created; nothing was changed");
        }
        return Ok(());
    }
    let (grants, labels) = grants(&order);
    if let Place::Each { out, .. } = &order.place {
        create_private_dir(out)?;
    }
    let draft = desk.draft(order.ttl, grants.clone()).await?;
    let Some((addresses, ports)) = cloud else {
        desk.publish(&draft, &[]).await?;
        show("token", draft.tokens.iter().cloned(), output, term)?;
        return kept(&desk, &draft, term).await;
    };
    let each = draft.tokens.iter().zip(grants).zip(labels);
    let files: Vec<JoinFile> = each
        .map(|((token, grant), labels)| JoinFile {
            addresses: addresses.clone(),
            ports,
            token: Hidden::new(token),
            ca_hash: draft.ca_hash.clone(),
            node: grant.node.and_then(|name| NodeName::new(name).ok()),
            labels,
        })
        .collect();
    places.write(&desk, &draft, &files).await?;
    show("file", paths.iter().map(|path| path.display().to_string()), output, term)?;
    if places.revokes() > 0 {
        term.say(&format!("tokens of files that were replaced: {} revoked", places.revokes()));
    }
    term.say("a machine joins with `kedge join --join-file FILE`; the file holds its token");
    Ok(())
}

/// A token that could not be shown is one that nobody has: it is taken back.
async fn kept(desk: &TokenDesk, draft: &Draft, term: &Term) -> Result<(), Failure> {
    let Err(mut failure) = term.read() else { return Ok(()) };
    match desk.take_back(draft).await {
        Ok(()) => failure.what += "; the new token is revoked",
        Err(left) => {
            failure.what += "; the new token is valid and could not be revoked";
            failure.why += &format!("; {left}");
            failure.fix = "`kedge token list` shows it, revoke it with `kedge token revoke ID`".to_owned();
        }
    }
    Err(failure)
}

/// Shows what was made: tokens, or the files in which they are.
fn show(
    what: &str,
    made: impl IntoIterator<Item = String>,
    output: Output,
    term: &Term,
) -> Result<(), Failure> {
    if output == Output::Text {
        made.into_iter().for_each(|one| term.data(&one));
        return Ok(());
    }
    let items: Vec<Value> = made.into_iter().map(|one| json!({what: one})).collect();
    term.value(&json!({"apiVersion": "kedge.io/v1", "kind": "JoinTokenList", "items": items}), output)
}

fn file(out: &Path, line: &Line) -> PathBuf {
    out.join(format!("{}.yaml", line.name))
}

/// What each token allows, and the labels beside it. A token of a list is for one use unless more are asked for.
fn grants(order: &Order) -> (Vec<Grant>, Vec<Labels>) {
    let Place::Each { nodes, .. } = &order.place else {
        return (vec![order.grant.clone()], vec![order.labels.clone()]);
    };
    let each = nodes.iter().map(|line| {
        let grant = Grant {
            uses: order.grant.uses.or(Some(1)),
            node: Some(line.name.to_string()),
            takeover: order.grant.takeover,
        };
        let mut labels = order.labels.clone();
        labels.extend(line.labels.clone());
        (grant, labels)
    });
    each.unzip()
}

/// The cloud's addresses and ports: as they are given, else as the cluster knows them.
async fn cloud(desk: &TokenDesk, order: &Order) -> Result<(Vec<String>, JoinPorts), Failure> {
    let known = desk.whereabouts().await?;
    let mut ports = JoinPorts::default();
    if let Some(config) = known.as_ref().and_then(|known| known.config.as_ref()) {
        ports = JoinPorts {
            websocket: config.hub.websocket.port(),
            quic: 0,
            https: config.hub.https.port(),
            tunnel: config.stream.tunnel.port(),
        };
    }
    let given = order.ports;
    ports.websocket = given.hub_port.unwrap_or(ports.websocket);
    ports.https = given.cert_port.unwrap_or(ports.https);
    ports.tunnel = given.tunnel_port.unwrap_or(ports.tunnel);
    if !order.cloud.is_empty() {
        return Ok((order.cloud.clone(), ports));
    }
    let Some(known) = known else {
        return Err(Failure::new("KE-TOKEN-016", "the cloud's address is not known")
            .because("no configuration and no server certificate is in namespace kubeedge")
            .fix("name it with --cloud ADDRESS, or set the control plane up with `kedge init`")
            .exit(Exit::Configuration));
    };
    Ok((known.addresses, ports))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_nodes_and_their_labels() {
        let nodes =
            parse("name,labels\n# north\nedge-1,site=north;rack=2\n\n\"edge-2\"\nedge-3,\"a=b\"\n").unwrap();
        let names: Vec<String> = nodes.iter().map(|line| line.name.to_string()).collect();
        assert_eq!(names, ["edge-1", "edge-2", "edge-3"]);
        assert_eq!(
            nodes[0].labels,
            Labels::from([("site".into(), "north".into()), ("rack".into(), "2".into())])
        );
        assert_eq!(nodes[2].labels.get("a").map(String::as_str), Some("b"));
    }

    #[test]
    fn all_that_is_wrong_in_a_list_is_told_with_its_line() {
        let why = parse("edge-1\nEdge 2\nedge-3,a b\nedge-1\n../x").unwrap_err();
        for part in ["line 2:", "line 3:", "line 4: edge-1 stands there twice", "line 5:"] {
            assert!(why.contains(part), "{why}");
        }
        assert_eq!(parse("# nothing\n").unwrap_err(), "it names no node");
        assert!(parse(&"!\n".repeat(100)).unwrap_err().ends_with("and 80 more"));
    }
}
