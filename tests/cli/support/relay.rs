//! A TCP relay whose far end can be moved: what a load balancer before several clouds does to nodes. And a real one.

use std::io::copy;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const CONNECT: Duration = Duration::from_secs(2);

#[derive(Default)]
struct Wires {
    /// 0: nobody is there.
    target: u16,
    open: Vec<TcpStream>,
    ended: bool,
}

/// Relays until dropped.
pub struct Relay {
    pub port: u16,
    wires: Arc<Mutex<Wires>>,
}

fn lock(wires: &Mutex<Wires>) -> MutexGuard<'_, Wires> {
    wires.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Relay {
    pub fn to(target: u16) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let wires = Arc::new(Mutex::new(Wires { target, ..Wires::default() }));
        let shared = wires.clone();
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let mut wires = lock(&shared);
                if wires.ended {
                    return;
                }
                if wires.target != 0
                    && let Ok(far) = TcpStream::connect(("127.0.0.1", wires.target))
                {
                    wires.open.extend([near.try_clone().unwrap(), far.try_clone().unwrap()]);
                    join(near, far);
                }
            }
        });
        Relay { port, wires }
    }

    /// Ends all connections; new ones go to this port, or nowhere for 0.
    pub fn point_at(&self, target: u16) {
        let mut wires = lock(&self.wires);
        wires.target = target;
        for stream in wires.open.drain(..) {
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

fn join(near: TcpStream, far: TcpStream) {
    let ways = [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)];
    for (mut from, mut to) in ways {
        std::thread::spawn(move || {
            drop(copy(&mut from, &mut to));
            drop(to.shutdown(Shutdown::Write));
        });
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.point_at(0);
        lock(&self.wires).ended = true;
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

/// A load balancer: each connection goes to the machine behind the last one's, or to the next that takes it.
pub struct Balancer {
    at: SocketAddr,
    /// How many connections there were, and the machine of the last one.
    seen: Arc<Mutex<(usize, usize)>>,
    ended: Arc<AtomicBool>,
}

impl Balancer {
    /// Before these machines, at the same port, until dropped.
    pub fn before(at: SocketAddr, machines: &[IpAddr]) -> Balancer {
        let listener = TcpListener::bind(at).unwrap();
        let (seen, ended) = (Arc::<Mutex<(usize, usize)>>::default(), Arc::<AtomicBool>::default());
        let (noted, over, machines) = (seen.clone(), ended.clone(), machines.to_vec());
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let mut seen = noted.lock().unwrap_or_else(PoisonError::into_inner);
                let order = (1..=machines.len()).map(|step| (seen.1 + step) % machines.len());
                let taken = order.into_iter().find_map(|machine| {
                    let to = SocketAddr::new(machines[machine], at.port());
                    Some((machine, TcpStream::connect_timeout(&to, CONNECT).ok()?))
                });
                if let Some((machine, far)) = taken {
                    *seen = (seen.0 + 1, machine);
                    join(near, far);
                }
            }
        });
        Balancer { at, seen, ended }
    }

    /// How many connections there were, and the machine of the last one.
    pub fn seen(&self) -> (usize, usize) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.at));
    }
}
