//! The request to end, handed down from the process to every task. Children are stopped with their parent.

use tokio_util::sync::CancellationToken;

/// A latch that, once raised, stays raised; clones see the same latch.
#[derive(Clone, Debug, Default)]
pub struct Stop(CancellationToken);

impl Stop {
    pub fn new() -> Self {
        Stop::default()
    }

    /// A latch that is raised with this one and can also be raised alone.
    #[must_use]
    pub fn child(&self) -> Stop {
        Stop(self.0.child_token())
    }

    /// Raises the latch.
    pub fn raise(&self) {
        self.0.cancel();
    }

    pub fn is_raised(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Completes when the latch is raised; cancel-safe.
    pub async fn raised(&self) {
        self.0.cancelled().await;
    }

    /// Completes this long after the latch was raised.
    pub async fn lingered(&self, wait: std::time::Duration) {
        self.raised().await;
        tokio::time::sleep(wait).await;
    }

    /// Runs a future until it ends or the latch is raised, whichever is first; `None` when stopped.
    pub async fn or<F: Future>(&self, future: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            () = self.0.cancelled() => None,
            output = future => Some(output),
        }
    }
}
