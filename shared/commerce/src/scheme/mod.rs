//! Owns the schemes by which platforms prove their deliveries: schemes as data, and their algorithms.

pub mod bearer;
pub mod hmac;
pub mod jwt;
pub mod signature;
pub mod standard_webhooks;
pub(crate) mod weak;

use crate::keys::BroughtKey;

/// The scheme by which a platform proves its deliveries, with its parameters as data.
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
    /// Standard Webhooks with a derived secret, whose text is the key. The platform gets it in the form of
    /// [`standard_webhooks::to_whsec`].
    StandardWebhooks(standard_webhooks::StandardWebhooks),
    /// Standard Webhooks, keyed with the raw bytes of the app's client secret, and a secret header that the registrar
    /// sets, derived from a signing key. The app's configuration says which of the two is required; at least one always
    /// is.
    AppSigned {
        /// The signature.
        signature: standard_webhooks::StandardWebhooks,
        /// The header, in lower case.
        header: &'static str,
    },
    /// The proof that the connection's own declaration describes, with keys that the sender showed.
    Declared,
}

impl Scheme {
    /// Returns whether the scheme uses the app's credentials.
    pub fn wants_app(&self) -> bool {
        match self {
            Self::Jwt(scheme) => scheme.keys != jwt::KeySource::Derived,
            Self::Hmac(scheme) => scheme.keys == hmac::KeySource::AppSecret,
            Self::AppSigned { .. } | Self::Signature(_) => true,
            Self::Bearer(_) | Self::StandardWebhooks(_) | Self::Declared => false,
        }
    }

    /// Returns the places of id, time and signature, if the scheme has them.
    pub fn standard_webhooks(&self) -> Option<standard_webhooks::StandardWebhooks> {
        match self {
            Self::StandardWebhooks(scheme) | Self::AppSigned { signature: scheme, .. } => Some(*scheme),
            Self::Hmac(_) | Self::Signature(_) | Self::Jwt(_) | Self::Bearer(_) | Self::Declared => None,
        }
    }

    /// Returns whether the scheme uses keys that a client brought.
    pub fn wants_brought(&self) -> bool {
        match self {
            Self::Bearer(_) => true,
            Self::Hmac(scheme) => scheme.keys == hmac::KeySource::Brought,
            Self::Signature(_) | Self::Jwt(_) | Self::StandardWebhooks(_) | Self::AppSigned { .. } | Self::Declared => {
                false
            }
        }
    }

    /// Returns the form in which a key that a client brought is kept: a bearer key by its hash alone, an HMAC key as it
    /// is.
    pub fn brought_key(&self, key: &str) -> BroughtKey {
        match self {
            Self::Hmac(_) => BroughtKey::with_secret(key),
            _ => BroughtKey::of(key),
        }
    }

    /// Returns whether a proof can be made here, for a probe. It cannot where only the platform has the private key.
    pub fn can_sign(&self) -> bool {
        match self {
            Self::Signature(_) | Self::Declared => false,
            Self::Jwt(scheme) => scheme.keys != jwt::KeySource::AppPublicKeys,
            Self::Hmac(_) | Self::Bearer(_) | Self::StandardWebhooks(_) | Self::AppSigned { .. } => true,
        }
    }
}

/// The key id of proofs by the app's own secret.
pub const APP_KEY_ID: &str = "app";

/// The key id of proofs by the secret that the app had before.
pub const FORMER_APP_KEY_ID: &str = "app-former";

/// The coverage of a proof.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(inline))]
#[serde(rename_all = "lowercase")]
pub enum Strength {
    /// The body, whose content is then the platform's.
    Body,
    /// Only the caller: the body is a hint, and the entity must be pulled.
    Caller,
}

/// The reason for which a request was refused. It is for our logs and tests only: outside, every refusal looks the
/// same.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// The proof that the scheme wants is missing.
    #[error("no proof")]
    MissingProof,
    /// The proof cannot be read, or occurs more than once.
    #[error("malformed proof")]
    MalformedProof,
    /// No key made the proof.
    #[error("wrong proof")]
    WrongProof,
    /// The proof is right but too old to distinguish from a recorded one.
    #[error("stale proof")]
    Stale,
    /// The topic (`scope`) that binds the secret is missing.
    #[error("no topic")]
    MissingScope,
    /// A key is empty, which is our mistake.
    #[error("empty key")]
    EmptyKey,
    /// The platform does not deliver with this method.
    #[error("method")]
    Method,
    /// The request is proven, but for another connection.
    #[error("another connection's")]
    OtherConnection,
    /// The app's secret is needed and not configured, which is our mistake.
    #[error("the app's secret is not configured")]
    NoApp,
    /// Only the platform has the key that signs.
    #[error("only the platform can sign")]
    NotOurs,
    /// The token is signed well, but a claim is wrong.
    #[error("claim {0}")]
    Claim(&'static str),
}
