//! Whether the addresses that nodes are to be told lead to a cloud at all: `init` asks before anything is touched. It
//! connects to nothing; a name is looked up as this machine would.

use crate::config::api_url;
use crate::host::check::{Finding, State};
use std::net::IpAddr;
use std::time::Duration;

/// The check of the addresses among the findings.
const CODE: &str = "KE-INIT-006";
/// For each name.
const LOOKUP: Duration = Duration::from_secs(5);

/// Makes a failure of the check of the addresses where one of them leads nowhere. Loopback addresses are for an API on
/// loopback, `api` being its URL: then all of it is one machine's own test.
pub(super) async fn judge(findings: &mut [Finding], addresses: &[String], api: &str) {
    let mut wrong = Vec::new();
    for address in addresses {
        wrong.extend(doubt(address, is_here(api)).await.map(|why| format!("{address} {why}")));
    }
    let told = findings.iter_mut().find(|it| it.code == CODE);
    let Some(told) = told.filter(|_| !wrong.is_empty()) else { return };
    told.state = State::Failed;
    told.why = wrong.join("; ");
    "name the address or the host name under which nodes reach the cloud: --advertise-address IP"
        .clone_into(&mut told.fix);
}

async fn doubt(address: &str, own_test: bool) -> Option<String> {
    if let Ok(ip) = address.parse::<IpAddr>() {
        return doubt_about(ip, own_test).map(str::to_owned);
    }
    if address.eq_ignore_ascii_case("localhost") {
        return doubt_about(IpAddr::from([127, 0, 0, 1]), own_test).map(str::to_owned);
    }
    // What ends in digits was meant as an address: no name does.
    let last = address.rsplit('.').next().unwrap_or_default();
    if !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some("is no IP address".to_owned());
    }
    match tokio::time::timeout(LOOKUP, tokio::net::lookup_host((address, 443))).await {
        Ok(Ok(mut found)) => found.next().is_none().then(|| "has no address".to_owned()),
        Ok(Err(error)) => Some(format!("cannot be resolved here: {error}")),
        Err(_) => Some(format!("cannot be resolved here: no answer within {} s", LOOKUP.as_secs())),
    }
}

fn doubt_about(ip: IpAddr, own_test: bool) -> Option<&'static str> {
    let ip = ip.to_canonical();
    if ip.is_unspecified() {
        return Some("stands for every address of a machine and leads to none");
    }
    if ip.is_multicast() || matches!(ip, IpAddr::V4(v4) if v4.is_broadcast()) {
        return Some("is the address of many machines");
    }
    let loopback = ip.is_loopback() && !own_test;
    loopback.then_some(
        "leads each node to itself, and the Kubernetes API is not on this machine's loopback either",
    )
}

/// Whether a URL leads to this machine's loopback.
fn is_here(url: &str) -> bool {
    let Ok(url) = api_url(url) else { return false };
    let host = url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn judged(addresses: &[&str], api: &str) -> Finding {
        let addresses: Vec<String> = addresses.iter().map(|it| (*it).to_owned()).collect();
        let mut findings =
            [Finding::fine("KE-INIT-001", "API", api), Finding::fine(CODE, "addresses for nodes", "x")];
        judge(&mut findings, &addresses, api).await;
        assert_eq!(findings[0].state, State::Fine);
        let [_, judged] = findings;
        judged
    }

    #[tokio::test]
    async fn addresses_that_lead_nowhere_are_refused_all_at_once() {
        const API: &str = "https://10.0.0.1:6443";
        for wrong in [
            "0.0.0.0",
            "::",
            "::ffff:0.0.0.0",
            "127.0.0.1",
            "::1",
            "LOCALHOST",
            "255.255.255.255",
            "224.0.0.1",
            "999.1.1.1",
            "1.2.3.4.5",
            "99999999999999999999",
            "no-such-name.invalid",
        ] {
            let told = judged(&[wrong], API).await;
            assert_eq!((&*told.code, told.state), ("KE-INIT-006", State::Failed), "{wrong}");
            assert!(told.why.starts_with(wrong) && told.fix.contains("--advertise-address"), "{told:?}");
        }
        let both = judged(&["10.0.0.5", "0.0.0.0", "999.1.1.1"], API).await;
        assert!(
            both.why.contains("0.0.0.0 stands for") && both.why.contains("; 999.1.1.1 is no"),
            "{both:?}"
        );
        assert_eq!(judged(&["10.0.0.5", "fd00::5"], API).await.state, State::Fine);
    }

    #[tokio::test]
    async fn a_test_of_one_machine_may_use_its_loopback() {
        for api in ["https://127.0.0.1:6443", "https://localhost:6443", "https://[::1]:6443"] {
            assert_eq!(judged(&["127.0.0.1", "::1", "localhost"], api).await.state, State::Fine, "{api}");
            assert_eq!(judged(&["0.0.0.0"], api).await.state, State::Failed);
        }
    }
}
