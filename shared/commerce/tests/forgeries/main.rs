//! Forged proofs, from the RFCs and from published advisories, at every door that takes a proof. Each forgery names its
//! source. A door first opens to an honest proof, so that a door that never opens passes nothing.

#![allow(clippy::unwrap_used, clippy::panic)]

mod codes;
mod public_keys;
mod tokens;

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use commerce::{
    declaration::{Arrived, Declaration, Examined, Key},
    request::RawRequest,
    timestamp::Timestamp,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Value, json};

/// The time of every test.
const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

fn request(headers: &[(&str, &str)], body: &[u8]) -> RawRequest {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let value = HeaderValue::from_bytes(value.as_bytes());
        // A header that HTTP cannot carry never arrives; without it, the proof is missing.
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value) {
            map.append(name, value);
        }
    }
    RawRequest {
        method: Method::POST,
        target: "/hooks".to_owned(),
        headers: map,
        body: Bytes::copy_from_slice(body),
        received: NOW,
    }
}

/// Returns whether a declared sender with this one key takes a request for a delivery.
fn is_taken(declaration: &Declaration, request: &RawRequest, key: &str) -> bool {
    let constants = BTreeMap::new();
    let arrived = Arrived {
        method: "POST",
        target: "/",
        url: "https://hooks.example.com/",
        headers: &request.headers,
        body: &request.body,
        constants: &constants,
    };
    let keys = [Key { id: "k".to_owned(), text: key.to_owned().into() }];
    matches!(declaration.examine(&arrived, &keys, NOW, None), Examined::Delivery(..))
}

fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The makers of a signature over a text.
type Sign<'a> = dyn Fn(&[u8]) -> Vec<u8> + 'a;

/// Makes a token of exactly these texts.
fn token(header: &str, claims: &str, sign: &Sign<'_>) -> String {
    let signed = format!("{}.{}", base64url(header), base64url(claims));
    format!("{signed}.{}", base64url(sign(signed.as_bytes())))
}

fn code(algorithm: aws_lc_rs::hmac::Algorithm, key: &[u8], text: &[u8]) -> Vec<u8> {
    aws_lc_rs::hmac::sign(&aws_lc_rs::hmac::Key::new(algorithm, key), text).as_ref().to_vec()
}

fn hs256(key: &[u8]) -> impl Fn(&[u8]) -> Vec<u8> {
    move |text| code(aws_lc_rs::hmac::HMAC_SHA256, key, text)
}

/// Returns a token with one part replaced, under the signature of the whole one.
fn with_part(token: &str, place: usize, part: &str) -> String {
    let mut parts: Vec<&str> = token.split('.').collect();
    parts[place] = part;
    parts.join(".")
}

fn seconds() -> i64 {
    NOW.seconds()
}

fn object(value: &Value) -> String {
    assert!(value.is_object());
    value.to_string()
}

/// Returns a text with each other spelling of its base64url: padded, in the other alphabet, with white space, with stray
/// low bits, escaped, and in look-alike letters.
fn spellings(part: &str) -> Vec<String> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut all: Vec<String> = ["=", "==", "\n", "\r\n", " ", "\t", "%00", "\0", "%3D", "\u{200b}", "\u{feff}", "A"]
        .iter()
        .flat_map(|more| [format!("{part}{more}"), format!("{more}{part}")])
        .collect();
    let middle = part.len() / 2;
    all.extend(["\n", " ", "=", "\u{200b}"].map(|more| format!("{}{more}{}", &part[..middle], &part[middle..])));
    all.push(part.replace('-', "+").replace('_', "/"));
    all.push(part.replacen('e', "\u{ff45}", 1));
    all.push(part.replacen('e', "%65", 1));
    all.push(part.chars().rev().collect());
    if let (Some((rest, last)), true) = (part.split_at_checked(part.len().wrapping_sub(1)), part.len() % 4 > 1) {
        let place = ALPHABET.iter().position(|letter| last.as_bytes() == [*letter]).unwrap();
        let stray = if part.len() % 4 == 2 { 16 } else { 4 };
        all.extend((1..stray).map(|more| format!("{rest}{}", char::from(ALPHABET[place | more]))));
    }
    all.retain(|spelling| spelling != part);
    all
}

/// Returns a text with each single bit flipped that leaves it a text.
fn flips(text: &str) -> impl Iterator<Item = String> {
    (0..text.len()).flat_map(move |place| {
        (0..7).filter_map(move |bit| {
            let mut bytes = text.as_bytes().to_vec();
            bytes[place] ^= 1 << bit;
            String::from_utf8(bytes).ok()
        })
    })
}

fn fresh(members: &Value) -> Value {
    let mut claims = json!({ "exp": seconds() + 600, "iat": seconds() });
    claims.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    claims
}
