//! Objects of the cluster for the checks, each question with a time limit. They come as JSON values and are made into their
//! types from there, as everywhere else in the program: the types' readers are large and stand in the binary once.

use super::within;
use kube::Resource;
use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use serde::de::DeserializeOwned;

/// Objects of a kind in a namespace or in all; an error is the API's words.
pub(super) async fn list<K>(
    client: &kube::Client,
    namespace: Option<&str>,
    params: &ListParams,
) -> Result<Vec<K>, String>
where
    K: Resource<DynamicType = ()> + DeserializeOwned,
{
    let listed = within(api::<K>(client, namespace).list(params)).await?;
    listed.items.into_iter().map(typed).collect()
}

/// One object, `None` if there is none of that name; an error is the API's words.
pub(super) async fn get<K>(client: &kube::Client, namespace: &str, name: &str) -> Result<Option<K>, String>
where
    K: Resource<DynamicType = ()> + DeserializeOwned,
{
    within(api::<K>(client, Some(namespace)).get_opt(name)).await?.map(typed).transpose()
}

fn api<K: Resource<DynamicType = ()>>(client: &kube::Client, namespace: Option<&str>) -> Api<DynamicObject> {
    let kind = ApiResource::erase::<K>(&());
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &kind),
        None => Api::all_with(client.clone(), &kind),
    }
}

fn typed<K: Resource<DynamicType = ()> + DeserializeOwned>(object: DynamicObject) -> Result<K, String> {
    object.try_parse().map_err(|error| error.to_string())
}
