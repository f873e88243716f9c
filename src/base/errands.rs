//! Work that outlives the request that began it: handed over by whoever answers, carried out by the crew of one module.
//! At most so many errands run at a time; they end with their module.

use super::{BoxFuture, Crew, Stop};
use tokio::sync::mpsc;

/// Where errands are handed over; cheap to clone.
#[derive(Clone)]
pub struct Errands(mpsc::Sender<BoxFuture<'static, ()>>);

/// The end that carries them out.
pub struct Runner {
    waiting: mpsc::Receiver<BoxFuture<'static, ()>>,
    most: usize,
}

/// Makes both ends; `most` errands run at a time and a few more wait.
pub fn errands(most: usize) -> (Errands, Runner) {
    let (sender, waiting) = mpsc::channel(16);
    (Errands(sender), Runner { waiting, most })
}

impl Errands {
    /// Hands an errand over; `false` when there is no room for more.
    pub fn try_give(&self, errand: impl Future<Output = ()> + Send + 'static) -> bool {
        self.0.try_send(Box::pin(errand)).is_ok()
    }
}

impl Runner {
    /// Carries errands out until `stop`, which ends those under way.
    pub async fn run(&mut self, stop: &Stop) {
        let mut crew = Crew::new();
        loop {
            tokio::select! {
                () = stop.raised() => break,
                _ = crew.ended(), if !crew.is_empty() => {}
                errand = self.waiting.recv(), if crew.len() < self.most => match errand {
                    Some(errand) => crew.spawn(errand),
                    None => break,
                },
            }
        }
        crew.abort().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test]
    async fn errands_run_within_the_limit_and_end_with_the_runner() {
        let (errands, mut runner) = errands(1);
        let held = Arc::new(());
        for _ in 0..17 {
            let inner = held.clone();
            errands.try_give(async move {
                let _inner = inner;
                std::future::pending::<()>().await;
            });
        }
        assert!(!errands.try_give(async {}), "sixteen wait and no more");
        let stop = Stop::new();
        tokio::join!(runner.run(&stop), async {
            while !errands.try_give(async {}) {
                tokio::task::yield_now().await;
            }
            stop.raise();
        });
        drop((errands, runner));
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
