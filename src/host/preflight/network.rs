//! The way to other machines: routes, name service, proxies, packet size. Sends nothing but questions to the name
//! service, and those only for the cloud's own name.

use super::Wanted;
use super::machine::Machine;
use crate::host::check::{Check, Finding, Group};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// IPv6's smallest; TLS with certificates does not get through below.
const SMALLEST_MTU: u32 = 1280;
const DNS_SLOW: Duration = Duration::from_secs(1);
/// The resolver's own limit is longer; a report may not wait for it.
const DNS_LIMIT: Duration = Duration::from_millis(1600);
const PROXY_VARIABLES: [&str; 3] = ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"];

pub(super) fn checks(here: &Machine, wanted: &Wanted) -> Vec<Check> {
    let (route, dns, mtu) = (here.clone(), here.clone(), here.clone());
    let host = wanted.cloud.as_deref().map(host_of);
    let (dns_host, proxy_host) = (host.clone(), host);
    vec![
        Check::blocking("KE-ROUTE-001", Group::Network, "default route", move || {
            vec![judge_route(default_interface(&route.text("/proc/net/route")))]
        }),
        Check::asking("KE-DNS-001", Group::Network, "name service", async move {
            let servers = name_servers(&dns.text("/etc/resolv.conf"));
            let name = dns_host.filter(|host| host.parse::<IpAddr>().is_err());
            let answer = match &name {
                Some(name) => Some(resolve(name).await),
                None => None,
            };
            vec![judge_dns(&servers, name.as_deref(), answer)]
        }),
        Check::blocking("KE-PROXY-001", Group::Network, "proxies", move || {
            let read = |name: &str| std::env::var(name).or_else(|_| std::env::var(name.to_lowercase())).ok();
            let set = PROXY_VARIABLES.into_iter().filter_map(|name| read(name).map(|value| (name, value)));
            let set: Vec<_> = set.filter(|(_, value)| !value.is_empty()).collect();
            vec![judge_proxies(&set, &read("NO_PROXY").unwrap_or_default(), proxy_host.as_deref())]
        }),
        Check::blocking("KE-MTU-001", Group::Network, "packet size", move || {
            let interface = default_interface(&mtu.text("/proc/net/route"));
            let size = interface
                .as_ref()
                .and_then(|name| mtu.line(format!("/sys/class/net/{name}/mtu")).parse().ok());
            vec![judge_mtu(interface.as_deref(), size)]
        }),
    ]
}

/// The host of `host:port` or `[v6]:port`.
fn host_of(address: &str) -> String {
    let host = match address.rsplit_once(':') {
        Some((host, port)) if port.chars().all(|c| c.is_ascii_digit()) => host,
        _ => address,
    };
    host.trim_matches(['[', ']']).to_owned()
}

fn default_interface(routes: &str) -> Option<String> {
    routes.lines().skip(1).find_map(|line| {
        let mut columns = line.split_whitespace();
        let (name, destination, mask) = (columns.next()?, columns.next()?, columns.nth(5)?);
        (destination == "00000000" && mask == "00000000").then(|| name.to_owned())
    })
}

fn judge_route(interface: Option<String>) -> Finding {
    let (code, name) = ("KE-ROUTE-001", "default route");
    match interface {
        Some(interface) => Finding::fine(code, name, format!("by {interface}")),
        None => Finding::warning(code, name, "none")
            .because("this machine reaches its own network only; a cloud elsewhere is out of reach")
            .fix("ip route add default via <router>"),
    }
}

fn name_servers(resolv_conf: &str) -> Vec<String> {
    let server = |line: &str| line.trim().strip_prefix("nameserver").map(|rest| rest.trim().to_owned());
    resolv_conf.lines().filter_map(server).filter(|server| !server.is_empty()).collect()
}

async fn resolve(name: &str) -> Result<(IpAddr, Duration), String> {
    let started = Instant::now();
    let asked = tokio::time::timeout(DNS_LIMIT, tokio::net::lookup_host((name, 0))).await;
    match asked {
        Ok(Ok(mut addresses)) => {
            let first = addresses.next().ok_or_else(|| "no address".to_owned())?;
            Ok((first.ip(), started.elapsed()))
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {:.1} s", DNS_LIMIT.as_secs_f64())),
    }
}

fn judge_dns(
    servers: &[String],
    name: Option<&str>,
    answer: Option<Result<(IpAddr, Duration), String>>,
) -> Finding {
    let (code, title) = ("KE-DNS-001", "name service");
    let listed = if servers.is_empty() { "no nameserver".to_owned() } else { servers.join(", ") };
    match (name, answer) {
        (Some(name), Some(Ok((address, time)))) => {
            let seen = format!("{name} is {address}, {} ms", time.as_millis());
            if time > DNS_SLOW {
                return Finding::warning(code, title, seen)
                    .because(format!("every connection waits for {listed}"))
                    .fix("put a nearer name server first in /etc/resolv.conf");
            }
            Finding::fine(code, title, seen)
        }
        (Some(name), Some(Err(error))) => Finding::failed(code, title, format!("{name}: {error}"))
            .because(format!("the cloud's name must have an address ({listed} in /etc/resolv.conf)"))
            .fix(format!("getent hosts {name}")),
        _ if servers.is_empty() => Finding::warning(code, title, listed)
            .because("pods take this machine's name service; names of other machines have no address")
            .fix("add a `nameserver` line to /etc/resolv.conf"),
        _ => Finding::fine(code, title, listed),
    }
}

/// kedge itself uses no proxy; runtimes and programs around it do.
fn judge_proxies(set: &[(&str, String)], no_proxy: &str, cloud: Option<&str>) -> Finding {
    let (code, name) = ("KE-PROXY-001", "proxies");
    if set.is_empty() {
        return Finding::fine(code, name, "none");
    }
    // A proxy's address may carry a password.
    let shown: Vec<String> =
        set.iter().map(|(name, value)| format!("{name}={}", without_login(value))).collect();
    let seen = shown.join(", ");
    let excepted = |host: &str| {
        no_proxy.split(',').map(str::trim).any(|entry| {
            entry == "*"
                || entry == host
                || (!entry.is_empty() && host.ends_with(entry) && entry.starts_with('.'))
        })
    };
    match cloud {
        Some(host) if !excepted(host) => Finding::warning(code, name, seen)
            .because(format!("kedge goes to {host} directly and not through the proxy; a network that allows the proxy only keeps the node out"))
            .fix(format!("allow TCP 10000, 10002 and 10004 to {host}, and add it to NO_PROXY for other tools")),
        _ => Finding::fine(code, name, seen),
    }
}

fn without_login(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            format!("{scheme}://{}", rest.rsplit_once('@').map_or(rest, |(_, host)| host))
        }
        None => url.rsplit_once('@').map_or(url, |(_, host)| host).to_owned(),
    }
}

fn judge_mtu(interface: Option<&str>, size: Option<u32>) -> Finding {
    let (code, name) = ("KE-MTU-001", "packet size");
    match (interface, size) {
        (Some(interface), Some(size)) if size < SMALLEST_MTU => {
            Finding::warning(code, name, format!("{size} bytes on {interface}"))
                .because("TLS handshakes carry certificates that do not fit; connections begin and then hang")
                .fix(format!("ip link set {interface} mtu 1500"))
        }
        (Some(interface), Some(size)) => Finding::fine(code, name, format!("{size} bytes on {interface}")),
        _ => Finding::skipped(code, name, "no default route"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::check::State;

    const ROUTES: &str = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
        eth1\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
        wwan0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n";

    #[test]
    fn the_default_route_is_found_by_its_mask() {
        assert_eq!(default_interface(ROUTES).as_deref(), Some("wwan0"));
        assert_eq!(default_interface("Iface\nbroken\n"), None);
        assert_eq!(judge_route(None).state, State::Warning);
        assert_eq!(judge_route(Some("wwan0".to_owned())).seen, "by wwan0");
    }

    #[test]
    fn hosts_are_cut_out_of_addresses() {
        let cases = [("c.lan:10000", "c.lan"), ("[::1]:10000", "::1"), ("10.0.0.1", "10.0.0.1")];
        for (address, host) in cases {
            assert_eq!(host_of(address), host);
        }
    }

    #[tokio::test]
    async fn a_name_without_an_address_fails_and_a_real_one_is_timed() {
        let servers = name_servers("search x\nnameserver 192.0.2.53\n nameserver\n");
        assert_eq!(servers, ["192.0.2.53"]);
        let answer = resolve("localhost").await;
        assert!(answer.as_ref().is_ok_and(|(ip, _)| ip.is_loopback()), "{answer:?}");
        assert!(judge_dns(&servers, Some("localhost"), Some(answer)).seen.contains("localhost is "));
        let refused = judge_dns(&servers, Some("c.invalid"), Some(Err("no address".to_owned())));
        assert_eq!((refused.state, refused.fix.as_str()), (State::Failed, "getent hosts c.invalid"));
        let slow = Ok((IpAddr::from([10, 0, 0, 1]), Duration::from_secs(2)));
        assert_eq!(judge_dns(&servers, Some("c.lan"), Some(slow)).state, State::Warning);
        assert_eq!(judge_dns(&[], None, None).state, State::Warning);
        assert_eq!(judge_dns(&servers, None, None).seen, "192.0.2.53");
    }

    #[test]
    fn a_proxy_is_told_without_its_password() {
        let set = [("HTTPS_PROXY", "http://user:s3cret@proxy.lan:3128".to_owned())];
        let finding = judge_proxies(&set, "localhost,.lan", Some("cloud.example"));
        assert_eq!((&*finding.code, finding.state), ("KE-PROXY-001", State::Warning));
        assert_eq!(finding.seen, "HTTPS_PROXY=http://proxy.lan:3128");
        for no_proxy in ["cloud.example", "*", "a, .example"] {
            assert_eq!(judge_proxies(&set, no_proxy, Some("cloud.example")).state, State::Fine, "{no_proxy}");
        }
        assert_eq!(judge_proxies(&[], "", Some("x")).seen, "none");
    }

    #[test]
    fn a_small_packet_size_is_a_warning() {
        assert_eq!(judge_mtu(Some("wwan0"), Some(1200)).fix, "ip link set wwan0 mtu 1500");
        assert_eq!(judge_mtu(Some("wwan0"), Some(1420)).state, State::Fine);
        assert_eq!(judge_mtu(None, None).state, State::Skipped);
    }
}
