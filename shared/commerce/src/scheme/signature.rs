//! Owns signatures over the body that are made with a platform's private key and checked with its public keys, which the app's
//! configuration holds as a JWK set.

use base64::{Engine, engine::general_purpose::STANDARD, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    Refusal,
    hmac::Encoding,
    jwt::{Algorithm, PublicKeys},
};
use crate::request::RawRequest;

/// A signature over the body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signature {
    /// The header that carries it, in lower case.
    pub header: &'static str,
    /// The one algorithm. ECDSA is read as JOSE writes it: both numbers, at full length.
    pub algorithm: Algorithm,
    /// How it is written.
    pub encoding: Encoding,
    /// What stands before it, often nothing.
    pub prefix: &'static str,
}

impl Signature {
    /// Returns the id of the public key that the request's signature fits.
    ///
    /// # Errors
    /// The [`Refusal`] that fits.
    pub fn verify(&self, request: &RawRequest, keys: &PublicKeys) -> Result<String, Refusal> {
        if !request.headers.contains_key(self.header) {
            return Err(Refusal::MissingProof);
        }
        let value = request.single_header(self.header).ok_or(Refusal::MalformedProof)?;
        let written = value.strip_prefix(self.prefix).ok_or(Refusal::MalformedProof)?;
        let signature = match self.encoding {
            Encoding::Hex => hex::decode(written).map_err(|_| Refusal::MalformedProof)?,
            Encoding::Base64 => STANDARD.decode(written).map_err(|_| Refusal::MalformedProof)?,
        };
        keys.signer(self.algorithm, &request.body, &URL_SAFE_NO_PAD.encode(signature)).ok_or(Refusal::WrongProof)
    }
}
