//! Mappers over DMI: those that wait for a socket which nobody serves, and those that once registered, each asked over its
//! own socket whether it still speaks. Says nothing to a mapper but the greeting of its protocol.

use super::here::{PodHere, listed, pods};
use super::place::Place;
use crate::host::check::{Check, Finding, Group};
use crate::model::DeviceId;
use crate::store::Reader;
use crate::wire::dmi::{self, Mapper};
use futures_util::future::join_all;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

const REGISTERED: &str = "registered mappers";
const LIMIT: Duration = Duration::from_millis(1500);
/// More than one node has protocols.
const MOST: usize = 20;
/// HTTP/2, which gRPC speaks: the client's greeting and empty settings.
const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const FRAME_HEAD: usize = 9;
const SETTINGS: u8 = 4;

pub(super) fn checks(place: &Arc<Place>) -> Vec<Check> {
    let (waiting, registered) = (place.clone(), place.clone());
    vec![
        Check::blocking("KE-MAPPER-002", Group::Devices, "mappers over DMI", move || {
            vec![look_at_dmi(&waiting)]
        })
        .after(&["KE-DB-001"]),
        Check::asking("KE-MAPPER-004", Group::Devices, REGISTERED, async move {
            look_at_registered(registered).await
        })
        .after(&["KE-DB-001"]),
    ]
}

async fn look_at_registered(place: Arc<Place>) -> Vec<Finding> {
    let code = "KE-MAPPER-004";
    let read = tokio::task::spawn_blocking(move || {
        let path = place.edge.as_ref().map(|config| config.database.as_path());
        path.filter(|path| path.is_file()).map(registered).transpose()
    });
    let Ok(Ok(mappers)) = read.await else {
        return vec![Finding::skipped(code, REGISTERED, "because of KE-DB-001")];
    };
    let mappers = mappers.unwrap_or_default();
    if mappers.is_empty() {
        return vec![Finding::fine(code, REGISTERED, "none")];
    }
    let asked =
        mappers.iter().take(MOST).map(async |mapper| judge_mapper(mapper, greet(&mapper.socket).await));
    join_all(asked).await
}

/// The mappers that a DMI server has noted in this store, KubeEdge's own before a take-over too.
fn registered(database: &Path) -> Result<Vec<Mapper>, crate::base::Failure> {
    let rows = Reader::open(database)?.rows(Some(dmi::MAPPER_ROWS))?;
    Ok(rows.iter().filter_map(|row| Mapper::of_row(&row.value)).collect())
}

/// Whether somebody answers as gRPC does.
async fn greet(socket: &Path) -> Result<Duration, String> {
    let started = Instant::now();
    let answered = async {
        let mut stream = UnixStream::connect(socket).await.map_err(|error| error.to_string())?;
        stream.write_all(GREETING).await.map_err(|error| error.to_string())?;
        let mut head = [0; FRAME_HEAD];
        stream.read_exact(&mut head).await.map_err(|_| "it hangs up".to_owned())?;
        match head.get(3) {
            Some(&SETTINGS) => Ok(started.elapsed()),
            _ => Err("somebody answers who speaks no gRPC".to_owned()),
        }
    };
    let limited = tokio::time::timeout(LIMIT, answered).await;
    limited.unwrap_or_else(|_| Err(format!("no answer within {:.1} s", LIMIT.as_secs_f64())))
}

fn judge_mapper(mapper: &Mapper, answer: Result<Duration, String>) -> Finding {
    let (code, socket) = ("KE-MAPPER-004", mapper.socket.display());
    let name = format!("mapper {}", mapper.name);
    match answer {
        Ok(took) => {
            let seen = format!("speaks {}, answers on {socket} in {} ms", mapper.protocol, took.as_millis());
            Finding::fine(code, name, seen)
        }
        Err(why) => Finding::warning(code, name, format!("registered for {}, {socket}: {why}", mapper.protocol))
            .because("it has stopped: devices of its protocol have the values of that time, and follow no desired ones")
            .fix(format!("kedge pods, then start {} again", mapper.name)),
    }
}

/// The socket over which KubeEdge's mappers register, and who waits for it.
fn look_at_dmi(place: &Place) -> Finding {
    let (code, name) = ("KE-MAPPER-002", "mappers over DMI");
    let Some(config) = &place.edge else { return Finding::skipped(code, name, "because of KE-ETC-001") };
    let socket = &config.device_twin.dmi_socket;
    let Ok(pods) = pods(Some(&config.database)) else {
        return Finding::skipped(code, name, "because of KE-DB-001");
    };
    let waiting: Vec<String> = pods.iter().filter(|pod| mounts(pod, socket)).map(PodHere::title).collect();
    let state = match std::os::unix::net::UnixStream::connect(socket) {
        Ok(_) => Dmi::Served,
        Err(_) if socket.exists() => Dmi::Left,
        Err(_) => Dmi::Absent,
    };
    judge_dmi(socket, state, &waiting)
}

/// Whether a pod is given the socket, or the directory that it is in.
fn mounts(pod: &PodHere, socket: &Path) -> bool {
    let dir = socket.parent().unwrap_or(socket);
    pod.host_paths.iter().any(|path| path == socket || path == dir)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dmi {
    Served,
    /// The file is there, and nobody listens.
    Left,
    Absent,
}

fn judge_dmi(socket: &Path, state: Dmi, waiting: &[String]) -> Finding {
    let (code, name, shown) = ("KE-MAPPER-002", "mappers over DMI", socket.display());
    let why =
        "kedge does not serve DMI yet: a mapper made with KubeEdge's framework waits for this socket or ends";
    let by = listed(waiting.iter().map(String::as_str));
    match (state, waiting) {
        (Dmi::Served, _) => Finding::fine(code, name, format!("{shown} is served")),
        (Dmi::Absent, []) => Finding::fine(code, name, "not served, and no pod here mounts its socket"),
        (Dmi::Left, []) => Finding::warning(code, name, format!("{shown} is there, and nobody listens"))
            .because(why)
            .fix(format!("rm {shown}")),
        (_, _) => Finding::warning(code, name, format!("{by} mount {shown}, where nobody listens"))
            .because(why)
            .fix(format!(
                "use a mapper that publishes to {} instead of DMI",
                crate::wire::topics::twin_update(&DeviceId::new("NAMESPACE", "DEVICE"))
            )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::check::State;

    #[tokio::test]
    async fn a_mapper_is_asked_over_its_own_socket() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("modbus.sock");
        let mapper = Mapper { name: "modbus-a".into(), protocol: "modbus".into(), socket: socket.clone() };
        let gone = judge_mapper(&mapper, greet(&socket).await);
        assert_eq!((&*gone.code, gone.state), ("KE-MAPPER-004", State::Warning));
        assert!(
            gone.seen.contains("registered for modbus") && gone.seen.contains("No such file"),
            "{gone:?}"
        );
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let serve = |answer: &'static [u8]| {
            let listener = &listener;
            async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut asked = vec![0; GREETING.len()];
                stream.read_exact(&mut asked).await.unwrap();
                assert_eq!(asked, GREETING);
                stream.write_all(answer).await.unwrap();
            }
        };
        let (answer, ()) = tokio::join!(greet(&socket), serve(b"\0\0\0\x04\0\0\0\0\0"));
        let fine = judge_mapper(&mapper, answer);
        assert!(fine.state == State::Fine && fine.seen.starts_with("speaks modbus, answers on "), "{fine:?}");
        let (other, ()) = tokio::join!(greet(&socket), serve(b"HTTP/1.1 400 Bad Request"));
        assert_eq!(other.unwrap_err(), "somebody answers who speaks no gRPC");
        let (other, ()) = tokio::join!(greet(&socket), serve(b""));
        assert_eq!(other.unwrap_err(), "it hangs up");
    }

    #[test]
    fn a_socket_that_mappers_wait_for_is_told() {
        let socket = Path::new("/etc/kubeedge/dmi.sock");
        let told = |state, waiting: &[&str]| {
            judge_dmi(socket, state, &waiting.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(told(Dmi::Absent, &[]).state, State::Fine);
        assert_eq!(told(Dmi::Served, &["d/m"]).state, State::Fine);
        let waits = told(Dmi::Absent, &["d/m"]);
        assert_eq!((&*waits.code, waits.state, waits.fixable), ("KE-MAPPER-002", State::Warning, false));
        assert_eq!(waits.seen, "d/m mount /etc/kubeedge/dmi.sock, where nobody listens");
        let left = told(Dmi::Left, &[]);
        assert_eq!((left.state, left.fix.as_str()), (State::Warning, "rm /etc/kubeedge/dmi.sock"));
        let pod = |path: &str| PodHere { host_paths: vec![path.into()], ..PodHere::default() };
        assert!(mounts(&pod("/etc/kubeedge"), socket) && mounts(&pod("/etc/kubeedge/dmi.sock"), socket));
        assert!(!mounts(&pod("/etc"), socket));
    }
}
