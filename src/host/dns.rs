//! One question to one name server, over UDP, written by hand: whether the server that pods are told of answers at all.
//! `kedge doctor` asks; an answer is limited in size and time and is never believed further than it is shown.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// More than any answer without extensions has.
const ANSWER: usize = 1500;
const A: u16 = 1;

/// What a server has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// 0: no error, 2: the server failed, 3: there is no such name.
    pub code: u8,
    pub addresses: Vec<Ipv4Addr>,
    pub took: Duration,
}

/// Asks for the IPv4 addresses of a name. Blocking, for at most `limit`; the error is in words.
pub fn ask(server: SocketAddr, name: &str, limit: Duration) -> Result<Answer, String> {
    let own: SocketAddr = match server.ip() {
        IpAddr::V4(_) => SocketAddr::from(([0, 0, 0, 0], 0)),
        IpAddr::V6(_) => SocketAddr::from(([0_u16; 8], 0)),
    };
    let started = Instant::now();
    let told = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => {
            format!("no answer within {:.1} s", limit.as_secs_f64())
        }
        _ => error.to_string(),
    };
    let socket = UdpSocket::bind(own).map_err(told)?;
    socket.connect(server).map_err(told)?;
    let id = u16::from_be_bytes(*crate::base::uuid4().as_bytes().first_chunk().unwrap_or(&[0; 2]));
    let question = question(id, name).ok_or_else(|| format!("{name} is no name"))?;
    socket.send(&question).map_err(told)?;
    let mut bytes = [0; ANSWER];
    loop {
        let left = limit.saturating_sub(started.elapsed());
        if left.is_zero() {
            return Err(told(std::io::ErrorKind::TimedOut.into()));
        }
        socket.set_read_timeout(Some(left)).map_err(told)?;
        let size = socket.recv(&mut bytes).map_err(told)?;
        // What answers another question is not for us.
        if let Some((code, addresses)) = read(bytes.get(..size).unwrap_or_default(), id) {
            return Ok(Answer { code, addresses, took: started.elapsed() });
        }
    }
}

fn question(id: u16, name: &str) -> Option<Vec<u8>> {
    let mut out = id.to_be_bytes().to_vec();
    // Recursion desired, one question.
    out.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
        out.push(length);
        out.extend_from_slice(label.as_bytes());
    }
    out.extend_from_slice(&[0, 0, 1, 0, 1]);
    Some(out)
}

/// Code and addresses of the answer to question `id`; `None` when it is none, or is broken.
fn read(bytes: &[u8], id: u16) -> Option<(u8, Vec<Ipv4Addr>)> {
    let word = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    let is_answer = bytes.get(2)? & 0x80 != 0;
    if word(0)? != id || !is_answer {
        return None;
    }
    let code = bytes.get(3)? & 0x0f;
    let mut at = 12;
    for _ in 0..word(4)? {
        at = past_name(bytes, at)? + 4;
    }
    let mut addresses = Vec::new();
    for _ in 0..word(6)? {
        at = past_name(bytes, at)?;
        let (kind, length) = (word(at)?, usize::from(word(at + 8)?));
        at += 10;
        let data = bytes.get(at..at + length)?;
        if let (A, Ok(address)) = (kind, <[u8; 4]>::try_from(data)) {
            addresses.push(Ipv4Addr::from(address));
        }
        at += length;
    }
    Some((code, addresses))
}

/// The place behind a name; a pointer ends it.
fn past_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            length if length & 0xc0 == 0xc0 => return Some(at + 2),
            length if length & 0xc0 == 0 => at += usize::from(length) + 1,
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    /// A server that answers once what `make` makes of the question.
    fn server(make: impl FnOnce(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut bytes = [0; ANSWER];
            let (size, from) = socket.recv_from(&mut bytes).unwrap();
            for answer in make(&bytes[..size]) {
                socket.send_to(&answer, from).unwrap();
            }
        });
        address
    }

    #[test]
    fn an_answer_is_read_and_one_to_another_question_is_not() {
        let address = server(|question| {
            let mut answer = question.to_vec();
            answer[2..4].copy_from_slice(&[0x81, 0x80]);
            answer[7] = 2;
            // An alias first, then the address; both names are pointers.
            answer.extend_from_slice(&[0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 2, 0xc0, 12]);
            answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 10, 96, 0, 1]);
            let mut other = answer.clone();
            other[0] ^= 0xff;
            vec![vec![0], other, answer]
        });
        let answer = ask(address, "kubernetes.default.svc.cluster.local", LIMIT).unwrap();
        assert_eq!((answer.code, answer.addresses), (0, vec![Ipv4Addr::new(10, 96, 0, 1)]));
        let refuses = server(|question| {
            let mut answer = question.to_vec();
            answer[2..4].copy_from_slice(&[0x81, 0x83]);
            vec![answer]
        });
        assert_eq!(ask(refuses, "x", LIMIT).unwrap().code, 3);
    }

    #[test]
    fn silence_and_nonsense_are_told() {
        let short = Duration::from_millis(50);
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let told = ask(silent.local_addr().unwrap(), "a.b", short).unwrap_err();
        assert_eq!(told, "no answer within 0.1 s");
        drop(silent);
        let broken = server(|question| {
            let mut answer = question.to_vec();
            answer[2] = 0x81;
            answer[7] = 9;
            answer.push(0xc0);
            vec![answer]
        });
        assert!(ask(broken, "a.b", short).is_err());
        for bad in ["", "a..b", &"x".repeat(64)] {
            assert!(ask("127.0.0.1:9".parse().unwrap(), bad, short).is_err(), "{bad}");
        }
    }
}
