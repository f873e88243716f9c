//! Runs modules side by side, restarts the ones that fail with jittered back-off, and shows their state.
//! It gives the whole process up after five failures of one module within a minute. Daemons own one each.

use super::backoff::Backoff;
use super::crew::Crew;
use super::failure::Failure;
use super::stop::Stop;
use futures_util::FutureExt;
use std::collections::{BTreeMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Failures of one module within a minute that end the process.
pub const FAILURES_BEFORE_GIVING_UP: usize = 5;
const FAILURE_WINDOW: Duration = Duration::from_secs(60);
/// How long one module may take to stop, and all of them together; then each has a moment left.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(10);
pub const SHUTDOWN_TOTAL: Duration = Duration::from_secs(20);
const LAST_MOMENT: Duration = Duration::from_millis(250);

/// A part of a daemon that runs until stopped. `run` may be called again after an error or a panic, so all volatile
/// state is local to it.
pub trait Module: Send + 'static {
    fn name(&self) -> &'static str;
    /// Runs until `stop` is raised; calls `ready.set()` once it serves.
    fn run(&mut self, stop: Stop, ready: Ready) -> BoxFuture<'_, Result<(), Failure>>;
}

/// State of one module as `kedge status` shows it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub enum ModuleState {
    Starting,
    Ready,
    Backoff { attempt: u32, error: String },
    Failed { error: String },
    Stopped,
}

/// A module's name and state.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ModuleStatus {
    pub name: &'static str,
    #[serde(flatten)]
    pub state: ModuleState,
}

type States = Arc<watch::Sender<BTreeMap<&'static str, ModuleState>>>;

/// A module's way to say that it serves.
#[derive(Clone)]
pub struct Ready {
    name: &'static str,
    states: States,
}

impl Ready {
    pub fn set(&self) {
        set(&self.states, self.name, ModuleState::Ready);
    }

    /// A handle for tests of one module without a supervisor.
    pub fn detached(name: &'static str) -> Ready {
        Ready { name, states: Arc::new(watch::channel(BTreeMap::new()).0) }
    }
}

fn set(states: &States, name: &'static str, state: ModuleState) {
    states.send_modify(|all| {
        all.insert(name, state);
    });
}

/// Reads module states; cheap to clone.
#[derive(Clone)]
pub struct SupervisorHandle(watch::Receiver<BTreeMap<&'static str, ModuleState>>);

impl SupervisorHandle {
    /// All modules by name.
    pub fn modules(&self) -> Vec<ModuleStatus> {
        let all = self.0.borrow();
        all.iter().map(|(name, state)| ModuleStatus { name, state: state.clone() }).collect()
    }

    /// Waits until every module is ready; `false` when the supervisor is gone first.
    pub async fn all_ready(&mut self) -> bool {
        let ready = |all: &BTreeMap<_, ModuleState>| {
            !all.is_empty() && all.values().all(|s| *s == ModuleState::Ready)
        };
        self.0.wait_for(ready).await.is_ok()
    }
}

/// Modules in start order; they are stopped in reverse.
pub struct Supervisor {
    modules: Vec<Box<dyn Module>>,
    states: States,
}

impl Default for Supervisor {
    fn default() -> Self {
        Self::new()
    }
}

impl Supervisor {
    pub fn new() -> Self {
        Supervisor { modules: Vec::new(), states: Arc::new(watch::channel(BTreeMap::new()).0) }
    }

    /// Adds a module; modules start in the order they were added.
    pub fn add(&mut self, module: impl Module) {
        set(&self.states, module.name(), ModuleState::Starting);
        self.modules.push(Box::new(module));
    }

    pub fn handle(&self) -> SupervisorHandle {
        SupervisorHandle(self.states.subscribe())
    }

    /// Runs all modules until `stop` is raised or one of them fails for good.
    pub async fn run(self, stop: Stop) -> Result<(), Failure> {
        let (given_up, mut verdict) = tokio::sync::mpsc::channel(1);
        let ending = Stop::new();
        let mut running = Vec::new();
        for module in self.modules {
            let own_stop = Stop::new();
            let mut crew = Crew::new();
            let name = module.name();
            let life = Life { stop: own_stop.clone(), ending: ending.clone(), states: self.states.clone() };
            crew.spawn(keep_running(module, life, given_up.clone()));
            running.push((name, own_stop, crew));
        }
        drop(given_up);
        let outcome = tokio::select! {
            () = stop.raised() => Ok(()),
            failure = verdict.recv() => failure.map_or(Ok(()), Err),
        };
        ending.raise();
        let deadline = tokio::time::Instant::now() + SHUTDOWN_TOTAL;
        for (name, own_stop, mut crew) in running.into_iter().rev() {
            own_stop.raise();
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            if tokio::time::timeout(left.clamp(LAST_MOMENT, SHUTDOWN_LIMIT), crew.finish()).await.is_err() {
                tracing::warn!(module = name, "the module did not stop in time and is ended");
                crew.abort().await;
            }
        }
        outcome
    }
}

/// What ends one module, and where its state is shown.
struct Life {
    stop: Stop,
    /// The whole process is ending: a module that loses a neighbour has not failed.
    ending: Stop,
    states: States,
}

async fn keep_running(mut module: Box<dyn Module>, life: Life, given_up: tokio::sync::mpsc::Sender<Failure>) {
    let Life { stop, ending, states } = life;
    let name = module.name();
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    let mut failures: VecDeque<Instant> = VecDeque::new();
    let mut attempt = 0;
    loop {
        let ready = Ready { name, states: states.clone() };
        let ended = AssertUnwindSafe(module.run(stop.clone(), ready)).catch_unwind().await;
        if stop.is_raised() || ending.is_raised() {
            break;
        }
        let failure = match ended {
            Ok(Ok(())) => break,
            Ok(Err(failure)) => failure,
            Err(panic) => panicked(&format!("the module {name}"), words(&*panic)),
        };
        attempt += 1;
        failures.push_back(Instant::now());
        while failures.front().is_some_and(|at| at.elapsed() > FAILURE_WINDOW) {
            failures.pop_front();
        }
        if failures.len() >= FAILURES_BEFORE_GIVING_UP {
            tracing::error!(module = name, code = failure.code, error = %failure, "the module is given up");
            set(&states, name, ModuleState::Failed { error: failure.to_string() });
            drop(given_up.send(failure).await);
            return;
        }
        tracing::warn!(module = name, code = failure.code, error = %failure, attempt, "the module is restarted");
        set(&states, name, ModuleState::Backoff { attempt, error: failure.to_string() });
        if stop.or(tokio::time::sleep(backoff.next_wait())).await.is_none() {
            break;
        }
    }
    set(&states, name, ModuleState::Stopped);
}

/// A part of the program met a state that it was not written for; these were its words.
pub fn panicked(part: &str, words: &str) -> Failure {
    Failure::new("KE-MODULE-001", format!("{part} panicked"))
        .because(words)
        .fix("send `kedge bugreport` to the developers: it holds the log lines before this one")
}

/// What a panic said.
fn words(panic: &(dyn std::any::Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it said nothing")
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Flaky {
        failures: u32,
    }

    impl Module for Flaky {
        fn name(&self) -> &'static str {
            "flaky"
        }

        fn run(&mut self, stop: Stop, ready: Ready) -> BoxFuture<'_, Result<(), Failure>> {
            Box::pin(async move {
                if self.failures > 0 {
                    self.failures -= 1;
                    return Err(Failure::new("KE-TEST-001", "not yet"));
                }
                ready.set();
                stop.raised().await;
                Ok(())
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_module_is_restarted_until_it_serves() {
        let mut supervisor = Supervisor::new();
        supervisor.add(Flaky { failures: 3 });
        let mut handle = supervisor.handle();
        let stop = Stop::new();
        let (outcome, ()) = tokio::join!(supervisor.run(stop.clone()), async {
            assert!(handle.all_ready().await);
            stop.raise();
        });
        assert_eq!(outcome, Ok(()));
    }

    /// Never stops by itself.
    struct Stubborn;

    impl Module for Stubborn {
        fn name(&self) -> &'static str {
            "stubborn"
        }

        fn run(&mut self, _stop: Stop, ready: Ready) -> BoxFuture<'_, Result<(), Failure>> {
            Box::pin(async move {
                ready.set();
                std::future::pending().await
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn modules_that_do_not_stop_hold_the_end_up_together_no_longer_than_a_few() {
        let mut supervisor = Supervisor::new();
        for _ in 0..10 {
            supervisor.add(Stubborn);
        }
        let mut handle = supervisor.handle();
        let stop = Stop::new();
        let began = tokio::time::Instant::now();
        let (outcome, ()) = tokio::join!(supervisor.run(stop.clone()), async {
            assert!(handle.all_ready().await);
            stop.raise();
        });
        assert_eq!(outcome, Ok(()));
        let took = began.elapsed();
        assert!((SHUTDOWN_TOTAL..SHUTDOWN_TOTAL + LAST_MOMENT * 10).contains(&took), "{took:?}");
    }

    /// Serves its neighbour until it is stopped.
    struct Server {
        gone: Stop,
    }

    impl Module for Server {
        fn name(&self) -> &'static str {
            "server"
        }

        fn run(&mut self, stop: Stop, ready: Ready) -> BoxFuture<'_, Result<(), Failure>> {
            Box::pin(async move {
                ready.set();
                stop.raised().await;
                self.gone.raise();
                Ok(())
            })
        }
    }

    /// Fails without its server.
    struct Client {
        gone: Stop,
        runs: Arc<std::sync::atomic::AtomicUsize>,
    }

    impl Module for Client {
        fn name(&self) -> &'static str {
            "client"
        }

        fn run(&mut self, _stop: Stop, ready: Ready) -> BoxFuture<'_, Result<(), Failure>> {
            Box::pin(async move {
                self.runs.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                ready.set();
                self.gone.raised().await;
                Err(Failure::new("KE-TEST-002", "the server has ended"))
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_module_that_loses_its_server_while_all_end_is_not_restarted() {
        let (gone, runs) = (Stop::new(), Arc::new(std::sync::atomic::AtomicUsize::new(0)));
        let mut supervisor = Supervisor::new();
        supervisor.add(Client { gone: gone.clone(), runs: runs.clone() });
        supervisor.add(Server { gone });
        let mut handle = supervisor.handle();
        let stop = Stop::new();
        let (outcome, ()) = tokio::join!(supervisor.run(stop.clone()), async {
            assert!(handle.all_ready().await);
            stop.raise();
        });
        assert_eq!(outcome, Ok(()));
        assert_eq!(runs.load(std::sync::atomic::Ordering::Relaxed), 1);
    }

    /// Meets a state that it was not written for.
    struct Broken;

    impl Module for Broken {
        fn name(&self) -> &'static str {
            "broken"
        }

        fn run(&mut self, _stop: Stop, _ready: Ready) -> BoxFuture<'_, Result<(), Failure>> {
            Box::pin(async move { panic!("a state that nobody thought of") })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_module_that_panics_is_restarted_and_given_up_like_any_other() {
        let mut supervisor = Supervisor::new();
        supervisor.add(Broken);
        let handle = supervisor.handle();
        let failure = supervisor.run(Stop::new()).await.unwrap_err();
        assert_eq!(failure.code, "KE-MODULE-001");
        failure.is_as_committed();
        assert!(failure.what.contains("broken"), "{failure}");
        assert!(failure.why.contains("a state that nobody thought of"), "{failure}");
        assert!(failure.fix.contains("kedge bugreport"), "{failure:?}");
        let state = handle.modules().remove(0).state;
        assert!(
            matches!(&state, ModuleState::Failed { error } if error.contains("KE-MODULE-001")),
            "{state:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn five_failures_in_a_minute_end_the_process() {
        let mut supervisor = Supervisor::new();
        supervisor.add(Flaky { failures: 9 });
        let failure = supervisor.run(Stop::new()).await.unwrap_err();
        assert_eq!(failure.code, "KE-TEST-001");
        failure.is_as_committed();
    }
}
