//! Owns the JWT scheme: the algorithm is pinned by configuration and never taken from the token, and every claim that is relied
//! on is required.
//!
//! The signature itself is checked by the `jsonwebtoken` crate. Before that, a token must have exactly three canonical parts, and
//! a header that names no member twice and brings no key along (`jwk`, `jku`, `x5u`, `x5c`); after that, times are compared with
//! the time that was handed in.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    DecodingKey, EncodingKey, Header, Validation,
    jwk::{AlgorithmParameters, Jwk, JwkSet},
};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::{Map, Value};

pub use jsonwebtoken::Algorithm;

use super::Refusal;
use crate::{keys::KeyRing, request::RawRequest, stamp::Stamp};

/// How far the clocks of who mints and who verifies may differ, both ways, in seconds.
pub const LEEWAY_SECONDS: i64 = 30;

/// The longest token that is looked at, in bytes.
pub const MAX_TOKEN_BYTES: usize = 4096;

/// What a token must be, as data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules<'a> {
    /// The one algorithm.
    pub algorithm: Algorithm,
    /// The one issuer, where it matters.
    pub issuer: Option<&'a str>,
    /// The one audience, where it matters.
    pub audience: Option<&'a str>,
    /// Claims that must be there beside `exp`.
    pub required: &'a [&'a str],
    /// Whether the token's `kid` names one of our keys. Where it does not, it is not looked at.
    pub by_kid: bool,
    /// The longest time from `iat` to `exp`, in seconds, where there is a bound.
    pub max_lifetime_seconds: Option<i64>,
}

/// Where the keys of a scheme come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeySource {
    /// The webhook secret, derived from the signing keys; its text is the key.
    Derived,
    /// The app's client secret.
    AppSecret,
    /// The app's public keys.
    AppPublicKeys,
}

/// The scheme of a platform whose deliveries carry a token. It covers only the caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Jwt {
    /// The headers that the token may be in, lower case. If it is in several, it must be the same.
    pub headers: &'static [&'static str],
    /// What precedes the token in the header, where it is there: `Bearer `, or nothing.
    pub prefix: &'static str,
    /// What it is verified with.
    pub keys: KeySource,
    /// What it must be.
    pub rules: Rules<'static>,
    /// Claims that are sealed with the message, as text.
    pub sealed: &'static [&'static str],
}

impl Jwt {
    /// The token of a request, with or without its prefix.
    ///
    /// # Errors
    /// [`Refusal::MissingProof`]; [`Refusal::MalformedProof`] when headers are repeated or differ.
    pub fn token<'r>(&self, request: &'r RawRequest) -> Result<&'r str, Refusal> {
        let mut found: Option<&str> = None;
        for name in self.headers {
            if !request.headers.contains_key(*name) {
                continue;
            }
            let value = request.single_header(name).ok_or(Refusal::MalformedProof)?;
            let token = value.strip_prefix(self.prefix).unwrap_or(value);
            if found.is_some_and(|found| found != token) {
                return Err(Refusal::MalformedProof);
            }
            found = Some(token);
        }
        found.ok_or(Refusal::MissingProof)
    }
}

/// The claims of a token, whoever signed it: not proven, and therefore only for making samples.
///
/// # Errors
/// [`Refusal::MalformedProof`].
pub fn unproven_claims(token: &str) -> Result<Map<String, Value>, Refusal> {
    object(token.split('.').nth(1).ok_or(Refusal::MalformedProof)?)
}

/// The keys that a token may have been signed with.
pub enum Keys<'a> {
    /// Shared secrets with their ids, for HS256, HS384 and HS512.
    Secrets(Vec<(&'a str, &'a [u8])>),
    /// Public keys, for RS, PS, ES and EdDSA.
    Public(&'a PublicKeys),
}

/// Public keys of one issuer.
#[derive(Clone)]
pub struct PublicKeys(Vec<(Option<String>, Option<String>, DecodingKey)>);

impl fmt::Debug for PublicKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} public keys", self.0.len())
    }
}

impl PublicKeys {
    /// Reads a JWK set, or a single JWK. A set may hold keys for other uses; a symmetric key in it is refused, for a public
    /// document is no place for one.
    ///
    /// # Errors
    /// [`Refusal::EmptyKey`] when there is no public key that can be used.
    pub fn from_jwks(jwks: &Value) -> Result<Self, Refusal> {
        let jwks: Vec<Jwk> = match jwks.get("keys") {
            Some(_) => JwkSet::deserialize(jwks).map_err(|_| Refusal::EmptyKey)?.keys,
            None => vec![Jwk::deserialize(jwks).map_err(|_| Refusal::EmptyKey)?],
        };
        let mut keys = Vec::new();
        for jwk in jwks {
            if matches!(jwk.algorithm, AlgorithmParameters::OctetKey(_)) {
                return Err(Refusal::EmptyKey);
            }
            let key = DecodingKey::from_jwk(&jwk).map_err(|_| Refusal::EmptyKey)?;
            keys.push((jwk.common.key_id, jwk.common.key_algorithm.map(|algorithm| algorithm.to_string()), key));
        }
        if keys.is_empty() { Err(Refusal::EmptyKey) } else { Ok(Self(keys)) }
    }
}

/// A token that was verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Token {
    /// The id of the key that signed it, where it has one.
    pub key_id: String,
    /// Its claims.
    pub claims: Map<String, Value>,
}

impl Token {
    /// A claim that is a text.
    pub fn text(&self, claim: &str) -> Option<&str> {
        self.claims.get(claim)?.as_str()
    }
}

/// A JSON object that names no member twice: of two, a reader could believe either.
struct Object(Map<String, Value>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Object, A::Error> {
                let mut object = Map::new();
                while let Some((name, value)) = members.next_entry::<String, Value>()? {
                    if object.insert(name, value).is_some() {
                        return Err(A::Error::custom("a member is there twice"));
                    }
                }
                Ok(Object(object))
            }
        }
        from.deserialize_map(Members)
    }
}

impl Rules<'_> {
    /// Checks a token's form, signature and claims.
    ///
    /// # Errors
    /// The [`Refusal`] that fits.
    pub fn verify(&self, token: &str, keys: &Keys<'_>, now: Stamp) -> Result<Token, Refusal> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Refusal::MalformedProof);
        }
        let parts: Vec<&str> = token.split('.').collect();
        let [header, claims, signature] = parts.as_slice() else { return Err(Refusal::MalformedProof) };
        let header = object(header)?;
        let claims = object(claims)?;
        // Strict decoding: no padding, no stray bits, so that a token has one spelling.
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| Refusal::MalformedProof)?;
        let typed = header.get("typ").is_none_or(|typ| typ.as_str().is_some_and(|typ| typ.eq_ignore_ascii_case("JWT")));
        let pinned = header.get("alg").and_then(Value::as_str).and_then(|alg| alg.parse::<Algorithm>().ok());
        let brings_key = ["jwk", "jku", "x5u", "x5c", "crit"].iter().any(|name| header.contains_key(*name));
        if signature.is_empty() || !typed || brings_key || pinned != Some(self.algorithm) {
            return Err(Refusal::MalformedProof);
        }
        let kid = match header.get("kid") {
            None => None,
            Some(Value::String(kid)) => Some(kid.as_str()),
            Some(_) => return Err(Refusal::MalformedProof),
        };
        let key_id = self.find_key(token, kid.filter(|_| self.by_kid), keys)?;
        self.check(&claims, now)?;
        Ok(Token { key_id, claims })
    }

    /// Makes a token with these claims, for tests, simulators and sample events.
    ///
    /// # Errors
    /// [`Refusal::EmptyKey`] when the algorithm needs more than a shared secret.
    pub fn sign(&self, claims: &Map<String, Value>, secret: &[u8]) -> Result<String, Refusal> {
        jsonwebtoken::encode(&Header::new(self.algorithm), claims, &EncodingKey::from_secret(secret))
            .map_err(|_| Refusal::EmptyKey)
    }

    fn find_key(&self, token: &str, kid: Option<&str>, keys: &Keys<'_>) -> Result<String, Refusal> {
        let mut validation = Validation::new(self.algorithm);
        validation.required_spec_claims.clear();
        // Claims are checked by `check`, against the time that was handed in.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        let signed = |key: &DecodingKey| jsonwebtoken::decode::<Map<String, Value>>(token, key, &validation).is_ok();
        match keys {
            Keys::Secrets(secrets) => {
                if secrets.iter().any(|(_, secret)| secret.is_empty()) {
                    return Err(Refusal::EmptyKey);
                }
                let mut candidates = secrets.iter().filter(|(id, _)| kid.is_none_or(|kid| kid == *id));
                let found = candidates.find(|(_, secret)| signed(&DecodingKey::from_secret(secret)));
                found.map(|(id, _)| (*id).to_owned()).ok_or(Refusal::WrongProof)
            }
            Keys::Public(PublicKeys(keys)) => {
                let algorithm = format!("{:?}", self.algorithm);
                let found = keys.iter().find(|(id, of, key)| {
                    let named = kid.is_none_or(|kid| id.as_deref() == Some(kid));
                    named && of.as_ref().is_none_or(|of| *of == algorithm) && signed(key)
                });
                found.map(|(id, ..)| id.clone().unwrap_or_else(|| "public".to_owned())).ok_or(Refusal::WrongProof)
            }
        }
    }

    fn check(&self, claims: &Map<String, Value>, now: Stamp) -> Result<(), Refusal> {
        let now = now.seconds();
        for name in self.required {
            if claims.get(*name).is_none_or(Value::is_null) {
                return Err(Refusal::Claim("a required one"));
            }
        }
        let exp = time(claims, "exp").ok_or(Refusal::Claim("exp"))?.ok_or(Refusal::Claim("exp"))?;
        if exp.saturating_add(LEEWAY_SECONDS) <= now {
            return Err(Refusal::Claim("exp"));
        }
        for name in ["iat", "nbf"] {
            // Not before its time, and not after its own end.
            if let Some(at) = time(claims, name).ok_or(Refusal::Claim(name))?
                && (at.saturating_sub(LEEWAY_SECONDS) > now || at > exp)
            {
                return Err(Refusal::Claim(name));
            }
        }
        if let Some(most) = self.max_lifetime_seconds {
            let iat = time(claims, "iat").flatten().ok_or(Refusal::Claim("iat"))?;
            let lifetime = exp.checked_sub(iat).ok_or(Refusal::Claim("exp"))?;
            if lifetime <= 0 || lifetime > most {
                return Err(Refusal::Claim("exp"));
            }
        }
        if self.issuer.is_some_and(|issuer| claims.get("iss").and_then(Value::as_str) != Some(issuer)) {
            return Err(Refusal::Claim("iss"));
        }
        if let Some(audience) = self.audience {
            let fits = match claims.get("aud") {
                Some(Value::String(one)) => one == audience,
                Some(Value::Array(several)) => several.iter().any(|one| one.as_str() == Some(audience)),
                _ => false,
            };
            if !fits {
                return Err(Refusal::Claim("aud"));
            }
        }
        Ok(())
    }
}

fn object(part: &str) -> Result<Map<String, Value>, Refusal> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| Refusal::MalformedProof)?;
    serde_json::from_slice::<Object>(&bytes).map(|Object(members)| members).map_err(|_| Refusal::MalformedProof)
}

/// A time, in seconds since 1970: `Some(None)` when it is absent, `None` when it is none.
fn time(claims: &Map<String, Value>, name: &str) -> Option<Option<i64>> {
    match claims.get(name) {
        None => Some(None),
        Some(Value::Number(number)) => {
            // RFC 7519 allows fractions; what is beyond an i64 is no time.
            let whole = number.as_i64().or_else(|| {
                let seconds = number.as_f64()?.floor();
                // Below 2^53, where every whole number is one.
                (seconds.abs() < 9_007_199_254_740_992.0).then(|| format!("{seconds:.0}").parse().ok())?
            })?;
            Some(Some(whole))
        }
        Some(_) => None,
    }
}

/// Tokens of our own: HS256, minted and verified with a key ring.
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
    /// Checks a token's signature against every key of the ring (the one that its `kid` names, if it names one), and its
    /// claims against `now`.
    ///
    /// # Errors
    /// The [`Refusal`] that fits.
    pub fn verify(&self, token: &str, ring: &KeyRing, now: Stamp) -> Result<Claims, Refusal> {
        let rules = Rules {
            algorithm: Algorithm::HS256,
            issuer: None,
            audience: Some(self.audience),
            required: &["aud", "iat"],
            by_kid: true,
            max_lifetime_seconds: Some(self.max_lifetime_seconds),
        };
        let keys = Keys::Secrets(ring.iter().map(|key| (key.id(), key.secret())).collect());
        let claims = rules.verify(token, &keys, now)?.claims;
        Claims::deserialize(Value::Object(claims)).map_err(|_| Refusal::MalformedProof)
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
            assert!(matches!(verify(claims(|c| _ = c.remove(required))), Err(Refusal::Claim(_))), "{required}");
        }
        assert_eq!(verify(claims(|c| c["aud"] = json!("another"))), Err(Refusal::Claim("aud")));
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
