//! The containers of one pod as an operator names it, asked of the container runtimes of this machine alone. `kedge exec`
//! and `kedge logs` find theirs here; nothing is changed.

use crate::base::{Exit, Failure};
use crate::cri::Runtime;
use crate::cri::messages::{Container, ContainerFilter, ContainerState};
use std::time::Duration;

const ASK_LIMIT: Duration = Duration::from_secs(5);

/// A pod, and perhaps one of its containers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whose<'a> {
    pub namespace: &'a str,
    pub pod: &'a str,
    /// The only one when left out.
    pub container: Option<&'a str>,
}

/// Which of its containers count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Running,
    /// Those that have ended too.
    All,
}

impl Whose<'_> {
    /// The pod's containers, of the first runtime that has any; KE-RUNTIME-008 when none answers.
    pub(super) async fn containers(
        &self,
        endpoints: &[String],
        which: Which,
    ) -> Result<(Runtime, Vec<Container>), Failure> {
        let labels = [
            ("io.kubernetes.pod.namespace".to_owned(), self.namespace.to_owned()),
            ("io.kubernetes.pod.name".to_owned(), self.pod.to_owned()),
        ];
        let mut answered = false;
        for endpoint in endpoints {
            let runtime = Runtime::new(endpoint);
            let filter = ContainerFilter {
                label_selector: labels.clone().into_iter().collect(),
                ..ContainerFilter::default()
            };
            let Ok(Ok(mut found)) = tokio::time::timeout(ASK_LIMIT, runtime.list_containers(filter)).await
            else {
                continue;
            };
            answered = true;
            found.retain(|one| which == Which::All || one.state == ContainerState::Running as i32);
            if !found.is_empty() {
                return Ok((runtime, found));
            }
        }
        if !answered {
            return Err(Failure::new("KE-RUNTIME-008", "the container runtime does not answer")
                .because(match endpoints.join(", ") {
                    _ if endpoints.is_empty() => "no runtime's socket was found".to_owned(),
                    named if named.is_empty() => "an empty name is no socket's".to_owned(),
                    named => named,
                })
                .fix("start it, or name its socket with --runtime-endpoint")
                .exit(Exit::Unreachable));
        }
        let verb = if which == Which::Running { "runs" } else { "is" };
        let what = format!("no container of {}/{} {verb} on this node", self.namespace, self.pod);
        Err(Failure::new("KE-POD-003", what)
            .because(format!("the runtime at {} has none", endpoints.join(", ")))
            .fix("list the pods of this node with `kedge pods`"))
    }

    /// The name that is meant among those that are there.
    pub(super) fn choose(&self, mut names: Vec<String>) -> Result<String, Failure> {
        names.sort();
        names.dedup();
        let known = names.join(", ");
        let meant = match (self.container, names.as_slice()) {
            (Some(wanted), _) => names.iter().find(|name| *name == wanted),
            (None, [only]) => Some(only),
            (None, _) => {
                let what = format!("{}/{} has several containers", self.namespace, self.pod);
                return Err(Failure::new("KE-EXEC-002", what)
                    .because(known)
                    .fix("say which with -c")
                    .exit(Exit::Usage));
            }
        };
        meant.cloned().ok_or_else(|| {
            let wanted = self.container.unwrap_or_default();
            let what = format!("the pod {}/{} has no container {wanted} here", self.namespace, self.pod);
            Failure::new("KE-POD-004", what)
                .because(format!("it has {known}"))
                .fix("name one of them with -c")
        })
    }
}

/// The container's name in its pod.
pub(super) fn name(container: &Container) -> String {
    container.labels.get("io.kubernetes.container.name").cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_container_needs_no_name() {
        let of = |container, names: &[&str]| {
            let whose = Whose { namespace: "d", pod: "p", container };
            whose.choose(names.iter().map(|&name| name.to_owned()).collect()).map_err(|f| f.code)
        };
        assert_eq!(of(None, &["a", "a"]), Ok("a".to_owned()));
        assert_eq!(of(Some("b"), &["a", "b"]), Ok("b".to_owned()));
        assert_eq!(of(None, &["a", "b"]), Err("KE-EXEC-002"));
        assert_eq!(of(Some("c"), &["a", "b"]), Err("KE-POD-004"));
    }
}
