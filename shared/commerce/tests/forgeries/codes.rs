//! Forged codes and keys in headers: RFC 2104 (HMAC), RFC 9110 (header fields), Standard Webhooks, and advisories.

use std::{collections::BTreeMap, fs, path::Path};

use aws_lc_rs::hmac::{HMAC_SHA1_FOR_LEGACY_USE_ONLY, HMAC_SHA256, HMAC_SHA512};
use base64::{Engine, engine::general_purpose::STANDARD};
use commerce::{
    apps::Apps,
    declaration::{Arrived, BodyForm, Declaration, Examined, Key},
    keys::{BroughtKey, KeyRing},
    platform::find,
    platforms::PLATFORMS,
    request::WebhookPath,
    scheme::Strength,
    verify::{Material, verify},
};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{NOW, code, request, seconds};

const RING: &str = "0123456789abcdef0123456789abcdef";
const APP_SECRET: &str = "the-app's-client-secret";
const BROUGHT: &str = "a key that the client brought";
const BODY: &[u8] = br#"{"id":4711,"status":"processing","producer":"stores/store","scope":"store/order/created"}"#;

/// A platform's door: the path, and the headers of an honest request with the name of the one that proves it.
struct Door {
    path: WebhookPath,
    headers: Vec<(&'static str, String)>,
    proof: &'static str,
    /// Which of the app's two proofs is asked for.
    require: &'static str,
    /// The proof covers the body.
    covers: bool,
}

fn door(platform: &str, connection: &str, proof: &'static str, covers: bool, require: &'static str) -> Door {
    Door { path: WebhookPath::parse(platform, connection, None).unwrap(), headers: Vec::new(), proof, require, covers }
}

fn ring() -> KeyRing {
    KeyRing::parse(RING).unwrap()
}

fn derived(path: &WebhookPath, scope: Option<&str>) -> String {
    ring().signing().webhook_secret(path, scope).reveal().to_owned()
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

const TOPIC: &str = "order.updated";

fn signed_text(id: &str, at: &str, body: &[u8]) -> Vec<u8> {
    [id.as_bytes(), b".", at.as_bytes(), b".", body].concat()
}

fn doors() -> Vec<Door> {
    let mut by_code = door("woocommerce", "shop.example.com", "x-wc-webhook-signature", true, "either");
    let secret = derived(&by_code.path, Some(TOPIC));
    by_code.headers = vec![
        ("x-wc-webhook-topic", TOPIC.to_owned()),
        ("x-wc-webhook-signature", base64(code(HMAC_SHA256, secret.as_bytes(), BODY))),
    ];
    let mut by_header = door("bigcommerce", "store", "x-commerce-hooks-key", false, "header");
    by_header.headers = vec![("x-commerce-hooks-key", derived(&by_header.path, None))];
    let mut by_signature = door("bigcommerce", "store", "webhook-signature", true, "signature");
    let at = seconds().to_string();
    let signature = code(HMAC_SHA256, APP_SECRET.as_bytes(), &signed_text("msg_1", &at, BODY));
    by_signature.headers = vec![
        ("webhook-id", "msg_1".to_owned()),
        ("webhook-timestamp", at),
        ("webhook-signature", format!("v1,{}", base64(signature))),
    ];
    let mut by_key = door("directscale", "acme", "authorization", false, "either");
    by_key.headers = vec![
        ("x-directscale-client-id", "acme".to_owned()),
        ("authorization", format!("Bearer {}", derived(&by_key.path, None))),
    ];
    let mut by_brought = door("directscale", "acme", "authorization", false, "either");
    by_brought.headers =
        vec![("x-directscale-client-id", "acme".to_owned()), ("authorization", format!("Bearer {BROUGHT}"))];
    vec![by_code, by_header, by_signature, by_key, by_brought]
}

impl Door {
    fn opens_at(&self, path: &WebhookPath, headers: &[(&str, &str)], body: &[u8]) -> bool {
        let app = json!({ "bigcommerce": { "client_id": "id", "client_secret": APP_SECRET, "require": self.require } });
        let apps = Apps::parse(&app.to_string(), |_| true).unwrap();
        let (ring, brought) = (ring(), [BroughtKey::of(BROUGHT)]);
        let app = apps.get(&path.key.platform);
        let keys = Material { ring: &ring, app, brought: Some(&brought), now: NOW };
        let platform = find(PLATFORMS, &path.key.platform).unwrap();
        verify(platform.delivery, path, &request(headers, body), &keys).is_ok()
    }

    fn opens(&self, headers: &[(&str, &str)], body: &[u8]) -> bool {
        self.opens_at(&self.path, headers, body)
    }

    fn honest(&self) -> Vec<(&str, &str)> {
        self.headers.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }

    /// Returns the honest headers with other values for the proof.
    fn with<'a>(&'a self, values: &[&'a str]) -> Vec<(&'a str, &'a str)> {
        let others = self.honest().into_iter().filter(|(name, _)| *name != self.proof);
        others.chain(values.iter().map(|value| (self.proof, *value))).collect()
    }

    fn value(&self) -> &str {
        self.headers.iter().find(|(name, _)| *name == self.proof).map(|(_, value)| value).unwrap()
    }
}

/// Returns forged values of a header, given the honest one.
fn forged(honest: &str) -> Vec<(&'static str, String)> {
    let mut all: Vec<(&str, String)> = Vec::new();
    // CVE-2022-24713 and its like: a comparison that stops early, at nothing, at a prefix or at a zero byte.
    all.extend((0..honest.len()).map(|length| ("cut short", honest[..length].to_owned())));
    all.extend(
        ["A", "=", "==", "0", ",", ";", "\u{a0}", "\u{200b}", "%00"]
            .map(|more| ("more behind", format!("{honest}{more}"))),
    );
    all.extend(["A", "v2,", ",", "=", "\u{feff}"].map(|more| ("more before", format!("{more}{honest}"))));
    all.push(("doubled", format!("{honest}{honest}")));
    // RFC 9110, section 5.3: a proxy joins the lines of a repeated header with commas.
    all.push(("joined", format!("{honest},{honest}")));
    // Standard Webhooks separate several signatures by spaces, of which one right one is enough.
    if !honest.starts_with("v1,") {
        all.push(("joined", format!("{honest}, {honest}")));
    }
    all.push(("upper case", honest.to_uppercase()));
    all.push((
        "other case",
        honest
            .chars()
            .map(|c| if c.is_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() })
            .collect(),
    ));
    all.push(("quoted", format!("\"{honest}\"")));
    all.push(("in brackets", format!("[\"{honest}\"]")));
    all.push(("another alphabet", honest.replace('+', "-").replace('/', "_")));
    all.push(("hex of it", hex::encode(honest)));
    all.push(("base64 of it", base64(honest)));
    all.push(("full width", honest.replacen('a', "\u{ff41}", 1)));
    for constant in
        ["", " ", "null", "undefined", "true", "0", "[]", "{}", "*", "%", "Bearer ", "Bearer", "v1,", "v1, ", "v1,="]
    {
        all.push(("a constant", constant.to_owned()));
    }
    for length in [1, 20, 31, 32, 33, 64] {
        for byte in [0, 255] {
            let bytes = vec![byte; length];
            all.extend(
                [base64(&bytes), hex::encode(&bytes), format!("v1,{}", base64(&bytes))]
                    .map(|one| ("one byte alone", one)),
            );
        }
    }
    all.retain(|(_, value)| value != honest);
    all
}

#[test]
fn no_forged_header_opens_a_door() {
    let mut wrong = Vec::new();
    let mut tried = 0;
    for door in doors() {
        let honest = door.value();
        let name = format!("{} by {}", door.path.key.platform, door.proof);
        assert!(door.opens(&door.honest(), BODY), "{name} does not open");
        for (what, value) in forged(honest) {
            tried += 1;
            if door.opens(&door.with(&[&value]), BODY) {
                wrong.push(format!("{name}: {what}: {value}"));
            }
        }
        for value in super::flips(honest) {
            tried += 1;
            if door.opens(&door.with(&[&value]), BODY) {
                wrong.push(format!("{name}: a bit: {value}"));
            }
        }
        // RFC 9110, section 5.3, and request smuggling: which of two lines counts?
        for values in [&[][..], &[honest, honest], &[honest, "x"], &["x", honest], &["", honest], &[honest, ""]] {
            if door.opens(&door.with(values), BODY) {
                wrong.push(format!("{name}: {} lines", values.len()));
            }
        }
        for other in ["x-signature", "x-hub-signature-256", "signature", "cookie", "x-forwarded-authorization"] {
            let mut headers = door.with(&[]);
            headers.push((other, honest));
            if door.opens(&headers, BODY) {
                wrong.push(format!("{name}: in {other}"));
            }
        }
        // What the proof does not cover, but what goes with it.
        for (place, (other, value)) in
            door.honest().into_iter().enumerate().filter(|(_, (other, _))| *other != door.proof)
        {
            for values in [&[][..], &[value, value], &["", value], &["9", value], &[value, "9"], &["another"]] {
                let mut headers = door.honest();
                headers.remove(place);
                headers.extend(values.iter().map(|value| (other, *value)));
                if door.opens(&headers, BODY) {
                    wrong.push(format!("{name}: {other}: {values:?}"));
                }
            }
        }
        assert!(!door.opens(&[], BODY), "{name} opens to nothing");
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(tried > 1_500, "{tried}");
}

#[test]
fn a_code_is_good_for_the_bytes_that_were_signed() {
    for door in doors().into_iter().filter(|door| door.covers) {
        let mut bodies: Vec<Vec<u8>> = vec![Vec::new(), b"{}".to_vec(), BODY.to_ascii_uppercase()];
        // As middleware changes bodies: a mark, line ends, white space, another encoding, members in another order.
        for (before, behind) in
            [("\u{feff}", ""), ("", "\n"), ("", "\r\n"), (" ", ""), ("", "\0"), ("", " "), ("[", "]")]
        {
            bodies.push([before.as_bytes(), BODY, behind.as_bytes()].concat());
        }
        let text = String::from_utf8(BODY.to_vec()).unwrap();
        bodies.push(text.replace(',', ", ").into_bytes());
        bodies.push(text.replace('/', "\\/").into_bytes());
        bodies.push(serde_json::to_vec_pretty(&serde_json::from_slice::<Value>(BODY).unwrap()).unwrap());
        bodies.push(base64(BODY).into_bytes());
        bodies.push([BODY, BODY].concat());
        bodies.push(text.encode_utf16().flat_map(u16::to_le_bytes).collect());
        for place in 0..BODY.len() {
            for bit in 0..8 {
                let mut body = BODY.to_vec();
                body[place] ^= 1 << bit;
                bodies.push(body);
            }
        }
        for body in bodies {
            assert!(!door.opens(&door.honest(), &body), "{}: {:?}", door.proof, String::from_utf8_lossy(&body));
        }
    }
}

/// Codes over the right body, with a key, a hash or an encoding that is another.
#[test]
fn a_code_has_one_key_one_hash_and_one_encoding() {
    let door = doors().remove(0);
    let secret = derived(&door.path, Some(TOPIC));
    let path = |platform: &str, connection: &str, generation: Option<&str>| {
        WebhookPath::parse(platform, connection, generation).unwrap()
    };
    let key = secret.as_bytes();
    let right = code(HMAC_SHA256, key, BODY);
    assert!(door.opens(&door.with(&[&base64(&right)]), BODY));
    let mut values = vec![
        hex::encode(&right),
        base64(hex::encode(&right)),
        format!("sha256={}", base64(&right)),
        format!("sha256={}", hex::encode(&right)),
        base64(&right[..16]),
        base64([right.as_slice(), &right].concat()),
        base64(code(HMAC_SHA1_FOR_LEGACY_USE_ONLY, key, BODY)),
        base64(code(HMAC_SHA512, key, BODY)),
        base64(&code(HMAC_SHA512, key, BODY)[..32]),
        base64(code(HMAC_SHA256, &hex::decode(&secret).unwrap(), BODY)),
        base64(code(HMAC_SHA256, secret.to_uppercase().as_bytes(), BODY)),
        base64(code(HMAC_SHA256, &[key, b"\n"].concat(), BODY)),
        base64(code(HMAC_SHA256, b"", BODY)),
        base64(code(HMAC_SHA256, RING.as_bytes(), BODY)),
        base64(code(HMAC_SHA256, BROUGHT.as_bytes(), BODY)),
        base64(code(HMAC_SHA256, APP_SECRET.as_bytes(), BODY)),
        // The key in place of the text, and a plain hash of both (length extension).
        base64(code(HMAC_SHA256, BODY, key)),
        base64(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &[key, BODY].concat())),
        secret.clone(),
    ];
    // Another topic, connection, generation and platform, each with a secret of its own.
    values.extend(
        [
            (path("woocommerce", "shop.example.com", None), Some("order.deleted")),
            (path("woocommerce", "shop.example.com", None), None),
            (path("woocommerce", "shop.example.com", None), Some("")),
            (path("woocommerce", "shop.example.com", None), Some("order.updated ")),
            (path("woocommerce", "shop.example.co", None), Some("morder.updated")),
            (path("woocommerce", "other.example.com", None), Some(TOPIC)),
            (path("woocommerce", "shop.example.com", Some("2")), Some(TOPIC)),
            (path("directscale", "shop.example.com", None), Some(TOPIC)),
        ]
        .map(|(path, scope)| base64(code(HMAC_SHA256, derived(&path, scope).as_bytes(), BODY))),
    );
    for value in values {
        assert!(!door.opens(&door.with(&[&value]), BODY), "{value}");
    }
    for other in [path("woocommerce", "other.example.com", None), path("woocommerce", "shop.example.com", Some("2"))] {
        assert!(!door.opens_at(&other, &door.honest(), BODY), "{other}");
    }
    for topic in ["order.deleted", "Order.updated", "order.updated ", "", "order.updated\u{a0}"] {
        let headers = [("x-wc-webhook-topic", topic), (door.proof, door.value())];
        assert!(!door.opens(&headers, BODY), "{topic:?}");
    }
}

/// Standard Webhooks: the id and the time are signed with dots between them, so none may hold a dot.
#[test]
fn no_boundary_between_signed_parts_can_be_moved() {
    let door = doors().remove(2);
    let at = seconds().to_string();
    let signature = |text: &[u8]| format!("v1,{}", base64(code(HMAC_SHA256, APP_SECRET.as_bytes(), text)));
    let opens = |id: &str, at: &str, body: &[u8], text: &[u8]| {
        let signature = signature(text);
        door.opens(&[("webhook-id", id), ("webhook-timestamp", at), ("webhook-signature", &signature)], body)
    };
    assert!(opens("msg_1", &at, BODY, &signed_text("msg_1", &at, BODY)));
    // Signed as the message `a` of the past with a body that begins with the present time, and sent as `a.1`.
    let old = [at.as_bytes(), b".", BODY].concat();
    let text = signed_text("a", "1", &old);
    assert_eq!(text, signed_text("a.1", &at, BODY));
    assert!(!opens("a.1", &at, BODY, &text), "a body's beginning was taken for the time");
    for id in ["", ".", "msg_1.", ".msg_1", "msg.1", &"m".repeat(201)] {
        assert!(!opens(id, &at, BODY, &signed_text(id, &at, BODY)), "{id}");
    }
    let (older, newer) = ((seconds() - 301).to_string(), (seconds() + 301).to_string());
    let (spaced, signed, fraction, padded) =
        (format!(" {at}"), format!("+{at}"), format!("{at}.0"), format!("{at}0000"));
    for time in [&older, &newer, &spaced, &signed, &fraction, &padded, "", "0", "-1", "1e9", "9223372036854775807"] {
        assert!(!opens("msg_1", time, BODY, &signed_text("msg_1", time, BODY)), "{time}");
    }
    // The body, the id or the time alone, and none of them.
    for text in [BODY.to_vec(), b"msg_1".to_vec(), at.clone().into_bytes(), Vec::new(), b"..".to_vec()] {
        assert!(!opens("msg_1", &at, BODY, &text));
    }
    // An asymmetric signature, or another version, is none that this key can make.
    let right = base64(code(HMAC_SHA256, APP_SECRET.as_bytes(), &signed_text("msg_1", &at, BODY)));
    for value in ["v1a,", "v2,", "v1=", "v1", "V1,", "v1,,", ",", "v1, "].map(|version| format!("{version}{right}")) {
        assert!(!door.opens(&door.with(&[&value]), BODY), "{value}");
    }
}

/// A request that a declared sender made, as the presets' vectors hold it.
#[derive(Deserialize)]
struct Vector {
    keys: Vec<Value>,
    #[serde(default)]
    now: Option<i64>,
    request: Sent,
    #[serde(default)]
    constants: BTreeMap<String, String>,
    strength: Strength,
}

#[derive(Deserialize)]
struct Sent {
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    target: Option<String>,
    #[serde(default)]
    url: Option<String>,
    headers: BTreeMap<String, String>,
    body: String,
}

fn yaml<T: serde::de::DeserializeOwned>(path: &Path) -> T {
    let value: Value = serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    serde_json::from_value(value).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

impl Vector {
    fn proven(&self, declaration: &Declaration, headers: &HeaderMap, body: &[u8]) -> bool {
        let keys = self.keys.iter().enumerate().map(|(place, key)| match key {
            Value::String(text) => Key { id: format!("key-{place}"), text: text.clone().into() },
            key => Key {
                id: key["id"].as_str().unwrap().to_owned(),
                text: key["text"].as_str().unwrap().to_owned().into(),
            },
        });
        let keys: Vec<Key> = keys.collect();
        let Sent { method, target, url, .. } = &self.request;
        let arrived = Arrived {
            method: method.as_deref().unwrap_or("POST"),
            target: target.as_deref().unwrap_or("/hooks/custom/a"),
            url: url.as_deref().unwrap_or("https://hooks.example.com/hooks/custom/a"),
            headers,
            body,
            constants: &self.constants,
        };
        let now = commerce::timestamp::Timestamp::from_millis(self.now.unwrap_or(1_700_000_000) * 1000);
        matches!(declaration.examine(&arrived, &keys, now, None), Examined::Delivery(..))
    }

    fn headers(&self) -> HeaderMap {
        let pairs = self.request.headers.iter();
        pairs.map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect()
    }
}

/// Flips one bit of a body after the other: every preset whose proof covers the body, at every place of its samples.
#[test]
fn each_bit_of_a_covered_body_counts_for_every_preset() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("presets");
    let (mut wrong, mut covered) = (Vec::new(), 0);
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let declaration = Declaration::read(yaml(&path)).unwrap();
        let vectors: Vec<Vector> = yaml(&folder.join("vectors").join(path.file_name().unwrap()));
        for vector in vectors {
            let (headers, body) = (vector.headers(), vector.request.body.as_bytes());
            assert!(vector.proven(&declaration, &headers, body), "{name} does not open");
            // A form is signed by its fields: what decodes to the same field is the same delivery.
            let is_form = matches!(declaration.body, BodyForm::Form | BodyForm::FormField(_));
            if vector.strength == Strength::Body && !is_form {
                covered += 1;
                let step = body.len().div_ceil(200).max(1);
                for place in (0..body.len()).step_by(step) {
                    for bit in [0, 5, 7] {
                        let mut body = body.to_vec();
                        body[place] ^= 1 << bit;
                        if vector.proven(&declaration, &headers, &body) {
                            wrong.push(format!("{name}: bit {bit} at {place} of the body"));
                        }
                    }
                }
            }
            // A header whose absence refuses the request is part of the proof: its end counts, and so does its case.
            for header in headers.keys() {
                let mut without = headers.clone();
                without.remove(header);
                if vector.proven(&declaration, &without, body) {
                    continue;
                }
                let value = headers[header].to_str().unwrap();
                // In a list, one right signature is enough, wherever it is.
                let ends =
                    if value.contains([',', ';', ' ']) { &[][..] } else { &[&value[1..], &value[..value.len() - 1]] };
                for broken in [&["", "null"][..], ends].concat() {
                    let mut headers = headers.clone();
                    headers.insert(header, HeaderValue::from_str(broken).unwrap());
                    // Senders write base64 with and without its padding.
                    let same = value.trim_end_matches('=') == broken.trim_end_matches('=');
                    if !same && vector.proven(&declaration, &headers, body) {
                        wrong.push(format!("{name}: {header}: {broken:?} for {value:?}"));
                    }
                }
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(covered >= 40, "{covered}");
}
