//! The tasks of one owner. They end when the owner drops its crew, so nothing outlives a module that restarts.
//! This is the only place that starts tasks.

use super::BoxFuture;
use std::future::Future;
use tokio::task::JoinSet;

/// Tasks that are aborted together when the crew is dropped.
#[derive(Default)]
pub struct Crew(JoinSet<()>);

impl Crew {
    pub fn new() -> Self {
        Crew::default()
    }

    /// Starts a task of this crew; finished tasks are forgotten as new ones start.
    pub fn spawn<F>(&mut self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        while let Some(ended) = self.0.try_join_next() {
            report(&ended);
        }
        // One kind of task for tokio, whose machinery is compiled once and not for each of a hundred futures.
        let task: BoxFuture<'static, ()> = Box::pin(task);
        self.0.spawn(task);
    }

    /// Number of tasks that have not been seen to end.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Waits for the next task to end; `None` when there is none. Cancel-safe.
    pub async fn ended(&mut self) -> Option<Result<(), String>> {
        let ended = self.0.join_next().await?;
        report(&ended);
        Some(ended.map_err(|error| error.to_string()))
    }

    /// Waits for all tasks to end.
    pub async fn finish(&mut self) {
        while self.ended().await.is_some() {}
    }

    /// Aborts all tasks and waits until they are gone.
    pub async fn abort(&mut self) {
        self.0.shutdown().await;
    }
}

fn report(ended: &Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a task panicked");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test]
    async fn tasks_end_with_their_crew() {
        let held = Arc::new(());
        let mut crew = Crew::new();
        let inner = held.clone();
        crew.spawn(async move {
            let _inner = inner;
            std::future::pending::<()>().await;
        });
        crew.abort().await;
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
