//! Owns the JWT scheme: the algorithm is pinned by the caller, and every claim that is relied on is required.

use std::collections::HashSet;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use super::Refusal;
use crate::{keys::KeyRing, stamp::Stamp};

/// How far the clocks of who mints and who verifies may differ, both ways, in seconds.
pub const LEEWAY_SECONDS: i64 = 30;

/// The longest token that is looked at, in bytes.
pub const MAX_TOKEN_BYTES: usize = 4096;

/// What a token must be, as data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hs256 {
    /// The one audience that the token must be for.
    pub audience: &'static str,
    /// The longest time from `iat` to `exp`, in seconds.
    pub max_lifetime_seconds: i64,
}

/// The claims of a token of ours.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Claims {
    /// Whom the token is for.
    pub aud: String,
    /// When it was minted, seconds since 1970.
    pub iat: i64,
    /// From when on it is no longer good, seconds since 1970.
    pub exp: i64,
    /// From when on it is good, seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<i64>,
}

impl Hs256 {
    /// Checks a token's signature against every key of the ring (those that its `kid` names, if it names one), and its
    /// claims against `now`.
    ///
    /// # Errors
    /// The [`Refusal`] that fits.
    pub fn verify(&self, token: &str, ring: &KeyRing, now: Stamp) -> Result<Claims, Refusal> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Refusal::MalformedProof);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| Refusal::MalformedProof)?;
        // The library pins the algorithm, too; a token that brings a key of its own never gets that far.
        if header.alg != Algorithm::HS256 || header.jwk.is_some() || header.jku.is_some() {
            return Err(Refusal::MalformedProof);
        }
        let claims = ring
            .iter()
            .filter(|key| header.kid.as_deref().is_none_or(|kid| kid == key.id()))
            .find_map(|key| {
                jsonwebtoken::decode::<Claims>(token, &DecodingKey::from_secret(key.secret()), &self.validation()).ok()
            })
            .ok_or(Refusal::WrongProof)?
            .claims;
        let now = now.seconds();
        let lifetime = claims.exp.checked_sub(claims.iat).ok_or(Refusal::Claim("exp"))?;
        if claims.exp.saturating_add(LEEWAY_SECONDS) <= now {
            return Err(Refusal::Claim("exp"));
        }
        if claims.iat.saturating_sub(LEEWAY_SECONDS) > now {
            return Err(Refusal::Claim("iat"));
        }
        if lifetime <= 0 || lifetime > self.max_lifetime_seconds {
            return Err(Refusal::Claim("exp"));
        }
        if claims.nbf.is_some_and(|nbf| nbf.saturating_sub(LEEWAY_SECONDS) > now) {
            return Err(Refusal::Claim("nbf"));
        }
        Ok(claims)
    }

    /// Mints a token with the ring's signing key.
    ///
    /// # Errors
    /// [`Refusal::Claim`] when the lifetime is longer than a token of this kind may have.
    pub fn mint(&self, ring: &KeyRing, now: Stamp, lifetime_seconds: i64) -> Result<String, Refusal> {
        if !(1..=self.max_lifetime_seconds).contains(&lifetime_seconds) {
            return Err(Refusal::Claim("exp"));
        }
        let key = ring.signing();
        let header = Header { kid: Some(key.id().to_owned()), ..Header::new(Algorithm::HS256) };
        let iat = now.seconds();
        let claims = Claims { aud: self.audience.into(), iat, exp: iat + lifetime_seconds, nbf: None };
        jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(key.secret()))
            .map_err(|_| Refusal::MalformedProof)
    }

    fn validation(&self) -> Validation {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_audience(&[self.audience]);
        validation.required_spec_claims = HashSet::from(["aud".to_owned(), "exp".to_owned()]);
        // Times are checked above, against the time that was handed in; `iat` is required because `Claims` wants it.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use serde_json::{Value, json};

    use super::*;

    const KIND: Hs256 = Hs256 { audience: "commerce-hooks/admin", max_lifetime_seconds: 3600 };
    const NOW: Stamp = Stamp::from_micros(1_800_000_000_000_000);
    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn ring() -> KeyRing {
        KeyRing::parse(SECRET).unwrap()
    }

    fn token(header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, SECRET.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(aws_lc_rs::hmac::sign(&key, signed.as_bytes())))
    }

    fn claims(change: impl FnOnce(&mut serde_json::Map<String, Value>)) -> String {
        let now = NOW.seconds();
        let mut claims = json!({"aud": KIND.audience, "iat": now, "exp": now + 900});
        change(claims.as_object_mut().unwrap());
        token(&json!({"alg": "HS256", "typ": "JWT"}), &claims)
    }

    #[test]
    fn what_is_minted_verifies() {
        let token = KIND.mint(&ring(), NOW, 900).unwrap();
        let claims = KIND.verify(&token, &ring(), NOW).unwrap();
        assert_eq!((claims.exp - claims.iat, claims.aud.as_str()), (900, KIND.audience));
        assert_eq!(KIND.mint(&ring(), NOW, 3601), Err(Refusal::Claim("exp")));
        assert_eq!(KIND.mint(&ring(), NOW, 0), Err(Refusal::Claim("exp")));
    }

    /// What the library's defaults would have let through, and we do not.
    #[test]
    fn every_claim_is_required_and_checked() {
        let verify = |token: String| KIND.verify(&token, &ring(), NOW).map(|_| ());
        let now = NOW.seconds();
        assert_eq!(verify(claims(|_| {})), Ok(()));
        for required in ["aud", "iat", "exp"] {
            assert_eq!(verify(claims(|c| _ = c.remove(required))), Err(Refusal::WrongProof), "{required}");
        }
        assert_eq!(verify(claims(|c| c["aud"] = json!("another"))), Err(Refusal::WrongProof));
        // A lifetime of more than an hour, in whichever way.
        assert_eq!(verify(claims(|c| c["exp"] = json!(now + 3601))), Err(Refusal::Claim("exp")));
        assert_eq!(verify(claims(|c| c["iat"] = json!(now - 3000))), Err(Refusal::Claim("exp")));
        assert_eq!(verify(claims(|c| c["exp"] = json!(i64::MAX))), Err(Refusal::Claim("exp")));
        // The leeway is 30 s, both ways.
        assert_eq!(verify(claims(|c| (c["iat"], c["exp"]) = (json!(now - 100), json!(now - 29)))), Ok(()));
        assert_eq!(
            verify(claims(|c| (c["iat"], c["exp"]) = (json!(now - 100), json!(now - 30)))),
            Err(Refusal::Claim("exp"))
        );
        assert_eq!(verify(claims(|c| c["iat"] = json!(now + 30))), Ok(()));
        assert_eq!(verify(claims(|c| c["iat"] = json!(now + 31))), Err(Refusal::Claim("iat")));
        assert_eq!(verify(claims(|c| _ = c.insert("nbf".into(), json!(now + 30)))), Ok(()));
        assert_eq!(verify(claims(|c| _ = c.insert("nbf".into(), json!(now + 31)))), Err(Refusal::Claim("nbf")));
        assert_eq!(verify(claims(|c| c["exp"] = json!(now - 900))), Err(Refusal::Claim("exp")));
    }

    #[test]
    fn the_algorithm_is_pinned() {
        let now = NOW.seconds();
        let body = json!({"aud": KIND.audience, "iat": now, "exp": now + 900});
        for header in [
            json!({"alg": "none"}),
            json!({"alg": "HS512"}),
            json!({"alg": "RS256"}),
            json!({"alg": "hs256"}),
            json!({"typ": "JWT"}),
            json!({"alg": "HS256", "jku": "https://attacker.example"}),
            json!({"alg": "HS256", "jwk": {"kty": "oct", "k": "AAAA"}}),
        ] {
            assert_eq!(KIND.verify(&token(&header, &body), &ring(), NOW), Err(Refusal::MalformedProof), "{header}");
        }
        assert_eq!(
            KIND.verify(&token(&json!({"alg": "HS256", "kid": "other"}), &body), &ring(), NOW),
            Err(Refusal::WrongProof)
        );
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let good = KIND.mint(&ring(), NOW, 60).unwrap();
        let (signed, _) = good.rsplit_once('.').unwrap();
        let long = "a".repeat(MAX_TOKEN_BYTES + 1);
        for bad in ["", ".", "..", "a.b.c", signed, &format!("{signed}."), &format!("{good}.x"), &long] {
            assert!(KIND.verify(bad, &ring(), NOW).is_err(), "{bad}");
        }
    }
}
