//! The digests that jobs leave to registries: each is asked for once, beside the other jobs, and the answer is kept until it
//! stands in the job's status. `mod` lets no job begin before that.

use super::super::super::kubernetes::meta;
use super::wanted::Wanted;
use super::{EVENTS, Name, registry};
use crate::base::{Crew, Failure};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use tokio::sync::mpsc;

/// What a registry said for a job, which is known by its uid: the name may be another one's by now.
pub(super) struct Named {
    job: Name,
    uid: String,
    question: registry::Question,
    digest: Result<String, Failure>,
}

pub(super) struct Gate {
    authority: Option<PathBuf>,
    /// Jobs, by uid, for which a registry is being asked.
    asking: HashSet<String>,
    named: HashMap<Name, Named>,
    answers: mpsc::Sender<Named>,
    crew: Crew,
}

impl Gate {
    /// Answers come by the receiver and belong into [`Gate::take`].
    pub(super) fn new(authority: Option<PathBuf>) -> (Gate, mpsc::Receiver<Named>) {
        let (answers, answered) = mpsc::channel(EVENTS);
        let (asking, named) = (HashSet::new(), HashMap::new());
        (Gate { authority, asking, named, answers, crew: Crew::new() }, answered)
    }

    /// The job that an answer is for.
    pub(super) fn take(&mut self, named: Named) -> Name {
        self.asking.remove(&named.uid);
        let name = named.job.clone();
        self.named.insert(name.clone(), named);
        name
    }

    pub(super) fn forget(&mut self, name: &Name) {
        self.named.remove(name);
    }

    /// Whether a job may go on: its digest is no registry's, or stands in its status (an empty text), or has just been
    /// named (what its status is to say). Otherwise the registry is asked.
    pub(super) fn pass(
        &mut self,
        name: &Name,
        job: &Value,
        wanted: &Wanted,
    ) -> Option<Result<String, Failure>> {
        let status = job.get("status").unwrap_or(&Value::Null);
        let Some(question) = wanted.registry.clone().filter(|_| registry::noted(status).is_none()) else {
            return Some(Ok(String::new()));
        };
        let uid = meta(job, "uid").to_owned();
        if let Some(named) =
            self.named.get(name).filter(|named| named.uid == uid && named.question == question)
        {
            return Some(named.digest.clone().map(|digest| question.note(&digest)));
        }
        if self.asking.insert(uid.clone()) {
            let (answers, job, authority) = (self.answers.clone(), name.clone(), self.authority.clone());
            self.crew.spawn(async move {
                let digest = registry::digest(&question, authority.as_deref()).await;
                if let Err(failure) = &digest {
                    tracing::warn!(job = job.1, code = failure.code, "a registry names no digest");
                }
                // A desk that is gone has no use for it.
                drop(answers.send(Named { job, uid, question, digest }).await);
            });
        }
        None
    }
}
