//! PEM text and the two DER forms of a P-256 key: SEC1, which KubeEdge stores, and PKCS#8, which the signer takes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const CURVE: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const EC_KEY: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];

/// Wraps DER as PEM with lines of 64 characters.
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        text += line;
        text.push('\n');
        rest = tail;
    }
    text + "-----END " + label + "-----\n"
}

/// A certificate as PEM text.
pub fn pem_certificate(der: &[u8]) -> String {
    pem("CERTIFICATE", der)
}

/// Reads one element: tag, content, what follows.
fn element(input: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = input.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => {
            let (&length, rest) = rest.split_first()?;
            (usize::from(length), rest)
        }
        0x82 => {
            let (high, rest) = rest.split_first()?;
            let (low, rest) = rest.split_first()?;
            (usize::from(*high) << 8 | usize::from(*low), rest)
        }
        _ => return None,
    };
    Some((tag, rest.get(..length)?, rest.get(length..)?))
}

fn wrap(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        length @ 0..=0x7f => out.push(length as u8),
        length @ 0x80..=0xff => out.extend([0x81, length as u8]),
        length => out.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    out.extend(content);
    out
}

/// Private number and public point of a P-256 key.
struct Parts<'a> {
    private: &'a [u8],
    public: &'a [u8],
}

fn parts(der: &[u8]) -> Option<Parts<'_>> {
    let (0x30, body, _) = element(der)? else { return None };
    let (0x02, version, rest) = element(body)? else { return None };
    if version == [0] {
        let (0x30, algorithm, rest) = element(rest)? else { return None };
        if !algorithm.ends_with(CURVE) {
            return None;
        }
        let (0x04, inner, _) = element(rest)? else { return None };
        return parts(inner);
    }
    let (0x04, private, mut rest) = element(rest)? else { return None };
    let mut public = None;
    while let Some((tag, content, tail)) = element(rest) {
        match tag {
            0xa0 if content != CURVE => return None,
            0xa1 => public = element(content).and_then(|(_, bits, _)| bits.strip_prefix(&[0])),
            _ => {}
        }
        rest = tail;
    }
    let public = public?;
    (private.len() == 32 && public.len() == 65).then_some(Parts { private, public })
}

fn ec_private_key(parts: &Parts<'_>, with_curve: bool) -> Vec<u8> {
    let mut body = vec![0x02, 0x01, 0x01];
    body.extend(wrap(0x04, parts.private));
    if with_curve {
        body.extend(wrap(0xa0, CURVE));
    }
    let bits: Vec<u8> = std::iter::once(0).chain(parts.public.iter().copied()).collect();
    body.extend(wrap(0xa1, &wrap(0x03, &bits)));
    wrap(0x30, &body)
}

/// The SEC1 form, byte for byte as Go's `x509.MarshalECPrivateKey` writes it; takes either form.
pub(super) fn to_sec1(der: &[u8]) -> Option<Vec<u8>> {
    Some(ec_private_key(&parts(der)?, true))
}

/// The PKCS#8 form; takes either form.
pub(super) fn to_pkcs8(der: &[u8]) -> Option<Vec<u8>> {
    let mut body = vec![0x02, 0x01, 0x00];
    body.extend(wrap(0x30, &[EC_KEY, CURVE].concat()));
    body.extend(wrap(0x04, &ec_private_key(&parts(der)?, false)));
    Some(wrap(0x30, &body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_forms_hold_the_same_key() {
        let pkcs8 = rcgen::KeyPair::generate().unwrap().serialize_der();
        let sec1 = to_sec1(&pkcs8).unwrap();
        assert_eq!(sec1.len(), 121);
        assert_eq!(to_pkcs8(&sec1).unwrap(), pkcs8);
        assert_eq!(to_sec1(&sec1).unwrap(), sec1);
    }

    proptest! {
        #[test]
        fn damaged_keys_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..121, flip in any::<u8>()) {
            drop(to_sec1(&bytes));
            let mut key = to_sec1(&rcgen::KeyPair::generate().unwrap().serialize_der()).unwrap();
            key[cut] ^= flip;
            drop(to_pkcs8(&key));
            drop(to_pkcs8(&key[..cut]));
        }
    }
}
