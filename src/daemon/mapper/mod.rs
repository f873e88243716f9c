//! Devices that kedge brings itself. Now the simulated thermometer: `kedge device simulate` runs it over TCP,
//! `kedge up --demo` as a module inside. A mapper knows MQTT topics and values, never the store or the cloud.

mod thermometer;

use crate::base::{BoxFuture, Failure, Module, Ready, Stop, now_ms};
use crate::daemon::edge::mqtt::{Broker, Client, Subscription};
use crate::model::DeviceId;
use bytes::Bytes;
use std::time::Duration;
use thermometer::Thermometer;

/// Which device is played, and how often it reports.
#[derive(Clone, Debug)]
pub struct Simulation {
    pub device: DeviceId,
    /// The property that is measured.
    pub property: String,
    pub interval: Duration,
    /// Ends after this many reports.
    pub reports: Option<u64>,
}

/// How the device reaches the broker.
enum Port {
    Inside(Broker, Subscription),
    Tcp(Client),
}

impl Port {
    async fn publish(&mut self, topic: &str, payload: Vec<u8>) -> Result<(), Failure> {
        match self {
            Port::Inside(broker, _) => {
                broker.publish(topic, payload, false).await;
                Ok(())
            }
            Port::Tcp(client) => client.publish(topic, &payload).await,
        }
    }

    async fn next_within(&mut self, limit: Duration) -> Result<Option<(Box<str>, Bytes)>, Failure> {
        match self {
            Port::Inside(_, inbox) => Ok(tokio::time::timeout(limit, inbox.next()).await.ok().flatten()),
            Port::Tcp(client) => client.next_within(limit).await,
        }
    }
}

/// A simulated thermometer as a module of `kedge up --demo`.
pub fn simulated(simulation: Simulation, broker: Broker) -> impl Module {
    Simulated { simulation, broker }
}

struct Simulated {
    simulation: Simulation,
    broker: Broker,
}

impl Module for Simulated {
    fn name(&self) -> &'static str {
        "simulator"
    }

    fn run(&mut self, stop: Stop, ready: Ready) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            let topics = thermometer::topics(&self.simulation.device);
            let filters: Vec<&str> = topics.iter().map(String::as_str).collect();
            let port = Port::Inside(self.broker.clone(), self.broker.subscribe(&filters));
            ready.set();
            play(&self.simulation, port, stop, |_| {}).await
        })
    }
}

/// Plays the device over TCP until stopped; `seen` hears each reported value.
pub async fn simulate(
    simulation: &Simulation,
    mut client: Client,
    stop: Stop,
    seen: impl FnMut(&str) + Send,
) -> Result<(), Failure> {
    let topics = thermometer::topics(&simulation.device);
    let filters: Vec<&str> = topics.iter().map(String::as_str).collect();
    client.subscribe(&filters).await?;
    play(simulation, Port::Tcp(client), stop, seen).await
}

async fn play(
    simulation: &Simulation,
    mut port: Port,
    stop: Stop,
    mut seen: impl FnMut(&str) + Send,
) -> Result<(), Failure> {
    let mut thermometer = Thermometer::new(simulation.device.clone(), simulation.property.clone());
    for (topic, payload) in thermometer.greeting(now_ms()) {
        port.publish(&topic, payload).await?;
    }
    let mut reports = 0u64;
    while simulation.reports.is_none_or(|limit| reports < limit) {
        let (topic, payload) = thermometer.report(now_ms());
        port.publish(&topic, payload).await?;
        seen(&thermometer.shown());
        reports += 1;
        let next = tokio::time::Instant::now() + simulation.interval;
        loop {
            let left = next.saturating_duration_since(tokio::time::Instant::now());
            if left.is_zero() {
                break;
            }
            let Some(heard) = stop.or(port.next_within(left)).await else { return Ok(()) };
            if let Some((topic, payload)) = heard?
                && let Some((topic, payload)) = thermometer.hear(&topic, &payload, now_ms())
            {
                port.publish(&topic, payload).await?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Crew;
    use crate::daemon::edge::mqtt;
    use std::net::SocketAddr;

    #[tokio::test]
    async fn the_module_reports_and_obeys() {
        let listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
        let (broker, _listener) = mqtt::new(mqtt::Config { listen, ..mqtt::Config::default() });
        let mut updates = broker.subscribe(&["$hw/events/device/lab/t/twin/update"]);
        let device = DeviceId::new("lab", "t");
        let interval = Duration::from_millis(5);
        let simulation = Simulation { device, property: "temperature".to_owned(), interval, reports: None };
        let mut module = simulated(simulation, broker.clone());
        let (stop, mut crew) = (Stop::new(), Crew::new());
        let inner = stop.clone();
        crew.spawn(async move {
            module.run(inner, Ready::detached("simulator")).await.unwrap();
        });
        updates.next().await.unwrap();
        broker
            .publish("$hw/events/device/lab/t/twin/update/delta", r#"{"delta":{"target":"30"}}"#, false)
            .await;
        loop {
            let (_, payload) = updates.next().await.unwrap();
            if String::from_utf8_lossy(&payload).contains(r#""target":{"actual":{"value":"30"}"#) {
                break;
            }
        }
        stop.raise();
        crew.finish().await;
    }
}
