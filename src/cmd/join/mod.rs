//! `kedge join`: makes this machine an edge node. Everything is looked at and asked before anything is written; what is
//! written goes through the journal; what does not become Ready is taken back.
//!
//! args (wish) -> before (machine fit?) -> cloud (token, clock, hash, certificate) -> plan (changes) -> work (journal,
//! service) -> slots (unpack, of a bundle) -> wait (milestones) -> finished, or rolled back; account tells all of it

mod account;
mod args;
mod before;
mod clock;
mod cloud;
pub(super) mod edgecore;
pub(super) mod lost;
mod milestones;
pub(super) mod note;
mod plan;
pub(super) mod service;
pub(super) mod slots;
pub(super) mod traces;
mod unpack;
mod wait;
mod work;

pub use args::Args;
pub(super) use args::endpoint;

use crate::base::{Exit, Failure, Stop, Term};
use crate::config::Problem;
use crate::config::edge::EdgeConfig;
use crate::host::cni::{self, Network, Owner};
use crate::host::journal::Change;
use account::{Account, Item, Outcome};
use args::Wish;
use before::Before;
use milestones::Milestone;
use note::Note;
use plan::{Found, Papers, Runtime};
use serde_json::Value;
use std::path::PathBuf;
use wait::{Missed, Watch};
use work::{Former, Work};

pub fn run(args: Args, term: &Term) -> Result<Exit, Failure> {
    let mut account = Account::new(args.output, args.dry_run, term);
    let done = join(&args, term, &mut account);
    account.close(&done)?;
    done
}

fn join(args: &Args, term: &Term, account: &mut Account<'_>) -> Result<Exit, Failure> {
    let wish = args.wish()?;
    for notice in &wish.notices {
        term.say(&format!("note: {notice}"));
    }
    crate::pki::install_crypto_provider();
    super::block_on(async {
        let stop = Stop::new();
        super::stop_on_signals(&stop)?;
        Join { wish, dry_run: args.dry_run, yes: args.yes, stop, term }.run(account).await
    })
}

struct Join<'a> {
    wish: Wish,
    dry_run: bool,
    yes: bool,
    stop: Stop,
    term: &'a Term,
}

/// What is about to be done.
struct Draft {
    runtime: Runtime,
    document: Value,
    config: EdgeConfig,
    /// What deserves a look in it; told once.
    warnings: Vec<Problem>,
}

impl Join<'_> {
    async fn run(&self, account: &mut Account<'_>) -> Result<Exit, Failure> {
        let before = before::look(&self.wish)?;
        let base = before.base(&self.wish);
        let runtime = before::runtime(&self.wish, base.as_ref()).await;
        let went_by_quic = plan::goes_by_quic(base.as_ref());
        let found = Found { runtime, present: base };
        let mut draft = self.draft(self.host_of(&before), found)?;
        account.know(&draft.config);
        for warning in &draft.warnings {
            self.term.say(&format!("warning: edgecore.yaml: {warning}"));
        }
        if went_by_quic {
            self.term.say(
                "the node went by QUIC; kedge goes by WebSocket, and its configuration says so [KE-QUIC-001]",
            );
        }
        if self.is_done(&before, &draft).await {
            account.ended(Outcome::Unchanged);
            return Ok(Exit::Done);
        }
        let takeover = before.is_takeover(&self.wish);
        before::preflight(&draft.config, &self.wish, takeover, self.term).await?;
        self.tell_machine(&draft);
        let token = cloud::token(&self.wish)?;
        if let Some(cloud) = &self.wish.cloud {
            let host = self.unless_stopped(cloud::reach(cloud, account)).await?;
            let found = Found { runtime: draft.runtime, present: before.base(&self.wish) };
            draft = self.draft(Some(host), found)?;
            account.know(&draft.config);
        } else {
            account.reached(Milestone::Tcp, "the cloud of the present configuration");
        }
        let node = &draft.config.node;
        let https = &draft.config.hub.http_server;
        let present = cloud::has_certificate(&draft.config, token.as_ref()).await;
        if let (Err(missing), None) = (&present, &token) {
            return Err(cloud::no_token(missing));
        }
        // A token that is not needed may have expired.
        let needed = token.as_ref().filter(|_| present.is_err());
        let recognised = cloud::recognise(https, node, needed, account);
        let (counter, ca_pem) = self.unless_stopped(recognised).await?;
        if self.dry_run {
            self.show(&before, &draft, present.is_err(), account)?;
            return Ok(Exit::Done);
        }
        self.ask_for_takeover(&before, takeover)?;
        let work = Work::open(before.former)?;
        let papers = match (needed, ca_pem) {
            (Some(token), Some(ca_pem)) => {
                let certified = cloud::certify(&counter, node, (token, ca_pem), account);
                match self.unless_stopped(certified).await {
                    Ok(papers) => Some(papers),
                    Err(failure) => {
                        // A node stays as it was found, also half-way into what a later join was cut short in.
                        if !before.former.is_joined() {
                            drop(work.roll_back(None).await);
                        }
                        return Err(failure);
                    }
                }
            }
            _ => {
                account.reached(Milestone::Certificate, "the present one is valid");
                None
            }
        };
        self.carry_out(work, &before, &draft, papers.as_ref(), account).await
    }

    /// The host that the present configuration names, if it is one of those that were wished; else the first of them.
    fn host_of(&self, before: &Before) -> Option<String> {
        let cloud = self.wish.cloud.as_ref()?;
        let server = before
            .present
            .as_ref()
            .and_then(|present| present.pointer("/modules/edgeHub/websocket/server").and_then(Value::as_str));
        let at = |host: &&String| server == Some(plan::authority(host, cloud.ports.websocket).as_str());
        cloud.hosts.iter().find(at).or(cloud.hosts.first()).cloned()
    }

    fn draft(&self, host: Option<String>, found: Found) -> Result<Draft, Failure> {
        let document = plan::document(&self.wish, host.as_deref(), &found)?;
        let loaded = plan::checked(&document)?;
        Ok(Draft { runtime: found.runtime, document, config: loaded.config, warnings: loaded.warnings })
    }

    /// Whether nothing is left to do: joined as wished, and Ready.
    async fn is_done(&self, before: &Before, draft: &Draft) -> bool {
        let same = before.present.as_ref() == Some(&draft.document);
        // A runtime that was named and does not answer is told by the look at the machine.
        let silent = self.wish.runtime.is_some() && matches!(draft.runtime, Runtime::Own);
        if before.former != Former::Finished || !same || silent || !service::is_current(&before.place) {
            return false;
        }
        let Some(socket) = draft.config.status_socket.clone() else { return false };
        let node = draft.config.node.as_str();
        if !wait::is_ready(&wait::ask(socket).await, node) {
            return false;
        }
        self.term
            .say(&format!("{node} is joined to {} and Ready; nothing to do", draft.config.hub.websocket));
        true
    }

    /// A node that gets another name leaves its former Node behind, which only the cloud's side can remove.
    fn tell_former(&self, before: &Before, draft: &Draft) {
        let node = draft.config.node.as_str();
        if let Some(former) = before.node().filter(|former| *former != node) {
            self.term.say(&format!(
                "note: this machine was the node {former}, whose Node stays in the cloud: kubectl delete node {former}"
            ));
        }
    }

    fn tell_machine(&self, draft: &Draft) {
        let driver = &draft.config.edged.cgroup_driver;
        let (runtime, network) = match &draft.runtime {
            Runtime::Running(asked) => (
                format!("{} at {}", asked.version, asked.socket),
                match self.own_network(draft) {
                    Some(_) => "none yet; kedge brings its own".to_owned(),
                    None => "the one that is configured".to_owned(),
                },
            ),
            Runtime::Own => ("a containerd of kedge's own".to_owned(), "kedge's own".to_owned()),
        };
        self.term.say(&format!("runtime {runtime}; cgroup driver {driver}; pod network: {network}"));
    }

    /// The pod network for a runtime that has none.
    fn own_network(&self, draft: &Draft) -> Option<(Network, (PathBuf, Vec<u8>))> {
        let Runtime::Running(asked) = &draft.runtime else { return None };
        let dir = asked.cni_conf_dir.clone()?;
        let runtime_dir = &draft.config.runtime.dir;
        let network = match cni::owner(&dir) {
            Owner::Nobody if asked.network_trouble.is_some() => Network::derive(runtime_dir),
            Owner::Kedge(earlier) => earlier,
            Owner::Nobody | Owner::Other => return None,
        };
        let file = cni::configuration(&dir, &runtime_dir.join("cni"), &network);
        Some((network, file))
    }

    fn note(&self, before: &Before, draft: &Draft) -> Note {
        let config = &draft.config;
        let made = plan::run_time_paths(config).into_iter().filter(|path| !path.exists()).collect();
        let (runtime, cni_conf_dir) = match &draft.runtime {
            Runtime::Running(asked) => {
                (format!("unix://{}", asked.socket), asked.cni_conf_dir.clone().unwrap_or_default())
            }
            Runtime::Own => (String::new(), config.runtime.dir.join("cni/net.d")),
        };
        let new = Note {
            node: config.node.to_string(),
            config: before.place.clone(),
            takeover: before.is_takeover(&self.wish),
            made,
            edgecore: edgecore::find().map(|running| running.line),
            runtime,
            runtime_dir: config.runtime.dir.clone(),
            root: config.edged.root_dir.clone(),
            owned: plan::owned(config, &before.place).into_iter().filter(|dir| !dir.exists()).collect(),
            cni_conf_dir,
            network: self.own_network(draft).map(|(network, _)| network),
        };
        // What a former join found absent is its daemon's, though it is there now.
        match before.note.clone().filter(|_| before.former != Former::None) {
            Some(former) => Note {
                made: former.made,
                owned: former.owned,
                edgecore: former.edgecore.or(new.edgecore.clone()),
                ..new
            },
            None => new,
        }
    }

    fn changes(&self, before: &Before, draft: &Draft, papers: Option<&Papers>) -> (Note, Vec<Change>) {
        let note = self.note(before, draft);
        let text = plan::render(&draft.document);
        let cni = self.own_network(draft).map(|(_, file)| file);
        let forwards = cni::may_forward() && (cni.is_some() || matches!(draft.runtime, Runtime::Own));
        let kept = before.present.as_ref() == Some(&draft.document);
        let mut changes = plan::changes(&draft.config, &before.place, &text, papers, cni, &note);
        if kept {
            // The same settings in a person's own words and order stay as they are.
            changes.pop();
        }
        // The daemon would set it too; here an undo knows what ran before.
        changes.extend(forwards.then(cni::forwarding));
        changes.extend(slots::changes());
        (note, changes)
    }

    /// `--dry-run`: what would be written and started.
    fn show(
        &self,
        before: &Before,
        draft: &Draft,
        certificate: bool,
        account: &Account<'_>,
    ) -> Result<(), Failure> {
        let (_, changes) = self.changes(before, draft, None);
        let mut items: Vec<Item> = changes.iter().filter_map(would).collect();
        if certificate {
            items.push(Item::other("enrol", format!("get a certificate for {}", draft.config.node)));
        }
        if before.former == Former::None && before.is_takeover(&self.wish) {
            items.push(Item::other("halt", "stop and disable edgecore"));
        }
        match &self.wish.bundle {
            Some(bundle) => {
                items.extend(unpack::told(bundle).into_iter().map(|text| Item::other("unpack", text)));
            }
            None => items.push(Item::other("install", slots::told())),
        }
        items.push(Item::other("start", format!("start {}", service::NAME)));
        account.plan(&items)?;
        self.tell_former(before, draft);
        self.term.say("nothing was changed");
        Ok(())
    }

    fn ask_for_takeover(&self, before: &Before, takeover: bool) -> Result<(), Failure> {
        let question = "Stop edgecore on this machine and go on with its node?";
        if !takeover || before.former != Former::None || super::ask::confirm(question, self.yes)? {
            return Ok(());
        }
        Err(interrupted().because("the question was answered with no"))
    }

    async fn carry_out(
        &self,
        mut work: Work,
        before: &Before,
        draft: &Draft,
        papers: Option<&Papers>,
        account: &mut Account<'_>,
    ) -> Result<Exit, Failure> {
        let (note, changes) = self.changes(before, draft, papers);
        let done = self.make(&mut work, before, draft, &changes, account).await;
        let missed = match done {
            Ok(()) => {
                work.finish()?;
                account.ended(Outcome::Joined);
                self.term.say(&format!("{} is joined and Ready", draft.config.node));
                self.tell_former(before, draft);
                return Ok(Exit::Done);
            }
            Err(missed) => missed,
        };
        self.term.say("the join failed and is rolled back");
        let mut leftovers: Vec<Failure> = service::stop().await.err().into_iter().collect();
        leftovers.extend(work.roll_back(Some(&note)).await);
        if before.former.is_joined() {
            leftovers.extend(service::restart().await.err());
        } else {
            leftovers.extend(note.edgecore.as_ref().and_then(|line| edgecore::restart(line).err()));
        }
        account.ended(Outcome::RolledBack);
        leftovers.iter().for_each(|leftover| account.left(leftover));
        Err(missed)
    }

    async fn make(
        &self,
        work: &mut Work,
        before: &Before,
        draft: &Draft,
        changes: &[Change],
        account: &mut Account<'_>,
    ) -> Result<(), Failure> {
        let takeover = before.is_takeover(&self.wish);
        let back = |failure: Failure| failure.exit(Exit::RolledBack);
        // How an edgecore was started is noted, and its service halted, before its process is ended.
        let (noted, rest) = changes.split_at(usize::from(takeover) + 1);
        let mut changed = work.carry_out(noted).map_err(back)?;
        if let Some(running) = edgecore::find() {
            running.end().await;
        }
        changed += work.carry_out(rest).map_err(back)?;
        // What was cut short may have changed something that the daemon has not read yet.
        if changed > 0 || matches!(before.former, Former::Reopened { .. }) {
            service::stop().await.map_err(back)?;
        }
        self.term.say(&self.install(before, draft).await?);
        if let Some(change) = service::installed(&before.place).await.map_err(back)? {
            work.carry_out(&[change]).map_err(back)?;
        }
        let Some(socket) = draft.config.status_socket.as_deref() else { return Ok(()) };
        let vigil = service::Vigil::default();
        let ended = || vigil.last_words();
        let watch = Watch { socket, limit: self.wish.timeout, stop: &self.stop, ended };
        watch.until_ready(account).await.map_err(|missed| self.told(missed))
    }

    /// Has a version in its slot, and with a bundle the images in the runtime; answers what was done.
    async fn install(&self, before: &Before, draft: &Draft) -> Result<String, Failure> {
        let installed = match &self.wish.bundle {
            Some(bundle) => {
                let unpacking = unpack::install(bundle, &draft.config, &draft.runtime, &before.place);
                self.unless_stopped(unpacking).await
            }
            // A second at most, and a roll-back must not meet it half-way.
            None => slots::fill(&before.place).await,
        };
        installed.map_err(|failure| match failure.exit {
            Exit::Interrupted => failure,
            _ => failure.exit(Exit::RolledBack),
        })
    }

    fn told(&self, missed: Missed) -> Failure {
        match missed {
            Missed::Interrupted => interrupted(),
            Missed::TimedOut { pending, why, fix } => {
                // A daemon that does not answer has its reason in its log, which a roll-back takes away.
                let why = if why == wait::SILENT { format!("{why}: {}", service::words()) } else { why };
                let seconds = self.wish.timeout.as_secs();
                Failure::new(
                    "KE-JOIN-014",
                    format!("not Ready within {seconds} s: {} is pending", pending.name()),
                )
                .because(why)
                .fix(fix)
                .exit(Exit::RolledBack)
            }
            Missed::Ended(words) => Failure::new("KE-JOIN-015", "the daemon ended while it started")
                .because(words)
                .fix("mend what it says and join again")
                .exit(Exit::RolledBack),
        }
    }

    async fn unless_stopped<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        self.stop.or(work).await.unwrap_or_else(|| Err(interrupted()))
    }
}

fn interrupted() -> Failure {
    Failure::new("KE-JOIN-016", "the join was interrupted")
        .because("a signal asked for it")
        .fix("run it again: it goes on where nothing was changed")
        .exit(Exit::Interrupted)
}

/// What a change would do, for `--dry-run`; `None` when the machine is like that already.
fn would(change: &Change) -> Option<Item> {
    let (action, verb, path) = match change {
        Change::File { path, .. } => ("write", "write", path),
        Change::Directory { path, .. } if path.is_dir() => return None,
        Change::Directory { path, .. } => ("directory", "make the directory", path),
        Change::Link { path, .. } => ("link", "link", path),
        Change::Remove { path } => ("remove", "remove", path),
        Change::Mode { path, .. } => ("mode", "set the mode of", path),
        Change::Setting { .. } if change.holds().unwrap_or(true) => return None,
        Change::Setting { path, .. } => ("setting", "set", path),
        Change::Halt { .. } | Change::Module { .. } | Change::Service(_) => return None,
    };
    Some(Item::at(action, verb, path))
}
