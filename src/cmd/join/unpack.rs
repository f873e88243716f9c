//! `--bundle`: what a join takes out of a bundle beside the join file: its binary becomes the first slot, and the images
//! go to the runtime before the service starts.

use super::plan::Runtime;
use super::slots;
use crate::base::{Exit, Failure, Module, Ready, Stop, aside};
use crate::config::edge::EdgeConfig;
use crate::cri;
use crate::host::bundle::{Bundle, Name};
use crate::host::cni::Network;
use crate::host::containerd;
use crate::host::versions;
use std::path::Path;
use std::sync::Arc;

/// Opens a bundle and checks all of it; a binary for other machines is refused. Blocking.
pub(super) fn open(path: &Path) -> Result<Arc<Bundle>, Failure> {
    let bundle = Bundle::open(path)?;
    bundle.fits_this_machine().map_err(|failure| failure.exit(Exit::Preflight))?;
    Ok(Arc::new(bundle))
}

/// What [`install`] would do, for `--dry-run`.
pub(super) fn told(bundle: &Bundle) -> Vec<String> {
    vec![
        format!("install kedge {} of the bundle below {}", bundle.version(), versions::DIR),
        format!("load {} archives of images of the bundle", images(bundle)),
    ]
}

fn images(bundle: &Bundle) -> usize {
    bundle.parts().filter(|part| matches!(part.name, Name::Image(_))).count()
}

/// Installs the binary and loads the images; the configuration stands in its place already. Answers what was done.
pub(super) async fn install(
    bundle: &Arc<Bundle>,
    config: &EdgeConfig,
    runtime: &Runtime,
    place: &Path,
) -> Result<String, Failure> {
    let (binary, place) = (bundle.clone(), place.to_owned());
    let version = aside("unpack the bundle", move || seeded(&binary, &place)).await??;
    let count = load(bundle, config, runtime).await?;
    Ok(format!("kedge {version} and {count} archives of images of the bundle are in place"))
}

/// A machine that has slots keeps the version that is current there.
fn seeded(bundle: &Bundle, place: &Path) -> Result<String, Failure> {
    let unpacked = Path::new(versions::DIR).join(".bundle");
    bundle.extract(Name::Binary, &unpacked)?;
    let seeded = slots::seeded(place, &unpacked);
    drop(std::fs::remove_file(&unpacked));
    seeded.map(|version| version.bare())
}

async fn load(bundle: &Bundle, config: &EdgeConfig, runtime: &Runtime) -> Result<usize, Failure> {
    if images(bundle) == 0 {
        return Ok(0);
    }
    if let Runtime::Running(asked) = runtime {
        return bundle.load_images(&cri::Runtime::new(&format!("unix://{}", asked.socket))).await;
    }
    // The daemon will start the same containerd with the same images.
    let dir = config.runtime.dir.clone();
    let network = Network::derive(&dir);
    let own = containerd::Config { endpoint: None, use_running: false, dir, network };
    let (runtime, mut keeper) = containerd::start(own).await?.into_parts();
    let loaded = bundle.load_images(&runtime).await;
    let stop = Stop::new();
    stop.raise();
    keeper.run(stop, Ready::detached("containerd")).await?;
    loaded
}
