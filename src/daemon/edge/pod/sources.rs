//! Where pods get what is not theirs: ConfigMaps, Secrets and tokens. The edge's cache is the one source in the program;
//! tests bring their own.

use crate::base::{BoxFuture, Failure};
use crate::daemon::edge::meta::{Meta, MetaError};
use serde_json::Value;

/// What a pod may refer to. `Ok(None)` means that the thing does not exist.
pub trait Sources: Send + Sync + 'static {
    fn config_map<'a>(&'a self, ns: &'a str, name: &'a str) -> BoxFuture<'a, Result<Option<Value>, Failure>>;
    fn secret<'a>(&'a self, ns: &'a str, name: &'a str) -> BoxFuture<'a, Result<Option<Value>, Failure>>;
    /// The answer to a `TokenRequest`, with the token in its status.
    fn token<'a>(
        &'a self,
        ns: &'a str,
        account: &'a str,
        request: Value,
    ) -> BoxFuture<'a, Result<Value, Failure>>;
}

impl Sources for Meta {
    fn config_map<'a>(&'a self, ns: &'a str, name: &'a str) -> BoxFuture<'a, Result<Option<Value>, Failure>> {
        Box::pin(async move { existing(Meta::config_map(self, ns, name).await) })
    }

    fn secret<'a>(&'a self, ns: &'a str, name: &'a str) -> BoxFuture<'a, Result<Option<Value>, Failure>> {
        Box::pin(async move { existing(Meta::secret(self, ns, name).await) })
    }

    fn token<'a>(
        &'a self,
        ns: &'a str,
        account: &'a str,
        request: Value,
    ) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move { Meta::token(self, ns, account, &request).await.map_err(Failure::from) })
    }
}

fn existing(found: Result<Value, MetaError>) -> Result<Option<Value>, Failure> {
    match found {
        Ok(object) => Ok(Some(object)),
        Err(MetaError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
