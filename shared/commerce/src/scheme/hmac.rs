//! Owns the HMAC scheme: a code over the received bytes in a header, with its parameters as data.

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD};

use super::Refusal;
use crate::request::RawRequest;

/// The hash of an HMAC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Algorithm {
    /// HMAC-SHA1. Old, still sound as an HMAC, and the only choice of some platforms.
    Sha1,
    /// HMAC-SHA256.
    Sha256,
    /// HMAC-SHA512.
    Sha512,
}

/// The encoding of the code in the header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoding {
    /// Hexadecimal, either case.
    Hex,
    /// Standard base64 with padding.
    Base64,
}

/// The source of the keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeySource {
    /// The webhook secret, derived from the signing keys; its text is the key. We hand it to the platform.
    Derived,
    /// The app's client secret; its text is the key. Every store with the app installed signs with it.
    AppSecret,
    /// A secret that the platform made and the client handed to us, or a derived one.
    Brought,
}

/// An HMAC over the body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hmac {
    /// The header that carries the code, in lower case.
    pub header: &'static str,
    /// The hash.
    pub algorithm: Algorithm,
    /// The encoding of the code.
    pub encoding: Encoding,
    /// The prefix of the code (`sha256=`), often empty.
    pub prefix: &'static str,
    /// The source of the keys.
    pub keys: KeySource,
}

impl Hmac {
    /// Returns the position in `secrets` of the one that made the code in the request's header over the request's body.
    /// Compares in constant time.
    ///
    /// # Errors
    /// The [`Refusal`] that fits; an empty secret is refused before anything is compared.
    pub fn verify(&self, request: &RawRequest, secrets: &[impl AsRef<[u8]>]) -> Result<usize, Refusal> {
        if secrets.is_empty() || secrets.iter().any(|secret| secret.as_ref().is_empty()) {
            return Err(Refusal::EmptyKey);
        }
        if !request.headers.contains_key(self.header) {
            return Err(Refusal::MissingProof);
        }
        let value = request.single_header(self.header).ok_or(Refusal::MalformedProof)?;
        let code = value.strip_prefix(self.prefix).ok_or(Refusal::MalformedProof)?;
        let code = self.decode(code).ok_or(Refusal::MalformedProof)?;
        secrets
            .iter()
            .position(|secret| hmac::verify(&self.key(secret.as_ref()), &request.body, &code).is_ok())
            .ok_or(Refusal::WrongProof)
    }

    /// Returns whether a secret made a code over a text that is not a request's body, such as its query. Compares in
    /// constant time. An empty secret proves nothing.
    pub fn proves(&self, secret: &[u8], text: &[u8], code: &str) -> bool {
        let code = code.strip_prefix(self.prefix).and_then(|code| self.decode(code));
        !secret.is_empty() && code.is_some_and(|code| hmac::verify(&self.key(secret), text, &code).is_ok())
    }

    /// Returns the header's value for a body, as the platform would send it. For samples, simulators and probes.
    pub fn sign(&self, secret: &[u8], body: &[u8]) -> String {
        let code = hmac::sign(&self.key(secret), body);
        let code = match self.encoding {
            Encoding::Hex => hex::encode(code),
            Encoding::Base64 => STANDARD.encode(code),
        };
        format!("{}{code}", self.prefix)
    }

    fn decode(&self, code: &str) -> Option<Vec<u8>> {
        match self.encoding {
            Encoding::Hex => hex::decode(code).ok(),
            Encoding::Base64 => STANDARD.decode(code).ok(),
        }
    }

    fn key(&self, secret: &[u8]) -> hmac::Key {
        let algorithm = match self.algorithm {
            Algorithm::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Algorithm::Sha256 => hmac::HMAC_SHA256,
            Algorithm::Sha512 => hmac::HMAC_SHA512,
        };
        hmac::Key::new(algorithm, secret)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, Method};
    use proptest::prelude::*;

    use super::*;
    use crate::timestamp::Timestamp;

    const SCHEME: Hmac = Hmac {
        header: "x-signature",
        algorithm: Algorithm::Sha256,
        encoding: Encoding::Base64,
        prefix: "",
        keys: KeySource::Derived,
    };

    fn request(header: Option<&str>, body: &[u8]) -> RawRequest {
        let mut headers = HeaderMap::new();
        if let Some(value) = header {
            headers.append("x-signature", HeaderValue::from_str(value).unwrap());
        }
        RawRequest {
            target: String::new(),
            method: Method::POST,
            headers,
            body: Bytes::copy_from_slice(body),
            received: Timestamp::from_micros(0),
        }
    }

    /// The two vectors are of WooCommerce's own algorithm. The second secret is stored as `a&amp;b` and used decoded.
    #[test]
    fn woocommerce_vectors() {
        for (secret, code) in [
            ("wc_secret_example_0001", "iE0Uk3wKrXrwaGG7Q8CoGGiMoKypxnp2q2qhadC+7vA="),
            ("a&b", "iLtWKWHtveUx0jlKTfYdR5k90a849HX+x2WkkxZvZJo="),
        ] {
            assert_eq!(SCHEME.verify(&request(Some(code), br#"{"id":25}"#), &[secret]), Ok(0));
        }
    }

    /// The vectors are test case 2 of RFC 2202 (SHA-1) and RFC 4231 (SHA-256, SHA-512).
    #[test]
    fn rfc_vectors_in_hex_with_a_prefix() {
        for (algorithm, code) in [
            (Algorithm::Sha1, "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"),
            (Algorithm::Sha256, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
            (
                Algorithm::Sha512,
                "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
            ),
        ] {
            let scheme = Hmac { algorithm, encoding: Encoding::Hex, prefix: "sha=", ..SCHEME };
            let body = b"what do ya want for nothing?";
            assert_eq!(scheme.verify(&request(Some(&format!("sha={code}")), body), &["Jefe"]), Ok(0));
            assert_eq!(scheme.verify(&request(Some(code), body), &["Jefe"]), Err(Refusal::MalformedProof));
            assert_eq!(scheme.sign(b"Jefe", body), format!("sha={code}"));
        }
    }

    #[test]
    fn any_of_several_secrets_proves_and_says_which() {
        let code = SCHEME.sign(b"second", b"body");
        assert_eq!(SCHEME.verify(&request(Some(&code), b"body"), &["first", "second"]), Ok(1));
        assert_eq!(SCHEME.verify(&request(Some(&code), b"body"), &["first", "third"]), Err(Refusal::WrongProof));
    }

    #[test]
    fn what_is_missing_or_ambiguous_is_refused() {
        let code = SCHEME.sign(b"secret", b"body");
        assert_eq!(SCHEME.verify(&request(None, b"body"), &["secret"]), Err(Refusal::MissingProof));
        assert_eq!(SCHEME.verify(&request(Some(""), b"body"), &["secret"]), Err(Refusal::WrongProof));
        assert_eq!(SCHEME.verify(&request(Some("?"), b"body"), &["secret"]), Err(Refusal::MalformedProof));
        let mut twice = request(Some(&code), b"body");
        twice.headers.append("x-signature", HeaderValue::from_str(&code).unwrap());
        assert_eq!(SCHEME.verify(&twice, &["secret"]), Err(Refusal::MalformedProof));
    }

    #[test]
    fn an_empty_key_is_an_error_even_when_it_would_fit() {
        let code = SCHEME.sign(b"", b"body");
        assert_eq!(SCHEME.verify(&request(Some(&code), b"body"), &[""]), Err(Refusal::EmptyKey));
        assert_eq!(SCHEME.verify(&request(Some(&code), b"body"), &["good", ""]), Err(Refusal::EmptyKey));
        assert_eq!(SCHEME.verify(&request(Some(&code), b"body"), &[] as &[&str]), Err(Refusal::EmptyKey));
    }

    proptest! {
        #[test]
        fn any_other_header_value_is_refused_without_a_panic(value in "[ -~]{0,80}", body in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assume!(value != SCHEME.sign(b"secret", &body));
            prop_assert!(SCHEME.verify(&request(Some(&value), &body), &["secret"]).is_err());
        }

        #[test]
        fn a_flipped_bit_in_the_body_is_refused(mut body in proptest::collection::vec(any::<u8>(), 1..64), at in any::<proptest::sample::Index>(), bit in 0_u8..8) {
            let code = SCHEME.sign(b"secret", &body);
            prop_assert_eq!(SCHEME.verify(&request(Some(&code), &body), &["secret"]), Ok(0));
            let at = at.index(body.len());
            body[at] ^= 1 << bit;
            prop_assert_eq!(SCHEME.verify(&request(Some(&code), &body), &["secret"]), Err(Refusal::WrongProof));
        }
    }
}
