//! Container logs: reads the files that the runtime writes (CRI format: time, stream, `F` or `P`, text), follows them by
//! file notices, and rotates them. Reads only below the log directory.

use super::paths::Paths;
use super::summary::{Summaries, Summary};
use crate::base::{Failure, now_ms};
use crate::cri::Runtime;
use crate::host::notice::Notices;
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, stream};
use jiff::Timestamp;
use std::io::{self, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

/// What `kubectl logs` can ask for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogOptions {
    pub follow: bool,
    /// The attempt before the present one.
    pub previous: bool,
    pub timestamps: bool,
    pub tail: Option<u64>,
    /// Only lines from this time on.
    pub since: Option<Timestamp>,
    pub limit_bytes: Option<u64>,
}

const CHUNK: usize = 16 << 10;
/// A line longer than this is given out in parts; containerd itself cuts at 16 KiB.
const LONGEST_LINE: usize = 256 << 10;
const ROTATE_AT: u64 = 10 << 20;
const ROTATED_KEPT: usize = 4;

/// Opens a log; the stream ends with the file, or when a followed container has ended.
pub(super) async fn open(
    paths: &Paths,
    summaries: &Summaries,
    pod: &Summary,
    container: &str,
    options: LogOptions,
) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + use<>, Failure> {
    let known = match container {
        "" => pod.containers.iter().find(|c| !c.id.is_empty()).or(pod.containers.first()),
        name => pod.containers.iter().find(|c| c.name == name),
    };
    let known = known.ok_or_else(|| {
        let names: Vec<&str> = pod.containers.iter().map(|one| one.name.as_str()).collect();
        Failure::new(
            "KE-POD-004",
            format!("the pod {}/{} has no container {container}", pod.namespace, pod.name),
        )
        .because(format!("it has {}", names.join(", ")))
        .fix("list the containers of this node's pods with `kedge pods -o json`")
    })?;
    let attempt = if options.previous { known.restarts.checked_sub(1) } else { Some(known.restarts) };
    let absent = || {
        let which = if options.previous { "previous terminated container" } else { "container" };
        Failure::new("KE-POD-005", format!("{which} \"{}\" in pod \"{}\" has no log", known.name, pod.name))
            .because(if options.previous { "it has not restarted" } else { "it has not started" })
            .fix("wait until it has started; leave --previous out where it has not restarted")
    };
    let dir = paths.pod_logs(&pod.namespace, &pod.name, &pod.uid).join(&known.name);
    let path = dir.join(format!("{}.log", attempt.ok_or_else(absent)?));
    let alive = {
        let (summaries, namespace, name) = (summaries.clone(), pod.namespace.clone(), pod.name.clone());
        let (container, id) = (known.name.clone(), known.id.clone());
        move || {
            let Some(pod) = summaries.get(&namespace, &name) else { return false };
            pod.containers.iter().any(|c| c.name == container && c.id == id && c.state == "Running")
        }
    };
    let options = LogOptions { follow: options.follow && !options.previous, ..options };
    read(&path, options, alive).await.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => absent(),
        _ => absent().because(error),
    })
}

/// Reads a log file, whichever attempt it is of; a followed one ends when `alive` says no and what was written until then
/// has been read.
pub async fn read<A: Fn() -> bool + Send + Sync + 'static>(
    path: &Path,
    options: LogOptions,
    alive: A,
) -> io::Result<impl Stream<Item = io::Result<Bytes>> + Send + use<A>> {
    let mut file = File::open(path).await?;
    if let Some(lines) = options.tail {
        let start = tail_start(&mut file, lines).await?;
        file.seek(SeekFrom::Start(start)).await?;
    }
    let notices = if options.follow { Notices::new().ok() } else { None };
    if let Some(notices) = &notices {
        drop(notices.watch(path));
        drop(path.parent().map(|dir| notices.watch(dir)));
    }
    let reader = Reader {
        left: options.limit_bytes.unwrap_or(u64::MAX),
        options,
        file,
        path: path.to_owned(),
        buffer: BytesMut::new(),
        notices,
        alive: Box::new(alive),
        last_chance: false,
    };
    Ok(stream::unfold(reader, |mut reader| async move {
        let next = reader.next().await?;
        Some((next, reader))
    }))
}

struct Reader {
    options: LogOptions,
    file: File,
    path: PathBuf,
    buffer: BytesMut,
    notices: Option<Notices>,
    /// Whether the followed container still runs.
    alive: Box<dyn Fn() -> bool + Send + Sync>,
    /// The container has ended and the file has been read once more since.
    last_chance: bool,
    left: u64,
}

impl Reader {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        while self.left > 0 {
            let mut out = BytesMut::new();
            while let Some(line) = self.take_line() {
                out.extend_from_slice(&line);
                if out.len() >= CHUNK {
                    break;
                }
            }
            if !out.is_empty() {
                let keep = usize::try_from(self.left).unwrap_or(usize::MAX).min(out.len());
                out.truncate(keep);
                self.left -= keep as u64;
                return Some(Ok(out.freeze()));
            }
            match self.file.read_buf(&mut self.buffer).await {
                Ok(0) => match self.more().await {
                    Ok(true) => {}
                    Ok(false) => return None,
                    Err(error) => return Some(Err(error)),
                },
                Ok(_) => {}
                Err(error) => {
                    self.left = 0;
                    return Some(Err(error));
                }
            }
        }
        None
    }

    /// The next whole line of the buffer in the form that was asked for; lines that are filtered out are passed over.
    fn take_line(&mut self) -> Option<Bytes> {
        loop {
            let end = match self.buffer.iter().position(|byte| *byte == b'\n') {
                Some(end) => end + 1,
                None if self.buffer.len() > LONGEST_LINE => self.buffer.len(),
                None => return None,
            };
            let raw = self.buffer.split_to(end).freeze();
            if let Some(line) = render(&raw, &self.options) {
                return Some(line);
            }
        }
    }

    /// At the end of the file: whether it is worth reading on.
    async fn more(&mut self) -> io::Result<bool> {
        if self.notices.is_none() {
            return Ok(false);
        }
        if self.replaced().await {
            self.file = File::open(&self.path).await?;
            if let Some(notices) = &self.notices {
                drop(notices.watch(&self.path));
            }
            return Ok(true);
        }
        if self.last_chance {
            return Ok(false);
        }
        if !(self.alive)() {
            self.last_chance = true;
            return Ok(true);
        }
        if let Some(notices) = &self.notices {
            // The end of a silent container gives no notice of its own; it is looked for now and then.
            if let Ok(outcome) = tokio::time::timeout(Duration::from_secs(1), notices.next()).await {
                outcome?;
            }
        }
        Ok(true)
    }

    /// Whether rotation has put another file in this one's place.
    async fn replaced(&self) -> bool {
        let (Ok(open), Ok(named)) = (self.file.metadata().await, tokio::fs::metadata(&self.path).await)
        else {
            return false;
        };
        open.ino() != named.ino()
    }
}

/// One line as the reader wants it; `None` when it is filtered out. A line in another format is given out as it is.
fn render(raw: &Bytes, options: &LogOptions) -> Option<Bytes> {
    let Some((time, partial, text)) = parse(raw) else { return Some(raw.clone()) };
    if let Some(since) = options.since {
        let at: Option<Timestamp> = std::str::from_utf8(time).ok().and_then(|text| text.parse().ok());
        if at.is_some_and(|at| at < since) {
            return None;
        }
    }
    let mut out = BytesMut::with_capacity(raw.len());
    if options.timestamps {
        out.extend_from_slice(time);
        out.extend_from_slice(b" ");
    }
    out.extend_from_slice(text);
    if !partial {
        out.extend_from_slice(b"\n");
    }
    Some(out.freeze())
}

/// Time, whether the line goes on in the next entry, text without its newline.
fn parse(raw: &[u8]) -> Option<(&[u8], bool, &[u8])> {
    let line = raw.strip_suffix(b"\n").unwrap_or(raw);
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let (time, stream, tag) = (parts.next()?, parts.next()?, parts.next()?);
    let text = parts.next().unwrap_or_default();
    (stream == b"stdout" || stream == b"stderr").then_some((time, tag.starts_with(b"P"), text))
}

/// Where the last `lines` lines begin, found from the end backwards.
async fn tail_start(file: &mut File, lines: u64) -> io::Result<u64> {
    let length = file.metadata().await?.len();
    let (mut at, mut seen) = (length, 0);
    let mut block = vec![0; CHUNK];
    while at > 0 {
        let size = usize::try_from(at.min(CHUNK as u64)).unwrap_or(CHUNK);
        let start = at - size as u64;
        file.seek(SeekFrom::Start(start)).await?;
        let part = block.get_mut(..size).unwrap_or_default();
        file.read_exact(part).await?;
        for (offset, byte) in part.iter().enumerate().rev() {
            let end = start + offset as u64 + 1;
            // The newline at the very end closes the last line and begins none.
            if *byte == b'\n' && end < length {
                seen += 1;
                if seen == lines {
                    return Ok(end);
                }
            }
        }
        if lines == 0 {
            return Ok(length);
        }
        at = start;
    }
    Ok(0)
}

/// The last lines of a log, for the message of a container that left no words of its own.
pub(super) async fn last_lines(path: &Path) -> Vec<u8> {
    const LINES: u64 = 80;
    const LIMIT: usize = 2048;
    let read = async {
        let mut file = File::open(path).await?;
        let start = tail_start(&mut file, LINES).await?;
        let length = file.metadata().await?.len();
        file.seek(SeekFrom::Start(start.max(length.saturating_sub(4 * LIMIT as u64)))).await?;
        let mut raw = Vec::new();
        file.take(8 * LIMIT as u64).read_to_end(&mut raw).await?;
        io::Result::Ok(raw)
    };
    let raw = read.await.unwrap_or_default();
    let mut text = Vec::new();
    for line in raw.split_inclusive(|byte| *byte == b'\n') {
        if let Some((_, partial, words)) = parse(line) {
            text.extend_from_slice(words);
            if !partial {
                text.push(b'\n');
            }
        }
    }
    let cut = text.len().saturating_sub(LIMIT);
    text.split_off(cut)
}

/// Renames logs that have grown large, tells the runtime, and drops the oldest renamed ones.
pub(super) async fn rotate(runtime: &Runtime, paths: &Paths, summaries: &Summaries) {
    for pod in summaries.all() {
        for container in pod.containers.iter().filter(|container| container.state == "Running") {
            let dir = paths.pod_logs(&pod.namespace, &pod.name, &pod.uid).join(&container.name);
            let path = dir.join(format!("{}.log", container.restarts));
            let large = tokio::fs::metadata(&path).await.is_ok_and(|file| file.len() > ROTATE_AT);
            if !large {
                continue;
            }
            let aside = dir.join(format!("{}.log.{}", container.restarts, now_ms()));
            if tokio::fs::rename(&path, &aside).await.is_err() {
                continue;
            }
            if let Err(error) = runtime.reopen_container_log(&container.id).await {
                tracing::warn!(pod = pod.name, container = container.name, %error, "the log cannot be rotated");
                drop(tokio::fs::rename(&aside, &path).await);
            }
            drop_oldest(&dir).await;
        }
    }
}

async fn drop_oldest(dir: &Path) {
    let dir = dir.to_owned();
    let work = tokio::task::spawn_blocking(move || {
        let mut rotated: Vec<PathBuf> = std::fs::read_dir(dir)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().contains(".log.")))
            .collect();
        // Names end in milliseconds, so the order of names is the order of time.
        rotated.sort();
        let surplus = rotated.len().saturating_sub(ROTATED_KEPT);
        for path in rotated.into_iter().take(surplus) {
            drop(std::fs::remove_file(path));
        }
    });
    drop(work.await);
}

#[cfg(test)]
mod tests {
    use super::super::summary::ContainerSummary;
    use super::*;
    use futures_util::StreamExt;

    const LOG: &str = "2026-01-01T00:00:00.000000001Z stdout F one\n\
                       2026-01-01T00:00:01.000000001Z stderr P tw\n\
                       2026-01-01T00:00:01.000000002Z stderr F o\n\
                       2026-01-01T00:00:02.000000001Z stdout F three\n";

    async fn read(options: LogOptions) -> String {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths { root: dir.path().into(), logs: dir.path().into() };
        let container =
            ContainerSummary { name: "c".into(), id: "i".into(), state: "Completed".into(), restarts: 0 };
        let pod = Summary {
            namespace: "d".into(),
            name: "p".into(),
            uid: "u".into(),
            containers: vec![container],
            ..Summary::default()
        };
        let logs = paths.pod_logs("d", "p", "u").join("c");
        std::fs::create_dir_all(&logs).unwrap();
        std::fs::write(logs.join("0.log"), LOG).unwrap();
        let stream = open(&paths, &Summaries::default(), &pod, "", options).await.unwrap();
        let parts: Vec<_> = stream.collect().await;
        parts.into_iter().map(|part| String::from_utf8(part.unwrap().to_vec()).unwrap()).collect()
    }

    #[tokio::test]
    async fn partial_lines_are_joined() {
        assert_eq!(read(LogOptions::default()).await, "one\ntwo\nthree\n");
    }

    #[tokio::test]
    async fn every_option_narrows_the_text() {
        assert_eq!(read(LogOptions { tail: Some(1), ..LogOptions::default() }).await, "three\n");
        assert_eq!(read(LogOptions { tail: Some(0), ..LogOptions::default() }).await, "");
        assert_eq!(read(LogOptions { tail: Some(99), ..LogOptions::default() }).await, "one\ntwo\nthree\n");
        assert_eq!(read(LogOptions { limit_bytes: Some(5), ..LogOptions::default() }).await, "one\nt");
        let since = "2026-01-01T00:00:01.5Z".parse().ok();
        assert_eq!(read(LogOptions { since, ..LogOptions::default() }).await, "three\n");
        let stamped = read(LogOptions { timestamps: true, tail: Some(1), ..LogOptions::default() }).await;
        assert_eq!(stamped, "2026-01-01T00:00:02.000000001Z three\n");
    }

    #[tokio::test]
    async fn following_an_ended_container_ends() {
        assert_eq!(read(LogOptions { follow: true, ..LogOptions::default() }).await, "one\ntwo\nthree\n");
    }
}
