//! Any text as a join token, at the edge and at the cloud: only what this cloud has made is accepted.
#![no_main]

use kedge::pki::{Authority, Token, TokenBook, install_crypto_provider};
use kedge_fuzz::plant;
use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;
use std::time::Duration;

struct Cloud {
    authority: Authority,
    book: TokenBook,
    tokens: Vec<String>,
    _dir: tempfile::TempDir,
}

static CLOUD: OnceLock<Cloud> = OnceLock::new();

fn cloud() -> &'static Cloud {
    CLOUD.get_or_init(|| {
        install_crypto_provider();
        let dir = tempfile::tempdir().expect("a directory");
        let authority = Authority::generate("KubeEdge").expect("an authority");
        let book = TokenBook::at(dir.path().join("tokens.json"));
        let day = Duration::from_secs(86_400);
        let bound = book.create(&authority, day, None, Some("n1")).expect("a token");
        let tokens = vec![Token::create(&authority, day), Token::create(&authority, Duration::ZERO), bound];
        Cloud { authority, book, tokens, _dir: dir }
    })
}

fuzz_target!(
    init: plant("token", cloud().tokens.iter().map(|token| token.clone().into_bytes())),
    |text: &str| {
        let cloud = cloud();
        if let Ok(token) = Token::parse(text) {
            assert_eq!(token.ca_hash.len(), 64);
            drop((token.fits(cloud.authority.cert_der()), token.has_expired()));
        }
        let known = |whole: &String| whole == text || whole.split_once('.').is_some_and(|(_, jwt)| jwt == text);
        let accepted = cloud.book.verify(&cloud.authority, text, "n1").is_ok();
        assert!(!accepted || cloud.tokens.iter().any(known), "{text}");
    }
);
