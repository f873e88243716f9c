//! `kedge token`: join tokens with a time limit, for a number of uses or for one node. They stand in the Secret
//! `kubeedge/kedge-tokens`, from which every running cloud takes them within moments.

mod batch;
pub(in crate::cmd) mod files;

use super::DataDir;
use super::span::Span;
use crate::base::{Exit, Failure, Output, Term, now};
use crate::config::join_file::is_host;
use crate::daemon::cloud::TokenDesk;
use crate::model::{NodeName, parse_label};
use crate::pki::{Grant, Token, TokenEntry};
use batch::{Order, Place};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Create, list and revoke join tokens
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  kedge token create --ttl 1h --uses 1 --node edge-7\n  kedge token list")]
pub struct Args {
    #[command(subcommand)]
    deed: Deed,
}

/// Which Kubernetes API is meant.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Api {
    /// The cluster's kubeconfig [default: $KUBECONFIG, that in the data directory, ~/.kube/config, that of this machine's cloud]
    #[arg(long = "kube-config", visible_alias = "kubeconfig", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    data_dir: DataDir,
}

#[derive(clap::Subcommand)]
enum Deed {
    /// Make a token and print it
    #[command(
        after_help = "Examples:\n  kedge token create --ttl 1h --uses 1 --node edge-7 --join-file edge-7.yaml\n  kedge token create --nodes nodes.csv --out join-files"
    )]
    Create {
        #[command(flatten)]
        api: Api,
        /// How long it is valid, such as 30m or 24h
        #[arg(long, value_name = "TIME", default_value = "24h", value_parser = duration)]
        ttl: Duration,
        /// How many machines may join with it; one that has joined may do so again [default: any number]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        uses: Option<u32>,
        /// The only node that may join with it
        #[arg(long, value_name = "NAME", value_parser = node)]
        node: Option<String>,
        /// Let another machine take this node's name with it
        #[arg(long, requires = "node")]
        takeover: bool,
        /// Write all that a machine needs to join to this file, for its owner only, instead of printing the token
        #[arg(long, value_name = "FILE", group = "file")]
        join_file: Option<PathBuf>,
        /// Make one join file for each line `name[,label=value;label=value]` of this file
        #[arg(long, value_name = "FILE", requires = "out", conflicts_with_all = ["node", "join_file"], group = "file")]
        nodes: Option<PathBuf>,
        /// Where the join files of --nodes go
        #[arg(long, value_name = "DIR", requires = "nodes")]
        out: Option<PathBuf>,
        /// Write join files anew that are there, and revoke the tokens in them
        #[arg(long, requires = "file")]
        replace: bool,
        /// A label of the node, for the join file; may be repeated
        #[arg(long = "label", short, value_name = "NAME=VALUE", value_parser = parse_label, requires = "file")]
        labels: Vec<(String, String)>,
        /// Addresses of the cloud for the join file [default: those that the cluster knows]
        #[arg(long, value_name = "ADDRESS", value_delimiter = ',', value_parser = host, requires = "file")]
        cloud: Vec<String>,
        #[command(flatten)]
        ports: Ports,
        /// Check, and change nothing
        #[arg(long)]
        dry_run: bool,
        /// Form in which tokens and names of files are shown
        #[arg(long, short, value_enum, default_value_t)]
        output: Output,
    },
    /// List the tokens that have not expired
    #[command(after_help = "Examples:\n  kedge token list\n  kedge token list -o json")]
    List {
        #[command(flatten)]
        api: Api,
        /// How to print the list
        #[arg(long, short, value_enum, default_value = "text")]
        output: Output,
    },
    /// Make a token unusable
    #[command(
        after_help = "Examples:\n  kedge token revoke bcdfg2h4jk\n  kedge token revoke bcdfg2h4jk --dry-run"
    )]
    Revoke {
        /// The token's id, as `kedge token list` shows it
        id: String,
        #[command(flatten)]
        api: Api,
        /// Check, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
}

/// Ports of the cloud, for a join file; without them, those that the cluster knows.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub(super) struct Ports {
    /// Port of the cloud's WebSocket, for the join file
    #[arg(long, value_name = "PORT", requires = "file", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) hub_port: Option<u16>,
    /// Port of the cloud's certificate service, for the join file
    #[arg(long, value_name = "PORT", requires = "file", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) cert_port: Option<u16>,
    /// Port of the cloud's tunnel, for the join file
    #[arg(long, value_name = "PORT", requires = "file", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) tunnel_port: Option<u16>,
}

fn host(text: &str) -> Result<String, String> {
    if is_host(text) {
        return Ok(text.to_owned());
    }
    Err("an address or a host name is expected, without a port".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    const TEN_YEARS: Duration = Duration::from_secs(10 * 365 * 86_400);
    Span::new("30m or 24h", Duration::from_secs(1), TEN_YEARS).read(text)
}

fn node(text: &str) -> Result<String, String> {
    NodeName::new(text).map(|name| name.to_string())
}

impl Api {
    pub(super) async fn desk(&self) -> Result<TokenDesk, Failure> {
        crate::pki::install_crypto_provider();
        let path = match &self.kubeconfig {
            Some(path) => path.clone(),
            None => super::cloud::known_kubeconfig(&self.data_dir.data_dir)
                .unwrap_or_else(|| self.data_dir.data_dir.join("kubeconfig")),
        };
        // What somebody has named is told by its name, as every command does.
        if self.kubeconfig.is_none() && !path.exists() {
            return Err(Failure::new("KE-TOKEN-011", format!("there is no kubeconfig {}", path.display()))
                .because("join tokens are kept in the cluster; $KUBECONFIG, ~/.kube/config and a cloud of this machine name none either")
                .fix("name one with --kube-config, or the data directory of `kedge up` with --data-dir")
                .exit(Exit::Configuration));
        }
        TokenDesk::open(&path).await
    }
}

pub fn run(args: Args, term: &Term) -> Result<Exit, Failure> {
    match args.deed {
        Deed::Create {
            api,
            ttl,
            uses,
            node,
            takeover,
            join_file,
            nodes,
            out,
            replace,
            labels,
            cloud,
            ports,
            dry_run,
            output,
        } => {
            let place = match (join_file, nodes, out) {
                (_, Some(nodes), Some(out)) => Place::Each { nodes: batch::read(&nodes)?, out },
                (Some(path), ..) => Place::File(path),
                _ => Place::Print,
            };
            let grant = Grant { uses, node, takeover };
            let labels = labels.into_iter().collect();
            let order = Order { api, ttl, grant, place, replace, labels, cloud, ports };
            super::block_on(batch::create(order, dry_run, output, term))?;
        }
        Deed::List { api, output } => {
            let entries = super::block_on(async move { api.desk().await?.list().await })?;
            show(&entries, output, term)?;
        }
        Deed::Revoke { id, api, dry_run } => {
            let id = id_of(&id)?;
            let wanted = id.clone();
            let found = super::block_on(async move {
                let desk = api.desk().await?;
                if dry_run {
                    return Ok(desk.list().await?.contains_key(&wanted));
                }
                desk.revoke(&wanted).await
            })?;
            if !found {
                return Err(Failure::new("KE-TOKEN-005", format!("there is no token {id}"))
                    .because("it was never made, or was revoked already")
                    .fix("`kedge token list` shows the ids"));
            }
            let done = if dry_run { "can be revoked; nothing was changed" } else { "is revoked" };
            term.say(&format!("token {id} {done}"));
        }
    }
    Ok(Exit::Done)
}

/// The id that was typed, or that of a whole token: nobody should have to look for it, and a token is not repeated.
fn id_of(text: &str) -> Result<String, Failure> {
    let no_id = |what: &str, why: &str, fix: &str| {
        Err(Failure::new("KE-TOKEN-005", what.to_owned()).because(why).fix(fix.to_owned()))
    };
    match Token::parse(text) {
        Ok(Token { id: Some(id), .. }) => Ok(id),
        Ok(Token { id: None, .. }) => no_id(
            "the cluster-wide token has no id",
            "it is KubeEdge's, which the cloud itself renews, and stands in no list",
            "wait until it expires; `kubectl -n kubeedge delete secret tokensecret` has the cloud make another one",
        ),
        Err(_)
            if text.is_empty() || text.len() > 40 || !text.bytes().all(|it| it.is_ascii_alphanumeric()) =>
        {
            no_id("there is no such token", "what was typed is no id", "`kedge token list` shows the ids")
        }
        Err(_) => Ok(text.to_owned()),
    }
}

/// A token for programs to read; its time as RFC 3339.
fn item(id: &str, entry: &TokenEntry) -> Value {
    let mut item = json!({
        "id": id,
        "expires": jiff::Timestamp::from_second(entry.expires).ok().map(|at| at.to_string()),
        "node": entry.node,
        "takeover": entry.takeover,
        "holders": entry.holders,
    });
    // Without limit where nothing is said.
    if let (Some(uses), Some(map)) = (entry.uses, item.as_object_mut()) {
        map.insert("uses".to_owned(), uses.into());
    }
    item
}

fn show(entries: &BTreeMap<String, TokenEntry>, output: Output, term: &Term) -> Result<(), Failure> {
    if output != Output::Text {
        let items: Vec<Value> = entries.iter().map(|(id, entry)| item(id, entry)).collect();
        return term
            .value(&json!({"apiVersion": "kedge.io/v1", "kind": "TokenList", "items": items}), output);
    }
    if entries.is_empty() {
        term.say("no tokens; `kedge token create` makes one");
        return Ok(());
    }
    let at = now().as_second();
    let mut lines = vec![format!("{:<12} {:>8} {:>6}  {}", "ID", "LEFT", "USES", "NODE")];
    for (id, entry) in entries {
        let minutes = (entry.expires - at).max(0) / 60;
        let left = format!("{}h{:02}m", minutes / 60, minutes % 60);
        let uses = entry.uses.map_or_else(|| "any".to_owned(), |uses| uses.to_string());
        lines.push(format!("{id:<12} {left:>8} {uses:>6}  {}", entry.node.as_deref().unwrap_or("any")));
    }
    term.data(&lines.join("\n"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_revoked_by_its_id_or_by_itself_and_never_repeated() {
        let authority = crate::pki::Authority::generate("KubeEdge").unwrap();
        let minted = crate::pki::mint(&authority, Duration::from_secs(60), Grant::default());
        assert_eq!(id_of(&minted.token).unwrap(), minted.id);
        assert_eq!(id_of("bcdfg2h4jk").unwrap(), "bcdfg2h4jk");
        let torn = format!("{}x", &minted.token[..80]);
        for nonsense in ["", "a b", torn.as_str(), "../x"] {
            let failure = id_of(nonsense).unwrap_err();
            assert_eq!((failure.code, failure.what.as_str()), ("KE-TOKEN-005", "there is no such token"));
            assert!(failure.fix.contains("token list"), "{failure}");
        }
    }

    #[test]
    fn times_to_live_are_checked() {
        assert_eq!(duration("90m"), Ok(Duration::from_secs(5400)));
        for wrong in ["", "0s", "1ms", "999ms", "soon", "-1h", "1000000h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
