//! The nat chain that leads an API server's connections for nodes to their cloud (protocol.md §8.5), with KubeEdge's names,
//! so that either side finds what the other left. `daemon/cloud/stream` keeps it; nothing else may touch the chain. What to
//! change is decided by `plan` from what `iptables -S` shows; a change that is there already is not made again. The machine's
//! own iptables is run, also from a pod: it alone knows which of the kernel's two kinds of rules the machine uses.

use super::preflight::{output_below, output_within};
use crate::base::Failure;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::time::Duration;

const CHAIN: &str = "TUNNEL-PORT";
const HOOKS: [&str; 2] = ["OUTPUT", "PREROUTING"];
const COMMENT: &str = "kubeedge tunnel port";
const LIMIT: Duration = Duration::from_secs(10);

/// Connections to this port of any address go to that address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    pub port: u16,
    pub to: SocketAddrV4,
}

type Command = Vec<String>;

fn words(text: &[&str]) -> Command {
    text.iter().map(|word| (*word).to_owned()).collect()
}

fn jump(verb: &str, hook: &str) -> Command {
    words(&[verb, hook, "-m", "comment", "--comment", COMMENT, "-j", CHAIN])
}

fn rule(verb: &str, forward: &Forward) -> Command {
    let (port, to) = (forward.port.to_string(), forward.to.to_string());
    words(&[verb, CHAIN, "-p", "tcp", "-m", "tcp", "--dport", &port, "-j", "DNAT", "--to-destination", &to])
}

/// The line with which `iptables -S` shows a rule.
fn shown(command: &Command) -> String {
    let quoted = |word: &String| if word.contains(' ') { format!("\"{word}\"") } else { word.clone() };
    command.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

/// The rules of the chain and of its hooks as they are shown; no chain is `None`.
#[derive(Default)]
struct Found {
    chain: Option<Vec<String>>,
    hooks: Vec<String>,
}

/// What has to be done for the chain to lead exactly these.
fn plan(found: &Found, wanted: &[Forward]) -> Vec<Command> {
    let mut commands = Vec::new();
    if found.chain.is_none() {
        commands.push(words(&["-N", CHAIN]));
    }
    let there: Vec<&String> = found.chain.iter().flatten().filter(|line| line.starts_with("-A ")).collect();
    let rules: Vec<Command> = wanted.iter().map(|forward| rule("-A", forward)).collect();
    let lines: Vec<String> = rules.iter().map(shown).collect();
    if there.iter().any(|line| !lines.contains(line)) {
        // Whatever else is in the chain is of a cloud that has gone.
        commands.push(words(&["-F", CHAIN]));
        commands.extend(rules);
    } else {
        let missing = rules.into_iter().zip(&lines).filter(|(_, line)| !there.contains(line));
        commands.extend(missing.map(|(rule, _)| rule));
    }
    for hook in HOOKS {
        let wanted = jump("-A", hook);
        if !found.hooks.contains(&shown(&wanted)) {
            commands.push(wanted);
        }
    }
    commands
}

/// The rule for one cloud, as arguments of `iptables -t nat`.
pub fn told(forward: &Forward) -> String {
    shown(&rule("-A", forward))
}

/// What has to be done for nothing of it to be left.
fn removal(found: &Found) -> Vec<Command> {
    let hooks = HOOKS.iter().filter(|hook| found.hooks.contains(&shown(&jump("-A", hook))));
    let mut commands: Vec<Command> = hooks.map(|hook| jump("-D", hook)).collect();
    if found.chain.is_some() {
        commands.extend([words(&["-F", CHAIN]), words(&["-X", CHAIN])]);
    }
    commands
}

/// The chain of this network namespace.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    /// Where the machine's file system is mounted, if this process has another one.
    pub host_root: Option<PathBuf>,
}

impl Chain {
    /// Makes the chain lead exactly these; changes nothing that is right. Takes some ten seconds at most.
    pub async fn lead(&self, wanted: &[Forward]) -> Result<(), Failure> {
        let found = self.look().await.map_err(failed)?;
        self.carry_out(plan(&found, wanted)).await.map_err(failed)
    }

    /// Takes the chain and its hooks away.
    pub async fn unlead(&self) -> Result<(), Failure> {
        let found = self.look().await.map_err(failed)?;
        self.carry_out(removal(&found)).await.map_err(failed)
    }

    async fn iptables(&self, command: &[String]) -> Result<String, String> {
        let mut all = vec!["-w", "5", "-t", "nat"];
        all.extend(command.iter().map(String::as_str));
        let output = match &self.host_root {
            None => output_within("iptables", &all, LIMIT).await?,
            Some(root) => output_below(root, "iptables", &all, LIMIT).await?,
        };
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }

    async fn look(&self) -> Result<Found, String> {
        let mut found = Found::default();
        for hook in HOOKS {
            let text = self.iptables(&words(&["-S", hook])).await?;
            found.hooks.extend(text.lines().map(str::to_owned));
        }
        let chain = self.iptables(&words(&["-S", CHAIN])).await.ok();
        found.chain = chain.map(|text| text.lines().map(str::to_owned).collect());
        Ok(found)
    }

    async fn carry_out(&self, commands: Vec<Command>) -> Result<(), String> {
        for command in commands {
            self.iptables(&command).await?;
        }
        Ok(())
    }
}

fn failed(why: String) -> Failure {
    Failure::new("KE-HOST-011", "connections of the Kubernetes API to nodes cannot be led to the cloud")
        .because(format!("iptables: {why}"))
        .fix("run `kedge cloud forward` as root on each machine with an API server, or set modules.iptablesManager.enable=false")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forward(port: u16, last: u8) -> Forward {
        Forward { port, to: SocketAddrV4::new([192, 0, 2, last].into(), 10003) }
    }

    /// What `iptables -S` shows after these commands.
    fn after(mut found: Found, commands: &[Command]) -> Found {
        for command in commands {
            match (command[0].as_str(), command[1].as_str()) {
                ("-N", _) => found.chain = Some(vec![format!("-N {CHAIN}")]),
                ("-F", _) => found.chain.as_mut().unwrap().truncate(1),
                ("-X", _) => found.chain = None,
                ("-A", CHAIN) => found.chain.as_mut().unwrap().push(shown(command)),
                ("-A", _) => found.hooks.push(shown(command)),
                ("-D", hook) => found.hooks.retain(|line| !line.starts_with(&format!("-A {hook} "))),
                _ => panic!("{command:?}"),
            }
        }
        found
    }

    #[test]
    fn what_is_missing_is_made_once_and_what_is_stale_goes() {
        let wanted = [forward(10351, 1), forward(10352, 2)];
        let first = plan(&Found::default(), &wanted);
        assert_eq!(first.len(), 5);
        let found = after(Found::default(), &first);
        assert!(plan(&found, &wanted).is_empty());
        let mut third = wanted.to_vec();
        third.push(forward(10353, 3));
        assert_eq!(plan(&found, &third), [rule("-A", &third[2])]);
        let less = plan(&found, &wanted[1..]);
        assert_eq!(less[0], ["-F", CHAIN]);
        let found = after(found, &less);
        assert_eq!(found.chain.as_deref().unwrap()[1..], [shown(&rule("-A", &wanted[1]))]);
        let gone = after(
            found,
            &removal(&Found {
                chain: Some(Vec::new()),
                hooks: HOOKS.map(|hook| shown(&jump("-A", hook))).to_vec(),
            }),
        );
        assert!(gone.chain.is_none() && gone.hooks.is_empty());
        assert!(removal(&Found::default()).is_empty());
    }

    #[test]
    fn a_refusal_of_iptables_says_what_to_do() {
        let failure = failed("Permission denied".to_owned());
        assert_eq!(failure.code, "KE-HOST-011");
        failure.is_as_committed();
        assert!(failure.to_string().contains("KE-HOST-011"));
    }
}
