//! `Impersonate-*` headers (`kubectl --as`): a request is carried out as somebody else, if its sender may do that.
//! `rest` calls it between authentication and authorization.

use super::User;
use super::rbac::{self, Attributes};
use crate::daemon::apiserver::errors;
use crate::daemon::apiserver::storage::Store;
use crate::model::Status;
use http::HeaderMap;

const ACCOUNT: &str = "system:serviceaccount:";

/// The user as whom a request is to be carried out.
pub fn impersonate(headers: &HeaderMap, user: User, store: &Store) -> Result<User, Status> {
    let wishes = headers.iter().filter(|(name, _)| name.as_str().starts_with("impersonate-"));
    for (name, value) in wishes {
        // What is not understood must not turn a request as somebody else into one as its sender.
        let known = matches!(name.as_str(), "impersonate-user" | "impersonate-uid" | "impersonate-group");
        if !known || value.to_str().is_err() {
            return Err(errors::bad_request(format!("the header {name} cannot be used here")));
        }
    }
    let texts = |name: &str| -> Vec<String> {
        let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        values.filter(|text| !text.is_empty()).map(str::to_owned).collect()
    };
    let one = |name: &str| texts(name).into_iter().next().unwrap_or_default();
    let (name, uid, groups) = (one("impersonate-user"), one("impersonate-uid"), texts("impersonate-group"));
    if name.is_empty() {
        if uid.is_empty() && groups.is_empty() {
            return Ok(user);
        }
        return Err(errors::bad_request("requested groups or uid without impersonating a user"));
    }
    let check = |want: &Attributes| {
        if rbac::may(store, &user, want) {
            return Ok(());
        }
        let message = format!("{} \"{}\" is forbidden: {}", want.resource, want.name, want.refusal(&user));
        Err(Status::failure(403, "Forbidden", message))
    };
    match account(&name) {
        Some((namespace, account)) => check(&wish("", "serviceaccounts", account, namespace))?,
        None => check(&wish("", "users", &name, ""))?,
    }
    for group in &groups {
        check(&wish("", "groups", group, ""))?;
    }
    if !uid.is_empty() {
        check(&wish("authentication.k8s.io", "uids", &uid, ""))?;
    }
    Ok(with_implied_groups(name, uid, groups))
}

fn account(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix(ACCOUNT)?.split_once(':')
}

fn wish(group: &str, resource: &str, name: &str, namespace: &str) -> Attributes {
    Attributes {
        verb: "impersonate".to_owned(),
        group: group.to_owned(),
        resource: resource.to_owned(),
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        ..Attributes::default()
    }
}

fn with_implied_groups(name: String, uid: String, mut groups: Vec<String>) -> User {
    if groups.is_empty()
        && let Some((namespace, _)) = account(&name)
    {
        groups.push("system:serviceaccounts".to_owned());
        groups.push(format!("system:serviceaccounts:{namespace}"));
    }
    let implied = if name == "system:anonymous" { "system:unauthenticated" } else { "system:authenticated" };
    if !groups.iter().any(|group| group == implied) {
        groups.push(implied.to_owned());
    }
    User { name, uid, groups }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_follow_from_the_name() {
        let user = |name: &str| with_implied_groups(name.to_owned(), String::new(), Vec::new());
        assert_eq!(user("bob").groups, ["system:authenticated"]);
        assert_eq!(user("system:anonymous").groups, ["system:unauthenticated"]);
        assert_eq!(
            user("system:serviceaccount:a:b").groups,
            ["system:serviceaccounts", "system:serviceaccounts:a", "system:authenticated"]
        );
    }
}
