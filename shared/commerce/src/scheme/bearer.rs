//! Owns the bearer scheme: an opaque key that proves only the caller. The hashes of keys are compared, in constant
//! time, so that neither a key's length nor its beginning can be learnt.

use aws_lc_rs::{constant_time, digest};

use super::Refusal;
use crate::{keys::BroughtKey, request::RawRequest};

/// The longest key that is read, in bytes.
pub const MAX_KEY_BYTES: usize = 4096;

/// The place of the key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bearer {
    /// The header, in lower case. Its value is `Bearer ` and the key as it is, which may contain any punctuation.
    pub header: &'static str,
}

impl Bearer {
    /// Returns the key of a request.
    ///
    /// # Errors
    /// [`Refusal::MissingProof`] and [`Refusal::MalformedProof`].
    pub fn key<'a>(&self, request: &'a RawRequest) -> Result<&'a str, Refusal> {
        if !request.headers.contains_key(self.header) {
            return Err(Refusal::MissingProof);
        }
        let value = request.single_header(self.header).ok_or(Refusal::MalformedProof)?;
        let key = value.strip_prefix("Bearer ").ok_or(Refusal::MalformedProof)?;
        if key.is_empty() || key.len() > MAX_KEY_BYTES { Err(Refusal::MalformedProof) } else { Ok(key) }
    }

    /// Returns the position of the request's key among known secrets.
    ///
    /// # Errors
    /// As [`Bearer::key`], and [`Refusal::WrongProof`], [`Refusal::EmptyKey`].
    pub fn verify(&self, request: &RawRequest, secrets: &[&str]) -> Result<usize, Refusal> {
        if secrets.iter().any(|secret| secret.is_empty()) {
            return Err(Refusal::EmptyKey);
        }
        let given = sha256(self.key(request)?);
        // All secrets are compared, so that the time does not reveal which one matched.
        let found = secrets
            .iter()
            .enumerate()
            .fold(None, |found, (place, secret)| if is_same(&given, &sha256(secret)) { Some(place) } else { found });
        found.ok_or(Refusal::WrongProof)
    }

    /// Returns the id of the request's key among those that a client brought.
    ///
    /// # Errors
    /// As [`Bearer::key`], and [`Refusal::WrongProof`].
    pub fn verify_brought<'k>(&self, request: &RawRequest, brought: &'k [BroughtKey]) -> Result<&'k str, Refusal> {
        let given = hex::encode(sha256(self.key(request)?));
        let found = brought.iter().fold(None, |found, key| {
            if is_same(given.as_bytes(), key.sha256.as_bytes()) { Some(key.id.as_str()) } else { found }
        });
        found.ok_or(Refusal::WrongProof)
    }
}

fn sha256(text: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
    hash
}

fn is_same(one: &[u8], other: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(one, other).is_ok()
}

/// Compares two secrets in a time that reveals nothing of either.
pub(crate) fn is_secret(one: &str, other: &str) -> bool {
    is_same(&sha256(one), &sha256(other))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::{HeaderMap, HeaderValue, Method, header};

    use super::*;
    use crate::timestamp::Timestamp;

    const SCHEME: Bearer = Bearer { header: "authorization" };

    fn request(values: &[&str]) -> RawRequest {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        RawRequest {
            target: String::new(),
            method: Method::POST,
            headers,
            body: "{}".into(),
            received: Timestamp::from_micros(0),
        }
    }

    #[test]
    fn any_of_several_keys_with_any_punctuation() {
        let keys = ["a!$%^~_-+/=&?#[]{}", "another", "with%20escapes and spaces"];
        for (place, key) in keys.iter().enumerate() {
            assert_eq!(SCHEME.verify(&request(&[&format!("Bearer {key}")]), &keys), Ok(place));
            let brought = keys.map(BroughtKey::of);
            assert_eq!(
                SCHEME.verify_brought(&request(&[&format!("Bearer {key}")]), &brought),
                Ok(brought[place].id.as_str())
            );
        }
        assert_eq!(SCHEME.verify(&request(&["Bearer with escapes and spaces"]), &keys), Err(Refusal::WrongProof));
        assert_eq!(SCHEME.verify(&request(&["Bearer anothe"]), &keys), Err(Refusal::WrongProof));
        assert_eq!(SCHEME.verify_brought(&request(&["Bearer another"]), &[]), Err(Refusal::WrongProof));
        assert_eq!(SCHEME.verify(&request(&["Bearer another"]), &[]), Err(Refusal::WrongProof));
    }

    #[test]
    fn what_is_no_bearer_key_is_refused() {
        let long = format!("Bearer {}", "a".repeat(MAX_KEY_BYTES + 1));
        assert_eq!(SCHEME.verify(&request(&[]), &["k"]), Err(Refusal::MissingProof));
        for bad in ["k", "Bearer", "Bearer ", "bearer k", "Basic k", &long] {
            assert_eq!(SCHEME.verify(&request(&[bad]), &["k"]), Err(Refusal::MalformedProof), "{bad}");
        }
        assert_eq!(SCHEME.verify(&request(&["Bearer k", "Bearer k"]), &["k"]), Err(Refusal::MalformedProof));
        assert_eq!(SCHEME.verify(&request(&["Bearer k"]), &[""]), Err(Refusal::EmptyKey));
    }
}
