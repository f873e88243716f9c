//! `--fix`: what each repair changes, shown as a diff, asked once, made through the install journal so that `kedge undo`
//! takes it back. A repair is planned from the finding alone and never does more than its diff and its steps say.

use super::place::{Place, Role};
use super::report::{API_VERSION, Report};
use super::store::database_files;
use crate::base::{Failure, Term, diff, read_limited};
use crate::cmd::ask::confirm;
use crate::config::shown::without_secrets;
use crate::host::check::{Finding, State};
use crate::host::cni::forwarding;
use crate::host::journal::{self, Change, Deed, Journal, Manner};
use crate::host::preflight::{output_within, pi_command_line, plugin_disabled, unfinished};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

const CONTAINERD_CONFIG: &str = "/etc/containerd/config.toml";
const MODULES: &str = "/etc/modules-load.d/kedge.conf";
const SYSCTL: &str = "/etc/sysctl.d/90-kedge.conf";
const FILE_LIMIT: u64 = 1 << 20;
const STEP: Duration = Duration::from_secs(30);

/// What mends one finding.
#[derive(Debug, Default)]
pub(super) struct Repair {
    pub code: String,
    /// Journalled, and undone by `kedge undo`.
    pub changes: Vec<Change>,
    /// What makes it so at once, after the changes.
    pub steps: Vec<Step>,
    /// What remains for a person.
    pub note: &'static str,
}

/// A program with its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step(Vec<String>);

/// Codes whose findings `--fix` can mend, where they say so themselves.
const MENDED: [&str; 16] = [
    "KE-CERT-022",
    "KE-CGROUP-002",
    "KE-CGROUP-003",
    "KE-CNI-010",
    "KE-CNI-012",
    "KE-CRI-002",
    "KE-DB-003",
    "KE-EDGECORE-001",
    "KE-ETC-001",
    "KE-KERNEL-001",
    "KE-KERNEL-002",
    "KE-KERNEL-003",
    "KE-KERNEL-004",
    "KE-KUBELET-001",
    "KE-META-011",
    "KE-QUIC-001",
];
/// On the cloud the same code is a question that nothing on that machine answers.
const MENDED_ON_EDGE: [&str; 1] = ["KE-STREAM-001"];

/// Whether there is a repair for findings of this code.
pub(super) fn mends(code: &str, role: Role) -> bool {
    MENDED.contains(&code) || (role == Role::Edge && MENDED_ON_EDGE.contains(&code))
}

/// The repair of a finding; `None` where there is none, or nothing to change any more.
pub(super) fn plan(finding: &Finding, place: Option<&Place>) -> Option<Repair> {
    let code = finding.code.as_ref();
    if !mends(code, place.map_or(Role::Edge, |place| place.role)) {
        return None;
    }
    let mut repair = match code {
        "KE-KERNEL-001" => module("overlay"),
        "KE-KERNEL-002" => module("bridge"),
        "KE-KERNEL-003" => module("nf_nat"),
        "KE-KERNEL-004" => {
            let line = with_line(Path::new(SYSCTL), "net.ipv4.ip_forward = 1");
            Repair { changes: line.into_iter().chain([forwarding()]).collect(), ..Repair::default() }
        }
        "KE-CGROUP-002" => {
            let (path, text) = pi_command_line()?;
            Repair {
                changes: vec![file(path, text)],
                note: "reboot for it to take effect",
                ..Repair::default()
            }
        }
        "KE-CRI-002" => {
            let text = text_of(Path::new(CONTAINERD_CONFIG))?;
            let (_, _, mended) = plugin_disabled(&text)?;
            Repair {
                changes: vec![file(CONTAINERD_CONFIG.into(), mended)],
                steps: restart("containerd"),
                ..Repair::default()
            }
        }
        "KE-CGROUP-003" | "KE-META-011" | "KE-QUIC-001" | "KE-STREAM-001" => {
            let path = place?.file.clone()?;
            let mended = with_settings(&text_of(&path)?, &finding.fix)?;
            Repair {
                changes: vec![file(path, mended)],
                note: "start the daemon anew for it to take effect",
                ..Repair::default()
            }
        }
        "KE-CERT-022" => private([place?.edge.as_ref()?.hub.key_file.clone()]),
        "KE-DB-003" => private(database_files(&place?.edge.as_ref()?.database)),
        // A copy stays in the journal, and comes back from there.
        "KE-CNI-010" | "KE-CNI-012" => {
            without([PathBuf::from(finding.fix.strip_prefix("mv ")?.split(' ').next()?)])
        }
        "KE-ETC-001" => without(unfinished(&place?.wanted().etc_dir)),
        "KE-KUBELET-001" | "KE-EDGECORE-001" => {
            let fix = &finding.fix;
            let rest =
                fix.strip_prefix("systemctl disable ").or_else(|| fix.strip_prefix("rc-update del "))?;
            let unit = rest.split(' ').next()?;
            let name = unit.strip_suffix(".service").unwrap_or(unit).to_owned();
            Repair { changes: vec![Change::Halt { name }], ..Repair::default() }
        }
        _ => return None,
    };
    repair.code = finding.code.to_string();
    Some(repair)
}

/// Files for their owner alone.
fn private(paths: impl IntoIterator<Item = PathBuf>) -> Repair {
    let changes = paths.into_iter().map(|path| Change::Mode { path, mode: 0o600 });
    Repair { changes: changes.collect(), ..Repair::default() }
}

/// Files that shall not be there.
fn without(paths: impl IntoIterator<Item = PathBuf>) -> Repair {
    let changes = paths.into_iter().filter(|path| path.is_file()).map(|path| Change::Remove { path });
    Repair { changes: changes.collect(), ..Repair::default() }
}

/// A kernel module, now and after every boot.
fn module(name: &str) -> Repair {
    let load = Change::Module { name: name.to_owned() };
    let changes = with_line(Path::new(MODULES), name).into_iter().chain([load]).collect();
    Repair { changes, ..Repair::default() }
}

/// A file of ours with one more line; `None` when the line stands there.
fn with_line(path: &Path, line: &str) -> Option<Change> {
    let text = text_of(path).unwrap_or_default();
    if text.lines().any(|present| present.trim() == line) {
        return None;
    }
    let gap = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    Some(file(path.to_owned(), format!("{text}{gap}{line}\n")))
}

fn file(path: PathBuf, text: String) -> Change {
    let mode = path.metadata().map_or(0o644, |file| std::os::unix::fs::MetadataExt::mode(&file) & 0o7777);
    Change::File { path, content: text.into_bytes(), mode }
}

fn text_of(path: &Path) -> Option<String> {
    String::from_utf8(read_limited(path, FILE_LIMIT).ok()?).ok()
}

/// Only systemd is asked; elsewhere a person restarts it.
fn restart(unit: &str) -> Vec<Step> {
    let systemd = Path::new("/run/systemd/system").exists();
    let run = || Step(["systemctl", "restart", unit].map(str::to_owned).to_vec());
    systemd.then(run).into_iter().collect()
}

/// The text with the settings of a `kedge config set KEY=VALUE …`; everything else stays as it was written.
fn with_settings(text: &str, command: &str) -> Option<String> {
    let mut changed = text.to_owned();
    for word in command.strip_prefix("kedge config set ")?.split(' ') {
        let (key, value) = word.split_once('=')?;
        let path = crate::config::survey::Role::Edge.path(key).ok()?;
        let value = serde_yaml::from_str(value).ok()?;
        changed = crate::config::edit::set(&changed, &path, &value).ok()?.text;
    }
    (changed != text).then_some(changed)
}

/// The findings that can be mended, or the failure that says why the wanted one cannot.
pub(super) fn chosen(findings: &[Finding], code: &str) -> Result<Vec<Finding>, Failure> {
    let open = |finding: &&Finding| matches!(finding.state, State::Warning | State::Failed);
    let meant: Vec<&Finding> = findings
        .iter()
        .filter(|finding| code.is_empty() || finding.code.eq_ignore_ascii_case(code))
        .collect();
    if meant.is_empty() {
        return Err(Failure::new("KE-DOCTOR-002", format!("no check has the code {code}"))
            .because("here, or with this --only, --skip and --role")
            .fix("kedge doctor --list")
            .exit(crate::base::Exit::Usage));
    }
    let fixable: Vec<Finding> = meant.iter().copied().filter(open).filter(|f| f.fixable).cloned().collect();
    if let (true, false, Some(first)) =
        (fixable.is_empty(), code.is_empty(), meant.iter().copied().find(open))
    {
        return Err(Failure::new("KE-DOCTOR-003", format!("{code} cannot be fixed by doctor"))
            .because(format!("{}: {}", first.name, first.seen))
            .fix(first.fix.clone()));
    }
    Ok(fixable)
}

/// The codes that are open after the repairs, once each: what a repair did not mend though it takes effect at once, and,
/// where no single code was asked for, failures that have no repair.
pub(super) fn still_open(before: &Report, after: &Report, repairs: &[Repair], code: &str) -> Vec<String> {
    let mended = |code: &str| repairs.iter().any(|repair| repair.code == code);
    let at_once = |code: &str| repairs.iter().any(|repair| repair.code == code && repair.note.is_empty());
    let failing = before
        .findings
        .iter()
        .filter(|finding| code.is_empty() && finding.state == State::Failed && !mended(&finding.code));
    let unmended = after
        .findings
        .iter()
        .filter(|finding| matches!(finding.state, State::Warning | State::Failed) && at_once(&finding.code));
    let codes: BTreeSet<&str> = failing.chain(unmended).map(|finding| &*finding.code).collect();
    codes.into_iter().map(str::to_owned).collect()
}

/// Shows what would change.
pub(super) fn show(repairs: &[Repair]) -> String {
    let mut out = String::new();
    for repair in repairs {
        out += &format!("{}\n", repair.code);
        for change in &repair.changes {
            match change {
                Change::File { path, content, mode } => out += &written(path, content, *mode),
                Change::Mode { path, mode } => {
                    out += &format!("  set the mode of {} to {mode:04o}\n", path.display());
                }
                Change::Remove { path } => out += &format!("  remove {}\n", path.display()),
                Change::Halt { name } => {
                    out += &format!("  keep the service {name} from starting at boot\n");
                }
                Change::Setting { path, value } => out += &format!("  set {} to {value}\n", path.display()),
                Change::Module { name } => out += &format!("  load the module {name}\n"),
                Change::Directory { .. } | Change::Link { .. } | Change::Service(_) => {}
            }
        }
        for Step(words) in &repair.steps {
            out += &format!("  run {}\n", words.join(" "));
        }
        if !repair.note.is_empty() {
            out += &format!("  then {}\n", repair.note);
        }
    }
    out.trim_end().to_owned()
}

/// What would change, for programs.
pub(super) fn document(repairs: &[Repair]) -> Value {
    let item = |repair: &Repair| {
        let changes: Vec<Value> = repair.changes.iter().filter_map(told).collect();
        let steps: Vec<String> = repair.steps.iter().map(|Step(words)| words.join(" ")).collect();
        json!({"code": repair.code, "changes": changes, "steps": steps, "note": repair.note})
    };
    let items: Vec<Value> = repairs.iter().map(item).collect();
    json!({"apiVersion": API_VERSION, "kind": "RepairPlan", "items": items})
}

/// One change of a plan; `None` for what no repair makes.
fn told(change: &Change) -> Option<Value> {
    let place = |path: &Path| path.display().to_string();
    let of_mode = |path: &Path, mode: u32| json!({"action": "mode", "path": place(path), "mode": format!("{mode:04o}")});
    match change {
        Change::File { path, content, mode } if is_as_it_stands(path, content) => Some(of_mode(path, *mode)),
        Change::File { path, content, .. } => {
            let action = if path.exists() { "change" } else { "write" };
            Some(json!({"action": action, "path": place(path), "difference": difference(path, content)}))
        }
        Change::Mode { path, mode } => Some(of_mode(path, *mode)),
        Change::Remove { path } => Some(json!({"action": "remove", "path": place(path)})),
        Change::Halt { name } => Some(json!({"action": "halt", "service": name})),
        Change::Setting { path, value } => {
            Some(json!({"action": "set", "path": place(path), "value": value}))
        }
        Change::Module { name } => Some(json!({"action": "load", "module": name})),
        Change::Directory { .. } | Change::Link { .. } | Change::Service(_) => None,
    }
}

/// A file as it would be written, or its mode where nothing else changes.
fn written(path: &Path, content: &[u8], mode: u32) -> String {
    if is_as_it_stands(path, content) {
        return format!("  set the mode of {} to {mode:04o}\n", path.display());
    }
    let mut out = format!("  {} {}\n", if path.exists() { "change" } else { "write" }, path.display());
    for line in difference(path, content) {
        let (mark, rest) = line.split_at_checked(1).unwrap_or((line.as_str(), ""));
        out += format!("    {mark} {rest}").trim_end();
        out.push('\n');
    }
    out
}

fn is_as_it_stands(path: &Path, content: &[u8]) -> bool {
    read_limited(path, FILE_LIMIT).unwrap_or_default() == content
}

/// The lines that go and come, and some around them, without what is secret in them.
fn difference(path: &Path, content: &[u8]) -> Vec<String> {
    let before = read_limited(path, FILE_LIMIT).unwrap_or_default();
    let (Ok(old), Ok(new)) = (std::str::from_utf8(&before), std::str::from_utf8(content)) else {
        return Vec::new();
    };
    diff(&without_secrets(old), &without_secrets(new)).lines().map(str::to_owned).collect()
}

/// Asks once, then makes all repairs. `false` when the answer was no.
pub(super) async fn make(repairs: &[Repair], yes: bool, term: &Term) -> Result<bool, Failure> {
    if !confirm("Make these changes?", yes)? {
        return Ok(false);
    }
    let changes: Vec<&Change> = repairs.iter().flat_map(|repair| &repair.changes).collect();
    if !changes.is_empty() {
        let mut journal = Journal::open(Path::new(journal::DIR), Deed::Fix)?;
        for change in changes {
            match journal.apply(change) {
                // The next boot makes it so all the same.
                Err(failure) if change.is_of_kernel() => term.failure(&failure),
                Err(failure) => {
                    // A journal that was made for this alone goes again.
                    drop(journal.undo(Manner::Careful, |_| false));
                    return Err(failure);
                }
                Ok(()) => {}
            }
        }
        journal.finish()?;
    }
    for repair in repairs {
        for step in &repair.steps {
            if let Err(why) = take(step).await {
                term.say(&format!("{}: {why}", repair.code));
            }
        }
        if !repair.note.is_empty() {
            term.say(&format!("{}: {}", repair.code, repair.note));
        }
    }
    Ok(true)
}

async fn take(Step(words): &Step) -> Result<(), String> {
    let Some((program, args)) = words.split_first() else { return Ok(()) };
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let output = output_within(program, &args, STEP).await.map_err(|why| format!("{program}: {why}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("{}: {}", words.join(" "), said.trim())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixable(code: &'static str) -> Finding {
        Finding::failed(code, "x", "off").fix("do it").fixable()
    }

    #[test]
    fn only_what_is_open_and_fixable_is_chosen() {
        let findings = [
            fixable("KE-TEST-001"),
            Finding::fine("KE-TEST-002", "y", "on"),
            Finding::failed("KE-TEST-003", "z", "off").fix("by hand"),
        ];
        assert_eq!(chosen(&findings, "").unwrap().len(), 1);
        assert_eq!(chosen(&findings, "ke-test-001").unwrap().len(), 1);
        assert!(chosen(&findings, "KE-TEST-002").unwrap().is_empty());
        let by_hand = chosen(&findings, "KE-TEST-003").unwrap_err();
        assert_eq!((by_hand.code, by_hand.fix.as_str()), ("KE-DOCTOR-003", "by hand"));
        by_hand.is_as_committed();
        assert_eq!(chosen(&findings, "KE-TEST-009").unwrap_err().committed().code, "KE-DOCTOR-002");
    }

    #[test]
    fn what_stays_open_after_repairs_is_named() {
        let report = |findings: Vec<Finding>| Report { role: Role::Edge, findings, took: Duration::ZERO };
        let repair = |code: &str, note| Repair { code: code.to_owned(), note, ..Repair::default() };
        let repairs = [repair("KE-TEST-001", ""), repair("KE-TEST-002", "reboot for it to take effect")];
        let before = report(vec![
            fixable("KE-TEST-001"),
            fixable("KE-TEST-002"),
            Finding::failed("KE-TEST-003", "z", "off").fix("by hand"),
            Finding::warning("KE-TEST-004", "w", "odd"),
        ]);
        let mended = report(vec![Finding::fine("KE-TEST-001", "x", "on"), fixable("KE-TEST-002")]);
        assert_eq!(still_open(&before, &mended, &repairs, ""), ["KE-TEST-003"]);
        assert!(still_open(&before, &mended, &repairs, "KE-TEST-001").is_empty());
        let lost = report(vec![Finding::warning("KE-TEST-001", "x", "off")]);
        assert_eq!(still_open(&before, &lost, &repairs, "KE-TEST-001"), ["KE-TEST-001"]);
    }

    #[test]
    fn a_diff_shows_what_changes_and_what_stands_around_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, "a\ndisabled = 1\nb\n").unwrap();
        let shown = written(&path, b"a\ndisabled = 0\nb\n", 0o644);
        let lines = "      a\n    - disabled = 1\n    + disabled = 0\n      b\n";
        assert_eq!(shown, format!("  change {}\n{lines}", path.display()));
        let shown = written(&path, b"a\ndisabled = 1\nb\nc\n", 0o644);
        assert!(shown.ends_with("\n    + c\n"), "{shown}");
        let shown = written(&path, b"a\ndisabled = 1\nb\n", 0o600);
        assert_eq!(shown, format!("  set the mode of {} to 0600\n", path.display()));
        assert!(written(&dir.path().join("new"), b"x\n", 0o644).starts_with("  write "));
    }

    /// The place of an edge node whose configuration is this file.
    fn configured(dir: &Path, text: &str) -> Place {
        let file = dir.join("edgecore.yaml");
        std::fs::write(&file, text).unwrap();
        Place { file: Some(file), ..Place::empty(Role::Edge) }
    }

    fn quic() -> Finding {
        let fix = "kedge config set modules.edgeHub.quic.enable=false modules.edgeHub.websocket.enable=true";
        fixable("KE-QUIC-001").fix(fix)
    }

    #[test]
    fn a_token_beside_what_is_mended_is_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        for token in ["s3cret", ">-\n      s3cret", "\"s3cret\n      s3cret\""] {
            let text = format!(
                "modules:\n  edgeHub:\n    quic:\n      enable: true\n    token: {token}\n    websocket:\n      enable: false\n"
            );
            let repair = plan(&quic(), Some(&configured(dir.path(), &text))).unwrap();
            let plan = document(std::slice::from_ref(&repair)).to_string();
            assert!(plan.contains("-      enable: true") && !plan.contains("s3cret"), "{token} -> {plan}");
            let shown = show(&[repair]);
            assert!(shown.contains("    - ") && shown.contains("token: (hidden)"), "{shown}");
            assert!(!shown.contains("s3cret"), "{token} -> {shown}");
        }
    }

    #[test]
    fn a_plan_for_programs_says_what_the_text_says() {
        let dir = tempfile::tempdir().unwrap();
        let text = "modules:\n  edgeHub:\n    quic:\n      enable: true\n";
        let place = configured(dir.path(), text);
        let mut repair = plan(&quic(), Some(&place)).unwrap();
        let path = |name: &str| dir.path().join(name);
        repair.changes.extend([
            Change::Mode { path: path("key"), mode: 0o600 },
            Change::Halt { name: "kubelet".to_owned() },
            file(path("new"), "x\n".to_owned()),
        ]);
        repair.steps.push(Step(["systemctl", "restart", "containerd"].map(str::to_owned).to_vec()));
        let plan: Value = serde_json::from_str(&document(&[repair]).to_string()).unwrap();
        let wanted = json!({"apiVersion": "kedge.io/doctor/v1", "kind": "RepairPlan", "items": [{
            "code": "KE-QUIC-001",
            "changes": [
                {"action": "change", "path": place.file.as_ref().unwrap(),
                    "difference": plan.pointer("/items/0/changes/0/difference")},
                {"action": "mode", "path": path("key"), "mode": "0600"},
                {"action": "halt", "service": "kubelet"},
                {"action": "write", "path": path("new"), "difference": ["+x"]},
            ],
            "steps": ["systemctl restart containerd"],
            "note": "start the daemon anew for it to take effect",
        }]});
        assert_eq!(plan, wanted);
        let lines = plan.pointer("/items/0/changes/0/difference").and_then(Value::as_array).unwrap();
        assert!(lines.contains(&json!("+      enable: false")), "{plan}");
    }

    #[test]
    fn a_line_is_added_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("modules");
        std::fs::write(&path, "overlay").unwrap();
        let Some(Change::File { content, .. }) = with_line(&path, "bridge") else { panic!("no change") };
        assert_eq!(content, b"overlay\nbridge\n");
        assert!(with_line(&path, "overlay").is_none());
    }

    #[test]
    fn settings_are_changed_where_they_stand() {
        let text = "# mine\nmodules:\n  edged:\n    tailoredKubeletConfig:\n      cgroupDriver: cgroupfs\n      maxPods: 7\n";
        let set = |command: &str| with_settings(text, command);
        let driver = "kedge config set modules.edged.tailoredKubeletConfig.cgroupDriver=";
        let changed = set(&format!("{driver}systemd")).unwrap();
        assert!(
            changed.starts_with("# mine\n") && changed.contains("cgroupDriver: systemd\n      maxPods: 7\n"),
            "{changed}"
        );
        assert_eq!(set(&format!("{driver}cgroupfs")), None);
        let two =
            set("kedge config set modules.edgeHub.quic.enable=false modules.edgeHub.websocket.enable=true")
                .unwrap();
        let two: serde_json::Value = serde_yaml::from_str(&two).unwrap();
        assert_eq!(two.pointer("/modules/edgeHub/quic/enable"), Some(&false.into()));
        assert_eq!(two.pointer("/modules/edgeHub/websocket/enable"), Some(&true.into()));
        for bad in ["rm -rf /", "kedge config set no.such.key=1", "kedge config set x"] {
            assert_eq!(set(bad), None, "{bad}");
        }
    }

    #[test]
    fn each_repair_is_of_the_kind_that_the_journal_takes_back() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, "x").unwrap();
            path
        };
        let cni = put("05-old.conflist");
        let stale =
            Finding::warning("KE-CNI-012", "x", "y").fix(format!("mv {0} {0}.old", cni.display())).fixable();
        let repair = plan(&stale, None).unwrap();
        assert!(matches!(repair.changes.as_slice(), [Change::Remove { path }] if *path == cni), "{repair:?}");
        assert!(show(&[repair]).contains("remove "));
        let unit =
            Finding::warning("KE-KUBELET-001", "x", "y").fix("systemctl disable kubelet.service").fixable();
        let repair = plan(&unit, None).unwrap();
        assert!(
            matches!(repair.changes.as_slice(), [Change::Halt { name }] if name == "kubelet"),
            "{repair:?}"
        );
        // What runs is a person's to stop.
        assert!(plan(&Finding::failed("KE-KUBELET-001", "x", "y").fix("kill 7"), None).is_none());
        let mut config =
            crate::config::edge::EdgeConfig::from_value(&serde_json::json!({}), "x").unwrap().config;
        config.database = put("edgecore.db");
        put("edgecore.db-wal");
        let place = Place { edge: Some(config), ..Place::empty(super::super::place::Role::Edge) };
        let open = Finding::warning("KE-DB-003", "x", "y").fixable();
        let repair = plan(&open, Some(&place)).unwrap();
        assert!(
            matches!(repair.changes.as_slice(), [Change::Mode { mode: 0o600, .. }, Change::Mode { .. }]),
            "{repair:?}"
        );
    }

    #[test]
    fn a_key_is_made_private_without_being_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("server.key");
        std::fs::write(&path, "s3cret").unwrap();
        let mut config =
            crate::config::edge::EdgeConfig::from_value(&serde_json::json!({}), "x").unwrap().config;
        config.hub.key_file = path;
        let place = Place { edge: Some(config), ..Place::empty(super::super::place::Role::Edge) };
        let repair = plan(&fixable("KE-CERT-022"), Some(&place)).unwrap();
        assert!(matches!(repair.changes.as_slice(), [Change::Mode { mode: 0o600, .. }]));
        let shown = show(&[repair]);
        assert!(shown.contains("to 0600") && !shown.contains("s3cret"), "{shown}");
        assert!(plan(&fixable("KE-TEST-001"), Some(&place)).is_none());
    }
}
