//! Any bytes as a certificate signing request: what is signed says what was asked for and nothing more.
#![no_main]

use kedge::pki::{Authority, Request, Usages, csr_peer, facts_of, install_crypto_provider};
use kedge_fuzz::plant;
use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;
use std::time::Duration;

static AUTHORITY: OnceLock<Authority> = OnceLock::new();

fn requests() -> impl Iterator<Item = Vec<u8>> {
    install_crypto_provider();
    AUTHORITY.get_or_init(|| Authority::generate("KubeEdge").expect("an authority"));
    let wanted = [("system:node:n1", &["system:nodes"][..]), ("", &[]), ("a/b", &["x", "y"])];
    wanted.into_iter().map(|(name, groups)| Request::new(name, groups).expect("a request").csr_der)
}

fuzz_target!(init: plant("csr", requests()), |data: &[u8]| {
    let wanted = csr_peer(data);
    let Some(authority) = AUTHORITY.get() else { return };
    if let Ok(certificate) = authority.sign_csr(data, Duration::from_secs(3600), Usages::CLIENT) {
        let facts = facts_of(&certificate).expect("a certificate");
        assert_eq!(Some(facts.peer), wanted);
    }
});
