//! The only place that prints. Data goes to stdout, talk to stderr; colour and spinners only on a terminal.

use super::failure::Failure;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// How a reading command shows its data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    #[default]
    Text,
    Json,
    Yaml,
}

/// The terminal of one command.
#[derive(Clone, Debug)]
pub struct Term {
    quiet: bool,
    plain: bool,
    fancy: bool,
    /// Set once data does not come through any more: why it was lost, or nothing where its reader has gone.
    lost: Arc<OnceLock<Option<String>>>,
}

impl Term {
    /// `plain` switches colour and spinners off even on a terminal; `NO_COLOR` does the same.
    pub fn new(quiet: bool, plain: bool) -> Self {
        let fancy = !plain && std::env::var_os("NO_COLOR").is_none() && io::stderr().is_terminal();
        Term { quiet, plain, fancy, lost: Arc::default() }
    }

    /// Whether only ASCII is wanted.
    pub fn is_plain(&self) -> bool {
        self.plain
    }

    /// Prints data. A closed pipe is success: the reader has seen enough. Any other error is kept for [`Term::whole`].
    pub fn data(&self, text: &str) {
        self.put(&mut io::stdout().lock(), text);
    }

    /// Passes data on as it is; false once it does not come through any more.
    pub fn pass(&self, bytes: &[u8]) -> bool {
        let mut out = io::stdout().lock();
        self.note(out.write_all(bytes).and_then(|()| out.flush()));
        self.is_heard()
    }

    /// Whether data still comes through; a command that would go on for ever ends when it does not.
    pub fn is_heard(&self) -> bool {
        self.lost.get().is_none()
    }

    fn put(&self, out: &mut impl Write, text: &str) {
        self.note(
            out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()),
        );
    }

    fn note(&self, written: io::Result<()>) {
        if let Err(error) = written {
            let gone = error.kind() == io::ErrorKind::BrokenPipe;
            self.lost.get_or_init(|| (!gone).then(|| error.to_string()));
        }
    }

    /// Fails when data was lost on its way out, as on a full disk.
    pub fn whole(&self) -> Result<(), Failure> {
        match self.lost.get() {
            None | Some(None) => Ok(()),
            Some(Some(why)) => Err(Failure::new("KE-TERM-003", "the output could not be written whole")
                .because(why)
                .fix("make room where it goes to, or send it elsewhere, and run the command again")),
        }
    }

    /// Prints a value as JSON or YAML; the caller prints its own text form.
    pub fn value<T: serde::Serialize>(&self, value: &T, output: Output) -> Result<(), Failure> {
        let text = match output {
            Output::Yaml => serde_yaml::to_string(value).map_err(unprintable)?,
            Output::Json | Output::Text => serde_json::to_string_pretty(value).map_err(unprintable)?,
        };
        self.data(text.trim_end());
        Ok(())
    }

    /// Prints a value as one line of JSON.
    pub fn line<T: serde::Serialize>(&self, value: &T) -> Result<(), Failure> {
        self.data(&serde_json::to_string(value).map_err(unprintable)?);
        Ok(())
    }

    /// Prints talk.
    pub fn say(&self, text: &str) {
        if !self.quiet {
            drop(writeln!(io::stderr().lock(), "{text}"));
        }
    }

    /// Prints a failure: `error:`, `because:`, `fix:` and its code.
    pub fn failure(&self, failure: &Failure) {
        let mut text = format!("error: {}", failure.what);
        if !failure.why.is_empty() {
            text += &format!("\n  because: {}", failure.why);
        }
        if !failure.fix.is_empty() {
            text += &format!("\n  fix: {}", failure.fix);
        }
        text += &format!("\n  code: {}", failure.code);
        drop(writeln!(io::stderr().lock(), "{text}"));
    }

    /// Starts a bar of so many parts; off a terminal its lines are all there is.
    pub fn bar(&self, total: usize) -> Bar {
        let shown = (self.fancy && !self.quiet).then(|| {
            let total = u64::try_from(total).unwrap_or(u64::MAX);
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(500));
            bar
        });
        Bar { term: self.clone(), bar: shown }
    }

    /// Starts numbered milestones.
    pub fn steps(&self, total: usize) -> Steps {
        Steps { term: self.clone(), total, done: 0, started: Instant::now(), bar: None }
    }
}

fn unprintable(error: impl std::fmt::Display) -> Failure {
    Failure::new("KE-TERM-001", "cannot print the result")
        .because(error)
        .fix("try -o text, and send `kedge bugreport` to the developers")
}

/// How much of something is done, with lines of talk above.
pub struct Bar {
    term: Term,
    bar: Option<ProgressBar>,
}

impl Bar {
    /// Prints a line.
    pub fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| self.term.say(text)),
            None => self.term.say(text),
        }
    }

    /// So many parts are done.
    pub fn set(&self, done: usize) {
        if let Some(bar) = &self.bar {
            bar.set_position(u64::try_from(done).unwrap_or(u64::MAX));
        }
    }

    /// One more part is done.
    pub fn advance(&self) {
        if let Some(bar) = &self.bar {
            bar.inc(1);
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Numbered milestones with elapsed time; a spinner shows the pending one on a terminal.
pub struct Steps {
    term: Term,
    total: usize,
    done: usize,
    started: Instant,
    bar: Option<ProgressBar>,
}

impl Steps {
    /// Names the milestone that is pending.
    pub fn begin(&mut self, name: &str) {
        if self.term.fancy && !self.term.quiet {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
                bar.set_style(style);
            }
            bar.set_message(name.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            self.bar = Some(bar);
        }
    }

    /// Prints the milestone as reached.
    pub fn reached(&mut self, text: &str) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        self.done += 1;
        let elapsed = self.started.elapsed().as_secs_f64();
        self.term.say(&format!("[{}/{}] {elapsed:5.2}s  {text}", self.done, self.total));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn data_that_is_lost_is_told_but_a_reader_may_go() {
        struct Broken(io::ErrorKind);
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let term = Term::new(true, true);
        term.put(&mut Vec::new(), "data");
        assert!(term.is_heard());
        term.put(&mut Broken(io::ErrorKind::BrokenPipe), "data");
        assert_eq!((term.whole(), term.is_heard()), (Ok(()), false));
        let term = Term::new(true, true);
        // What is copied for a part of the work belongs to the same command.
        term.clone().put(&mut Broken(io::ErrorKind::StorageFull), "data");
        let failure = term.whole().unwrap_err();
        assert_eq!((failure.code, failure.exit.code()), ("KE-TERM-003", 1));
        assert!(failure.why.contains("no storage space") && failure.fix.contains("make room"), "{failure}");
    }

    #[test]
    fn what_json_cannot_hold_is_not_printed_in_part() {
        let term = Term::new(true, true);
        // JSON's keys are texts.
        let value = BTreeMap::from([((1, 2), 3)]);
        for failure in [term.value(&value, Output::Json), term.line(&value)].map(Result::unwrap_err) {
            assert_eq!(failure.code, "KE-TERM-001");
            assert!(failure.why.contains("key must be a string"), "{failure}");
            assert!(failure.fix.contains("-o text") && failure.fix.contains("kedge bugreport"), "{failure}");
        }
    }
}
