//! Lines that were written for keadm: each of its verbs and flags that kedge does not have is known here and answered with
//! what to type instead, before anything is parsed. What kedge has stands in the commands themselves; nothing of this is
//! part of the command tree, so help and completions do not show it.

mod table;

use crate::base::{Exit, Failure};
use std::collections::VecDeque;
use std::ffi::OsString;
use table::{FLAGS, Flag, VERBS, Value, Verdict};

/// A command line without what has no meaning here.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub words: Vec<OsString>,
    /// The commands in it, such as `edge upgrade`.
    pub command: String,
    /// A sentence for each flag that was taken away.
    pub notes: Vec<String>,
}

/// Looks through a whole command line, the program's name first. The failure names the first word of keadm's that is
/// refused.
pub(super) fn read(tree: &clap::Command, words: impl IntoIterator<Item = OsString>) -> Result<Line, Failure> {
    let mut left: VecDeque<OsString> = words.into_iter().collect();
    let mut line = Line::default();
    line.words.extend(left.pop_front());
    let mut command = Some(tree);
    while let Some(word) = left.pop_front() {
        match word.to_str() {
            Some("--") => {
                line.words.push(word);
                break;
            }
            Some(text) if text.starts_with('-') => match flag(&line.command, text, left.front()) {
                Some((flag, value)) => line.drop_flag((flag, text), value, &mut left)?,
                None => line.words.push(word),
            },
            Some(text) => {
                command =
                    command.and_then(|command| line.enter(command, text, &left).transpose()).transpose()?;
                line.words.push(word);
            }
            None => line.words.push(word),
        }
    }
    line.words.extend(left);
    Ok(line)
}

impl Line {
    /// The command below with this name; `None` when the word is none, and no further one can be.
    fn enter<'t>(
        &mut self,
        above: &'t clap::Command,
        word: &str,
        left: &VecDeque<OsString>,
    ) -> Result<Option<&'t clap::Command>, Failure> {
        if let Some(found) = above.find_subcommand(word) {
            self.command = joined(&self.command, found.get_name());
            return Ok(Some(found));
        }
        if !above.has_subcommands() {
            return Ok(None);
        }
        let bare = left.iter().map_while(|word| word.to_str().filter(|text| !text.starts_with('-')));
        let typed = bare.fold(joined(&self.command, word), |typed, word| joined(&typed, word));
        let is_it = |words: &str| typed == words || typed.starts_with(&format!("{words} "));
        let known = VERBS.iter().filter(|verb| is_it(verb.words)).max_by_key(|verb| verb.words.len());
        match known {
            None => Ok(None),
            Some(verb) => Err(Failure::new("KE-KEADM-001", format!("`kedge {}` is no command", verb.words))
                .because("it is keadm's")
                .fix(verb.instead)
                .exit(Exit::Usage)),
        }
    }

    fn drop_flag(
        &mut self,
        (flag, typed): (&Flag, &str),
        attached: Option<String>,
        left: &mut VecDeque<OsString>,
    ) -> Result<(), Failure> {
        let value = match flag.value {
            Value::Attached => attached,
            Value::Any | Value::Only(_) => {
                attached.or_else(|| left.pop_front().map(|word| word.to_string_lossy().into_owned()))
            }
        };
        match flag.verdict {
            Verdict::Idle(why) => {
                let name = flag.names.last().copied().unwrap_or_default();
                self.notes.push(format!("{name} {why}"));
                Ok(())
            }
            Verdict::Refused { why, instead } => {
                let is_it = |name: &&str| typed.split('=').next() == Some(*name);
                let letter = |name: &&str| !name.starts_with("--") && typed.starts_with(*name);
                let names = || flag.names.iter().copied();
                let name = names().find(is_it).or_else(|| names().find(letter)).unwrap_or(typed);
                let shown = match flag.value {
                    Value::Only(only) => format!("{name} {only}"),
                    _ => name.to_owned(),
                };
                Err(Failure::new(
                    "KE-KEADM-001",
                    format!("{shown} is not offered by `kedge {}`", self.command),
                )
                .because(why)
                .fix(instead.replace("{}", value.as_deref().unwrap_or("it")))
                .exit(Exit::Usage))
            }
        }
    }
}

fn joined(above: &str, word: &str) -> String {
    if above.is_empty() { word.to_owned() } else { format!("{above} {word}") }
}

/// The flag that a word is in this command, and the value that hangs on it; `next` is the word behind it.
fn flag(command: &str, word: &str, next: Option<&OsString>) -> Option<(&'static Flag, Option<String>)> {
    let (long, equal) = match word.split_once('=') {
        Some((long, value)) => (long, Some(value)),
        None => (word, None),
    };
    let value = |flag: &Flag| {
        flag.names.iter().find_map(|name| match *name {
            name if name == long => Some(equal.map(str::to_owned)),
            // A value may hang on a letter.
            name if !name.starts_with("--") && !word.starts_with("--") => {
                let rest = word.strip_prefix(name).filter(|rest| !rest.is_empty());
                rest.map(|rest| Some(rest.trim_start_matches('=').to_owned()))
            }
            _ => None,
        })
    };
    let fits = |flag: &Flag, value: &Option<String>| match flag.value {
        Value::Only(only) => value.as_deref().or(next.and_then(|word| word.to_str())) == Some(only),
        Value::Attached | Value::Any => true,
    };
    let here = FLAGS.iter().filter(|flag| flag.at.contains(&command));
    here.filter_map(|flag| Some((flag, value(flag)?))).find(|(flag, value)| fits(flag, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::{help, tree};
    use std::collections::BTreeSet;

    /// Everything that keadm 1.23 offers, verb by verb with its flags, and the command that does it here. What stands after
    /// a bar are flags of the same verb on Windows and of `keadm deprecated`.
    const KEADM: [(&str, &str, &str); 18] = [
        (
            "init",
            "init",
            "--kubeedge-version --advertise-address --kube-config --manifests -f --files -d --dry-run \
             --external-helm-root --image-repository --set --profile --force | --master --domainname --tarballpath",
        ),
        (
            "manifest",
            "init",
            "--kubeedge-version --advertise-address --kube-config --manifests -f --files -d --dry-run --external-helm-root --image-repository --set --profile --skip-crds",
        ),
        (
            "upgrade cloud",
            "init",
            "--kubeedge-version --advertise-address --kube-config --set --image-repository -d --dry-run --force --values --profile --reuse-values --print-final-values --external-helm-root",
        ),
        ("gettoken", "gettoken", "--kube-config"),
        (
            "join",
            "join",
            "-e --cloudcore-ipport -t --token -i --edgenode-name -s --certport --kubeedge-version --image-repository \
             -p --remote-runtime-endpoint --cgroupdriver -l --labels --hub-protocol --set --certPath --tarballpath \
             --pre-run --post-run | --log-file --download-repo --with-mqtt -r --runtimetype",
        ),
        ("reset", "reset", "--kube-config --force --remote-runtime-endpoint"),
        ("reset edge", "reset edge", "--force --remote-runtime-endpoint --pre-run --post-run"),
        ("reset cloud", "reset cloud", "--kube-config --force"),
        (
            "upgrade edge",
            "edge upgrade",
            "--config --pre-run --post-run --toVersion --image --image-digest --force --upgradeID --historyID \
             --fromVersion --type --disable-backup",
        ),
        ("backup edge", "edge backup", "--config --pre-run --post-run"),
        ("rollback edge", "edge rollback", "--config --pre-run --post-run --historical-version"),
        ("config-update", "config set", "--config --pre-run --post-run --set"),
        ("version", "version", "-o --output"),
        ("ctl get pod", "pods", "-n --namespace -l --selector -o --output -A --all-namespaces"),
        (
            "ctl logs",
            "logs",
            "-n --namespace -c --container -f --follow -p --previous --since-second --since-time --timestamps --tail --limit-bytes --insecure-skip-tls-verify-backend",
        ),
        ("ctl exec", "exec", "-n --namespace -c --container -i -t"),
        ("ctl get device", "device list", "-n --namespace -l --selector -o --output -A --all-namespaces"),
        ("debug collect", "bugreport", "-c --config -d --detail -o --output-path -l --log-path"),
    ];

    /// Verbs whose flags have no other place: the verb's own answer is all there is.
    const ALONE: &str = "config images list,config images pull,batch,batch gen-config,ctl describe pod,ctl describe device,\
        ctl edit device,ctl restart pod,ctl confirm,ctl unhold-upgrade pod,ctl unhold-upgrade node,debug get,\
        debug diagnose node,debug diagnose pod,debug diagnose install,debug check all,debug check cpu,debug check mem,\
        debug check disk,debug check dns,debug check runtime,debug check network,debug check pid,deprecated init,\
        deprecated join,deprecated reset,beta,upgrade,backup,rollback,ctl,ctl get,debug,debug check,config images,generate";

    fn typed(line: &str) -> Result<Line, Failure> {
        let words = std::iter::once("kedge").chain(line.split_whitespace());
        read(&tree(), words.map(OsString::from))
    }

    fn command(words: &str) -> Option<clap::Command> {
        let whole = tree();
        let found = words.split(' ').try_fold(&whole, |above, word| above.find_subcommand(word));
        found.cloned()
    }

    fn offers(command: &clap::Command, flag: &str) -> bool {
        command.get_arguments().any(|arg| {
            let long = flag.strip_prefix("--").is_some_and(|name| {
                arg.get_long() == Some(name) || arg.get_all_aliases().is_some_and(|all| all.contains(&name))
            });
            let letter = flag.strip_prefix('-').and_then(|name| name.parse::<char>().ok());
            long || letter.is_some_and(|letter| arg.get_short() == Some(letter))
        })
    }

    /// A refusal has one code, status 2, and names commands that exist.
    fn is_an_answer(failure: &Failure, line: &str) {
        assert_eq!((failure.code, failure.exit), ("KE-KEADM-001", Exit::Usage), "{line}: {failure}");
        failure.is_as_committed();
        assert!(!failure.why.is_empty() && !failure.fix.is_empty(), "{line}");
        for shown in failure.fix.split('`').skip(1).step_by(2).filter_map(|text| text.strip_prefix("kedge "))
        {
            let words =
                shown.split(' ').take_while(|word| word.chars().all(|c| c.is_ascii_lowercase() || c == '-'));
            let words: Vec<&str> = words.take_while(|word| !word.starts_with('-')).collect();
            if words.is_empty() {
                continue;
            }
            let deepest = (1..=words.len()).rev().find_map(|count| command(&words.get(..count)?.join(" ")));
            let deepest = deepest.unwrap_or_else(|| panic!("{line}: there is no `kedge {shown}`"));
            assert!(!deepest.is_hide_set(), "{line}: `kedge {shown}`");
        }
    }

    #[test]
    fn every_verb_of_keadm_is_offered_or_answered() {
        let listed = KEADM.iter().map(|(verb, ..)| *verb);
        for verb in listed.chain(ALONE.split(',').map(str::trim)) {
            match typed(verb) {
                Ok(_) => assert!(command(verb).is_some(), "{verb} is neither offered nor refused"),
                Err(failure) => is_an_answer(&failure, verb),
            }
        }
    }

    #[test]
    fn every_flag_of_keadm_is_offered_or_answered() {
        for (_, here, flags) in &KEADM {
            let offered = command(here).unwrap_or_else(|| panic!("there is no `kedge {here}`"));
            for name in flags.split_whitespace().filter(|name| *name != "|") {
                let line = format!("{here} {name} value");
                match typed(&line) {
                    Err(failure) => is_an_answer(&failure, &line),
                    Ok(line) if line.notes.is_empty() => {
                        assert!(offers(&offered, name), "{line:?}: neither offered nor answered");
                    }
                    Ok(line) => {
                        assert!(!offers(&offered, name), "{here} {name} is offered, and yet taken away");
                        assert!(line.words.iter().all(|word| word != name), "{line:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn nothing_that_is_offered_is_in_the_table() {
        for flag in FLAGS.iter().filter(|flag| !matches!(flag.value, Value::Only(_))) {
            for at in flag.at {
                let here = if at.is_empty() { Some(tree()) } else { command(at) };
                let here = here.unwrap_or_else(|| panic!("there is no `kedge {at}`"));
                for name in flag.names {
                    assert!(!offers(&here, name), "kedge {at} has {name}");
                }
            }
        }
        let verbs: BTreeSet<&str> = VERBS.iter().map(|verb| verb.words).collect();
        assert_eq!(verbs.len(), VERBS.len(), "a verb stands there twice");
        assert!(VERBS.iter().all(|verb| command(verb.words).is_none()));
    }

    #[test]
    fn the_topic_names_every_verb() {
        let topic = help::Topic::find("keadm").unwrap().body();
        for verb in VERBS {
            let first = verb.words.split(' ').next().unwrap_or_default();
            assert!(
                topic.contains(&format!("keadm {first}"))
                    || topic.contains(&format!("({first})"))
                    || topic.contains(&format!(", {first}")),
                "`kedge help keadm` says nothing of {}",
                verb.words
            );
        }
    }

    #[test]
    fn flags_without_a_meaning_are_taken_away_with_a_sentence() {
        let line =
            typed("-q join -e c --kubeedge-version v1.23.1 -rdocker --with-mqtt --certPath=/x -i n").unwrap();
        let left: Vec<_> = line.words.iter().skip(1).map(|word| word.to_string_lossy()).collect();
        assert_eq!(left.join(" "), "-q join -e c -i n");
        assert_eq!((line.notes.len(), line.command.as_str()), (4, "join"), "{:?}", line.notes);
        assert!(line.notes.iter().any(|note| note.starts_with("--runtimetype is not needed")));
    }

    #[test]
    fn a_refusal_names_what_was_typed() {
        let hook = typed("join -e c --pre-run ./a.sh").unwrap_err();
        assert!(hook.fix.contains("./a.sh") && hook.what.contains("--pre-run"), "{hook:?}");
        let former = typed("edge upgrade --upgradeID=7").unwrap_err();
        assert!(former.what.starts_with("--upgradeID is not"), "{former}");
        let verb = typed("upgrade edge --toVersion v1.24.0").unwrap_err();
        assert!(verb.fix.contains("kedge edge upgrade") && verb.what.contains("upgrade edge"), "{verb:?}");
        for short in ["version -o short", "version -oshort", "version --output=short"] {
            let refused = typed(short).unwrap_err();
            assert!(refused.what.contains(" short is not offered by `kedge version`"), "{refused}");
        }
    }

    #[test]
    fn what_is_meant_for_others_is_left_alone() {
        for line in [
            "version -o json",
            "exec web-0 -- sh --pre-run",
            "join --token upgrade",
            "edge upgrade --to upgrade",
            "config set a=b",
            "help upgrade",
            "frobnicate",
        ] {
            let read = typed(line).unwrap();
            assert_eq!(read.words.len(), 1 + line.split(' ').count(), "{line}");
        }
    }
}
