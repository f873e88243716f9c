//! Sessions with pods as `kubectl` users have them: exec, cp, attach and port-forward, through the API, the cloud's
//! tunnel and the node to the real containerd.

use crate::support::eventually;
use crate::support::machine::free_ports;
use crate::support::pods::{container, pod};
use crate::support::world::World;
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);

#[test]
fn people_work_inside_pods() {
    let world = World::new("sessions");
    let _up = world.up(&[]);
    let talk = "while read line; do echo said $line; done; exec sleep 100000";
    let mut echo = container("echo", &["sh", "-c", talk]);
    echo["stdin"] = json!(true);
    let page = "mkdir -p /www; echo served > /www/index.html; exec busybox httpd -f -p 8080 -h /www";
    world.apply(&pod("box", "", &[echo, container("web", &["sh", "-c", page])]));
    world.wait_value(&["pod", "box"], "/status/phase", &json!("Running"), SOON);

    // Output, errors and the exit code arrive.
    let run =
        world.kubectl(&["exec", "box", "-c", "web", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((run.status, run.stdout.as_str()), (7, "out\n"), "{run:?}");
    assert!(run.stderr.contains("err\n"), "{run:?}");
    let absent = world.kubectl(&["exec", "box", "-c", "nobody", "--", "true"]);
    assert!(absent.stderr.contains("nobody"), "{absent:?}");
    let no_program = world.kubectl(&["exec", "box", "-c", "web", "--", "/no/such/program"]);
    assert_ne!(no_program.status, 0, "{no_program:?}");

    // More than any buffer on the way, there and back.
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let file = world.dir.join("sent");
    std::fs::write(&file, &sent).unwrap();
    let back = world.dir.join("back");
    let config = world.kubeconfig();
    let status = Command::new("kubectl")
        .args(["--kubeconfig", config.to_str().unwrap(), "exec", "-i", "box", "-c", "web", "--", "cat"])
        .stdin(std::fs::File::open(&file).unwrap())
        .stdout(std::fs::File::create(&back).unwrap())
        .stderr(Stdio::null())
        .status();
    assert!(status.unwrap().success());
    assert!(std::fs::read(&back).unwrap() == sent, "what came back is not what was sent");

    let mut forward = {
        let [port] = free_ports();
        let child = Command::new("kubectl")
            .args([
                "--kubeconfig",
                config.to_str().unwrap(),
                "port-forward",
                "pod/box",
                &format!("{port}:8080"),
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        (child, port)
    };
    let page = eventually("the page through the forwarded port", SOON, || {
        let mut socket = TcpStream::connect(("127.0.0.1", forward.1))?;
        socket.write_all(b"GET /index.html HTTP/1.0\r\n\r\n")?;
        let mut page = String::new();
        socket.read_to_string(&mut page)?;
        if page.contains("served") { Ok(page) } else { Err(std::io::Error::other(page)) }
    });
    assert!(page.starts_with("HTTP/1.0 200") || page.starts_with("HTTP/1.1 200"), "{page}");
    forward.0.kill().unwrap();
    forward.0.wait().unwrap();

    let mut attached = Command::new("kubectl")
        .args(["--kubeconfig", config.to_str().unwrap(), "attach", "-i", "box", "-c", "echo"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    attached.stdin.as_mut().unwrap().write_all(b"hello\n").unwrap();
    let mut heard = [0; 11];
    attached.stdout.as_mut().unwrap().read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"said hello\n");
    attached.kill().unwrap();
    attached.wait().unwrap();
}
