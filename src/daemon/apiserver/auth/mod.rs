//! Who a request is from and whether it may be carried out. `rest` asks both questions before anything else.
//! Client certificates name users; bearer tokens name service accounts; everybody else is anonymous.

mod impersonate;
pub mod rbac;
mod token;

pub use impersonate::impersonate;
pub use token::{Grant, ISSUER, Tokens};

use super::errors;
use super::storage::Store;
use crate::link::http::Caller;
use crate::model::Status;
use serde_json::{Value, json};

/// Somebody who sends requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
}

impl User {
    fn anonymous() -> User {
        User {
            name: "system:anonymous".to_owned(),
            uid: String::new(),
            groups: vec!["system:unauthenticated".to_owned()],
        }
    }

    pub fn is_anonymous(&self) -> bool {
        self.groups.iter().any(|group| group == "system:unauthenticated")
    }

    /// The holder of every right.
    pub fn is_master(&self) -> bool {
        self.groups.iter().any(|group| group == "system:masters")
    }

    /// `authentication.k8s.io` UserInfo.
    pub fn to_json(&self) -> Value {
        let mut info = json!({"username": self.name, "groups": self.groups});
        if !self.uid.is_empty() {
            info["uid"] = json!(self.uid);
        }
        info
    }
}

/// Establishes the user: a bearer token if there is one, else the client certificate.
pub fn authenticate(
    headers: &http::HeaderMap,
    caller: &Caller,
    tokens: &Tokens,
    store: &Store,
) -> Result<User, Status> {
    if let Some(header) = headers.get(http::header::AUTHORIZATION) {
        let text = header.to_str().map_err(|_| errors::unauthorized())?;
        let token = text.strip_prefix("Bearer ").ok_or_else(errors::unauthorized)?;
        return tokens
            .verify(token.trim(), &[], store)
            .map(|(user, _)| user)
            .ok_or_else(errors::unauthorized);
    }
    Ok(match &caller.peer {
        Some(peer) => {
            let mut groups = peer.organizations.clone();
            groups.push("system:authenticated".to_owned());
            User { name: peer.common_name.clone(), uid: String::new(), groups }
        }
        None => User::anonymous(),
    })
}
