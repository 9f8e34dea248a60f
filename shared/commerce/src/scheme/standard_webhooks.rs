//! Owns Standard Webhooks (<https://www.standardwebhooks.com>): HMAC-SHA256 over `{id}.{timestamp}.{body}`, a list of
//! signatures of which any may match, and a window of time.
//!
//! This is our own code, because the specification's crate reads the clock itself and can distinguish neither a stale
//! signature from a wrong one nor which of several keys made it.

use aws_lc_rs::hmac;
use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};

use super::Refusal;
use crate::{request::RawRequest, timestamp::Timestamp};

/// The greatest difference of the timestamp from now, both ways, in seconds: the value of the specification's
/// libraries.
pub const TOLERANCE_SECONDS: i64 = 300;
/// The most signatures that are accepted, more than anybody sends.
const MAX_SIGNATURES: usize = 16;

/// The headers of the three parts, in lower case.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StandardWebhooks {
    /// The header of the message's id.
    pub id: &'static str,
    /// The header of the timestamp, in seconds since 1970.
    pub timestamp: &'static str,
    /// The header of the signatures, each `v1,` and base64, separated by spaces.
    pub signature: &'static str,
}

/// The header names of the specification.
pub const STANDARD_HEADERS: StandardWebhooks =
    StandardWebhooks { id: "webhook-id", timestamp: "webhook-timestamp", signature: "webhook-signature" };

/// A signature that matches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signed {
    /// The position of the key that made it.
    pub key: usize,
    /// `true` when its timestamp is within the window. An older one may have been recorded and sent again.
    pub fresh: bool,
}

impl StandardWebhooks {
    /// Returns whether all its headers are present.
    pub fn is_present(&self, request: &RawRequest) -> bool {
        [self.id, self.timestamp, self.signature].iter().all(|name| request.headers.contains_key(*name))
    }

    /// Finds the key that signed a request. `secrets` are the keys' raw bytes.
    ///
    /// # Errors
    /// The [`Refusal`] that fits; a right but stale signature is no error here.
    pub fn verify(&self, request: &RawRequest, secrets: &[&[u8]], now: Timestamp) -> Result<Signed, Refusal> {
        if secrets.iter().any(|secret| secret.is_empty()) {
            return Err(Refusal::EmptyKey);
        }
        if !request.headers.contains_key(self.signature) {
            return Err(Refusal::MissingProof);
        }
        let header = |name| request.single_header(name).ok_or(Refusal::MalformedProof);
        let (id, timestamp, signatures) = (header(self.id)?, header(self.timestamp)?, header(self.signature)?);
        let digits =
            !timestamp.is_empty() && timestamp.len() <= 12 && timestamp.bytes().all(|byte| byte.is_ascii_digit());
        let at: i64 = timestamp.parse().ok().filter(|_| digits).ok_or(Refusal::MalformedProof)?;
        // A dot in the id could shift the boundary between two signed parts.
        if id.is_empty() || id.len() > 200 || id.contains('.') || signatures.split(' ').count() > MAX_SIGNATURES {
            return Err(Refusal::MalformedProof);
        }
        let given: Vec<Vec<u8>> = signatures
            .split(' ')
            .filter_map(|part| part.strip_prefix("v1,"))
            .filter_map(|part| STANDARD.decode(part).ok())
            .collect();
        if given.is_empty() {
            return Err(Refusal::MalformedProof);
        }
        let found = secrets.iter().position(|secret| {
            let expected = self.tag(secret, id, timestamp, &request.body);
            given
                .iter()
                .any(|given| aws_lc_rs::constant_time::verify_slices_are_equal(expected.as_ref(), given).is_ok())
        });
        let key = found.ok_or(Refusal::WrongProof)?;
        Ok(Signed { key, fresh: (now.seconds() - at).abs() <= TOLERANCE_SECONDS })
    }

    /// Returns the value of the signature header, for tests, simulators and sample events.
    pub fn sign(&self, secret: &[u8], id: &str, timestamp: i64, body: &[u8]) -> String {
        format!("v1,{}", STANDARD.encode(self.tag(secret, id, &timestamp.to_string(), body)))
    }

    fn tag(&self, secret: &[u8], id: &str, timestamp: &str, body: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret));
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            context.update(part);
        }
        context.sign()
    }
}

/// Base64 with or without its padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Returns a secret in the specification's form, for those who have to enter it: `whsec_` and the base64 of its bytes.
pub fn to_whsec(secret: &[u8]) -> String {
    format!("whsec_{}", STANDARD.encode(secret))
}

/// Returns the bytes of a secret in the specification's form, `whsec_` and base64. As its libraries do, it accepts a
/// secret without the prefix or the padding.
///
/// # Errors
/// [`Refusal::EmptyKey`] when the text is not a secret.
pub fn whsec(secret: &str) -> Result<Vec<u8>, Refusal> {
    let encoded = secret.strip_prefix("whsec_").unwrap_or(secret);
    LENIENT.decode(encoded).ok().filter(|bytes| !bytes.is_empty()).ok_or(Refusal::EmptyKey)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, Method};

    use super::*;

    const AT: i64 = 1_760_000_005;
    const SECRET: &[u8] = b"bc_client_secret_example_0001";
    const BODY: &str = r#"{"scope":"store/order/created","store_id":"1000000001","data":{"type":"order","id":4711},"hash":"0000000000000000000000000000000000000001","created_at":1760000000,"producer":"stores/abc123"}"#;
    /// Computed elsewhere, with the client secret's raw bytes as the key.
    const SIGNATURE: &str = "v1,jL0DMr4guYncIqiK5vnrUYCkEkZ5Q7MNhepWzzcp8G0=";

    fn request(signature: &str, timestamp: &str) -> RawRequest {
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("webhook-id", "msg_example_0001"), ("webhook-timestamp", timestamp), ("webhook-signature", signature)]
        {
            headers.insert(name, HeaderValue::from_str(value).unwrap());
        }
        RawRequest {
            target: String::new(),
            method: Method::POST,
            headers,
            body: Bytes::from_static(BODY.as_bytes()),
            received: Timestamp::from_micros(0),
        }
    }

    fn verify(signature: &str, secrets: &[&[u8]], now: i64) -> Result<Signed, Refusal> {
        STANDARD_HEADERS.verify(&request(signature, &AT.to_string()), secrets, Timestamp::from_millis(now * 1000))
    }

    #[test]
    fn the_known_vector() {
        assert_eq!(verify(SIGNATURE, &[SECRET], AT), Ok(Signed { key: 0, fresh: true }));
        assert_eq!(STANDARD_HEADERS.sign(SECRET, "msg_example_0001", AT, BODY.as_bytes()), SIGNATURE);
        assert_eq!(verify(SIGNATURE, &[b"other", SECRET], AT), Ok(Signed { key: 1, fresh: true }));
        assert_eq!(verify(SIGNATURE, &[b"other"], AT), Err(Refusal::WrongProof));
        assert_eq!(verify(SIGNATURE, &[], AT), Err(Refusal::WrongProof));
        assert_eq!(verify(SIGNATURE, &[b""], AT), Err(Refusal::EmptyKey));
    }

    #[test]
    fn one_of_several_signatures_is_enough() {
        let wrong = STANDARD_HEADERS.sign(b"old", "msg_example_0001", AT, BODY.as_bytes());
        assert!(verify(&format!("{wrong} {SIGNATURE}"), &[SECRET], AT).is_ok());
        assert!(verify(&format!("v1a,AAAA {SIGNATURE}"), &[SECRET], AT).is_ok());
        assert_eq!(verify(&format!("v2,{}", &SIGNATURE[3..]), &[SECRET], AT), Err(Refusal::MalformedProof));
        let many = vec![SIGNATURE; 17].join(" ");
        assert_eq!(verify(&many, &[SECRET], AT), Err(Refusal::MalformedProof));
    }

    #[test]
    fn the_window_is_300_seconds_both_ways() {
        for (offset, fresh) in [(0, true), (300, true), (-300, true), (301, false), (-301, false), (172_800, false)] {
            assert_eq!(verify(SIGNATURE, &[SECRET], AT + offset).map(|signed| signed.fresh), Ok(fresh), "{offset}");
        }
    }

    #[test]
    fn everything_is_signed() {
        let at = Timestamp::from_millis(AT * 1000);
        let mut other_id = request(SIGNATURE, &AT.to_string());
        other_id.headers.insert("webhook-id", HeaderValue::from_static("msg_example_0002"));
        assert_eq!(STANDARD_HEADERS.verify(&other_id, &[SECRET], at), Err(Refusal::WrongProof));
        assert_eq!(STANDARD_HEADERS.verify(&request(SIGNATURE, "1760000006"), &[SECRET], at), Err(Refusal::WrongProof));
        let mut other_body = request(SIGNATURE, &AT.to_string());
        other_body.body = Bytes::from(BODY.replace("4711", "4712"));
        assert_eq!(STANDARD_HEADERS.verify(&other_body, &[SECRET], at), Err(Refusal::WrongProof));
        for timestamp in ["", "x", "-1", "+1760000005", "1760000005.0", "9999999999999"] {
            let refused = STANDARD_HEADERS.verify(&request(SIGNATURE, timestamp), &[SECRET], at);
            assert_eq!(refused, Err(Refusal::MalformedProof), "{timestamp}");
        }
        let mut twice = request(SIGNATURE, &AT.to_string());
        twice.headers.append("webhook-signature", HeaderValue::from_static("v1,AAAA"));
        assert_eq!(STANDARD_HEADERS.verify(&twice, &[SECRET], at), Err(Refusal::MalformedProof));
    }

    #[test]
    fn the_specification_s_own_secrets() {
        assert_eq!(whsec("whsec_AAECAw=="), Ok(vec![0, 1, 2, 3]));
        assert_eq!(to_whsec(&[0, 1, 2, 3]), "whsec_AAECAw==");
        for lenient in ["AAECAw==", "AAECAw", "whsec_AAECAw"] {
            assert_eq!(whsec(lenient), Ok(vec![0, 1, 2, 3]), "{lenient}");
        }
        for bad in ["", "=", "whsec_", "whsec_?", "whsec_whsec_AAECAw==", "AAE CAw==", "AAECAx"] {
            assert_eq!(whsec(bad), Err(Refusal::EmptyKey), "{bad}");
        }
    }
}
