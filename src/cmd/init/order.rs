//! What this `kedge init` is to make: what its flags say, over what a former one has left and an operator has changed in it
//! since. Pure; it tells what it keeps, so that nobody is surprised by a setting of last year.

use super::{Args, Place, host};
use crate::base::{Exit, Failure};
use crate::config::cloud::{CloudConfig, DEFAULT_CONFIG};
use crate::config::set::{assignments, lay_over};
use crate::daemon::cloud::setup::{self, Mode, Purpose, Seen, SetupDesk, Standing, Wanted};
use serde_json::{Map, Value};

/// One installation, as it is asked for.
pub(super) struct Order {
    standing: Standing,
    /// What `--set` says, in cloudcore.yaml's words.
    settings: Value,
    /// The addresses for nodes that are named now, by their flag or by their setting.
    given: Vec<String>,
    replicas: u32,
    image: String,
}

/// What `--set` says, in cloudcore.yaml's words. KubeEdge's chart puts the same keys below `cloudCore`.
pub(super) fn settings(texts: &[String]) -> Result<Value, Failure> {
    let defaults: Value = serde_yaml::from_str(DEFAULT_CONFIG).unwrap_or_default();
    let mut settings = Value::Object(Map::new());
    for text in texts {
        let text = text.replace("cloudCore.modules.", "modules.");
        lay_over(&mut settings, &assignments(&defaults, &text)?);
    }
    Ok(settings)
}

impl Order {
    /// Over what stands in this cluster, or on this machine for a cloud of its own. Without a cluster nothing stands.
    pub(super) async fn over(
        args: &Args,
        settings: Value,
        desk: Option<&SetupDesk>,
    ) -> Result<Order, Failure> {
        let standing = match (args.mode, desk) {
            (Place::Host, _) => host::kept()?,
            (Place::Cluster, Some(desk)) => desk.standing().await?,
            (Place::Cluster, None) => Standing::default(),
        };
        let order = Order {
            given: given(args, &standing, &settings),
            replicas: if args.mode == Place::Host { 1 } else { standing.replicas(args.ha) },
            image: standing.image(args.image.as_deref()),
            standing,
            settings,
        };
        // Wrong settings are told before anything is looked at.
        let (_, config) = order.document(args, &order.given, None)?;
        if config.api.embedded {
            return Err(Failure::new("KE-INIT-015", "kedge.embedded does not go with init")
                .because("the cloud would serve an API of its own and know nothing of this cluster")
                .fix("leave it out, or run `kedge cloud run --embedded` without a cluster")
                .exit(Exit::Usage));
        }
        Ok(order)
    }

    fn document(
        &self,
        args: &Args,
        advertise: &[String],
        api: Option<&str>,
    ) -> Result<(Value, CloudConfig), Failure> {
        setup::document(args.mode(), advertise, api, &self.standing, &self.settings)
    }

    /// Everything that can be known before anything is changed.
    pub(super) async fn look(&self, args: &Args, desk: &SetupDesk) -> Result<Seen, Failure> {
        let (_, config) = self.document(args, &self.given, None)?;
        let purpose = Purpose {
            mode: args.mode(),
            replicas: self.replicas,
            dynamic: config.dynamic,
            forwards: args.mode == Place::Cluster && config.stream.is_led_beside(),
            keep_off: args.keep_daemonsets_off_edge,
            advertise: &self.given,
            standing: &self.standing,
        };
        let mut seen = desk.look(&purpose).await;
        if args.mode == Place::Host {
            let (findings, advertise) = host::look(&config, &self.given);
            seen.findings.extend(findings);
            seen.advertise = advertise;
        }
        Ok(seen)
    }

    /// What is to be there.
    pub(super) fn plan(&self, args: &Args, seen: &Seen) -> Result<Wanted, Failure> {
        let (document, config) = self.document(args, self.addresses(seen), seen.api.as_deref())?;
        Ok(Wanted {
            mode: args.mode(),
            image: self.image.clone(),
            replicas: self.replicas,
            machines: seen.machines,
            document,
            config,
            hosts: seen.hosts.clone(),
            edge_only: seen.api.is_some(),
            standing: self.standing.clone(),
        })
    }

    /// The addresses under which nodes reach the cloud: those named now, or those that were found.
    pub(super) fn addresses<'a>(&'a self, seen: &'a Seen) -> &'a [String] {
        if self.given.is_empty() { &seen.advertise } else { &self.given }
    }

    /// What is as it is because it was so before, and nobody has said otherwise now.
    pub(super) fn kept(&self, args: &Args, seen: &Seen, wanted: &Wanted) -> Vec<String> {
        let addresses = self.addresses(seen);
        let mut kept = setup::kept(wanted, addresses, seen.api.as_deref(), &self.settings);
        if self.given.is_empty() && !addresses.is_empty() && addresses == self.standing.addresses() {
            kept.push(format!(
                "addresses for nodes: {} (--advertise-address names others)",
                addresses.join(", ")
            ));
        }
        if wanted.mode == Mode::Host {
            return kept;
        }
        if args.ha.is_none() && self.replicas > 1 {
            kept.push(format!("{} replicas (--ha=false goes back to one)", self.replicas));
        }
        if args.image.is_none() && self.image != setup::default_image() {
            kept.push(format!("image {} (--image names another)", self.image));
        }
        kept.extend(self.standing.service_type().map(|kind| format!("a Service of type {kind}")));
        kept
    }
}

/// The addresses that are named now. A setting that names some changes what stands, and leaves names beside them.
fn given(args: &Args, standing: &Standing, settings: &Value) -> Vec<String> {
    let hub = settings.pointer("/modules/cloudHub");
    let named = hub.is_some_and(|hub| ADDRESSES.iter().any(|key| hub.get(key).is_some()));
    if !args.advertise_address.is_empty() || !named {
        return args.advertise_address.clone();
    }
    let mut document = standing.document.clone();
    lay_over(&mut document, settings);
    Standing::of_file(document, "").addresses()
}

const ADDRESSES: [&str; 2] = ["advertiseAddress", "dnsNames"];

/// Refuses flags that would say nothing to the form of cloud that is wanted.
pub(super) fn fit(args: &Args) -> Result<(), Failure> {
    let flag = match args.mode {
        Place::Host if args.ha.is_some() => "--ha",
        Place::Host if args.image.is_some() => "--image",
        Place::Host | Place::Cluster => return Ok(()),
    };
    Err(Failure::new("KE-INIT-015", format!("{flag} does not go with --mode host"))
        .because("a cloud on a machine of its own is one process of this binary, without a container")
        .fix(format!("leave {flag} out, or use --mode cluster"))
        .exit(Exit::Usage))
}
