//! This side's terminal: raw while a session lasts, as it was afterwards; its size, and what is typed.

use crate::cri::session::Input;
use bytes::Bytes;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::io::{self, Read};
use tokio::sync::mpsc;

/// Standard input without line editing and echo; dropping it brings them back.
pub(super) struct RawTerminal(Termios);

impl RawTerminal {
    /// `None` where standard input is no terminal.
    pub(super) fn enter() -> Option<RawTerminal> {
        let before = tcgetattr(io::stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw).ok()?;
        Some(RawTerminal(before))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing put back.
        let _gone = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// Reads standard input until it ends. The thread is not waited for: a read of a terminal cannot be called off.
pub(super) fn read_input(inputs: mpsc::Sender<Input>) {
    let read = move || {
        let mut buffer = [0_u8; 16 << 10];
        loop {
            let count = match io::stdin().lock().read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) | Ok(0) => break,
                Ok(count) => count,
            };
            let piece = Bytes::copy_from_slice(buffer.get(..count).unwrap_or_default());
            if inputs.blocking_send(Input::Bytes(piece)).is_err() {
                return;
            }
        }
        drop(inputs.blocking_send(Input::End));
    };
    // Without the thread the command gets no input; it runs all the same.
    drop(std::thread::Builder::new().name("stdin".to_owned()).spawn(read));
}

/// Tells the size of the terminal now and whenever it changes.
pub(super) fn follow_size(inputs: mpsc::Sender<Input>) {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut changes) = signal(SignalKind::window_change()) else { return };
    #[expect(clippy::disallowed_methods, reason = "it ends with the command's runtime")]
    tokio::spawn(async move {
        loop {
            if let Ok(size) = tcgetwinsize(io::stdout())
                && size.ws_col > 0
                && inputs.send(Input::Size(size.ws_col, size.ws_row)).await.is_err()
            {
                return;
            }
            if changes.recv().await.is_none() {
                return;
            }
        }
    });
}
