//! `kedge twin`: device twins from the node's own store, daemon running or not, or from the cloud with `--kube-config`.
//! What is the same on both sides stands here; `local` and `cluster` bring and set the values.

mod cluster;
mod local;
mod trace;

use super::DataDir;
use crate::base::{Exit, Failure, Output, Term, nearest, now_ms};
use crate::model::DeviceId;
use serde::Serialize;
use serde_json::Value;
use std::path::PathBuf;

pub(super) use cluster::Cluster;
pub(super) use local::Local;

/// Show and set the properties of devices
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  kedge twin get thermometer\n  kedge twin set lab/thermometer target=23 --kube-config kubeconfig\n\nExit status: 1 no such device or property, a value that was refused, or with --trace a broken hop; 2 what was\ntyped cannot be set, such as a ReadOnly property; 3 the kubeconfig is wrong; 4 there is no store here, or the API\ncannot be reached; 5 the daemon took the value and did not answer."
)]
pub struct Args {
    #[command(subcommand)]
    deed: Deed,
}

#[derive(clap::Subcommand)]
enum Deed {
    /// List the properties of all devices
    #[command(after_help = "Examples:\n  kedge twin list\n  kedge twin list -o json")]
    List {
        #[command(flatten)]
        side: Side,
        #[command(flatten)]
        form: Form,
    },
    /// Show the properties of a device, or one of them
    #[command(
        after_help = "Examples:\n  kedge twin get thermometer\n  kedge twin get lab/thermometer temperature"
    )]
    Get {
        /// The device: NAME or NAMESPACE/NAME
        device: String,
        /// One property
        property: Option<String>,
        /// Show the way of the values hop by hop, and the first broken one; exit status 1 when one is
        #[arg(long, conflicts_with = "kube_config")]
        trace: bool,
        #[command(flatten)]
        side: Side,
        #[command(flatten)]
        form: Form,
    },
    /// Set the desired value of a property
    #[command(
        after_help = "Examples:\n  kedge twin set thermometer target=23\n  kedge twin set lab/thermometer target=23 --dry-run"
    )]
    Set {
        /// The device: NAME or NAMESPACE/NAME
        device: String,
        /// The property and its desired value
        #[arg(value_name = "PROPERTY=VALUE")]
        assignment: String,
        /// Check, and change nothing
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        side: Side,
    },
    /// Follow changes until interrupted
    #[command(after_help = "Examples:\n  kedge twin watch\n  kedge twin watch thermometer -o json")]
    Watch {
        /// The device: NAME or NAMESPACE/NAME; all when left out
        device: Option<String>,
        #[command(flatten)]
        side: Side,
        #[command(flatten)]
        form: Form,
    },
}

/// Where the devices are looked up.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Side {
    #[command(flatten)]
    data: DataDir,
    /// Ask the Kubernetes API of this kubeconfig instead of this node's store
    #[arg(long, value_name = "FILE")]
    kube_config: Option<PathBuf>,
}

#[derive(clap::Args, Clone, Copy, Debug)]
pub(super) struct Form {
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t)]
    pub(super) output: Output,
}

/// One property as it is shown; JSON only ever grows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Property {
    pub(super) device: String,
    pub(super) property: String,
    pub(super) desired: Option<String>,
    pub(super) reported: Option<String>,
    /// Milliseconds since the epoch.
    pub(super) reported_at: Option<i64>,
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub(super) value_type: String,
}

/// A device as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Device {
    pub(super) id: String,
    pub(super) node: Option<String>,
    pub(super) state: String,
    pub(super) last_online: String,
    /// How its mapper speaks to it; empty where the Device does not say.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) protocol: String,
    pub(super) properties: Vec<Property>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List<'a> {
    api_version: &'static str,
    kind: &'static str,
    items: &'a [Property],
}

/// Either side, opened.
pub(super) enum Source {
    Local(Local),
    Cluster(Cluster),
}

impl Side {
    pub(super) async fn open(&self) -> Result<Source, Failure> {
        match &self.kube_config {
            Some(file) => Ok(Source::Cluster(Cluster::connect(file).await?)),
            None => Ok(Source::Local(Local::open(&self.data.data_dir)?)),
        }
    }
}

impl Source {
    pub(super) async fn devices(&self) -> Result<Vec<Device>, Failure> {
        match self {
            Source::Local(local) => local.devices(),
            Source::Cluster(cluster) => cluster.devices().await,
        }
    }

    /// Whether the device's model says that the property cannot be set; a device without a model says nothing.
    async fn only_reads(&self, device: &DeviceId, property: &str) -> Result<bool, Failure> {
        let model = match self {
            Source::Local(local) => local.model(device)?,
            Source::Cluster(cluster) => cluster.model(device).await?,
        };
        Ok(model.is_some_and(|model| is_read_only(&model, property)))
    }

    async fn set(&self, device: &DeviceId, property: &str, value: &str) -> Result<(), Failure> {
        match self {
            Source::Local(local) => local.set(device, property, value).await,
            Source::Cluster(cluster) => cluster.set(device, property, value).await,
        }
    }
}

pub fn run(args: Args, term: &Term) -> Result<Exit, Failure> {
    super::block_on(async move {
        match args.deed {
            Deed::List { side, form } => {
                let devices = side.open().await?.devices().await?;
                let all: Vec<Property> = devices.into_iter().flat_map(|device| device.properties).collect();
                show(&all, form, term)?;
            }
            Deed::Get { device, property, trace: true, side, form } => {
                let id = device_id(&device)?;
                return trace::run(&side.data.data_dir, &id, property.as_deref(), form.output, term);
            }
            Deed::Get { device, property, trace: false, side, form } => {
                let devices = side.open().await?.devices().await?;
                let found = find(&devices, &device_id(&device)?)?;
                match property {
                    Some(name) => show(std::slice::from_ref(find_property(found, &name)?), form, term)?,
                    None => show(&found.properties, form, term)?,
                }
            }
            Deed::Set { device, assignment, dry_run, side } => {
                set(&side, &device, &assignment, dry_run, term).await?;
            }
            Deed::Watch { device, side, form } => {
                let device = device.as_deref().map(device_id).transpose()?;
                watch(&side.open().await?, device.as_ref(), form, term).await?;
            }
        }
        Ok(Exit::Done)
    })
}

async fn set(side: &Side, device: &str, assignment: &str, dry_run: bool, term: &Term) -> Result<(), Failure> {
    let id = device_id(device)?;
    let (property, value) =
        assignment.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(|| {
            Failure::new("KE-TWIN-003", format!("{assignment:?} does not say what to set"))
                .because("a property and its value stand on two sides of =")
                .fix("write PROPERTY=VALUE, for example target=23")
                .exit(Exit::Usage)
        })?;
    let source = side.open().await?;
    let devices = source.devices().await?;
    find_property(find(&devices, &id)?, property)?;
    if source.only_reads(&id, property).await? {
        return Err(Failure::new("KE-TWIN-006", format!("{property} of {id} cannot be set"))
            .because("its DeviceModel has it as ReadOnly: the device says what it is")
            .fix(format!("set another one: kedge twin get {id}; or make it ReadWrite in the DeviceModel"))
            .exit(Exit::Usage));
    }
    if dry_run {
        term.say(&format!("would set {property} of {id} to {value:?}"));
        return Ok(());
    }
    source.set(&id, property, value).await?;
    term.say(&format!("{id}: {property} is to be {value:?}"));
    Ok(())
}

async fn watch(source: &Source, device: Option<&DeviceId>, form: Form, term: &Term) -> Result<(), Failure> {
    if let Some(id) = device {
        find(&source.devices().await?, id)?;
    }
    // The way out of following, once nobody reads.
    let unheard = || term.read();
    let told = |property: &Property| -> Result<(), Failure> {
        if form.output == Output::Text {
            let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
            let (desired, reported) = (value(&property.desired), value(&property.reported));
            term.data(&format!(
                "{}  {}  desired {desired}  reported {reported}",
                property.device, property.property
            ));
            return unheard();
        }
        term.line(property)?;
        unheard()
    };
    let follow = async {
        match source {
            Source::Local(local) => local.watch(device, told).await,
            Source::Cluster(cluster) => cluster.watch(device, told).await,
        }
    };
    tokio::select! {
        ended = follow => if term.is_heard() { ended } else { Ok(()) },
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

pub(super) fn device_id(text: &str) -> Result<DeviceId, Failure> {
    DeviceId::parse(text).ok_or_else(|| {
        Failure::new("KE-TWIN-003", format!("{text:?} names no device"))
            .because("a name has lower-case letters, digits, '-' and '.', and at most one / before it")
            .fix("write NAME or NAMESPACE/NAME")
            .exit(Exit::Usage)
    })
}

pub(super) fn find<'a>(devices: &'a [Device], id: &DeviceId) -> Result<&'a Device, Failure> {
    let name = id.to_string();
    devices.iter().find(|device| device.id == name).ok_or_else(|| {
        let known = devices.iter().map(|device| device.id.as_str());
        let failure = Failure::new("KE-TWIN-001", format!("there is no device {name}"))
            .because(format!("of the {} devices here none has this name and namespace", devices.len()));
        hint(failure, &name, known, "list them with `kedge device list`")
    })
}

pub(super) fn find_property<'a>(device: &'a Device, name: &str) -> Result<&'a Property, Failure> {
    device.properties.iter().find(|property| property.property == name).ok_or_else(|| {
        let known = device.properties.iter().map(|property| property.property.as_str());
        let names: Vec<&str> = known.clone().take(8).collect();
        let failure = Failure::new("KE-TWIN-002", format!("{} has no property {name}", device.id)).because(
            format!("it has {}", if names.is_empty() { "none".to_owned() } else { names.join(", ") }),
        );
        hint(failure, name, known, &format!("list them with `kedge twin get {}`", device.id))
    })
}

/// The name of the model of a Device.
fn model_of(device: &Value) -> Option<&str> {
    device.pointer("/spec/deviceModelRef/name").and_then(Value::as_str)
}

fn is_read_only(model: &Value, property: &str) -> bool {
    let properties = model.pointer("/spec/properties").and_then(Value::as_array).into_iter().flatten();
    let said = |held: &Value, field: &str| held.get(field).and_then(Value::as_str).map(str::to_owned);
    properties
        .filter(|held| said(held, "name").as_deref() == Some(property))
        .any(|held| said(held, "accessMode").as_deref() == Some("ReadOnly"))
}

fn hint<'a>(failure: Failure, name: &str, known: impl Iterator<Item = &'a str>, otherwise: &str) -> Failure {
    match nearest(name, known) {
        Some(near) => failure.fix(format!("did you mean {near}?")),
        None => failure.fix(otherwise),
    }
}

fn show(properties: &[Property], form: Form, term: &Term) -> Result<(), Failure> {
    if form.output != Output::Text {
        return term
            .value(&List { api_version: "kedge.io/v1", kind: "TwinList", items: properties }, form.output);
    }
    let now = now_ms();
    let mut rows = vec![["DEVICE", "PROPERTY", "DESIRED", "REPORTED", "AGE"].map(str::to_owned)];
    for property in properties {
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
        let at = property.reported_at.map_or_else(|| "-".to_owned(), |at| age(now.saturating_sub(at)));
        let (desired, reported) = (value(&property.desired), value(&property.reported));
        rows.push([property.device.clone(), property.property.clone(), desired, reported, at]);
    }
    term.data(&aligned(&rows));
    Ok(())
}

/// Columns of equal width, two blanks between them, none at the end of a line.
pub(super) fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &[String; N]| {
        let cells: String =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}  ")).collect();
        cells.trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A time span as kubectl shortens it.
pub(super) fn age(ms: i64) -> String {
    match ms.max(0) / 1000 {
        seconds @ 0..120 => format!("{seconds}s"),
        seconds @ 120..7200 => format!("{}m", seconds / 60),
        seconds @ 7200..172_800 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other() {
        let rows = [["DEVICE", "AGE"], ["default/t1", "5s"]].map(|row| row.map(str::to_owned));
        assert_eq!(aligned(&rows), "DEVICE      AGE\ndefault/t1  5s");
    }

    #[test]
    fn what_a_model_lets_only_read_is_not_set() {
        let model = serde_json::json!({"spec": {"properties": [
            {"name": "temperature", "accessMode": "ReadOnly"}, {"name": "target", "accessMode": "ReadWrite"}, {"name": "plain"}]}});
        assert!(is_read_only(&model, "temperature"));
        assert!(
            !is_read_only(&model, "target")
                && !is_read_only(&model, "plain")
                && !is_read_only(&model, "none")
        );
        assert!(!is_read_only(&Value::Null, "temperature"));
    }

    #[test]
    fn every_exit_status_is_in_the_help() {
        use clap::CommandFactory;
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            _args: Args,
        }
        let help = Line::command().render_long_help().to_string();
        let told = help.split_whitespace().collect::<Vec<_>>().join(" ");
        let told = told.split_once("Exit status:").unwrap().1;
        for exit in [Exit::Failed, Exit::Usage, Exit::Configuration, Exit::Unreachable, Exit::TimedOut] {
            assert!(told.contains(&format!(" {} ", exit.code())), "{exit:?}: {told}");
        }
    }

    #[test]
    fn ages_are_short() {
        let ages = [-5, 5000, 130_000, 8_000_000, 200_000_000].map(age);
        assert_eq!(ages, ["0s", "5s", "2m", "2h", "2d"]);
    }
}
