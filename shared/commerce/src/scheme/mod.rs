//! How a platform can prove its deliveries: schemes as data, and their algorithms.

pub mod bearer;
pub mod hmac;
pub mod jwt;
pub mod signature;
pub mod standard_webhooks;

use crate::keys::BroughtKey;

/// How a platform proves its deliveries, with the parameters as data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scheme {
    /// A code over the body, made with a shared secret.
    Hmac(hmac::Hmac),
    /// A signature over the body, made with a private key that only the platform has.
    Signature(signature::Signature),
    /// A token that proves the caller.
    Jwt(jwt::Jwt),
    /// A key that proves the caller: a derived one, or one that the client brought.
    Bearer(bearer::Bearer),
    /// Standard Webhooks, with a derived secret, whose text is the key: the platform is given it as
    /// [`standard_webhooks::to_whsec`] writes it.
    StandardWebhooks(standard_webhooks::StandardWebhooks),
    /// Standard Webhooks, keyed with the raw bytes of the app's client secret; and a secret header that the registrar sets,
    /// derived from a signing key. Which of the two is required is the app's configuration, and at least one always is.
    AppSigned {
        /// The signature.
        signature: standard_webhooks::StandardWebhooks,
        /// The header, lower case.
        header: &'static str,
    },
}

impl Scheme {
    /// Whether the app's credentials take part.
    pub fn wants_app(&self) -> bool {
        match self {
            Self::Jwt(scheme) => scheme.keys != jwt::KeySource::Derived,
            Self::Hmac(scheme) => scheme.keys == hmac::KeySource::AppSecret,
            Self::AppSigned { .. } | Self::Signature(_) => true,
            Self::Bearer(_) | Self::StandardWebhooks(_) => false,
        }
    }

    /// Where id, time and signature are, where it has them.
    pub fn standard_webhooks(&self) -> Option<standard_webhooks::StandardWebhooks> {
        match self {
            Self::StandardWebhooks(scheme) | Self::AppSigned { signature: scheme, .. } => Some(*scheme),
            Self::Hmac(_) | Self::Signature(_) | Self::Jwt(_) | Self::Bearer(_) => None,
        }
    }

    /// Whether keys that a client brought take part.
    pub fn wants_brought(&self) -> bool {
        match self {
            Self::Bearer(_) => true,
            Self::Hmac(scheme) => scheme.keys == hmac::KeySource::Brought,
            Self::Signature(_) | Self::Jwt(_) | Self::StandardWebhooks(_) | Self::AppSigned { .. } => false,
        }
    }

    /// Returns a key that a client brought as it is kept: a bearer key by its hash alone, a key that codes are made with as it is.
    pub fn brought_key(&self, key: &str) -> BroughtKey {
        match self {
            Self::Hmac(_) => BroughtKey::with_secret(key),
            _ => BroughtKey::of(key),
        }
    }

    /// Whether a proof can be made here, for a probe: not where only the platform has the private key.
    pub fn can_sign(&self) -> bool {
        match self {
            Self::Signature(_) => false,
            Self::Jwt(scheme) => scheme.keys != jwt::KeySource::AppPublicKeys,
            Self::Hmac(_) | Self::Bearer(_) | Self::StandardWebhooks(_) | Self::AppSigned { .. } => true,
        }
    }
}

/// The key id of what the app's own secret has proven.
pub const APP_KEY_ID: &str = "app";

/// What a proof covers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strength {
    /// The body: what it says is what the platform said.
    Body,
    /// Only the caller: the body is a hint, and the entity must be pulled.
    Caller,
}

/// Why a request was refused. For our logs and tests only: outside, every refusal looks the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// No proof where the scheme wants it.
    #[error("no proof")]
    MissingProof,
    /// A proof that cannot be read, or more than one where one is meant.
    #[error("malformed proof")]
    MalformedProof,
    /// A proof that no key made.
    #[error("wrong proof")]
    WrongProof,
    /// A proof that is right but too old to tell from a recorded one.
    #[error("stale proof")]
    Stale,
    /// The scope, to which the secret is bound, is not named.
    #[error("no scope")]
    MissingScope,
    /// A key is empty; a mistake of ours.
    #[error("empty key")]
    EmptyKey,
    /// The method is not one that the platform delivers with.
    #[error("method")]
    Method,
    /// It is proven, but for another connection.
    #[error("another connection's")]
    OtherConnection,
    /// The app's secret is needed and is not configured; a mistake of ours.
    #[error("the app's secret is not configured")]
    NoApp,
    /// Only the platform has the key that signs.
    #[error("only the platform can sign")]
    NotOurs,
    /// A token that is signed well but says the wrong thing.
    #[error("claim {0}")]
    Claim(&'static str),
}
