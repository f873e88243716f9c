//! The command with which a machine joins the cloud that was set up: with a token of its own, or with a join file. A join
//! file that is there may have been handed out: it stays while it is good, and is never replaced without a word.

use crate::base::{Failure, now, rfc3339};
use crate::cmd::span::DAY;
use crate::cmd::token::files::Places;
use crate::config::Hidden;
use crate::config::cloud::CloudConfig;
use crate::config::join_file::{JoinFile, JoinPorts};
use crate::daemon::cloud::TokenDesk;
use crate::pki::{Authority, Grant, Token, TokenEntry, accept};
use std::collections::BTreeMap;
use std::path::Path;

/// Seconds for which the token of a join file has to be valid for the file to stay.
const STILL_GOOD: i64 = 3600;

/// The cloud to which is invited.
pub(super) struct Cloud<'a> {
    pub config: &'a CloudConfig,
    pub addresses: &'a [String],
    pub authority: &'a Authority,
}

/// How a machine joins.
pub(super) struct Invitation {
    /// What is typed on the machine.
    pub line: String,
    /// What was made, or stays.
    pub told: String,
    /// Whether a token that may have been handed out is of no use any more.
    pub revoked: bool,
}

/// Makes a token and the line that holds it, or the join file that does.
pub(super) async fn make(
    path: Option<&Path>,
    cloud: &Cloud<'_>,
    desk: &TokenDesk,
) -> Result<Invitation, Failure> {
    let told = "a join token, valid for 24 hours and any number of nodes".to_owned();
    let Some(path) = path else {
        let token = desk.create(DAY, Grant::default()).await?;
        return Ok(Invitation { line: cloud.line(&token), told, revoked: false });
    };
    let line = format!("kedge join --join-file {}", path.display());
    // What is there and no join file is told here, and not looked at any further.
    let places = Places::look(vec![path.to_owned()], true)?;
    let present = JoinFile::load(path).ok().map(|loaded| loaded.config);
    let good = match present {
        Some(file) => cloud.good_until(&file, &desk.list().await?),
        None => None,
    };
    if let Some(until) = good {
        let at = jiff::Timestamp::from_second(until).map(rfc3339).unwrap_or_default();
        let told = format!("the join file that is there stays: its token is valid until {at}");
        return Ok(Invitation { line, told, revoked: false });
    }
    let draft = desk.draft(DAY, vec![Grant::default()]).await?;
    let files: Vec<JoinFile> =
        draft.tokens.iter().map(|token| cloud.join_file(token, draft.ca_hash.clone())).collect();
    places.write(desk, &draft, &files).await?;
    Ok(Invitation { line, told, revoked: places.revokes() > 0 })
}

impl Cloud<'_> {
    fn ports(&self) -> JoinPorts {
        JoinPorts {
            websocket: self.config.hub.websocket.port(),
            quic: 0,
            https: self.config.hub.https.port(),
            tunnel: self.config.stream.tunnel.port(),
        }
    }

    fn line(&self, token: &str) -> String {
        let ports = self.ports();
        let host = self.addresses.first().map(String::as_str).unwrap_or_default();
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let mut line = format!("kedge join --cloudcore-ipport {host}:{} --token {token}", ports.websocket);
        if ports.https != JoinPorts::default().https {
            line += &format!(" --certport {}", ports.https);
        }
        line
    }

    fn join_file(&self, token: &str, ca_hash: String) -> JoinFile {
        JoinFile {
            addresses: self.addresses.to_vec(),
            ports: self.ports(),
            token: Hidden::new(token),
            ca_hash,
            node: None,
            labels: BTreeMap::new(),
        }
    }

    /// Until when, in seconds since the epoch, a join file is good: it says what a new one would say, and its token allows
    /// as much and is valid for an hour at least. `None` where it is not.
    fn good_until(&self, file: &JoinFile, tokens: &BTreeMap<String, TokenEntry>) -> Option<i64> {
        let text = file.token.reveal();
        if *file != self.join_file(text, self.authority.hash()) {
            return None;
        }
        // Its signature and its time; what is for one node is refused for none.
        accept(self.authority, text, "").ok()?;
        let token = Token::parse(text).ok()?;
        let entry = tokens.get(token.id.as_deref()?)?;
        let grant = Grant { uses: entry.uses, node: entry.node.clone(), takeover: entry.takeover };
        let until = entry.expires.min(token.expires);
        (grant == Grant::default() && until >= now().as_second() + STILL_GOOD).then_some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::mint;
    use serde_json::json;
    use std::time::Duration;

    #[test]
    fn a_join_file_stays_while_it_is_good_for_this_cloud() {
        let config = CloudConfig::from_value(&json!({}), "cloudcore.yaml").unwrap().config;
        let authority = Authority::generate("KubeEdge").unwrap();
        let addresses = ["192.0.2.10".to_owned()];
        let cloud = Cloud { config: &config, addresses: &addresses, authority: &authority };
        let made = |ttl: u64, grant: Grant| {
            let minted = mint(&authority, Duration::from_secs(ttl), grant);
            let tokens = BTreeMap::from([(minted.id, minted.entry)]);
            (cloud.join_file(&minted.token, authority.hash()), tokens)
        };
        let (file, tokens) = made(7200, Grant::default());
        let until = cloud.good_until(&file, &tokens).unwrap();
        assert!(until > now().as_second() + 7000, "{until}");
        assert_eq!(cloud.good_until(&file, &BTreeMap::new()), None, "revoked");

        let moved = ["192.0.2.11".to_owned()];
        let elsewhere = Cloud { addresses: &moved, ..cloud };
        assert_eq!(elsewhere.good_until(&file, &tokens), None, "another address");
        let stranger = Authority::generate("KubeEdge").unwrap();
        let other = Cloud { config: &config, addresses: &addresses, authority: &stranger };
        assert_eq!(other.good_until(&file, &tokens), None, "another authority");

        let one = Grant { uses: Some(1), ..Grant::default() };
        let named = Grant { node: Some("edge-7".to_owned()), ..Grant::default() };
        for (ttl, grant) in [(600, Grant::default()), (7200, one), (7200, named)] {
            let told = format!("{ttl} {grant:?}");
            let (file, tokens) = made(ttl, grant);
            assert_eq!(cloud.good_until(&file, &tokens), None, "{told}");
        }
    }
}
