//! kedge on a real terminal, which `script` provides: what is drawn there and only there, answers that are typed, and
//! Ctrl-C. What leaves the terminal changed would be seen by `stty` behind it.

use crate::fleet_upgrade::edges;
use crate::support::edgecore::{Tasks, Version};
use crate::support::world::World;
use crate::support::{binary, eventually, kedge};
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(40);
const ESCAPE: char = '\u{1b}';
const CTRL_C: &str = "\u{3}";

/// A terminal with one command on it.
struct Terminal {
    child: Child,
    keys: ChildStdin,
    screen: Arc<Mutex<Vec<u8>>>,
    reader: std::thread::JoinHandle<()>,
}

impl Terminal {
    /// Runs kedge on a terminal of 72 columns; behind it `stty` says what became of the terminal. The trap keeps the
    /// shell, which Ctrl-C reaches as well, alive for that.
    fn run(args: &[&str], environment: &[(&str, &str)]) -> Terminal {
        let words: Vec<String> = [&[binary()], args]
            .concat()
            .iter()
            .map(|word| format!("'{}'", word.replace('\'', r"'\''")))
            .collect();
        let line = format!(
            "trap : INT; stty rows 20 cols 72; before=$(stty -g); {}; code=$?; [ \"$before\" = \"$(stty -g)\" ] && echo same tty; exit $code",
            words.join(" ")
        );
        let mut command = Command::new("script");
        command.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm").env_remove("NO_COLOR");
        command.envs(environment.iter().copied());
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let keys = child.stdin.take().unwrap();
        let mut out = child.stdout.take().unwrap();
        let screen: Arc<Mutex<Vec<u8>>> = Arc::default();
        let seen = screen.clone();
        let reader = std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = out.read(&mut piece) {
                seen.lock().unwrap().extend_from_slice(&piece[..count]);
            }
        });
        Terminal { child, keys, screen, reader }
    }

    fn screen(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().unwrap()).into_owned()
    }

    #[track_caller]
    fn shows(&self, what: &str) {
        eventually(&format!("the terminal shows {what:?}"), SOON, || {
            let screen = self.screen();
            if screen.contains(what) { Ok(()) } else { Err(screen) }
        });
    }

    fn types(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// Waits for the command's end: its status, and all that was shown.
    #[track_caller]
    fn end(mut self) -> (i32, String) {
        let status = eventually("the command ends", SOON, || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status),
            _ => Err(self.screen()),
        });
        self.reader.join().unwrap();
        (status.code().unwrap_or(-1), String::from_utf8_lossy(&self.screen.lock().unwrap()).into_owned())
    }
}

/// Whether the terminal is as it was, with its cursor.
#[track_caller]
fn sane(screen: &str) {
    assert!(screen.contains("same tty"), "{screen:?}");
    let (hidden, shown) = (screen.rfind("\u{1b}[?25l"), screen.rfind("\u{1b}[?25h"));
    assert!(hidden.is_none() || hidden < shown, "the cursor stays hidden: {screen:?}");
}

#[test]
fn a_status_is_watched_until_somebody_has_seen_enough() {
    let world = World::new("terminal-status");
    let _cloud = world.cloud();
    let socket = world.data_dir();
    let args = ["status", "--watch", "--data-dir", socket.to_str().unwrap()];
    let mut watch = Terminal::run(&args, &[]);
    watch.shows("\u{1b}[H\u{1b}[2J");
    watch.shows("cloud");
    watch.types(CTRL_C);
    let (status, screen) = watch.end();
    assert_eq!(status, 130, "{screen:?}");
    sane(&screen);

    // Off a terminal, and where it is not wanted, nothing is drawn.
    let mut plain = Terminal::run(&[&["--plain"], args.as_slice()].concat(), &[]);
    plain.shows("cloud");
    plain.types(CTRL_C);
    let (status, screen) = plain.end();
    assert!(status == 130 && !screen.contains(ESCAPE), "{screen:?}");
    let piped = kedge(&["status", "--data-dir", socket.to_str().unwrap()]);
    assert!(!piped.stdout.contains(ESCAPE) && !piped.stderr.contains(ESCAPE), "{piped:?}");
}

#[test]
fn a_fleet_is_upgraded_only_when_somebody_says_so() {
    let world = World::new("terminal-fleet");
    let _cloud = world.cloud();
    world.apply(
        "{apiVersion: v1, kind: Node, metadata: {name: n1, labels: {node-role.kubernetes.io/edge: ''}}}",
    );
    let config = world.kubeconfig().display().to_string();
    let args = ["edge", "upgrade", "--to", "9.9.9", "--nodes", "n1", "--kube-config", &config];
    for keys in ["n", "\r"] {
        let mut asked = Terminal::run(&args, &[]);
        asked.shows("Upgrade n1 to v9.9.9?");
        asked.types(keys);
        let (status, screen) = asked.end();
        assert!(status == 130 && screen.contains("nothing was changed"), "{status}: {screen}");
        sane(&screen);
    }
    assert_eq!(world.kubectl_ok(&["get", "nodeupgradejobs", "-o", "name"]), "");
}

#[test]
fn a_spinner_turns_and_a_question_is_answered_by_typing() {
    let world = World::new("terminal-question");
    let _cloud = world.cloud();
    let flags = crate::init::flags(&world);
    let args: Vec<&str> = ["init"].into_iter().chain(flags.iter().map(String::as_str)).collect();
    let roles = || world.kubectl_ok(&["get", "clusterroles", "-o", "name"]);
    let before = roles();
    for keys in ["n", "\r", CTRL_C] {
        let mut asked = Terminal::run(&args, &[]);
        asked.shows("Set up kedge in cluster");
        asked.types(keys);
        let (status, screen) = asked.end();
        assert_eq!(status, 130, "{keys:?}: {screen}");
        assert!(keys == CTRL_C || screen.contains("nothing was changed"), "{screen}");
        // The pending milestone is drawn, then its line stands.
        assert!(
            screen.contains("looking at the cluster") && screen.contains("looked at cluster"),
            "{screen:?}"
        );
        sane(&screen);
    }
    assert_eq!(roles(), before);
    let mut asked = Terminal::run(&[args.as_slice(), &["--wait", "0"]].concat(), &[]);
    asked.shows("Set up kedge in cluster");
    asked.types("y");
    let (status, screen) = asked.end();
    assert_eq!(status, 0, "{screen}");
    sane(&screen);
    assert_ne!(roles(), before);
}

#[test]
fn a_roll_out_shows_its_bar_on_a_terminal_alone() {
    let world = World::new("terminal-waves");
    let _cloud = world.cloud();
    let fleet = edges(&world, &[("w0", Version::V1_22), ("w1", Version::V1_22)], &Tasks::Work);
    for node in ["w0", "w1"] {
        world.kubectl_ok(&["label", "node", node, "site=lab"]);
    }
    let config = world.kubeconfig().display().to_string();
    let args =
        ["edge", "upgrade", "--to", "1.23.1", "--selector", "site=lab", "--yes", "--kube-config", &config];
    let (status, screen) = Terminal::run(&args, &[]).end();
    assert_eq!(status, 0, "{screen}");
    assert!(screen.contains("/2") && screen.contains('█') && screen.contains(ESCAPE), "{screen:?}");
    assert!(screen.contains("upgraded"), "{screen}");
    sane(&screen);
    assert_eq!(fleet.len(), 2);

    // The same with nothing left to do: no bar where no colour or nothing fancy is wanted.
    for (flags, environment) in [(vec!["--plain"], vec![]), (vec![], vec![("NO_COLOR", "1")])] {
        let (status, screen) = Terminal::run(&[flags.as_slice(), &args].concat(), &environment).end();
        assert!(status == 0 && !screen.contains(ESCAPE) && screen.contains("upgraded"), "{screen:?}");
    }
}
