//! Owns the mutations of inputs: small changes of bytes, of words, of JSON and of what another input has.

use rand::{Rng, rngs::StdRng, seq::IndexedRandom};

/// What readers look for: signs of JSON, HTTP, base64 and templates, and numbers at the edges of their types.
const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "\n",
    "\n\n",
    "\r\n",
    "=",
    "==",
    "&",
    "?",
    "/",
    "%",
    "%00",
    "%2e",
    ".",
    "..",
    "{}",
    "[]",
    "[[]]",
    "null",
    "true",
    "false",
    "0",
    "-0",
    "-1",
    "1e309",
    "1e-400",
    "0.1",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551616",
    "79228162514264337593543950336",
    "\"\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\u{feff}",
    "\u{0}",
    "\u{fffe}",
    "ä",
    "\u{200b}",
    "\u{1f600}",
    "\"id\":1,",
    "\"id\":\"\",",
    "\"__proto__\":",
    "\"deleted\":true,",
    "\"version\":2,",
    "1970-01-01T00:00:00Z",
    "9999-12-31T23:59:60Z",
    "2026-02-30",
    "authorization: Bearer ",
    "x-wc-webhook-topic: ",
    "webhook-id: ",
    "webhook-signature: v1,",
    "{body}",
    "{secret}",
    "{json:/",
    "|sha256}",
    "v1,",
    "t=1,v1=",
    "eyJhbGciOiJub25lIn0",
    "alg",
    "exp",
    ".[]",
    "..|",
    "|",
    "($x)",
    "limit(1;",
    "range(1e9)",
];

/// Changes an input in some places.
pub fn mutate(input: &[u8], others: &[Vec<u8>], rng: &mut StdRng, most: usize) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..rng.random_range(1..=4) {
        change(&mut bytes, others, rng);
    }
    bytes.truncate(most);
    bytes
}

fn range(length: usize, rng: &mut StdRng) -> std::ops::Range<usize> {
    let begin = rng.random_range(0..=length);
    let longest = [4, 32, length][rng.random_range(0..3)].min(length - begin);
    begin..begin + rng.random_range(0..=longest)
}

fn change(bytes: &mut Vec<u8>, others: &[Vec<u8>], rng: &mut StdRng) {
    let length = bytes.len();
    let at = rng.random_range(0..=length);
    match rng.random_range(0..11) {
        0 if at < length => bytes[at] ^= 1 << rng.random_range(0..8),
        1 if at < length => bytes[at] = rng.random(),
        2 => _ = bytes.drain(range(length, rng)),
        3 => {
            let word = WORDS.choose(rng).copied().unwrap_or_default();
            let over = if rng.random() { word.len().min(length - at) } else { 0 };
            bytes.splice(at..at + over, word.bytes());
        }
        4 => {
            // The same again, some times: deep, long and repeated.
            let again = bytes[range(length, rng)].repeat(rng.random_range(1..=16));
            bytes.splice(at..at, again);
        }
        5 => {
            let other = others.choose(rng).map(Vec::as_slice).unwrap_or_default();
            let part = other[range(other.len(), rng)].to_vec();
            bytes.splice(range(length, rng), part);
        }
        6 => {
            // Another number in place of a number.
            let digits: Vec<usize> = (0..length).filter(|at| bytes[*at].is_ascii_digit()).collect();
            if let Some(at) = digits.choose(rng) {
                let end = (*at..length).find(|at| !bytes[*at].is_ascii_digit()).unwrap_or(length);
                let number = format!("{}", rng.random::<i64>() >> rng.random_range(0..64));
                bytes.splice(*at..end, number.into_bytes());
            }
        }
        7 | 8 => {
            // Another value in place of a member's value.
            let colons: Vec<usize> = (0..length).filter(|at| bytes[*at] == b':').collect();
            if let Some(at) = colons.choose(rng) {
                let end = (at + 1..length).find(|at| matches!(bytes[*at], b',' | b'}' | b'\n')).unwrap_or(length);
                let word = WORDS.choose(rng).copied().unwrap_or_default();
                bytes.splice(at + 1..end, word.bytes());
            }
        }
        9 => {
            let (from, to) = (range(length, rng), at);
            let part = bytes[from].to_vec();
            bytes.splice(to..to, part);
        }
        _ => {
            // A line or a member less, or twice.
            let breaks: Vec<usize> = (0..length).filter(|at| matches!(bytes[*at], b'\n' | b',')).collect();
            if let Some(place) = breaks.windows(2).collect::<Vec<_>>().choose(rng) {
                let part = bytes[place[0]..place[1]].to_vec();
                let behind = if rng.random() { place[1]..place[1] } else { place[0]..place[1] };
                let part = if behind.is_empty() { part } else { Vec::new() };
                bytes.splice(behind, part);
            }
        }
    }
}
