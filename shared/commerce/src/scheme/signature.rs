//! Owns signatures over the body that a platform's private key makes and its public keys check. The app's configuration
//! holds the public keys as a JWK set.

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
    /// The one algorithm. ECDSA signatures have the form of JOSE: both numbers, at full length.
    pub algorithm: Algorithm,
    /// The encoding of the signature.
    pub encoding: Encoding,
    /// The prefix of the signature, often empty.
    pub prefix: &'static str,
}

impl Signature {
    /// Returns the id of the public key that verifies the request's signature.
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
