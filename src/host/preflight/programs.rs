//! Runs another program for what it prints, with a time limit and no shell. Checks and repairs come here.

use std::process::{Output, Stdio};
use std::time::Duration;

/// Sane places, whatever the caller's environment says.
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs a program to its end; killed when `limit` has passed.
pub async fn output_within(program: &str, args: &[&str], limit: Duration) -> Result<Output, String> {
    let mut command = tokio::process::Command::new(program);
    command.args(args).env("PATH", SEARCH_PATH).env("LC_ALL", "C").stdin(Stdio::null()).kill_on_drop(true);
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
}
