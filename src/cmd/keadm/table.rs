//! What keadm (1.23, with its Windows and deprecated forms) has and kedge has not: one line for each verb and flag, with the
//! answer. `keadm::read` is its only reader; `kedge help keadm` tells the same in prose.

/// A command of keadm's.
pub(super) struct Verb {
    pub words: &'static str,
    /// What to type instead.
    pub instead: &'static str,
}

/// A flag of keadm's.
pub(super) struct Flag {
    /// The commands of kedge at which it is known.
    pub at: &'static [&'static str],
    /// Its spellings, the one that is told last.
    pub names: &'static [&'static str],
    pub value: Value,
    pub verdict: Verdict,
}

/// What follows a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// None, or one behind an equals sign.
    Attached,
    Any,
    /// The flag is meant with this value alone.
    Only(&'static str),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Verdict {
    /// It changes nothing that matters here: the line works without it.
    Idle(&'static str),
    /// `{}` in what to type instead stands for the value.
    Refused { why: &'static str, instead: &'static str },
}

const fn verb(words: &'static str, instead: &'static str) -> Verb {
    Verb { words, instead }
}

pub(super) const VERBS: &[Verb] = &[
    verb(
        "upgrade",
        "type `kedge edge upgrade --to VERSION` for a node; the cloud is upgraded by `kedge init` of the new kedge",
    ),
    verb("upgrade edge", "type `kedge edge upgrade --to VERSION`, or --to FILE with the new kedge"),
    verb("upgrade cloud", "type `kedge init` with the new kedge: run again, it brings the cloud up to date"),
    verb("backup", "type `kedge edge backup`"),
    verb("rollback", "type `kedge edge rollback`"),
    verb("config-update", "type `kedge config set KEY=VALUE`, then `kedge service restart edge`"),
    verb(
        "config images",
        "type `kedge init --dry-run` to see the cloud's image; a node needs none, and `kedge bundle --image FILE` packs those of its pods",
    ),
    verb("manifest", "type `kedge init --dry-run`, which prints the manifests"),
    verb("generate", "type `kedge init --dry-run`, which prints the manifests"),
    verb(
        "batch",
        "type `kedge token create --nodes nodes.csv --out DIR` for a join file per node, and `kedge join --join-file FILE` on each",
    ),
    verb(
        "ctl",
        "type `kedge pods`, `kedge logs POD`, `kedge exec POD -- CMD`, `kedge device list` or `kedge twin set`",
    ),
    verb("ctl get", "type `kedge pods` for the pods of this node, `kedge device list` for its devices"),
    verb(
        "ctl describe",
        "type `kedge device describe NAME` for a device, `kedge meta get NAMESPACE/pod/NAME` for a pod",
    ),
    verb("ctl edit", "type `kedge twin set DEVICE PROPERTY=VALUE`"),
    verb("ctl restart", "stop its containers with `crictl stop ID`: the node starts them anew"),
    verb("ctl logs", "type `kedge logs POD`"),
    verb("ctl exec", "type `kedge exec POD -- CMD`"),
    verb("ctl confirm", "type `kedge edge upgrade confirm`"),
    verb(
        "ctl unhold-upgrade",
        "nothing is to be typed: kedge holds no update of a pod back; `kubectl rollout pause` does it in the cloud",
    ),
    verb("debug", "type `kedge doctor`"),
    verb("debug get", "type `kedge meta list`"),
    verb("debug check", "type `kedge doctor`"),
    verb("debug diagnose", "type `kedge doctor`"),
    verb("debug collect", "type `kedge bugreport`"),
    verb("deprecated", "type `kedge init`, `kedge join` or `kedge reset edge`"),
    verb("beta", "type `kedge help`: nothing stood below it"),
];

const fn idle(
    at: &'static [&'static str],
    names: &'static [&'static str],
    value: Value,
    why: &'static str,
) -> Flag {
    Flag { at, names, value, verdict: Verdict::Idle(why) }
}

const fn refused(
    at: &'static [&'static str],
    names: &'static [&'static str],
    value: Value,
    why: &'static str,
    instead: &'static str,
) -> Flag {
    Flag { at, names, value, verdict: Verdict::Refused { why, instead } }
}

const SCRIPTED: &[&str] =
    &["join", "reset edge", "edge upgrade", "edge backup", "edge rollback", "config set"];
const NO_SCRIPTS: &str = "kedge runs no scripts: their failure could not be rolled back";
const NO_CHART: &str = "kedge has no Helm chart";
const NO_RELEASE: &str = "kedge keeps no release whose values could be merged";
const UPGRADE: &[&str] = &["edge upgrade"];
const INIT: &[&str] = &["init"];
const JOIN: &[&str] = &["join"];
const BARE: &[&str] = &["reset"];

pub(super) const FLAGS: &[Flag] = &[
    // init, manifest, upgrade cloud
    idle(INIT, &["--kubeedge-version"], Value::Any, "is not needed: the cloud is of this kedge's version"),
    idle(INIT, &["--tarballpath"], Value::Any, "is not needed: nothing is downloaded"),
    refused(
        INIT,
        &["--image-repository"],
        Value::Any,
        "the cloud is one image",
        "name it: --image {}/kedge:TAG",
    ),
    refused(INIT, &["--profile"], Value::Any, NO_CHART, "give its settings one by one: --set KEY=VALUE"),
    refused(INIT, &["--values"], Value::Any, NO_CHART, "give its settings one by one: --set KEY=VALUE"),
    refused(
        INIT,
        &["--reuse-values"],
        Value::Attached,
        NO_RELEASE,
        "leave it out, and say --set KEY=VALUE for what is to differ",
    ),
    refused(
        INIT,
        &["--print-final-values"],
        Value::Attached,
        NO_RELEASE,
        "type `kedge init --dry-run`, which prints everything that is applied",
    ),
    refused(
        INIT,
        &["-f", "--files", "--manifests"],
        Value::Any,
        "kedge applies its own manifests alone",
        "type kubectl apply -f {} beside it",
    ),
    refused(
        INIT,
        &["--external-helm-root"],
        Value::Any,
        NO_CHART,
        "type `kedge init --dry-run > cloud.yaml`, change it and apply it with kubectl",
    ),
    refused(
        INIT,
        &["--skip-crds"],
        Value::Attached,
        "the cloud needs its definitions",
        "leave it out: definitions that are there are brought up to date, and lose nothing",
    ),
    refused(
        INIT,
        &["--domainname"],
        Value::Any,
        "names and addresses go together here",
        "say --advertise-address {}",
    ),
    refused(
        INIT,
        &["--master"],
        Value::Any,
        "the cluster is named by its kubeconfig",
        "say --kube-config FILE with a file that names {}",
    ),
    // join
    idle(
        JOIN,
        &["--kubeedge-version"],
        Value::Any,
        "is not needed: this program is what runs, and nothing is downloaded; `kedge edge upgrade` changes it",
    ),
    idle(JOIN, &["--image-repository"], Value::Any, "is not needed: kedge installs itself without an image"),
    idle(
        JOIN,
        &["--cert-path", "--certPath"],
        Value::Any,
        "has no effect, as with keadm; --set modules.edgeHub.tlsCertFile=FILE moves the certificate",
    ),
    idle(JOIN, &["--tarballpath"], Value::Any, "is not needed: this program is all there is to install"),
    idle(JOIN, &["--download-repo"], Value::Any, "is not needed: nothing is downloaded"),
    idle(
        JOIN,
        &["--with-mqtt"],
        Value::Attached,
        "is not needed: the broker is inside; one that serves on 127.0.0.1:1883 is used instead",
    ),
    idle(
        JOIN,
        &["-r", "--runtimetype"],
        Value::Any,
        "is not needed: any runtime that speaks CRI v1 is found; --remote-runtime-endpoint names one",
    ),
    refused(
        JOIN,
        &["--log-file"],
        Value::Any,
        "the daemon's log goes to the service manager",
        "leave it out; `kedge service status` says where the log is",
    ),
    // reset
    idle(
        &["reset edge"],
        &["--remote-runtime-endpoint"],
        Value::Any,
        "is not needed: the join has written down which runtime it uses",
    ),
    refused(
        BARE,
        &["--force"],
        Value::Attached,
        "a reset of the one side never touches the other",
        "type `kedge reset edge --force` or `kedge reset cloud --force`",
    ),
    refused(
        BARE,
        &["--kube-config"],
        Value::Any,
        "a reset of the one side never touches the other",
        "type `kedge reset cloud --kube-config {}`, or `kedge reset edge`",
    ),
    refused(
        BARE,
        &["--remote-runtime-endpoint"],
        Value::Any,
        "a reset of the one side never touches the other",
        "type `kedge reset edge`: the join has written down which runtime it uses",
    ),
    // scripts
    refused(
        SCRIPTED,
        &["--pre-run"],
        Value::Any,
        NO_SCRIPTS,
        "run {} yourself before the command, which tells its outcome by exit status",
    ),
    refused(
        SCRIPTED,
        &["--post-run"],
        Value::Any,
        NO_SCRIPTS,
        "run {} yourself after the command, which tells its outcome by exit status",
    ),
    // upgrade edge, rollback edge, config-update
    refused(UPGRADE, &["--toVersion"], Value::Any, "the new version is named by --to", "say --to {}"),
    refused(
        UPGRADE,
        &["--image"],
        Value::Any,
        "a version is one file, not an image",
        "say --to FILE with the new kedge, or --to VERSION",
    ),
    refused(
        UPGRADE,
        &["--image-digest"],
        Value::Any,
        "a version is one file, not an image",
        "say --digest sha256:HEX with the digest of the file",
    ),
    refused(
        UPGRADE,
        &["--force"],
        Value::Attached,
        "no check of an upgrade is left out",
        "say --yes to be asked nothing, --allow-downgrade to take an older version",
    ),
    refused(
        UPGRADE,
        &["--disable-backup"],
        Value::Attached,
        "an upgrade without a backup could not be taken back",
        "leave it out",
    ),
    refused(
        UPGRADE,
        &["--upgradeID", "--historyID", "--fromVersion", "--type"],
        Value::Any,
        "an upgrade is recorded by itself",
        "leave it out; `kedge edge history` shows what was done",
    ),
    refused(
        &["edge rollback"],
        &["--historical-version"],
        Value::Any,
        "the version to go back to is named by --to",
        "say --to {}",
    ),
    refused(
        &["config set"],
        &["--set"],
        Value::Any,
        "the settings are the words of this command",
        "type `kedge config set {}`",
    ),
    // version
    refused(
        &["version"],
        &["-o", "--output"],
        Value::Only("short"),
        "it has text, json and yaml",
        "type `kedge --version`, which is one line",
    ),
    // ctl
    refused(
        &["pods", "device list"],
        &["-l", "--selector"],
        Value::Any,
        "a node has few",
        "leave it out, and look for {} in what is listed",
    ),
    refused(
        &["pods"],
        &["-A", "--all-namespaces"],
        Value::Attached,
        "all namespaces are listed unless one is named",
        "leave it out",
    ),
    refused(
        &["device list"],
        &["-A", "--all-namespaces"],
        Value::Attached,
        "all namespaces are listed",
        "leave it out",
    ),
    refused(
        &["device list"],
        &["-n", "--namespace"],
        Value::Any,
        "all namespaces are listed",
        "leave it out, and look for {}/ in what is listed",
    ),
    refused(
        &["logs"],
        &["--since-time", "--since-second"],
        Value::Any,
        "the lines of a container are counted, not timed",
        "say --tail N, and --timestamps to see the times",
    ),
    refused(
        &["logs"],
        &["--limit-bytes"],
        Value::Any,
        "the lines of a container are counted",
        "say --tail N",
    ),
    refused(
        &["logs"],
        &["--insecure-skip-tls-verify-backend"],
        Value::Attached,
        "nothing is asked over the network",
        "leave it out",
    ),
    // debug collect
    refused(&["bugreport"], &["-c"], Value::Any, "the letter is not taken", "say --config {}"),
    refused(
        &["bugreport"],
        &["-d", "--detail"],
        Value::Attached,
        "every archive is complete",
        "leave it out",
    ),
    refused(
        &["bugreport"],
        &["--output-path"],
        Value::Any,
        "the archive is one file",
        "say -F {}/kedge-bugreport.tar",
    ),
    refused(&["bugreport"], &["-l", "--log-path"], Value::Any, "the logs are found", "leave it out"),
    // edgecore, cloudcore
    refused(
        &["edge run"],
        &["--minconfig", "--defaultconfig"],
        Value::Attached,
        "it is a command of its own",
        "type `kedge edge config`",
    ),
    refused(
        &["cloud run"],
        &["--minconfig", "--defaultconfig"],
        Value::Attached,
        "it is a command of its own",
        "type `kedge cloud config`",
    ),
    refused(
        &["edge run", "cloud run"],
        &["-v", "--v"],
        Value::Any,
        "levels have names here",
        "say --log-level debug",
    ),
];
