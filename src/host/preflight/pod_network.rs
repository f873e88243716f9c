//! Pod networks as the runtime finds them: whose CNI configuration it reads first, and whether the programs that this one
//! runs are there. Reads only.

use super::WantedRuntime;
use super::machine::Machine;
use super::runtime::{Answer, serving};
use crate::host::check::Finding;
use crate::host::cni::{self, Owner};
use serde_json::Value;
use std::path::Path;

fn conf_dir<'a>(wanted: &'a WantedRuntime, answers: &'a [(String, Answer)]) -> &'a Path {
    let told = serving(answers).and_then(|asked| asked.cni_conf_dir.as_deref());
    told.unwrap_or(&wanted.cni_conf_dir)
}

pub(super) fn judge_cni(here: &Machine, wanted: &WantedRuntime, answers: &[(String, Answer)]) -> Finding {
    let (code, name) = ("KE-CNI-010", "pod network");
    let dir = conf_dir(wanted, answers);
    let path = here.path(dir);
    match cni::owner(&path) {
        Owner::Nobody => {
            Finding::fine(code, name, format!("none in {}; kedge brings its own", dir.display()))
        }
        Owner::Kedge(network) => {
            Finding::fine(code, name, format!("kedge's own, {} on {}", network.subnet, network.bridge))
        }
        Owner::Other => {
            let told = serving(answers).and_then(|asked| asked.cni_bin_dir.clone());
            let programs = told.or_else(|| wanted.cni_bin_dir.clone());
            let programs = programs.or_else(|| cni::plugin_dir().map(Path::to_owned));
            let read = |file: &str| here.text(dir.join(file));
            let has = |program: &str| programs.as_ref().is_none_or(|dir| here.exists(dir.join(program)));
            let finding = judge_foreign(dir, &here.names(dir), read, has);
            let place = programs.as_ref().map(|dir| format!(" in {}", dir.display())).unwrap_or_default();
            Finding { seen: finding.seen.replace("{place}", &place), ..finding }
        }
    }
}

/// The programs that a CNI configuration runs.
fn programs_of(config: &Value) -> Vec<String> {
    let plugins = config.get("plugins").and_then(Value::as_array);
    let plugins: Vec<&Value> = plugins.map_or_else(|| vec![config], |plugins| plugins.iter().collect());
    let mut found: Vec<String> = Vec::new();
    for plugin in plugins {
        for path in ["/type", "/ipam/type"] {
            let name = plugin.pointer(path).and_then(Value::as_str).filter(|name| !name.contains('/'));
            found.extend(name.filter(|name| !found.iter().any(|known| known == name)).map(str::to_owned));
        }
    }
    found
}

fn judge_foreign(
    dir: &Path,
    names: &[String],
    read: impl Fn(&str) -> String,
    has: impl Fn(&str) -> bool,
) -> Finding {
    let (code, title) = ("KE-CNI-010", "pod network");
    let configures = |name: &&String| [".conflist", ".conf", ".json"].iter().any(|end| name.ends_with(end));
    let Some(first) = names.iter().find(configures) else {
        return Finding::warning(code, title, format!("{} changes while it is read", dir.display()));
    };
    let file = dir.join(first);
    match serde_json::from_str::<Value>(&read(first)) {
        Ok(config) => {
            let name = config.get("name").and_then(Value::as_str).unwrap_or("without a name");
            let missing: Vec<String> =
                programs_of(&config).into_iter().filter(|program| !has(program)).collect();
            if missing.is_empty() {
                return Finding::fine(code, title, format!("{name}, from {}", file.display()));
            }
            let seen = format!(
                "{name}, from {}, runs {}, which is not{{place}}",
                file.display(),
                missing.join(", ")
            );
            Finding::warning("KE-CNI-012", title, seen)
                .because(
                    "the network that wrote it is gone or not installed yet; the runtime reads it first, and no pod \
                     gets an address. Without it kedge brings its own network",
                )
                .fix(format!("mv {0} {0}.old", file.display()))
                .fixable()
        }
        Err(error) => Finding::failed(code, title, format!("{} is not JSON: {error}", file.display()))
            .because("runtimes read the first file by name; a broken one leaves pods without a network")
            .fix(format!("mv {0} {0}.broken", file.display()))
            .fixable(),
    }
}

pub(super) fn judge_programs(
    here: &Machine,
    wanted: &WantedRuntime,
    answers: &[(String, Answer)],
) -> Finding {
    let (code, name) = ("KE-CNI-011", "CNI programs");
    let told = serving(answers).and_then(|asked| asked.cni_bin_dir.clone());
    let dir = told.or_else(|| wanted.cni_bin_dir.clone());
    let needed = ["bridge", "host-local", "portmap", "loopback"];
    match (&dir, cni::plugin_dir()) {
        (Some(dir), usual) => {
            let missing: Vec<&str> =
                needed.into_iter().filter(|program| !here.exists(dir.join(program))).collect();
            if missing.is_empty() {
                return Finding::fine(code, name, format!("in {}", dir.display()));
            }
            let finding =
                Finding::warning(code, name, format!("{} not in {}", missing.join(", "), dir.display()))
                    .because("the runtime looks there alone; pods get no network without them");
            match usual.filter(|usual| *usual != dir.as_path()) {
                Some(usual) => finding.fix(format!("ln -s {}/* {}/", usual.display(), dir.display())),
                None => finding.fix("apt-get install containernetworking-plugins"),
            }
        }
        (None, Some(usual)) => Finding::fine(code, name, format!("in {}", usual.display())),
        (None, None) => Finding::failed(code, name, "none in /opt/cni/bin, /usr/lib/cni")
            .because("pods with an address of their own cannot start")
            .fix("apt-get install containernetworking-plugins"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Wanted;
    use super::*;
    use crate::host::check::State;

    fn wanted() -> WantedRuntime {
        Wanted::edge().runtime.unwrap()
    }

    fn nothing() -> (tempfile::TempDir, Machine) {
        let dir = tempfile::tempdir().unwrap();
        let machine = Machine::below(dir.path());
        (dir, machine)
    }

    #[test]
    fn pod_networks_are_told_by_their_owner() {
        let (_dir, machine) = nothing();
        let judged = || judge_cni(&machine, &wanted(), &[]);
        assert_eq!(judged().seen, "none in /etc/cni/net.d; kedge brings its own");
        machine.put("/etc/cni/net.d/05-mine.conflist", r#"{"name": "mine"}"#);
        assert_eq!(judged().seen, "mine, from /etc/cni/net.d/05-mine.conflist");
        let wanted = WantedRuntime { cni_bin_dir: Some("/opt/x".into()), ..wanted() };
        let stale = r#"{"name": "cbr0", "plugins": [{"type": "flannel", "ipam": {"type": "host-local"}}, {"type": "flannel"}]}"#;
        machine.put("/etc/cni/net.d/05-mine.conflist", stale).put("/opt/x/host-local", "");
        let left = judge_cni(&machine, &wanted, &[]);
        assert_eq!((&*left.code, left.state, left.fixable), ("KE-CNI-012", State::Warning, true));
        assert_eq!(
            left.seen,
            "cbr0, from /etc/cni/net.d/05-mine.conflist, runs flannel, which is not in /opt/x"
        );
        machine.put("/opt/x/flannel", "");
        assert_eq!(judge_cni(&machine, &wanted, &[]).state, State::Fine);
        machine.put("/etc/cni/net.d/05-mine.conflist", "{");
        let broken = judged();
        assert_eq!((&*broken.code, broken.state), ("KE-CNI-010", State::Failed));
        assert!(broken.fix.contains(".broken"), "{broken:?}");
    }

    #[test]
    fn programs_are_looked_for_where_the_runtime_looks() {
        let (_dir, machine) = nothing();
        let wanted = WantedRuntime { cni_bin_dir: Some("/opt/x".into()), ..wanted() };
        let none = judge_programs(&machine, &wanted, &[]);
        assert_eq!((&*none.code, none.state), ("KE-CNI-011", State::Warning));
        for program in ["bridge", "host-local", "portmap", "loopback"] {
            machine.put(&format!("/opt/x/{program}"), "");
        }
        assert_eq!(judge_programs(&machine, &wanted, &[]).seen, "in /opt/x");
    }
}
