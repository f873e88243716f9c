//! Runs another program for what it prints, with a time limit and no shell. Checks and repairs come here.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

/// Sane places, whatever the caller's environment says.
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs a program to its end; killed when `limit` has passed.
pub async fn output_within(program: &str, args: &[&str], limit: Duration) -> Result<Output, String> {
    let mut command = tokio::process::Command::new(program);
    command.args(args);
    to_end(command, limit).await
}

/// The same for a program of another file system, which it takes for the whole: a machine's own below a pod's mount of it.
/// Needs the right to change the root; other namespaces stay as they are.
#[expect(
    unsafe_code,
    reason = "the standard library's own chroot is not stable, and the whole process must not move"
)]
pub async fn output_below(
    root: &Path,
    program: &str,
    args: &[&str],
    limit: Duration,
) -> Result<Output, String> {
    let path = CString::new(root.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
    let mut command = tokio::process::Command::new(program);
    command.args(args);
    let enter = move || {
        rustix::process::chroot(path.as_c_str())?;
        rustix::process::chdir(c"/")?;
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes two system calls with texts that were made before; it allocates
    // nothing, takes no lock and cannot panic.
    unsafe { command.pre_exec(enter) };
    to_end(command, limit).await
}

async fn to_end(mut command: tokio::process::Command, limit: Duration) -> Result<Output, String> {
    command.env("PATH", SEARCH_PATH).env("LC_ALL", "C").stdin(Stdio::null()).kill_on_drop(true);
    match tokio::time::timeout(limit, command.output()).await {
        Ok(Ok(output)) => Ok(output),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            Err("it is not installed".to_owned())
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no end within {:.1} s", limit.as_secs_f64())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_that_hangs_or_is_absent_is_told() {
        let limit = Duration::from_millis(50);
        assert_eq!(output_within("sleep", &["9"], limit).await.unwrap_err(), "no end within 0.1 s");
        let limit = Duration::from_secs(20);
        assert_eq!(output_within("no-such-program", &[], limit).await.unwrap_err(), "it is not installed");
        assert_eq!(output_within("echo", &["a b"], limit).await.unwrap().stdout, b"a b\n");
    }

    #[tokio::test]
    async fn a_program_of_another_file_system_takes_that_for_the_whole() {
        if !crate::host::capabilities::is_root() {
            return;
        }
        let (dir, limit) = (tempfile::tempdir().unwrap(), Duration::from_secs(20));
        let below = async |args: &[&str]| output_below(dir.path(), "busybox", args, limit).await;
        assert_eq!(below(&["ls"]).await.unwrap_err(), "it is not installed");
        std::fs::create_dir(dir.path().join("bin")).unwrap();
        std::fs::copy("/bin/busybox", dir.path().join("bin/busybox")).unwrap();
        assert_eq!(below(&["ls", "/"]).await.unwrap().stdout, b"bin\n");
        assert_eq!(below(&["pwd"]).await.unwrap().stdout, b"/\n");
        assert!(std::path::Path::new("/proc/self").exists(), "this process has stayed");
    }
}
