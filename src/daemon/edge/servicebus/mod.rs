//! HTTP between programs on this node and the rules of the cloud (protocol.md §9.1): `server` takes what programs say to a
//! rule's URL and asks the cloud, `call` carries out what the cloud asks of a service on loopback. The URLs stand in the
//! store; the server listens only while there is one. It never connects to anything but 127.0.0.1.

mod call;
mod server;

use super::uplink::{Receipt, ReportKey, Uplink};
use crate::base::{BoxFuture, Crew, Failure, Gone, Mail, Mailbox, Module, Ready, Stop, mailbox};
use crate::host::ports::bind_failure;
use crate::store::{RuleList, Store};
use crate::wire::user::{HttpRequest, HttpResponse};
use crate::wire::{MessageId, Up};
use server::Desk;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::Instant;

const LETTERS: usize = 64;
/// Calls of the cloud at a time; each may hold a body of 12 MB and an answer of 5 MB.
const CALLS: usize = 16;
/// Pause before a port that another process holds is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// URLs that rules may have the node take calls for.
const URLS: usize = 1024;

/// Where programs find the server, and how long the cloud may take.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    pub listen: SocketAddr,
    pub limit: Duration,
}

/// Orders that change what the server takes.
pub enum Letter {
    Listen { url: String, receipt: Receipt },
    Unlisten { url: String, receipt: Receipt },
}

/// A call of the cloud to a service on this node.
#[derive(Debug)]
pub struct Call {
    pub id: MessageId,
    pub target: String,
    pub request: HttpRequest,
}

enum Mailed {
    Order(Letter),
    Call(Call),
}

/// The way to this room; cheap to clone.
#[derive(Clone)]
pub struct ServiceBus {
    letters: Option<Mailbox<Mailed>>,
    uplink: Uplink,
}

impl ServiceBus {
    /// The handle of a node that has no such room: calls are refused, orders find nobody.
    pub fn absent(uplink: Uplink) -> ServiceBus {
        ServiceBus { letters: None, uplink }
    }

    /// Carries out an order.
    pub async fn put(&self, letter: Letter) -> Result<(), Gone> {
        match &self.letters {
            Some(letters) => letters.put(Mailed::Order(letter)).await,
            None => Err(Gone),
        }
    }

    /// Calls a service on this node; the cloud hears of the outcome, whatever it is.
    pub async fn call(&self, call: Call) {
        let id = call.id.clone();
        let taken = self.letters.as_ref().map(|letters| letters.try_put(Mailed::Call(call)));
        let refusal = match taken {
            Some(Ok(())) => return,
            Some(Err(Gone)) => HttpResponse::failure(503, "too many calls wait on this node"),
            None => HttpResponse::failure(501, "modules.serviceBus is not enabled on this node"),
        };
        answer(&self.uplink, id, refusal).await;
    }
}

async fn answer(uplink: &Uplink, to: MessageId, response: HttpResponse) {
    let key = ReportKey(format!("call {}", to.0));
    if uplink.report(key, Up::ServiceReply { to, response }).await.is_err() {
        tracing::debug!("the uplink has ended before a call was answered");
    }
}

struct ServiceBusModule {
    config: Config,
    store: Store,
    uplink: Uplink,
    letters: Mail<Mailed>,
}

/// The handle and the module.
pub fn new(config: Config, store: Store, uplink: Uplink) -> (ServiceBus, impl Module) {
    let (sender, letters) = mailbox(LETTERS);
    let handle = ServiceBus { letters: Some(sender), uplink: uplink.clone() };
    (handle, ServiceBusModule { config, store, uplink, letters })
}

impl Module for ServiceBusModule {
    fn name(&self) -> &'static str {
        "servicebus"
    }

    fn run(&mut self, stop: Stop, ready: Ready) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            let urls: BTreeSet<String> = self.store.rules(RuleList::Urls).await?.into_iter().collect();
            let desk = Arc::new(Desk {
                urls: Mutex::new(urls),
                uplink: self.uplink.clone(),
                limit: self.config.limit,
            });
            let mut crew = Crew::new();
            let mut door = Door::default();
            let room = Arc::new(Semaphore::new(CALLS));
            self.match_server(&desk, &mut door, &mut crew, &stop).await;
            ready.set();
            loop {
                let mailed = tokio::select! {
                    () = stop.raised() => break,
                    () = until(door.retry_at) => {
                        self.match_server(&desk, &mut door, &mut crew, &stop).await;
                        continue;
                    }
                    mailed = self.letters.recv() => mailed,
                };
                let Some(mailed) = mailed else { break };
                match mailed {
                    Mailed::Order(letter) => {
                        self.carry_out(letter, &desk).await?;
                        self.match_server(&desk, &mut door, &mut crew, &stop).await;
                    }
                    Mailed::Call(call) => {
                        let (uplink, permit) = (self.uplink.clone(), room.clone().try_acquire_owned());
                        crew.spawn(async move {
                            let Call { id, target, request } = call;
                            let response = match permit {
                                Ok(_permit) => call::carry_out(&target, request).await,
                                Err(_) => HttpResponse::failure(503, "too many calls wait on this node"),
                            };
                            answer(&uplink, id, response).await;
                        });
                    }
                }
            }
            Ok(())
        })
    }
}

/// Where programs come in.
#[derive(Default)]
struct Door {
    /// Ends the server; `None` while it does not serve.
    serving: Option<Stop>,
    /// When a port that was held is tried again.
    retry_at: Option<Instant>,
    /// Whether it was said that the port is held.
    told: bool,
}

/// Never, where there is no time to wait for.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl ServiceBusModule {
    async fn carry_out(&self, letter: Letter, desk: &Desk) -> Result<(), Failure> {
        match letter {
            Letter::Listen { url, receipt } => {
                if desk.urls().len() >= URLS {
                    tracing::warn!(url, "a rule's URL cannot be taken: there are too many");
                    receipt.refused("there are too many URLs");
                    return Ok(());
                }
                self.store.put_rule(RuleList::Urls, &url).await?;
                desk.urls().insert(url);
                receipt.stored();
            }
            Letter::Unlisten { url, receipt } => {
                // A genuine cloud writes the URL that is undone with one slash where it had two.
                let same = |held: &&String| **held == url || held.replacen("://", ":/", 1) == url;
                let gone: Vec<String> = desk.urls().iter().filter(same).cloned().collect();
                for row in gone {
                    self.store.delete_rule(RuleList::Urls, &row).await?;
                    desk.urls().remove(&row);
                }
                receipt.stored();
            }
        }
        Ok(())
    }

    /// Starts the server with the first URL and ends it with the last. A port that is held is waited for: the cloud's
    /// calls need none, and the rest of the edge even less.
    async fn match_server(&self, desk: &Arc<Desk>, door: &mut Door, crew: &mut Crew, stop: &Stop) {
        let needed = !desk.urls().is_empty();
        door.retry_at = None;
        match (needed, door.serving.take()) {
            (true, None) => {
                let address = self.config.listen;
                match TcpListener::bind(address).await {
                    Ok(listener) => {
                        tracing::info!(%address, "the ServiceBus serves");
                        let own = stop.child();
                        crew.spawn(server::serve(listener, desk.clone(), own.clone()));
                        *door = Door { serving: Some(own), ..Door::default() };
                    }
                    Err(error) => {
                        if !door.told {
                            let failure = bind_failure("the ServiceBus", address, &error);
                            tracing::error!(code = failure.code, error = %failure, "the ServiceBus takes no calls until its port is free");
                            door.told = true;
                        }
                        door.retry_at = Some(Instant::now() + RETRY);
                    }
                }
            }
            (false, Some(own)) => own.raise(),
            (_, held) => door.serving = held,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::edge::uplink::{Link, Outgoing};
    use crate::wire::Answer;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn post(port: u16, body: &str) -> Option<String> {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        let text = format!(
            "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(text.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        Some(answer)
    }

    #[tokio::test]
    async fn the_server_listens_while_a_rule_has_a_url_and_asks_the_cloud() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("edgecore.db")).unwrap();
        let (uplink, mut outgoing, link) = Uplink::channel(8);
        link.send_replace(Link::Up);
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = Config { listen: ([127, 0, 0, 1], port).into(), limit: Duration::from_secs(5) };
        let (bus, mut module) = new(config, store.clone(), uplink);
        let (stop, mut crew) = (Stop::new(), Crew::new());
        let inner = stop.clone();
        crew.spawn(async move { module.run(inner, Ready::detached("servicebus")).await.unwrap() });
        assert!(post(port, "{}").await.is_none(), "nobody listens without a rule");
        let (receipt, stored) = Receipt::new();
        let url = "http://cloud/x".to_owned();
        bus.put(Letter::Listen { url, receipt }).await.unwrap();
        stored.await.unwrap();
        assert_eq!(store.rules(RuleList::Urls).await.unwrap(), ["http://cloud/x"]);
        for (body, expected) in [
            ("nonsense", "invalid params"),
            ("[]", "invalid params"),
            (r#"{"targetURL":"http://169.254.169.254/"}"#, "is not allowed"),
        ] {
            let answer = post(port, body).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(expected), "{answer}");
            assert!(answer.contains(r#""code":400"#), "{answer}");
        }
        let body = r#"{"method":"POST","targetURL":"http://cloud/x","payload":1}"#;
        let asked = async {
            let Some(Outgoing::Ask { up, answer }) = outgoing.recv().await else { panic!() };
            let expected = Up::ServiceUpload { url: "http://cloud/x".to_owned(), body: body.into() };
            assert_eq!(up, expected);
            answer.send(Answer::Text("the cloud's word".to_owned())).unwrap();
        };
        let (answer, ()) = tokio::join!(post(port, body), asked);
        let answer = answer.unwrap();
        assert!(answer.contains(r#""code":200"#) && answer.contains("the cloud's word"), "{answer}");
        let (receipt, stored) = Receipt::new();
        bus.put(Letter::Unlisten { url: "http:/cloud/x".to_owned(), receipt }).await.unwrap();
        stored.await.unwrap();
        assert!(store.rules(RuleList::Urls).await.unwrap().is_empty());
        stop.raise();
        crew.finish().await;
    }

    #[tokio::test]
    async fn a_port_that_is_held_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("edgecore.db")).unwrap();
        let (uplink, mut outgoing, link) = Uplink::channel(8);
        link.send_replace(Link::Up);
        let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = holder.local_addr().unwrap();
        let config = Config { listen, limit: Duration::from_secs(5) };
        let (bus, mut module) = new(config, store, uplink);
        let (stop, mut crew) = (Stop::new(), Crew::new());
        let inner = stop.clone();
        crew.spawn(async move { module.run(inner, Ready::detached("servicebus")).await.unwrap() });
        let (receipt, stored) = Receipt::new();
        bus.put(Letter::Listen { url: "http://cloud/x".to_owned(), receipt }).await.unwrap();
        stored.await.unwrap();
        // Calls of the cloud are carried out all the same.
        let id = MessageId("m".to_owned());
        let target = "no port".to_owned();
        bus.call(Call { id: id.clone(), target, request: HttpRequest::default() }).await;
        let answered = tokio::time::timeout(Duration::from_secs(5), outgoing.recv()).await.unwrap();
        let Some(Outgoing::Report { up: Up::ServiceReply { to, response }, .. }) = answered else { panic!() };
        assert_eq!((to, response.status_code), (id, 400));
        drop(holder);
        let answer = tokio::time::timeout(RETRY * 3, async {
            loop {
                if let Some(answer) = post(listen.port(), "nonsense").await {
                    break answer;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let answer = answer.await.unwrap();
        assert!(answer.contains("invalid params"), "{answer}");
        stop.raise();
        crew.finish().await;
    }

    #[tokio::test]
    async fn a_call_is_answered_also_where_nothing_serves() {
        let (uplink, mut outgoing, _link) = Uplink::channel(8);
        let id = MessageId("m".to_owned());
        let call = Call { id: id.clone(), target: "1:/x".to_owned(), request: HttpRequest::default() };
        ServiceBus::absent(uplink).call(call).await;
        let Some(Outgoing::Report { up: Up::ServiceReply { to, response }, .. }) = outgoing.recv().await
        else {
            panic!()
        };
        assert_eq!((to, response.status_code), (id, 501));
    }
}
