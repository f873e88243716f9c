//! `kedge device`: which devices there are, and a simulated one to try things with.

use super::DataDir;
use super::span::{DAY, Span};
use super::twin::{Device, Form, Local, Side, aligned, find, find_property};
use crate::base::{Exit, Failure, Output, Stop, Term};
use crate::daemon::edge::mqtt::Client;
use crate::daemon::mapper::{Simulation, simulate};
use crate::model::DeviceId;
use crate::model::twin::mapper_missing;
use serde::Serialize;
use std::time::Duration;

/// List devices, or play one
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  kedge device list\n  kedge device simulate --device default/thermometer --interval 500ms"
)]
pub struct Args {
    #[command(subcommand)]
    deed: Deed,
}

#[derive(clap::Subcommand)]
enum Deed {
    /// List the devices of this node, or of the cluster
    #[command(
        after_help = "Examples:\n  kedge device list\n  kedge device list --kube-config kubeconfig -o json"
    )]
    List {
        #[command(flatten)]
        side: Side,
        #[command(flatten)]
        form: Form,
    },
    /// Show everything that is known of a device
    #[command(
        after_help = "Examples:\n  kedge device describe thermometer\n  kedge device describe lab/t1 --kube-config kubeconfig -o yaml"
    )]
    Describe {
        /// The device: NAME or NAMESPACE/NAME
        #[arg(value_name = "DEVICE", value_parser = device)]
        device: DeviceId,
        #[command(flatten)]
        side: Side,
        #[command(flatten)]
        form: Form,
    },
    /// Play a thermometer over MQTT until interrupted
    #[command(
        after_help = "Examples:\n  kedge device simulate --device thermometer\n  kedge device simulate --device lab/t1 --mqtt 127.0.0.1:1883 --reports 10"
    )]
    Simulate(Simulate),
}

#[derive(clap::Args)]
struct Simulate {
    /// The device to play: NAME or NAMESPACE/NAME
    #[arg(long, value_name = "DEVICE", value_parser = device)]
    device: DeviceId,
    /// The property that it measures
    #[arg(long, default_value = "temperature")]
    property: String,
    /// Time between two reports, such as 500ms, 1s or 2m
    #[arg(long, default_value = "1s", value_parser = duration)]
    interval: Duration,
    /// End after this many reports
    #[arg(long, value_name = "N")]
    reports: Option<u64>,
    /// The broker; the one of this node's daemon when left out
    #[arg(long, value_name = "HOST:PORT")]
    mqtt: Option<String>,
    #[command(flatten)]
    data: DataDir,
}

fn device(text: &str) -> Result<DeviceId, String> {
    DeviceId::parse(text).ok_or_else(|| "write NAME or NAMESPACE/NAME".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    Span::new("500ms, 1s or 2m", Duration::from_millis(1), DAY).read(text)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List<T> {
    api_version: &'static str,
    kind: &'static str,
    items: T,
}

pub fn run(args: Args, term: &Term) -> Result<Exit, Failure> {
    super::block_on(async move {
        match args.deed {
            Deed::List { side, form } => list(&side, form, term).await,
            Deed::Describe { device, side, form } => describe(&side, &device, form, term).await,
            Deed::Simulate(args) => play(args, term).await,
        }
    })
}

async fn list(side: &Side, form: Form, term: &Term) -> Result<Exit, Failure> {
    let devices = side.open().await?.devices().await?;
    if form.output != Output::Text {
        let list = List { api_version: "kedge.io/v1", kind: "DeviceList", items: devices };
        term.value(&list, form.output)?;
        return Ok(Exit::Done);
    }
    let dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let mut rows = vec![["DEVICE", "NODE", "STATE", "PROPERTIES", "LAST ONLINE"].map(str::to_owned)];
    for device in &devices {
        let node = dash(device.node.as_deref().unwrap_or_default());
        let count = device.properties.len().to_string();
        rows.push([device.id.clone(), node, dash(&device.state), count, dash(&device.last_online)]);
    }
    term.data(&aligned(&rows));
    Ok(Exit::Done)
}

async fn describe(side: &Side, id: &DeviceId, form: Form, term: &Term) -> Result<Exit, Failure> {
    let devices = side.open().await?.devices().await?;
    let device = super::twin::find(&devices, id)?;
    if form.output != Output::Text {
        let mut value = serde_json::to_value(device).unwrap_or_default();
        if let Some(fields) = value.as_object_mut() {
            fields.insert("apiVersion".to_owned(), "kedge.io/v1".into());
            fields.insert("kind".to_owned(), "Device".into());
        }
        term.value(&value, form.output)?;
        return Ok(Exit::Done);
    }
    let dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let mut lines = vec![
        format!("device       {}", device.id),
        format!("node         {}", dash(device.node.as_deref().unwrap_or("this one"))),
        format!("state        {}", dash(&device.state)),
        format!("last online  {}", dash(&device.last_online)),
        format!("protocol     {}", dash(&device.protocol)),
    ];
    if device.properties.iter().all(|property| property.reported.is_none()) {
        let node = device.node.as_deref().unwrap_or("this one");
        let missing = mapper_missing(&device.protocol, node);
        lines.push(format!("mapper       {missing}: nothing was ever reported (KE-MAPPER-001)"));
    }
    lines.push(String::new());
    let now = crate::base::now_ms();
    let mut rows = vec![["PROPERTY", "TYPE", "DESIRED", "REPORTED", "AGE", "FOLLOWS"].map(str::to_owned)];
    for property in &device.properties {
        let value = |value: &Option<String>| dash(value.as_deref().unwrap_or_default());
        let at = property
            .reported_at
            .map_or_else(|| "-".to_owned(), |at| super::twin::age(now.saturating_sub(at)));
        let follows = match (&property.desired, &property.reported) {
            (None, _) => "-",
            (wished, is) if wished == is => "yes",
            _ => "no",
        };
        rows.push([
            property.property.clone(),
            dash(&property.value_type),
            value(&property.desired),
            value(&property.reported),
            at,
            follows.to_owned(),
        ]);
    }
    lines.push(aligned(&rows));
    term.data(&lines.join("\n"));
    Ok(Exit::Done)
}

/// Whether this node has the device, and the device the property as far as any is known of it. What is played behind a
/// broker that was named is between the two.
fn is_known(devices: &[Device], id: &DeviceId, property: &str) -> Result<(), Failure> {
    let device = find(devices, id)?;
    if device.properties.is_empty() { Ok(()) } else { find_property(device, property).map(drop) }
}

async fn play(args: Simulate, term: &Term) -> Result<Exit, Failure> {
    let client = match &args.mqtt {
        Some(address) => Client::connect(address).await?,
        None => {
            let here = Local::open(&args.data.data_dir)?;
            is_known(&here.devices()?, &args.device, &args.property)?;
            here.client().await?
        }
    };
    let Simulate { device, property, interval, reports, .. } = args;
    let simulation = Simulation { device, property, interval, reports };
    let stop = Stop::new();
    let played = simulate(&simulation, client, stop.clone(), |value| {
        term.say(&format!("{} {} {value}", simulation.device, simulation.property));
    });
    tokio::select! {
        ended = played => ended.map(|()| Exit::Done),
        _ = tokio::signal::ctrl_c() => Ok(Exit::Interrupted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_this_node_has_is_played() {
        let id = device("lab/t1").unwrap();
        let failure = is_known(&[], &id, "temperature").unwrap_err();
        assert_eq!(failure.code, "KE-TWIN-001");
        let bare = Device {
            id: "lab/t1".to_owned(),
            protocol: String::new(),
            node: None,
            state: String::new(),
            last_online: String::new(),
            properties: Vec::new(),
        };
        assert_eq!(is_known(&[bare], &id, "temperature"), Ok(()));
    }

    #[test]
    fn time_spans_are_read() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "5", "s", "0s", "25h", "é", "99999999999999999999s", "100000m"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
