//! Owns keys: the ring that a secret holds, the states of its keys, and the webhook secrets derived from them.

use std::fmt;

use aws_lc_rs::hkdf;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::request::WebhookPath;

/// The least length of a key's secret, in bytes.
pub const MIN_SECRET_BYTES: usize = 32;

/// The prefix of a bare key's id, followed by the beginning of the key's hash. A bare key is a generated string, not a
/// JSON ring.
///
/// A string that replaces it, such as CloudFormation makes when the secret's `GenerateSecretString` is edited, is
/// another key. Earlier releases had this prefix alone as the id.
pub const BARE_KEY_ID: &str = "initial";

/// The label that binds the hash in a bare key's id.
const KEY_ID_LABEL: &str = "commerce-hooks/v1/key-id";
/// The label that binds the fingerprint of a webhook's secret.
const FINGERPRINT_LABEL: &str = "commerce-hooks/v1/fingerprint";

/// Returns the first `N` bytes of a secret's hash, in hex. The secret has at least 32 random bytes, so the hash
/// distinguishes it and reveals nothing of it.
fn hash_of<const N: usize>(label: &str, secret: &[u8]) -> String {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    context.update(label.as_bytes());
    context.update(&[0]);
    context.update(secret);
    hex::encode(&context.finish().as_ref()[..N])
}

/// The prefix of the ids of keys that clients brought.
pub const BROUGHT: &str = "brought-";

/// The label that binds every derived secret, so that no other use of the key can collide with it.
const WEBHOOK_LABEL: &str = "commerce-hooks/v1/webhook";

/// The use that a key is allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(inline))]
#[serde(rename_all = "lowercase")]
pub enum KeyState {
    /// Accepted, but nothing new is signed with it: a key on its way in or out.
    Verify,
    /// Accepted, and the one that signs new webhooks and tokens.
    Sign,
}

/// The stage of a key in a [rotation](crate::rotation).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(inline))]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The key will sign once every environment knows it.
    Incoming,
    /// The key signed before, and is removed when nothing uses it any more.
    Outgoing,
}

/// One key of a ring, in the form that the secret holds, too. Its secret is wiped from memory on drop and never
/// printed.
#[derive(Clone, Deserialize)]
pub struct Key {
    pub(crate) id: String,
    pub(crate) state: KeyState,
    pub(crate) secret: Zeroizing<String>,
    /// The time since which the key has its state and phase, in seconds since 1970.
    #[serde(default)]
    pub(crate) since: Option<i64>,
    #[serde(default)]
    pub(crate) phase: Option<Phase>,
}

impl Key {
    /// Returns the id, which is recorded wherever the key was used. It is not secret.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the state, which says whether the key signs.
    pub fn state(&self) -> KeyState {
        self.state
    }

    /// Returns the stage in a rotation, or `None` for a key that no rotation touches.
    pub fn phase(&self) -> Option<Phase> {
        self.phase
    }

    /// Returns the time since which the key has its state and phase, in seconds since 1970, or `None` if no rotation
    /// set them.
    pub fn since(&self) -> Option<i64> {
        self.since
    }

    /// Returns the key's bytes.
    pub fn secret(&self) -> &[u8] {
        self.secret.as_bytes()
    }

    /// Derives the secret of the webhooks that point at `path`: 64 lower-case hex digits. WooCommerce decodes HTML
    /// entities in secrets, and hex digits contain none.
    ///
    /// `scope` binds the secret to one topic, for platforms that do not sign the topic.
    pub fn webhook_secret(&self, path: &WebhookPath, scope: Option<&str>) -> WebhookSecret {
        let generation = path.generation.to_string();
        let mut parts = vec![WEBHOOK_LABEL, &path.key.platform, path.key.connection.as_str(), &generation];
        parts.extend(scope);
        // Each part is preceded by its length, so no two lists of parts give the same bytes.
        let mut info = Vec::with_capacity(160);
        for part in parts {
            info.extend_from_slice(&(part.len() as u64).to_be_bytes());
            info.extend_from_slice(part.as_bytes());
        }
        let pseudo_random = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(self.secret());
        let mut bytes = Zeroizing::new([0_u8; 32]);
        let info = [info.as_slice()];
        if pseudo_random.expand(&info, hkdf::HKDF_SHA256).and_then(|okm| okm.fill(bytes.as_mut())).is_err() {
            unreachable!("HKDF-SHA256 refuses only outputs of more than 255 * 32 bytes");
        }
        WebhookSecret(Zeroizing::new(hex::encode(bytes.as_ref())))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("id", &self.id).field("state", &self.state).finish_non_exhaustive()
    }
}

/// The secret of one webhook, as the platform stores it.
pub struct WebhookSecret(Zeroizing<String>);

impl WebhookSecret {
    /// Returns the secret itself, for a caller that hands it to a platform or a person.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Returns 16 hex digits that distinguish the secret from others. They are not secret.
    pub fn fingerprint(&self) -> String {
        hash_of::<8>(FINGERPRINT_LABEL, self.0.as_bytes())
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret(…)")
    }
}

/// The keys of one secret, the signing one first. Never empty.
#[derive(Clone, Debug)]
pub struct KeyRing {
    keys: Vec<Key>,
}

/// An error for a secret that is not a key ring. No variant repeats any of the secret.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyRingError {
    /// Neither a bare string nor `{"keys":[{"id","state","secret"}]}`.
    #[error(
        "the secret is neither a generated string nor {{\"keys\":[{{\"id\":…,\"state\":\"sign\"|\"verify\",\"secret\":…}}]}}"
    )]
    Shape,
    /// A key's secret has characters that generated secrets never have, so another text was pasted or misread.
    #[error(
        "key {0:?} has a secret that is none: it must be of letters, digits and punctuation without spaces, quotes, backslashes and brackets"
    )]
    NoSecret(String),
    /// A key's id is not valid.
    #[error("the id of a key must be of 1 to 100 letters, digits, '.', '_' and '-'")]
    NoId,
    /// A key is too short to be safe.
    #[error("key {0:?} has a secret of less than {MIN_SECRET_BYTES} bytes")]
    TooShort(String),
    /// Not exactly one key signs.
    #[error("exactly one key must be in state \"sign\", {0} are")]
    Signers(usize),
    /// Two keys share an id.
    #[error("key id {0:?} is there twice")]
    DuplicateId(String),
}

#[derive(Deserialize)]
struct RingWire {
    keys: Vec<Key>,
}

/// Returns the text of a secret with these keys. Only this function writes keys, so that they end up nowhere else.
pub(crate) fn ring_text(keys: &[Key]) -> Zeroizing<String> {
    #[derive(Serialize)]
    struct Wire<'a> {
        id: &'a str,
        state: KeyState,
        secret: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        since: Option<i64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        phase: Option<Phase>,
    }
    let wire = |key: &Key| {
        serde_json::to_string(&Wire {
            id: &key.id,
            state: key.state,
            secret: &key.secret,
            since: key.since,
            phase: key.phase,
        })
    };
    let keys: Vec<String> = keys.iter().filter_map(|key| wire(key).ok()).collect();
    Zeroizing::new(format!("{{\"keys\":[{}]}}", keys.join(",")))
}

impl KeyRing {
    /// Parses a secret's value: a bare generated string, which is one signing key, or a JSON ring. It skips a byte
    /// order mark, which editors may have put before the value.
    ///
    /// # Errors
    /// A [`KeyRingError`] that names the fault without repeating the secret.
    pub fn parse(text: &str) -> Result<Self, KeyRingError> {
        let text = plain(text);
        let mut keys = if text.starts_with('{') {
            let ring: RingWire = serde_json::from_str(text).map_err(|_| KeyRingError::Shape)?;
            ring.keys
        } else {
            let secret: Zeroizing<String> = Zeroizing::new(text.into());
            // The hash of a guessable text would reveal it.
            let id = match secret.len() < MIN_SECRET_BYTES || !is_secret(&secret) {
                true => BARE_KEY_ID.to_owned(),
                false => format!("{BARE_KEY_ID}-{}", hash_of::<4>(KEY_ID_LABEL, secret.as_bytes())),
            };
            vec![Key { id, state: KeyState::Sign, secret, since: None, phase: None }]
        };
        for (index, key) in keys.iter().enumerate() {
            let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            if !(1..=100).contains(&key.id.len()) || !key.id.bytes().all(legal) {
                return Err(KeyRingError::NoId);
            }
            if !is_secret(&key.secret) {
                return Err(KeyRingError::NoSecret(key.id.clone()));
            }
            if key.secret().len() < MIN_SECRET_BYTES {
                return Err(KeyRingError::TooShort(key.id.clone()));
            }
            if keys.iter().take(index).any(|other| other.id == key.id) {
                return Err(KeyRingError::DuplicateId(key.id.clone()));
            }
        }
        keys.sort_by_key(|key| key.state != KeyState::Sign);
        match keys.iter().filter(|key| key.state == KeyState::Sign).count() {
            1 => Ok(Self { keys }),
            signers => Err(KeyRingError::Signers(signers)),
        }
    }

    /// Returns the key that signs.
    pub fn signing(&self) -> &Key {
        // `parse`, the only constructor, puts the one signing key first.
        &self.keys[0]
    }

    /// Returns whether the ring has a key of this id. An earlier release recorded bare keys as [`BARE_KEY_ID`] alone,
    /// which could be any bare key, so that id matches every bare key.
    pub fn knows(&self, id: &str) -> bool {
        self.keys.iter().any(|key| key.id == id || id == BARE_KEY_ID && key.id.starts_with(BARE_KEY_ID))
    }

    /// Returns all keys, the signing one first.
    pub fn iter(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter()
    }
}

/// Strips white space and byte order marks, which editors put around a secret.
pub(crate) fn plain(text: &str) -> &str {
    text.trim().trim_start_matches('\u{feff}').trim()
}

/// Returns whether a text can be a generated secret: visible ASCII, without characters that come from a surrounding
/// text, such as JSON's braces or quotes. It does not check the length.
fn is_secret(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"'`\\{}[]".contains(&byte))
}

/// A stored key that a client brought: its SHA-256, and the key itself only where HMACs are computed with it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BroughtKey {
    /// The key's name in logs.
    pub id: String,
    /// The key's SHA-256, in lower-case hex.
    pub sha256: String,
    /// The key itself, where its hash is not enough. Wiped from memory on drop and never printed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) secret: Option<Zeroizing<String>>,
}

impl BroughtKey {
    /// Makes the record of a key. Its id is the beginning of the hash, which reveals nothing of a key that is long
    /// enough.
    pub fn of(key: &str) -> Self {
        let sha256 = hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key.as_bytes()));
        Self { id: format!("{BROUGHT}{}", &sha256[..8]), sha256, secret: None }
    }

    /// Makes the record of a key, with the key itself.
    pub fn with_secret(key: &str) -> Self {
        Self { secret: Some(Zeroizing::new(key.to_owned())), ..Self::of(key) }
    }
}

impl fmt::Debug for BroughtKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BroughtKey").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn ring(states: &[(&str, &str)]) -> Result<KeyRing, KeyRingError> {
        let keys: Vec<String> = states
            .iter()
            .map(|(id, state)| format!(r#"{{"id":"{id}","state":"{state}","secret":"{SECRET}{id}"}}"#))
            .collect();
        KeyRing::parse(&format!(r#"{{"keys":[{}]}}"#, keys.join(",")))
    }

    fn path(connection: &str, generation: Option<&str>) -> WebhookPath {
        WebhookPath::parse("woocommerce", connection, generation).unwrap()
    }

    #[test]
    fn a_bare_string_is_one_signing_key() {
        let ring = KeyRing::parse(SECRET).unwrap();
        assert_eq!(ring.iter().count(), 1);
        // Another string is another key, and earlier releases gave each of them the same id.
        let other = KeyRing::parse(&SECRET.replace(|c: char| c.is_ascii_digit(), "x")).unwrap();
        for ring in [&ring, &other] {
            let hash = ring.signing().id().strip_prefix("initial-").unwrap();
            assert!(hash.len() == 8 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{hash}");
            assert!(ring.knows(ring.signing().id()) && ring.knows(BARE_KEY_ID) && !ring.knows("initial-00000000"));
        }
        assert_ne!(ring.signing().id(), other.signing().id());
        assert!(!self::ring(&[("k", "sign")]).unwrap().knows(BARE_KEY_ID));
    }

    #[test]
    fn the_signing_key_comes_first() {
        let ring = ring(&[("old", "verify"), ("new", "sign")]).unwrap();
        assert_eq!(ring.iter().map(Key::id).collect::<Vec<_>>(), ["new", "old"]);
    }

    #[test]
    fn a_key_has_the_stage_that_a_rotation_gave_it() {
        let keys = serde_json::json!({ "keys": [
            { "id": "new", "state": "sign", "secret": format!("{SECRET}new") },
            { "id": "old", "state": "verify", "secret": format!("{SECRET}old"), "since": 42, "phase": "outgoing" },
        ] });
        let ring = KeyRing::parse(&keys.to_string()).unwrap();
        let stages: Vec<_> = ring.iter().map(|key| (key.state(), key.phase(), key.since())).collect();
        assert_eq!(stages, [(KeyState::Sign, None, None), (KeyState::Verify, Some(Phase::Outgoing), Some(42))]);
    }

    #[test]
    fn unsafe_rings_are_refused() {
        assert_eq!(KeyRing::parse("short").unwrap_err(), KeyRingError::TooShort(BARE_KEY_ID.into()));
        assert_eq!(KeyRing::parse("").unwrap_err(), KeyRingError::TooShort(BARE_KEY_ID.into()));
        assert_eq!(KeyRing::parse("\u{feff}").unwrap_err(), KeyRingError::TooShort(BARE_KEY_ID.into()));
        assert_eq!(KeyRing::parse("{\"keys\":1}").unwrap_err(), KeyRingError::Shape);
        assert_eq!(KeyRing::parse("{\"keys\":[]}").unwrap_err(), KeyRingError::Signers(0));
        assert_eq!(ring(&[("a", "sign"), ("b", "sign")]).unwrap_err(), KeyRingError::Signers(2));
        assert_eq!(ring(&[("a", "verify")]).unwrap_err(), KeyRingError::Signers(0));
        assert_eq!(ring(&[("a", "sign"), ("a", "verify")]).unwrap_err(), KeyRingError::DuplicateId("a".into()));
        assert_eq!(ring(&[("a", "retired")]).unwrap_err(), KeyRingError::Shape);
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_a_key() {
        let ring = format!(r#"{{"keys":[{{"id":"a","state":"sign","secret":"{SECRET}"}}]}}"#);
        for text in [format!("\u{feff}{ring}"), format!(" \u{feff}\n{ring}\r\n"), ring] {
            let read = KeyRing::parse(&text).unwrap();
            assert_eq!((read.signing().id(), read.signing().secret()), ("a", SECRET.as_bytes()), "{text}");
        }
        assert_eq!(KeyRing::parse(&format!("\u{feff}{SECRET}\n")).unwrap().signing().secret(), SECRET.as_bytes());
    }

    #[test]
    fn what_is_no_secret_is_no_key() {
        let quoted = serde_json::to_string(SECRET).unwrap();
        let list = format!("[{quoted}]");
        let inner = format!("{SECRET}\u{feff}{SECRET}");
        for bad in [
            quoted.as_str(),
            &list,
            &inner,
            &format!("'{SECRET}'"),
            &format!("{SECRET} {SECRET}"),
            &format!("{SECRET}\n{SECRET}"),
            &format!("{SECRET}\u{0}"),
            &format!("{SECRET}\u{7f}"),
            &format!("{SECRET}é"),
            &format!("secret={{{SECRET}}}"),
            &format!("{SECRET}\\n"),
        ] {
            assert_eq!(KeyRing::parse(bad).unwrap_err(), KeyRingError::NoSecret(BARE_KEY_ID.into()), "{bad}");
            let key = serde_json::json!({ "id": "a", "state": "sign", "secret": bad });
            let ring = serde_json::json!({ "keys": [key] }).to_string();
            assert_eq!(KeyRing::parse(&ring).unwrap_err(), KeyRingError::NoSecret("a".into()), "{ring}");
        }
        assert_eq!(ring(&[("", "sign")]).unwrap_err(), KeyRingError::NoId);
        assert_eq!(ring(&[("a b", "sign")]).unwrap_err(), KeyRingError::NoId);
        let twice = format!(r#"{{"keys":[],"keys":[{{"id":"a","state":"sign","secret":"{SECRET}"}}]}}"#);
        assert_eq!(KeyRing::parse(&twice).unwrap_err(), KeyRingError::Shape);
        for good in [SECRET.to_owned(), format!("{SECRET}!#$%&()*+,-./:;<=>?@^_|~")] {
            assert!(KeyRing::parse(&good).is_ok(), "{good}");
        }
    }

    #[test]
    fn secrets_are_bound_to_all_their_parts() {
        let ring = ring(&[("a", "sign"), ("b", "verify")]).unwrap();
        let keys: Vec<&Key> = ring.iter().collect();
        let secrets = [
            keys[0].webhook_secret(&path("shop", None), Some("order.updated")),
            keys[0].webhook_secret(&path("shop", None), Some("order.deleted")),
            keys[0].webhook_secret(&path("shop", None), None),
            keys[0].webhook_secret(&path("shop", Some("2")), Some("order.updated")),
            keys[0].webhook_secret(&path("shop2", None), Some("order.updated")),
            keys[1].webhook_secret(&path("shop", None), Some("order.updated")),
        ];
        for (index, secret) in secrets.iter().enumerate() {
            assert_eq!(secret.reveal().len(), 64);
            assert!(secret.reveal().bytes().all(|byte| b"0123456789abcdef".contains(&byte)));
            assert!(secrets[..index].iter().all(|other| other.reveal() != secret.reveal()));
        }
    }

    /// Computed with Python's `hmac` from RFC 5869 alone: the secrets that stores hold must stay valid across releases.
    #[test]
    fn the_derivation_is_a_promise() {
        let secret = KeyRing::parse(SECRET)
            .unwrap()
            .signing()
            .webhook_secret(&path("shop.example.com", None), Some("order.updated"));
        assert_eq!(secret.reveal(), "61ba8f16d59c44696deda1b86c3adfc424911051f3df53bb1fcff16e4857f3d8");
        assert_eq!(secret.fingerprint(), "79176b9ae5f8c740");
    }

    #[test]
    fn nothing_prints_a_secret() {
        let ring = KeyRing::parse(SECRET).unwrap();
        let secret = ring.signing().webhook_secret(&path("shop", None), None);
        let shown = format!("{ring:?} {secret:?}");
        assert!(!shown.contains(SECRET) && !shown.contains(secret.reveal()), "{shown}");
        assert!(shown.contains(ring.signing().id()) && shown.contains("WebhookSecret"), "{shown}");
    }
}
