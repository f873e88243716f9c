//! Join tokens: `hex(sha256(CA certificate)).JWT` (protocol.md §2.1), which an unmodified edgecore can use.
//! Tokens of kedge's own also carry `jti`, `node` and `uses` and stand in a small book, so that they can be limited and
//! revoked; tokens without `jti` are KubeEdge's and valid until they expire.

use super::Authority;
use crate::base::{Failure, create_private_dir, now, random_suffix, read_limited, write_atomic};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use ring::{digest, hmac};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes of a join token.
pub const TOKEN_LIMIT: usize = 4096;
const BOOK_LIMIT: u64 = 4 << 20;

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("it is not a join token")]
    Malformed,
    #[error("it belongs to another cloud")]
    WrongAuthority,
    #[error("its signature is wrong")]
    WrongSignature,
    #[error("it has expired")]
    Expired,
    #[error("it has been used up or revoked")]
    UsedUp,
    #[error("it was made for another node")]
    OtherNode,
    #[error("the list of tokens cannot be read")]
    BookUnreadable,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Claims {
    exp: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jti: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uses: Option<u32>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    takeover: bool,
}

/// Lower-case hexadecimal SHA-256 of a certificate in DER; an authority's is what a join token holds.
pub fn fingerprint(der: &[u8]) -> String {
    sha256_hex(der)
}

/// Lower-case hexadecimal SHA-256.
pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    digest::digest(&digest::SHA256, bytes).as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

fn sign(authority: &Authority, claims: &Claims) -> String {
    // A struct of plain fields always serialises.
    let claims = serde_json::to_vec(claims).unwrap_or_default();
    let body = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(br#"{"alg":"HS256","typ":"JWT"}"#),
        URL_SAFE_NO_PAD.encode(claims)
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, authority.key_der());
    let signature = hmac::sign(&key, body.as_bytes());
    format!("{}.{body}.{}", authority.hash(), URL_SAFE_NO_PAD.encode(signature))
}

/// Checks signature and time of a token (four parts) or of its JWT alone (three parts).
fn check(authority: &Authority, text: &str) -> Result<Claims, TokenError> {
    if text.len() > TOKEN_LIMIT {
        return Err(TokenError::Malformed);
    }
    let jwt = match text.split('.').count() {
        3 => text,
        4 => {
            let (hash, jwt) = text.split_once('.').ok_or(TokenError::Malformed)?;
            if hash != authority.hash() {
                return Err(TokenError::WrongAuthority);
            }
            jwt
        }
        _ => return Err(TokenError::Malformed),
    };
    let (body, signature) = jwt.rsplit_once('.').ok_or(TokenError::Malformed)?;
    let (header, payload) = body.split_once('.').ok_or(TokenError::Malformed)?;
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed);
    #[derive(Deserialize)]
    struct Algorithm {
        alg: String,
    }
    let header: Algorithm = serde_json::from_slice(&decode(header)?).map_err(|_| TokenError::Malformed)?;
    let algorithm = match header.alg.as_str() {
        "HS256" => hmac::HMAC_SHA256,
        "HS384" => hmac::HMAC_SHA384,
        "HS512" => hmac::HMAC_SHA512,
        _ => return Err(TokenError::WrongSignature),
    };
    let key = hmac::Key::new(algorithm, authority.key_der());
    hmac::verify(&key, body.as_bytes(), &decode(signature)?).map_err(|_| TokenError::WrongSignature)?;
    let claims: Claims = serde_json::from_slice(&decode(payload)?).map_err(|_| TokenError::Malformed)?;
    if claims.exp <= now().as_second() {
        return Err(TokenError::Expired);
    }
    Ok(claims)
}

/// A join token as the edge sees it: what it can know without the cloud's key.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    pub ca_hash: String,
    /// What goes into the `Authorization` header.
    pub bearer: String,
    /// Seconds since the epoch.
    pub expires: i64,
    pub node: Option<String>,
    /// The id under which a book lists it; KubeEdge's has none.
    pub id: Option<String>,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("expires", &self.expires).finish_non_exhaustive()
    }
}

impl Token {
    /// Reads a token, or the base64 form that `kubectl get secret` shows; neither signature nor time are checked.
    pub fn parse(text: &str) -> Result<Token, TokenError> {
        let text = text.trim();
        if text.len() > 2 * TOKEN_LIMIT {
            return Err(TokenError::Malformed);
        }
        let decoded;
        let text = match text.contains('.') {
            true => text,
            false => {
                decoded = unwrapped(text).ok_or(TokenError::Malformed)?;
                decoded.trim()
            }
        };
        if text.len() > TOKEN_LIMIT || text.split('.').count() != 4 {
            return Err(TokenError::Malformed);
        }
        let (hash, bearer) = text.split_once('.').ok_or(TokenError::Malformed)?;
        if hash.len() != 64 || !hash.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(TokenError::Malformed);
        }
        let payload = bearer.split('.').nth(1).ok_or(TokenError::Malformed)?;
        let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| TokenError::Malformed)?;
        let claims: Claims = serde_json::from_slice(&payload).map_err(|_| TokenError::Malformed)?;
        Ok(Token {
            ca_hash: hash.to_ascii_lowercase(),
            bearer: bearer.to_owned(),
            expires: claims.exp,
            node: claims.node,
            id: claims.jti,
        })
    }

    /// Whether this DER certificate is the authority that the token names.
    pub fn fits(&self, ca_der: &[u8]) -> bool {
        sha256_hex(ca_der) == self.ca_hash
    }

    pub fn has_expired(&self) -> bool {
        self.expires <= now().as_second()
    }

    /// KubeEdge's token: valid for any node and any number of times until it expires.
    pub fn create(authority: &Authority, ttl: Duration) -> String {
        sign(authority, &Claims { exp: deadline(ttl), ..Claims::default() })
    }
}

/// The text behind base64, which may be broken into lines.
fn unwrapped(text: &str) -> Option<String> {
    let dense: String = text.split_whitespace().collect();
    let bytes = STANDARD_NO_PAD.decode(dense.trim_end_matches('=')).ok()?;
    String::from_utf8(bytes).ok()
}

fn deadline(ttl: Duration) -> i64 {
    now().as_second().saturating_add(i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX))
}

/// One token of the book; the token's text is not kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenEntry {
    /// Seconds since the epoch.
    pub expires: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Uses left; `None` is without limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses: Option<u32>,
    /// Whether another machine may take its node's name with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub takeover: bool,
    /// Who was counted, by [`holder`]: they may ask again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holders: Vec<String>,
}

/// Tells who uses a token: a node on one machine, or with one key where it does not say on which machine it is.
pub fn holder(node: &str, mark: &str) -> String {
    // Half of the digest is more than nobody can find another name for.
    sha256_hex(format!("{node}\n{mark}").as_bytes()).chars().take(32).collect()
}

impl TokenEntry {
    /// Counts a use, and answers whether that changed anything: whoever was counted once is not counted again. So a
    /// certificate that got lost on its way costs no second use.
    pub fn admit(&mut self, holder: &str) -> Result<bool, TokenError> {
        let Some(left) = &mut self.uses else { return Ok(false) };
        if self.holders.iter().any(|known| known == holder) {
            return Ok(false);
        }
        *left = left.checked_sub(1).ok_or(TokenError::UsedUp)?;
        self.holders.push(holder.to_owned());
        Ok(true)
    }
}

/// A token whose signature, time and node are right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Under which the list of tokens has it; KubeEdge's own token stands in no list.
    pub id: Option<String>,
    /// Whether its uses are counted.
    pub counted: bool,
}

/// Checks a token (or its JWT alone) for a node, as far as the token itself tells.
pub fn accept(authority: &Authority, text: &str, node: &str) -> Result<Accepted, TokenError> {
    let claims = check(authority, text)?;
    let Some(id) = claims.jti else { return Ok(Accepted { id: None, counted: false }) };
    if claims.node.is_some_and(|only| only != node) {
        return Err(TokenError::OtherNode);
    }
    Ok(Accepted { id: Some(id), counted: claims.uses.is_some() })
}

/// What a token that is asked for allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// How often it may be used; `None` is without limit.
    pub uses: Option<u32>,
    /// The only node that may use it.
    pub node: Option<String>,
    /// Whether a machine may take the name of that node from another one with it.
    pub takeover: bool,
}

/// A token with what a book has to know of it.
pub struct Minted {
    pub id: String,
    pub entry: TokenEntry,
    pub token: String,
}

/// Makes a token that allows this; it is good once a book lists it.
pub fn mint(authority: &Authority, ttl: Duration, grant: Grant) -> Minted {
    let Grant { uses, node, takeover } = grant;
    let entry = TokenEntry { expires: deadline(ttl), node, uses, takeover, holders: Vec::new() };
    let id = random_suffix(10);
    let claims =
        Claims { exp: entry.expires, jti: Some(id.clone()), node: entry.node.clone(), uses, takeover };
    Minted { id, token: sign(authority, &claims), entry }
}

type Entries = BTreeMap<String, TokenEntry>;

/// The tokens that were given out, in a JSON file that the daemon and the command line share under a lock.
#[derive(Clone, Debug)]
pub struct TokenBook {
    path: PathBuf,
    /// What was published and could not be written yet: it holds instead of the file, for every clone of the book.
    unwritten: Arc<Mutex<Option<Entries>>>,
}

impl TokenBook {
    /// The book in this file; the file may be absent.
    pub fn at(path: impl Into<PathBuf>) -> TokenBook {
        TokenBook { path: path.into(), unwritten: Arc::default() }
    }

    /// Makes a token for a number of uses (`None`: any) and one node (`None`: any). Does blocking file work.
    pub fn create(
        &self,
        authority: &Authority,
        ttl: Duration,
        uses: Option<u32>,
        node: Option<&str>,
    ) -> Result<String, Failure> {
        self.grant(authority, ttl, Grant { uses, node: node.map(str::to_owned), takeover: false })
    }

    /// Makes a token that allows this. Does blocking file work.
    pub fn grant(&self, authority: &Authority, ttl: Duration, grant: Grant) -> Result<String, Failure> {
        let minted = mint(authority, ttl, grant);
        self.change(|book| {
            book.insert(minted.id, minted.entry);
        })?;
        Ok(minted.token)
    }

    /// Whether this token lets its bearer take the node's name from another machine; counts no use.
    pub fn allows_takeover(&self, authority: &Authority, text: &str, node: &str) -> Result<bool, TokenError> {
        let claims = check(authority, text)?;
        Ok(claims.takeover && claims.jti.is_some() && claims.node.is_some_and(|only| only == node))
    }

    /// Whether a token is in the book, that is given out and not withdrawn. Does blocking file work.
    pub fn has(&self, id: &str) -> Result<bool, TokenError> {
        self.read().map(|book| book.contains_key(id)).map_err(unreadable)
    }

    /// Counts a use of a token. Does blocking file work.
    pub fn count(&self, id: &str, holder: &str) -> Result<(), TokenError> {
        let counted = self.change(|book| book.get_mut(id).ok_or(TokenError::UsedUp)?.admit(holder).map(drop));
        counted.map_err(unreadable)?
    }

    /// All tokens that have not expired, by id.
    pub fn list(&self) -> Result<BTreeMap<String, TokenEntry>, Failure> {
        self.read()
    }

    /// Makes a token unusable; `false` when there is none with this id.
    pub fn revoke(&self, id: &str) -> Result<bool, Failure> {
        self.change(|book| book.remove(id).is_some())
    }

    /// Makes the book list what was published elsewhere, with the uses that were counted there, whatever the file held.
    /// Where it cannot be written, this fails and what was published holds all the same, until the process ends.
    pub fn follow(&self, published: &Entries) -> Result<(), Failure> {
        let locked = self.lock();
        *self.unwritten() = Some(published.clone());
        let _lock = locked?;
        self.write(published)
    }

    fn unwritten(&self) -> MutexGuard<'_, Option<Entries>> {
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> Result<Entries, Failure> {
        let unwritten = self.unwritten().clone();
        let mut book = match unwritten {
            Some(book) => book,
            None => self.read_file()?,
        };
        let at = now().as_second();
        book.retain(|_, entry| entry.expires > at);
        Ok(book)
    }

    fn read_file(&self) -> Result<Entries, Failure> {
        if !self.path.exists() {
            return Ok(Entries::new());
        }
        let content = read_limited(&self.path, BOOK_LIMIT)?;
        serde_json::from_slice(&content).map_err(|error| {
            Failure::new("KE-TOKEN-010", format!("cannot read the tokens in {}", self.path.display()))
                .because(error)
                .fix("remove the file; tokens given out so far become unusable")
        })
    }

    /// The caller holds the lock.
    fn write(&self, book: &Entries) -> Result<(), Failure> {
        let content = serde_json::to_vec_pretty(book).unwrap_or_default();
        write_atomic(&self.path, &content, 0o600)?;
        *self.unwritten() = None;
        Ok(())
    }

    fn change<T>(&self, edit: impl FnOnce(&mut Entries) -> T) -> Result<T, Failure> {
        let _lock = self.lock()?;
        let mut book = self.read()?;
        let outcome = edit(&mut book);
        self.write(&book)?;
        Ok(outcome)
    }

    fn lock(&self) -> Result<File, Failure> {
        if let Some(parent) = self.path.parent().filter(|parent| *parent != Path::new("")) {
            create_private_dir(parent)?;
        }
        lock(&self.path.with_extension("lock"))
    }
}

/// Who shows a token learns that it was not judged; what is wrong is this side's business.
fn unreadable(failure: Failure) -> TokenError {
    tracing::error!(code = failure.code, error = %failure, fix = failure.fix, "no token can be judged");
    TokenError::BookUnreadable
}

/// Held until dropped; the kernel releases it with the file.
fn lock(path: &Path) -> Result<File, Failure> {
    let failed = |why: &dyn std::fmt::Display| {
        Failure::new("KE-TOKEN-011", format!("cannot lock {}", path.display()))
            .because(why)
            .fix("check that the directory is writable")
    };
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| failed(&error))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).map_err(|error| failed(&error))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn book() -> (Authority, TokenBook, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let book = TokenBook::at(dir.path().join("tokens.json"));
        (Authority::generate("KubeEdge").unwrap(), book, dir)
    }

    /// What the cloud does with a token.
    fn verify(book: &TokenBook, authority: &Authority, text: &str, node: &str) -> Result<(), TokenError> {
        match accept(authority, text, node)? {
            Accepted { id: Some(id), counted: true } => book.count(&id, &holder(node, "m")),
            Accepted { id: Some(id), counted: false } => {
                if book.has(&id)? {
                    Ok(())
                } else {
                    Err(TokenError::UsedUp)
                }
            }
            Accepted { id: None, .. } => Ok(()),
        }
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_kubeedge_token_is_accepted_until_it_expires() {
        let (authority, book, _dir) = book();
        let token = Token::create(&authority, HOUR);
        assert_eq!(verify(&book, &authority, &token, "n1"), Ok(()));
        let read = Token::parse(&token).unwrap();
        assert!(read.fits(authority.cert_der()) && !read.has_expired());
        assert_eq!(verify(&book, &authority, &read.bearer, "n2"), Ok(()));
        let old = Token::create(&authority, Duration::ZERO);
        assert_eq!(verify(&book, &authority, &old, "n1"), Err(TokenError::Expired));
    }

    #[test]
    fn a_single_use_token_works_once_for_its_node() {
        let (authority, book, _dir) = book();
        let token = book.create(&authority, HOUR, Some(1), Some("n1")).unwrap();
        assert_eq!(verify(&book, &authority, &token, "n2"), Err(TokenError::OtherNode));
        assert_eq!(verify(&book, &authority, &token, "n1"), Ok(()));
        let id = accept(&authority, &token, "n1").unwrap().id.unwrap();
        assert_eq!(book.count(&id, &holder("n1", "another machine")), Err(TokenError::UsedUp));
    }

    #[test]
    fn whoever_was_counted_asks_again_for_nothing() {
        let (authority, book, _dir) = book();
        let token = book.create(&authority, HOUR, Some(2), None).unwrap();
        for node in ["n1", "n1", "n2", "n1", "n2"] {
            assert_eq!(verify(&book, &authority, &token, node), Ok(()));
        }
        assert_eq!(verify(&book, &authority, &token, "n3"), Err(TokenError::UsedUp));
        let entry = book.list().unwrap().into_values().next().unwrap();
        assert_eq!((entry.uses, entry.holders.len()), (Some(0), 2));
        assert_ne!(holder("n1", "m"), holder("n1", "n"));
    }

    #[test]
    fn a_token_in_base64_is_the_same_token() {
        let (authority, _book, _dir) = book();
        let token = Token::create(&authority, HOUR);
        let wrapped = base64::engine::general_purpose::STANDARD.encode(format!("{token}\n"));
        let (head, tail) = wrapped.split_at(60);
        assert_eq!(Token::parse(&format!(" {head}\n{tail} ")), Token::parse(&token));
        assert_eq!(Token::parse("bm9uc2Vuc2U="), Err(TokenError::Malformed));
    }

    #[test]
    fn only_a_token_for_one_node_allows_it_to_take_a_name_over() {
        let (authority, book, _dir) = book();
        let grant =
            |node: Option<&str>, takeover| Grant { uses: None, node: node.map(str::to_owned), takeover };
        let make = |grant| book.grant(&authority, HOUR, grant).unwrap();
        let allows = |token: &str| book.allows_takeover(&authority, token, "n1");
        assert_eq!(allows(&make(grant(Some("n1"), true))), Ok(true));
        assert_eq!(allows(&make(grant(Some("n2"), true))), Ok(false));
        assert_eq!(allows(&make(grant(None, true))), Ok(false));
        assert_eq!(allows(&make(grant(Some("n1"), false))), Ok(false));
        assert_eq!(allows(&Token::create(&authority, HOUR)), Ok(false));
        assert!(allows("nonsense").is_err());
    }

    #[test]
    fn a_book_follows_what_is_published() {
        let (authority, published, _one) = book();
        let (_, ours, _two) = book();
        let token = published.create(&authority, HOUR, Some(1), None).unwrap();
        ours.follow(&published.list().unwrap()).unwrap();
        assert_eq!(verify(&published, &authority, &token, "n1"), Ok(()));
        ours.follow(&published.list().unwrap()).unwrap();
        assert_eq!(verify(&ours, &authority, &token, "n2"), Err(TokenError::UsedUp));
        ours.follow(&BTreeMap::new()).unwrap();
        assert!(ours.list().unwrap().is_empty());
    }

    #[test]
    fn a_damaged_book_is_healed_by_what_is_published() {
        let (authority, published, _one) = book();
        let (_, ours, dir) = book();
        let token = published.create(&authority, HOUR, None, None).unwrap();
        std::fs::write(dir.path().join("tokens.json"), "{").unwrap();
        let entries = published.list().unwrap();
        ours.follow(&entries).unwrap();
        assert_eq!(ours.list().unwrap(), entries);
        assert_eq!(TokenBook::at(dir.path().join("tokens.json")).list().unwrap(), entries);
        assert_eq!(verify(&ours, &authority, &token, "n1"), Ok(()));
    }

    #[test]
    fn what_is_published_holds_while_it_cannot_be_written() {
        let (authority, published, _one) = book();
        let (_, ours, dir) = book();
        let hub = ours.clone();
        let path = dir.path().join("tokens.json");
        let token = published.create(&authority, HOUR, None, None).unwrap();
        ours.follow(&published.list().unwrap()).unwrap();
        assert_eq!(verify(&hub, &authority, &token, "n1"), Ok(()));
        // Nothing can be written where a directory stands.
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert_eq!(verify(&hub, &authority, &token, "n1"), Err(TokenError::BookUnreadable));
        let next = published.create(&authority, HOUR, None, None).unwrap();
        let mut entries = published.list().unwrap();
        entries.remove(&accept(&authority, &token, "n1").unwrap().id.unwrap());
        assert!(ours.follow(&entries).is_err());
        assert_eq!(verify(&hub, &authority, &token, "n1"), Err(TokenError::UsedUp), "it was withdrawn");
        assert_eq!(verify(&hub, &authority, &next, "n1"), Ok(()));
        std::fs::remove_dir(&path).unwrap();
        ours.follow(&entries).unwrap();
        assert_eq!(TokenBook::at(path).list().unwrap(), entries);
    }

    #[test]
    fn a_damaged_book_is_named_and_lets_nobody_in() {
        let (authority, book, dir) = book();
        let token = book.create(&authority, HOUR, None, None).unwrap();
        std::fs::write(dir.path().join("tokens.json"), "{\"half").unwrap();
        let failure = book.list().unwrap_err();
        assert_eq!(failure.code, "KE-TOKEN-010");
        failure.is_as_committed();
        assert!(failure.what.contains("tokens.json") && failure.why.contains("EOF"), "{failure}");
        assert!(failure.fix.contains("remove the file"), "{failure:?}");
        assert_eq!(verify(&book, &authority, &token, "n1"), Err(TokenError::BookUnreadable));
        std::fs::remove_file(dir.path().join("tokens.json")).unwrap();
        assert_eq!(verify(&book, &authority, &token, "n1"), Err(TokenError::UsedUp));
    }

    #[test]
    fn a_revoked_token_is_refused() {
        let (authority, book, _dir) = book();
        let token = book.create(&authority, HOUR, None, None).unwrap();
        let id = book.list().unwrap().keys().next().unwrap().clone();
        assert!(book.revoke(&id).unwrap());
        assert_eq!(verify(&book, &authority, &token, "n1"), Err(TokenError::UsedUp));
    }

    #[test]
    fn tokens_of_another_cloud_are_told_apart() {
        let (authority, book, _dir) = book();
        let other = Token::create(&Authority::generate("KubeEdge").unwrap(), HOUR);
        assert_eq!(verify(&book, &authority, &other, "n1"), Err(TokenError::WrongAuthority));
        let bearer = Token::parse(&other).unwrap().bearer;
        assert_eq!(verify(&book, &authority, &bearer, "n1"), Err(TokenError::WrongSignature));
    }

    #[test]
    fn an_unsigned_token_is_refused() {
        let (authority, book, _dir) = book();
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let forged = format!("{}.{}.", encode(r#"{"alg":"none"}"#), encode(r#"{"exp":99999999999}"#));
        assert_eq!(verify(&book, &authority, &forged, "n1"), Err(TokenError::WrongSignature));
    }

    proptest! {
        #[test]
        fn nonsense_never_panics(text in ".{0,80}") {
            let (authority, book, _dir) = book();
            prop_assert!(verify(&book, &authority, &text, "n1").is_err());
            drop(Token::parse(&text));
        }
    }
}
