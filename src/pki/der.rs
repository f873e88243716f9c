//! PEM text and the DER forms of private keys: the native one (SEC1 for P-256 and P-384, PKCS#1 for RSA), which KubeEdge
//! stores and keys its join tokens with, and PKCS#8, which the signer takes. Only this room sees keys as bytes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const EC_KEY: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
/// Object identifier and its empty parameters.
const RSA_KEY: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

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

/// A private key in both forms.
pub(super) struct PrivateKey {
    /// SEC1 or PKCS#1: as it was handed in when it had this form, else as Go writes it.
    pub native: Vec<u8>,
    pub pkcs8: Vec<u8>,
    /// What a PEM block with the native form is called.
    pub label: &'static str,
}

impl PrivateKey {
    /// Takes SEC1, PKCS#1 or PKCS#8; `None` for anything but P-256, P-384 and RSA.
    pub fn parse(der: &[u8]) -> Option<PrivateKey> {
        let (0x30, body, _) = element(der)? else { return None };
        let (0x02, _, rest) = element(body)? else { return None };
        match element(rest)? {
            (0x30, algorithm, rest) if algorithm.starts_with(RSA_KEY) => {
                let (0x04, inner, _) = element(rest)? else { return None };
                PrivateKey::rsa(inner)
            }
            (0x30, algorithm, rest) => {
                let curve = algorithm.strip_prefix(EC_KEY).and_then(Curve::of)?;
                let (0x04, inner, _) = element(rest)? else { return None };
                let point = point(inner, Some(curve))?;
                Some(PrivateKey::ec(&point, point.sec1(true)))
            }
            (0x04, ..) => {
                let point = point(der, None)?;
                Some(PrivateKey::ec(&point, der.to_vec()))
            }
            (0x02, ..) => PrivateKey::rsa(der),
            _ => None,
        }
    }

    fn ec(point: &Point<'_>, native: Vec<u8>) -> PrivateKey {
        let mut body = vec![0x02, 0x01, 0x00];
        body.extend(wrap(0x30, &[EC_KEY, point.curve.identifier()].concat()));
        body.extend(wrap(0x04, &point.sec1(false)));
        PrivateKey { native, pkcs8: wrap(0x30, &body), label: "EC PRIVATE KEY" }
    }

    fn rsa(pkcs1: &[u8]) -> Option<PrivateKey> {
        let (0x30, content, []) = element(pkcs1)? else { return None };
        let (0x02, [0], rest) = element(content)? else { return None };
        let (0x02, ..) = element(rest)? else { return None };
        let mut body = vec![0x02, 0x01, 0x00];
        body.extend(wrap(0x30, RSA_KEY));
        body.extend(wrap(0x04, pkcs1));
        Some(PrivateKey { native: pkcs1.to_vec(), pkcs8: wrap(0x30, &body), label: "RSA PRIVATE KEY" })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Curve {
    P256,
    P384,
}

impl Curve {
    fn of(identifier: &[u8]) -> Option<Curve> {
        [Curve::P256, Curve::P384].into_iter().find(|curve| curve.identifier() == identifier)
    }

    fn identifier(self) -> &'static [u8] {
        match self {
            Curve::P256 => P256,
            Curve::P384 => P384,
        }
    }

    /// Length of the private number.
    fn size(self) -> usize {
        match self {
            Curve::P256 => 32,
            Curve::P384 => 48,
        }
    }
}

/// Private number and public point of an EC key.
struct Point<'a> {
    curve: Curve,
    private: &'a [u8],
    public: &'a [u8],
}

/// Reads SEC1; inside PKCS#8 the curve may stand outside only.
fn point(sec1: &[u8], outer: Option<Curve>) -> Option<Point<'_>> {
    let (0x30, body, _) = element(sec1)? else { return None };
    let (0x02, [1], rest) = element(body)? else { return None };
    let (0x04, private, mut rest) = element(rest)? else { return None };
    let (mut curve, mut public) = (outer, None);
    while let Some((tag, content, tail)) = element(rest) {
        match tag {
            0xa0 => {
                let named = Some(Curve::of(content)?);
                if outer.is_some() && outer != named {
                    return None;
                }
                curve = named;
            }
            0xa1 => public = element(content).and_then(|(_, bits, _)| bits.strip_prefix(&[0])),
            _ => {}
        }
        rest = tail;
    }
    let (curve, public) = (curve?, public?);
    let fits = private.len() == curve.size() && public.len() == 2 * curve.size() + 1;
    fits.then_some(Point { curve, private, public })
}

impl Point<'_> {
    /// Byte for byte as Go's `x509.MarshalECPrivateKey` writes it when it is with the curve.
    fn sec1(&self, with_curve: bool) -> Vec<u8> {
        let mut body = vec![0x02, 0x01, 0x01];
        body.extend(wrap(0x04, self.private));
        if with_curve {
            body.extend(wrap(0xa0, self.curve.identifier()));
        }
        let bits: Vec<u8> = std::iter::once(0).chain(self.public.iter().copied()).collect();
        body.extend(wrap(0xa1, &wrap(0x03, &bits)));
        wrap(0x30, &body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn new_key() -> (Vec<u8>, Vec<u8>) {
        let pkcs8 = rcgen::KeyPair::generate().unwrap().serialize_der();
        let native = PrivateKey::parse(&pkcs8).unwrap().native;
        (pkcs8, native)
    }

    #[test]
    fn both_forms_hold_the_same_key() {
        let (pkcs8, sec1) = new_key();
        assert_eq!(sec1.len(), 121);
        let again = PrivateKey::parse(&sec1).unwrap();
        assert_eq!((again.pkcs8, again.native, again.label), (pkcs8, sec1, "EC PRIVATE KEY"));
    }

    proptest! {
        #[test]
        fn damaged_keys_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..121, flip in any::<u8>()) {
            drop(PrivateKey::parse(&bytes));
            let (_, mut key) = new_key();
            key[cut] ^= flip;
            drop(PrivateKey::parse(&key));
            drop(PrivateKey::parse(&key[..cut]));
        }
    }
}
