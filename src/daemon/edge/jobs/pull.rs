//! Pulls images one after another through the runtime, each with its retries. Only `jobs` calls it.

use super::Means;
use crate::daemon::edge::pod::pull_credentials;
use crate::wire::task::{PullSpec, Pulled};
use serde_json::Value;
use std::time::Duration;

/// Images of one job; a job with more is refused.
const IMAGES: usize = 256;
const RETRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(500);

/// Pulls everything; the error says why nothing was tried.
pub(super) async fn all(means: &Means, spec: &PullSpec) -> Result<Vec<Pulled>, String> {
    let runtime = means.runtime.as_ref().ok_or("this node uses no container runtime")?;
    if spec.images.len() > IMAGES {
        return Err(format!("{} images are more than the {IMAGES} of one job", spec.images.len()));
    }
    let secret: Option<Value> = match &spec.secret {
        Some((namespace, name)) => {
            let found = means.meta.secret(namespace, name).await;
            Some(found.map_err(|error| format!("the pull secret cannot be read: {error}"))?)
        }
        None => None,
    };
    let mut pulled = Vec::with_capacity(spec.images.len());
    for image in &spec.images {
        let credentials = || secret.as_ref().and_then(|secret| pull_credentials(secret, image));
        let mut tries = 0;
        let failure = loop {
            match runtime.pull_image(image, credentials()).await {
                Ok(_) => break None,
                Err(error) if tries >= spec.retries.min(RETRIES) => break Some(error.to_string()),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
            tries += 1;
        };
        pulled.push(Pulled { image: image.clone(), failure });
    }
    Ok(pulled)
}
