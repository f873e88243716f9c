//! The images that kedge brings, because an edge machine may have no registry: `pause`, the demo and a small shell.
//! They are built as one OCI archive and handed to containerd's own `ctr`; what is there already is left alone. The
//! archive stands in memory files: megabytes on the heap, for once in a node's life, would stay with the daemon.

use super::programs::{self, Machine};
use crate::base::Failure;
use crate::cri::Runtime;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// The sandbox image that containerd 1.6 asks for when nothing else is configured.
pub const PAUSE: &str = "registry.k8s.io/pause:3.6";
/// Prints a line every five seconds.
pub const DEMO: &str = "kedge.local/demo:1";
/// A shell with the usual small tools; exists where `/bin/busybox` is a static program.
pub const BUSYBOX: &str = "kedge.local/busybox:1";

const BUSYBOX_FILE: &str = "/bin/busybox";
/// A program's headers stand in its first bytes.
const HEAD: u64 = 4096;
const IMPORT_LIMIT: Duration = Duration::from_secs(60);
/// Archives of others may be gigabytes on a slow disk.
const LOAD_LIMIT: Duration = Duration::from_secs(900);

/// Loads the images that the runtime lacks; `pause_name` is the sandbox image that it asks for.
pub async fn ensure(runtime: &Runtime, pause_name: &str, snapshotter: &str) -> Result<(), Failure> {
    let mut missing = Vec::new();
    for name in [pause_name, DEMO, BUSYBOX] {
        let known = runtime.image_status(name).await.map_err(|error| {
            Failure::new("KE-IMAGE-001", format!("cannot ask the container runtime for the image {name}"))
                .because(error)
                .fix("check that the container runtime runs: `kedge status` shows it")
        })?;
        if known.is_none() {
            missing.push(name.to_owned());
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let pause = pause_name.to_owned();
    let built = tokio::task::spawn_blocking(move || build(&missing, &pause)).await;
    let archive = built.map_err(io::Error::other).and_then(|built| built).map_err(unbuilt)?;
    import(runtime.socket(), snapshotter, archive).await
}

fn unbuilt(error: io::Error) -> Failure {
    Failure::new("KE-IMAGE-002", "cannot build the images that kedge brings").because(error).fix(
        "check the limits on open files (ulimit -n) and memory; elsewhere than on x86_64, ARM and RISC-V bring a pause image",
    )
}

async fn import(socket: &Path, snapshotter: &str, archive: File) -> Result<(), Failure> {
    let failure = |why: String| {
        Failure::new("KE-IMAGE-003", "cannot load the images that kedge brings into containerd")
            .because(why)
            .fix("install containerd with its tool `ctr`: apt-get install containerd")
    };
    let child = Command::new("ctr")
        .arg("--address")
        .arg(socket)
        .args(["--namespace", "k8s.io", "images", "import", "--snapshotter", snapshotter, "-"])
        .stdin(Stdio::from(archive))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failure(format!("ctr: {error}")))?;
    let work = child.wait_with_output();
    let output = tokio::time::timeout(IMPORT_LIMIT, work)
        .await
        .map_err(|_| failure(format!("ctr did not finish within {} s", IMPORT_LIMIT.as_secs())))?
        .map_err(|error| failure(error.to_string()))?;
    if !output.status.success() {
        return Err(failure(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    Ok(())
}

/// Hands an archive of images to containerd's own importer; `what` names it in the failure. The archive is read to its
/// end and no further.
pub async fn load(
    runtime: &Runtime,
    what: &str,
    mut archive: impl Read + Send + 'static,
) -> Result<(), Failure> {
    let failure = |why: String| {
        Failure::new("KE-IMAGE-004", format!("cannot load {what} into containerd"))
            .because(why)
            .fix("check that containerd runs and that its tool ctr is installed: apt-get install containerd")
    };
    let snapshotter =
        super::containerd::snapshotter(runtime).await.map_err(|error| failure(error.to_string()))?;
    let mut child = Command::new("ctr")
        .arg("--address")
        .arg(runtime.socket())
        .args(["--namespace", "k8s.io", "images", "import", "--snapshotter", &snapshotter, "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failure(format!("ctr: {error}")))?;
    let stdin = child.stdin.take().and_then(|pipe| pipe.into_owned_fd().ok());
    let mut pipe = stdin.map(File::from).ok_or_else(|| failure("ctr takes no input".to_owned()))?;
    // The pipe closes with the end of the copy, which ends the import.
    let copying = tokio::task::spawn_blocking(move || io::copy(&mut archive, &mut pipe));
    let output = tokio::time::timeout(LOAD_LIMIT, child.wait_with_output())
        .await
        .map_err(|_| failure(format!("ctr did not finish within {} s", LOAD_LIMIT.as_secs())))?
        .map_err(|error| failure(error.to_string()))?;
    if !output.status.success() {
        return Err(failure(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    match copying.await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(failure(error.to_string())),
        Err(error) => Err(failure(error.to_string())),
    }
}

/// One file of an image.
enum Entry {
    Directory {
        path: String,
        mode: u32,
    },
    File {
        path: String,
        mode: u32,
        content: Vec<u8>,
    },
    /// Like a file, with the content of one on this machine.
    Copy {
        path: String,
        mode: u32,
        from: File,
    },
    Symlink {
        path: String,
        target: String,
    },
}

/// The archive with these images; one that cannot exist on this machine is left out.
fn build(names: &[String], pause_name: &str) -> io::Result<File> {
    let machine = Machine::here()
        .ok_or_else(|| io::Error::other("kedge has images for x86_64, ARM and RISC-V machines only"))?;
    let shell = shell_entries();
    let mut archive = Archive::new()?;
    for name in names {
        let file = |path: &str, content| Entry::File { path: path.to_owned(), mode: 0o755, content };
        if name == pause_name {
            archive.add(
                name,
                machine,
                &[file("pause", programs::pause(machine))],
                json!({"Entrypoint": ["/pause"]}),
            )?;
        } else if name == DEMO {
            let mut entries = shell_entries().unwrap_or_default();
            entries.push(file("demo", programs::demo(machine)));
            archive.add(name, machine, &entries, json!({"Entrypoint": ["/demo"], "Env": [SEARCH_PATH]}))?;
        } else if let Some(entries) = &shell {
            archive.add(name, machine, entries, json!({"Cmd": ["sh"], "Env": [SEARCH_PATH]}))?;
        }
    }
    archive.finish()
}

const SEARCH_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A root with busybox and a link for each of its tools; `None` where busybox is absent or needs libraries.
fn shell_entries() -> Option<Vec<Entry>> {
    let mut program = File::open(BUSYBOX_FILE).ok()?;
    let mut head = Vec::new();
    (&program).take(HEAD).read_to_end(&mut head).ok().filter(|_| is_static(&head))?;
    program.rewind().ok()?;
    let listed = std::process::Command::new(BUSYBOX_FILE).arg("--list").output().ok()?;
    let directory = |path: &str, mode| Entry::Directory { path: path.to_owned(), mode };
    let text =
        |path: &str, text: &str| Entry::File { path: path.to_owned(), mode: 0o644, content: text.into() };
    let mut entries = vec![
        directory("bin", 0o755),
        directory("etc", 0o755),
        directory("root", 0o700),
        directory("tmp", 0o1777),
        directory("var", 0o755),
        text("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/tmp:/bin/sh\n"),
        text("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
        Entry::Copy { path: "bin/busybox".to_owned(), mode: 0o755, from: program },
    ];
    for tool in String::from_utf8_lossy(&listed.stdout).lines().map(str::trim) {
        if !tool.is_empty() && tool != "busybox" && !tool.contains('/') {
            entries.push(Entry::Symlink { path: format!("bin/{tool}"), target: "busybox".to_owned() });
        }
    }
    Some(entries)
}

/// Whether an ELF program names no interpreter (program header type 3).
fn is_static(program: &[u8]) -> bool {
    let word = |at: usize, bytes: usize| -> Option<u64> {
        let slice = program.get(at..at.checked_add(bytes)?)?;
        Some(slice.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    };
    let headers = (|| {
        // Programs of 64 bits, and of 32.
        let (table, size, count) = match program {
            [0x7f, b'E', b'L', b'F', 2, 1, ..] => (word(32, 8)?, word(54, 2)?, word(56, 2)?),
            [0x7f, b'E', b'L', b'F', 1, 1, ..] => (word(28, 4)?, word(42, 2)?, word(44, 2)?),
            _ => return None,
        };
        let kinds = (0..count).map(move |i| {
            let at = table.checked_add(i.checked_mul(size)?)?;
            word(usize::try_from(at).ok()?, 4)
        });
        kinds.collect::<Option<Vec<u64>>>()
    })();
    headers.is_some_and(|kinds| !kinds.contains(&3))
}

/// An OCI image layout as a tar archive, uncompressed: containerd stores the layer as it is.
struct Archive {
    tar: tar::Builder<File>,
    manifests: Vec<Value>,
}

impl Archive {
    fn new() -> io::Result<Archive> {
        Ok(Archive { tar: tar::Builder::new(memory_file()?), manifests: Vec::new() })
    }

    fn add(&mut self, name: &str, machine: Machine, entries: &[Entry], config: Value) -> io::Result<()> {
        let (mut layer, layer_digest, layer_size) = layer(entries)?;
        let path = format!("blobs/sha256/{layer_digest}");
        layer.rewind()?;
        let mut head = header(tar::EntryType::Regular, 0o644, layer_size);
        self.tar.append_data(&mut head, path, layer)?;
        let config = serde_json::to_vec(&json!({
            "architecture": machine.image_word(),
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_digest}")]},
        }))?;
        self.blob(&config)?;
        let manifest = serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", &digest(&config), config.len() as u64),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer_digest, layer_size)],
        }))?;
        self.blob(&manifest)?;
        let mut entry = descriptor(
            "application/vnd.oci.image.manifest.v1+json",
            &digest(&manifest),
            manifest.len() as u64,
        );
        entry["annotations"] =
            json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name});
        entry["platform"] = json!({"architecture": machine.image_word(), "os": "linux"});
        self.manifests.push(entry);
        Ok(())
    }

    fn blob(&mut self, content: &[u8]) -> io::Result<()> {
        let path = format!("blobs/sha256/{}", digest(content));
        append(&mut self.tar, &path, 0o644, content)
    }

    fn finish(mut self) -> io::Result<File> {
        let index = serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": self.manifests}))?;
        append(&mut self.tar, "index.json", 0o644, &index)?;
        append(&mut self.tar, "oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        let mut file = self.tar.into_inner()?;
        file.rewind()?;
        Ok(file)
    }
}

fn descriptor(media_type: &str, digest: &str, size: u64) -> Value {
    json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": size})
}

/// A file that no directory has; it is gone when nobody holds it any more.
fn memory_file() -> io::Result<File> {
    let file = rustix::fs::memfd_create("kedge-images", rustix::fs::MemfdFlags::CLOEXEC)?;
    Ok(File::from(file))
}

/// Writes a file and takes its digest on the way.
struct Digesting {
    file: File,
    digest: ring::digest::Context,
    size: u64,
}

impl Write for Digesting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.digest.update(bytes.get(..count).unwrap_or_default());
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The layer with these entries, its digest and its size.
fn layer(entries: &[Entry]) -> io::Result<(File, String, u64)> {
    let digest = ring::digest::Context::new(&ring::digest::SHA256);
    let mut tar = tar::Builder::new(Digesting { file: memory_file()?, digest, size: 0 });
    for entry in entries {
        match entry {
            Entry::File { path, mode, content } => append(&mut tar, path, *mode, content)?,
            Entry::Copy { path, mode, from } => {
                let mut header = header(tar::EntryType::Regular, *mode, from.metadata()?.len());
                tar.append_data(&mut header, path, from)?;
            }
            Entry::Directory { path, mode } => {
                let mut header = header(tar::EntryType::Directory, *mode, 0);
                tar.append_data(&mut header, format!("{path}/"), io::empty())?;
            }
            Entry::Symlink { path, target } => {
                let mut header = header(tar::EntryType::Symlink, 0o777, 0);
                tar.append_link(&mut header, path, target)?;
            }
        }
    }
    let Digesting { file, digest, size } = tar.into_inner()?;
    Ok((file, hex(digest.finish().as_ref()), size))
}

fn append(tar: &mut tar::Builder<impl Write>, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
    let mut header = header(tar::EntryType::Regular, mode, content.len() as u64);
    tar.append_data(&mut header, path, content)
}

/// Owned by root and as old as the epoch, so that the same content has the same digest everywhere.
fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header
}

fn digest(content: &[u8]) -> String {
    hex(ring::digest::digest(&ring::digest::SHA256, content).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
