//! Rendered definitions, compared whole with those that are committed below `manifests/`.

#![cfg(test)]

use super::*;

fn compare(file: &str, content: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests").join(file);
    if std::env::var_os("KEDGE_WRITE_MANIFESTS").is_some() {
        fs::write(&path, content).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(content, committed, "{file} differs; run the test with KEDGE_WRITE_MANIFESTS=1");
}

fn awkward() -> Service {
    let mut service = Service::edge(Path::new("/opt/a b/kedge"), Path::new("/etc/50%/$x \"y\".yaml"));
    service.args.push(String::new());
    service.args.push("it's".to_owned());
    service.environment.insert("KEDGE_LOG".to_owned(), "info, 100% $HOME \"q\" 'r'".to_owned());
    service
}

#[test]
fn committed_definitions_are_what_is_installed() {
    let program = Path::new("/usr/local/bin/kedge");
    let edge = Service::edge(program, Path::new("/etc/kubeedge/config/edgecore.yaml"));
    let cloud = Service::cloud(program, Path::new("/etc/kubeedge/config/cloudcore.yaml"));
    for service in [&edge, &cloud] {
        service.check().unwrap();
        compare(&format!("{}.service", service.name), &Manager::Systemd.definition(service).content);
        compare(&format!("{}.openrc", service.name), &Manager::OpenRc.definition(service).content);
    }
}

#[test]
fn awkward_words_stay_one_word_each() {
    let unit = Manager::Systemd.definition(&awkward());
    assert_eq!((unit.path.to_str(), unit.mode), (Some("/etc/systemd/system/kedge-edge.service"), 0o644));
    let line = |start: &str| unit.content.lines().find(|line| line.starts_with(start)).unwrap().to_owned();
    assert_eq!(
        line("ExecStart="),
        r#"ExecStart="/opt/a b/kedge" edge launch --config "/etc/50%%/$$x \"y\".yaml" "" "it's""#
    );
    assert_eq!(line("Environment="), r#"Environment="KEDGE_LOG=info, 100%% $HOME \"q\" 'r'""#);

    // A shell reads the script's words back.
    let script = Manager::OpenRc.definition(&awkward());
    assert_eq!((script.path.to_str(), script.mode), (Some("/etc/init.d/kedge-edge"), 0o755));
    let probe = format!(
        "{}\neval set -- \"$command_args\"\nprintf '%s|' \"$command\" \"$@\" \"$KEDGE_LOG\"",
        script.content
    );
    let told = std::process::Command::new("sh").arg("-c").arg(probe).output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&told.stdout),
        "/opt/a b/kedge|edge|launch|--config|/etc/50%/$x \"y\".yaml||it's|info, 100% $HOME \"q\" 'r'|"
    );

    let own = Manager::Plain.definition(&awkward());
    assert_eq!(serde_json::from_str::<Service>(&own.content).unwrap(), awkward());
}

#[test]
fn what_no_manager_can_express_is_refused() {
    let with = |change: &dyn Fn(&mut Service)| {
        let mut service = awkward();
        change(&mut service);
        service.check().unwrap_err()
    };
    let failures = [
        with(&|service| service.name = "../x".into()),
        with(&|service| service.program = "kedge".into()),
        with(&|service| service.args.push("a\nExecStartPre=/bin/x".into())),
        with(&|service| service.description = "a\u{1b}b".into()),
        with(&|service| drop(service.environment.insert("A B".into(), String::new()))),
    ];
    assert!(failures.iter().all(|failure| failure.code == "KE-SERVICE-001"), "{failures:?}");
    awkward().check().unwrap();
}

#[test]
fn reads_what_systemctl_shows() {
    let told = "MainPID=42\nLoadState=loaded\nActiveState=active\nUnitFileState=enabled\n";
    let status = Status { installed: true, at_boot: true, running: true, pid: Some(42) };
    assert_eq!(systemd::read_status(told), status);
    let told = "MainPID=0\nLoadState=not-found\nActiveState=inactive\nUnitFileState=\n";
    assert_eq!(systemd::read_status(told), Status::default());
}

#[test]
fn one_that_is_not_installed_is_named() {
    let failure = Manager::Plain.start("kedge-nowhere").unwrap_err();
    assert_eq!(failure.code, "KE-SERVICE-003");
    failure.is_as_committed();
    Manager::Plain.stop("kedge-nowhere").unwrap();
    assert_eq!(Manager::Plain.status("kedge-nowhere").unwrap(), Status::default());
}

#[test]
fn a_log_ends_with_what_the_daemon_failed_with() {
    let keeper = "2026-01-01T00:00:00Z kedge: kedge-edge has ended; it is started again in 1.0 s";
    let error = "error: the address is taken\n  because: by mosquitto\n  fix: stop it\n  code: KE-PORT-002";
    let words = |text: &str| plain::words_of(text);
    let told = words(&format!("INFO starting\n{error}\n{keeper}\n"));
    assert_eq!(told.as_deref(), Some("the address is taken: by mosquitto [KE-PORT-002]"));
    assert_eq!(words(&format!("killed by hand\n{keeper}\n")).as_deref(), Some("killed by hand"));
    assert_eq!(words(&format!("{keeper}\n\n")).as_deref(), Some(keeper));
    assert_eq!(words("error: \n").as_deref(), Some(""));
    assert_eq!(words(" \n"), None);
}
