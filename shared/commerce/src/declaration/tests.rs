#![allow(clippy::unwrap_used, clippy::panic)]

use std::{collections::BTreeMap, fs, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName};
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde_json::json;
use zeroize::Zeroizing;

use super::*;
use crate::scheme::Strength;

/// A request that a preset has to prove, and what it has to find there.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    source: String,
    published: bool,
    keys: Vec<Value>,
    #[serde(default)]
    now: Option<i64>,
    request: Request,
    #[serde(default)]
    constants: BTreeMap<String, String>,
    strength: Strength,
    #[serde(default)]
    extracted: BTreeMap<String, String>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    #[serde(default = "post_method")]
    method: String,
    #[serde(default = "hooks")]
    target: String,
    #[serde(default = "registered")]
    url: String,
    headers: BTreeMap<String, String>,
    body: String,
}

fn post_method() -> String {
    "POST".to_owned()
}

fn hooks() -> String {
    "/hooks/custom/a".to_owned()
}

fn registered() -> String {
    "https://hooks.example.com/hooks/custom/a".to_owned()
}

fn yaml<T: DeserializeOwned>(path: &Path) -> T {
    let text = fs::read_to_string(path).unwrap();
    let value: Value = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_value(value).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns every preset with its name and its vectors.
fn presets() -> Vec<(String, Declaration, Vec<Vector>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("presets");
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.is_file());
    files.sort();
    let all = files.into_iter().map(|path| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let declaration = Declaration::read(yaml(&path)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let vectors = yaml(&folder.join("vectors").join(path.file_name().unwrap()));
        (name, declaration, vectors)
    });
    all.collect()
}

fn preset(wanted: &str) -> (Declaration, Vec<Vector>) {
    let found = presets().into_iter().find(|(name, ..)| name == wanted);
    found.map(|(_, declaration, vectors)| (declaration, vectors)).unwrap()
}

fn key(id: &str, text: &str) -> Key {
    Key { id: id.to_owned(), text: Zeroizing::new(text.to_owned()) }
}

impl Vector {
    fn keys(&self) -> Vec<Key> {
        let member = |value: &Value, name: &str| value[name].as_str().unwrap().to_owned();
        let of = |(place, value): (usize, &Value)| match value {
            Value::String(text) => key(&format!("key-{place}"), text),
            value => key(&member(value, "id"), &member(value, "text")),
        };
        self.keys.iter().enumerate().map(of).collect()
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.now.unwrap_or(1_700_000_000) * 1000)
    }

    fn examine_at(
        &self,
        declaration: &Declaration,
        keys: &[Key],
        now: Timestamp,
        steps: Option<&mut Vec<String>>,
    ) -> Examined {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.request.headers {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        let Request { method, target, url, body, .. } = &self.request;
        let constants = &self.constants;
        let arrived = Arrived { method, target, url, headers: &headers, body: body.as_bytes(), constants };
        declaration.examine(&arrived, keys, now, steps)
    }

    fn examine(&self, declaration: &Declaration) -> Examined {
        self.examine_at(declaration, &self.keys(), self.now(), None)
    }
}

#[test]
fn every_preset_proves_its_vectors_and_finds_what_they_say() {
    let all = presets();
    assert!(all.len() >= 45, "{} presets", all.len());
    for (name, declaration, vectors) in all {
        assert!(!vectors.is_empty(), "{name} has no vector");
        for vector in vectors {
            let mut steps = Vec::new();
            let found = vector.examine_at(&declaration, &vector.keys(), vector.now(), Some(&mut steps));
            let Examined::Delivery(proven, extracted) = found else { panic!("{name}, {}: {steps:#?}", vector.source) };
            assert_eq!(proven.strength, vector.strength, "{name}, {}", vector.source);
            assert!(!proven.key_id.is_empty() && !steps.is_empty(), "{name}");
            let Extracted { topic, id, message, account, time: _ } = extracted;
            let found = [("topic", topic), ("id", id), ("message", message), ("account", account)];
            for (member, value) in found {
                if vector.extracted.contains_key(member) || !vector.extracted.is_empty() {
                    assert_eq!(value.as_ref(), vector.extracted.get(member), "{name}, {member}");
                }
            }
        }
    }
}

#[test]
fn a_vector_says_whether_its_provider_has_published_it() {
    for (name, _, vectors) in presets() {
        for vector in vectors {
            let computed = vector.source.starts_with("computed with") || vector.source.starts_with("the comparison");
            assert_eq!(vector.published, !computed, "{name}: {}", vector.source);
        }
    }
}

#[test]
fn no_preset_takes_a_request_that_was_tampered_with() {
    for (name, declaration, vectors) in presets() {
        for vector in vectors {
            let is_refused = |vector: &Vector, what: &str| {
                let found = vector.examine(&declaration);
                assert!(matches!(found, Examined::Refused(_)), "{name}, {what}: {found:?}");
            };
            if vector.strength == Strength::Body {
                let body = format!("{} ", vector.request.body);
                is_refused(&Vector { request: Request { body, ..vector.request.clone() }, ..vector.clone() }, "body");
            }
            for keys in [&[][..], &[key("x", "")], &[key("x", "another key, of thirty-two bytes or more")]] {
                let found = vector.examine_at(&declaration, keys, vector.now(), None);
                assert!(matches!(found, Examined::Refused(_)), "{name}, keys: {found:?}");
            }
            let proofs = ["signature", "hmac", "sig", "auth", "token", "verif", "jwt", "plaid"];
            let mut bare = vector.clone();
            bare.request.headers.retain(|name, _| !proofs.iter().any(|proof| name.to_lowercase().contains(proof)));
            if bare.request.headers.len() < vector.request.headers.len() {
                is_refused(&bare, "no proof");
            }
            for value in ["", "=", "v1=", "sha256=", "t=1,v1=00", ",,,,", "\u{7f}"] {
                let mut broken = vector.clone();
                for (name, given) in &mut broken.request.headers {
                    if proofs.iter().any(|proof| name.to_lowercase().contains(proof)) && !name.contains("imestamp") {
                        value.trim_end_matches('\u{7f}').clone_into(given);
                    }
                }
                if broken.request.headers != vector.request.headers {
                    is_refused(&broken, value);
                }
            }
        }
    }
}

#[test]
fn a_delivery_that_is_sent_again_much_later_is_stale_where_its_time_is_signed() {
    let mut stale = 0;
    for (name, declaration, vectors) in presets() {
        for vector in vectors.iter().filter(|vector| vector.now.is_some()) {
            for days in [-2, 2] {
                let now = vector.now().plus_seconds(days * 86_400);
                let found = vector.examine_at(&declaration, &vector.keys(), now, None);
                let right = matches!(found, Examined::Refused(Refusal::Stale | Refusal::Claim(_)));
                // A token that is good for years is not stale after two days.
                assert!(right || name == "vonage", "{name} after {days} days: {found:?}");
                stale += usize::from(right);
            }
        }
    }
    assert!(stale > 50, "{stale}");
}

#[test]
fn no_step_shows_a_key() {
    for (name, declaration, vectors) in presets() {
        for vector in vectors {
            let mut steps = Vec::new();
            vector.examine_at(&declaration, &vector.keys(), vector.now(), Some(&mut steps));
            // Public keys are no secret, and short words stand in every text.
            for key in vector.keys().iter().filter(|key| key.text.len() >= 8 && !key.text.contains("PUBLIC KEY")) {
                assert!(!steps.join("\n").contains(key.text.as_str()), "{name}: {steps:#?}");
            }
        }
    }
}

fn answer(name: &str, keys: &[&str], request: Value) -> Examined {
    let (declaration, _) = preset(name);
    let mut request = request;
    for (member, default) in [("headers", json!({})), ("body", json!(""))] {
        if request[member].is_null() {
            request[member] = default;
        }
    }
    let vector = json!({
        "source": "", "published": false, "keys": keys, "request": request, "strength": "body",
        "constants": { "verify_token": "my token" },
    });
    serde_json::from_value::<Vector>(vector).unwrap().examine(&declaration)
}

#[test]
fn handshakes_are_answered_as_their_senders_want() {
    let body = |found: Examined| match found {
        Examined::Handshake(answer) => Some((answer.status, answer.body)),
        _ => None,
    };
    let meta = |token: &str| {
        let target = format!("/h?hub.mode=subscribe&hub.verify_token={token}&hub.challenge=1158201444");
        body(answer("meta", &["app secret"], json!({ "method": "GET", "target": target })))
    };
    assert_eq!(meta("my+token"), Some((200, "1158201444".to_owned())));
    for wrong in ["another", "", "app+secret"] {
        assert_eq!(meta(wrong), None, "{wrong}");
    }
    let dropbox = |challenge: &str| {
        body(answer("dropbox", &["k"], json!({ "method": "GET", "target": format!("/h?challenge={challenge}") })))
    };
    assert_eq!(dropbox("a%3Cb"), Some((200, "a<b".to_owned())));
    assert_eq!(dropbox("a%0D%0Ab"), None, "a line break is not repeated");
    assert_eq!(dropbox(&"a".repeat(1_025)), None);
    // Zoom's own sample: the token's HMAC in hex (computed with Python's hmac).
    let token = r#"{"event":"endpoint.url_validation","payload":{"plainToken":"qgg8vlvZRS6UYooatFL8Aw"}}"#;
    let signed = hex_hmac("secret", &format!("v0:1700000000:{token}"));
    let headers = json!({ "x-zm-signature": format!("v0={signed}"), "x-zm-request-timestamp": "1700000000" });
    let encrypted = hex_hmac("secret", "qgg8vlvZRS6UYooatFL8Aw");
    let right = json!({ "encryptedToken": encrypted, "plainToken": "qgg8vlvZRS6UYooatFL8Aw" }).to_string();
    let zoom = |headers: &Value| body(answer("zoom", &["secret"], json!({ "headers": headers, "body": token })));
    assert_eq!(zoom(&headers), Some((200, right)));
    assert_eq!(zoom(&json!({})), None, "it is proven like a delivery");
    let mut unproven = preset("zoom").0;
    unproven.handshakes[0].proven = false;
    let (headers, constants) = (HeaderMap::new(), BTreeMap::new());
    let (url, target, method) = ("https://a.example", "/", "POST");
    let arrived = Arrived { method, target, url, headers: &headers, body: token.as_bytes(), constants: &constants };
    for keys in [&[][..], &[key("a", "")]] {
        let found = unproven.examine(&arrived, keys, Timestamp::from_millis(0), None);
        assert_eq!(found, Examined::Refused(Refusal::WrongProof), "an empty key makes no code");
    }
    assert_eq!(body(answer("trello", &["k"], json!({ "method": "HEAD" }))), Some((200, String::new())));
}

fn hex_hmac(key: &str, text: &str) -> String {
    use aws_lc_rs::hmac;
    hex::encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()), text.as_bytes()))
}

#[test]
fn a_strong_proof_that_is_wrong_does_not_fall_back_to_a_weak_one() {
    let (declaration, vectors) = preset("gitlab");
    let mut both = vectors.iter().find(|vector| vector.request.headers.contains_key("X-Gitlab-Token")).unwrap().clone();
    assert!(matches!(both.examine(&declaration), Examined::Delivery(..)));
    for (name, value) in [("webhook-id", "m"), ("webhook-timestamp", "1700000000"), ("webhook-signature", "v1,AAAA")] {
        both.request.headers.insert(name.to_owned(), value.to_owned());
    }
    assert_eq!(both.examine(&declaration), Examined::Refused(Refusal::WrongProof));
    // A signature of version 3 without its time is malformed, and not missing.
    let (declaration, vectors) = preset("hubspot");
    let mut both = vectors[0].clone();
    both.request.headers.insert("X-HubSpot-Signature-v3".to_owned(), "AAAA".to_owned());
    assert_eq!(both.examine(&declaration), Examined::Refused(Refusal::MalformedProof));
}

#[test]
fn what_is_wrong_with_a_declaration_is_told_with_its_place() {
    let signed = |change: fn(&mut Value)| {
        let mut signed = json!({
            "algorithm": "hmac-sha256", "text": "{body}", "at": { "header": "X" }, "encoding": "hex",
        });
        change(&mut signed);
        json!({ "sender": "A", "proof": { "signed": signed } })
    };
    assert!(Declaration::read(signed(|_| {})).is_ok());
    for (declaration, told) in [
        (json!({}), ".: missing field `sender`"),
        (json!({ "sender": "A" }), ".: missing field `proof`"),
        (json!({ "sender": "A", "proof": { "none": {} } }), "proof"),
        (json!({ "sender": "A", "proof": { "any": [] } }), "proof.any: lists no proof"),
        (
            json!({ "sender": "A", "proof": { "hash": { "of": "{body}", "equals": "{path}" } } }),
            "proof: a hash has no key",
        ),
        (
            json!({ "sender": "A", "proof": { "all": [
                { "basic": {} }, { "any": [{ "hash": { "of": "{body|sha256}", "equals": "{query:h}" } }] },
            ] } }),
            "proof.all[1].any[0]: a hash has no key",
        ),
        (signed(|of| of["algorithm"] = json!("md5")), "proof.signed.algorithm: unknown variant `md5`"),
        (signed(|of| of["text"] = json!("{bdy}")), "proof.signed.text: there is no placeholder {bdy}"),
        (signed(|of| of["text"] = json!("body")), "proof.signed.text: must have a placeholder"),
        (signed(|of| of["text"] = json!("{secret}{body}")), "proof.signed.text: {secret} belongs"),
        (signed(|of| of["algorithm"] = json!("sha256")), "proof.signed.text: a plain hash needs {secret}"),
        (signed(|of| of["time"] = json!({ "from": "{header:t}" })), "proof.signed.time: the text does not cover it"),
        (signed(|of| of["text"] = json!("{id}{body}")), "proof.signed.id: the text has {id}"),
        (signed(|of| of["each"] = json!("/items")), "proof.signed.text: signs the whole body with each element"),
        (signed(|of| of["key"] = json!("pem")), "proof.signed.key: PEM holds public keys"),
        (signed(|of| of["sep"] = json!(",")), "proof.signed.sep: unknown field `sep`"),
    ] {
        let error = Declaration::read(declaration.clone()).unwrap_err().to_string();
        assert!(error.starts_with(told), "{declaration}: {error}");
    }
    let mut takes_all = signed(|_| {});
    takes_all["handshakes"] = json!([{ "when": {}, "answer": {} }]);
    let error = Declaration::read(takes_all).unwrap_err().to_string();
    assert!(error.starts_with("handshakes[0].when: would take deliveries"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever comes, nothing is proven by it, and nothing panics.
    #[test]
    fn no_request_makes_a_declaration_panic(
        body in prop_oneof![any::<Vec<u8>>(), "[\\[{\"a:1,}\\]]{0,200}".prop_map(String::into_bytes)],
        value in "[ -~]{0,200}",
        target in "/[ -~]{0,100}",
        method in "GET|POST|HEAD|X",
    ) {
        thread_local! {
            static PRESETS: Vec<(String, Declaration, Vec<Vector>)> = presets();
        }
        PRESETS.with(|presets| {
            for (name, declaration, vectors) in presets {
                let vector = &vectors[0];
                let mut headers = HeaderMap::new();
                for name in vector.request.headers.keys() {
                    if let Ok(value) = value.parse() {
                        headers.insert(name.parse::<HeaderName>().unwrap(), value);
                    }
                }
                let arrived = Arrived {
                    method: &method, target: &target, url: "https://a.example", headers: &headers, body: &body,
                    constants: &vector.constants,
                };
                let found = declaration.examine(&arrived, &vector.keys(), vector.now(), Some(&mut Vec::new()));
                prop_assert!(!matches!(found, Examined::Delivery(..)), "{name}: {found:?}");
            }
            Ok(())
        })?;
    }
}

#[test]
fn a_public_key_is_never_taken_for_a_secret() {
    let code = |secret: &[u8], text: &str| {
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret);
        STANDARD.encode(aws_lc_rs::hmac::sign(&key, text.as_bytes()))
    };
    let (public, set) = ("1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=", r#"{"keys":[]}"#);
    // Whoever reads the public key knows all that this signature needs.
    let (declaration, vectors) = preset("standard-webhooks");
    let mut forged = vectors[0].clone();
    let text = format!(
        "{}.{}.{}",
        forged.request.headers["webhook-id"], forged.request.headers["webhook-timestamp"], forged.request.body
    );
    forged
        .request
        .headers
        .insert("webhook-signature".into(), format!("v1,{}", code(&STANDARD.decode(public).unwrap(), &text)));
    for given in [public.to_owned(), format!("whpk_{public}")] {
        let keys = [key("public", &given)];
        assert_eq!(
            forged.examine_at(&declaration, &keys, forged.now(), None),
            Examined::Refused(Refusal::WrongProof),
            "{given}"
        );
    }
    assert!(!declaration.takes_key(public) && declaration.takes_key(&format!("whpk_{public}")));
    // Nor does a set of public keys count as a key in clear, or as the secret of a code.
    let mixed = |other: Value| {
        let token = json!({ "jwt": { "at": { "header": "Authorization" }, "algorithm": "EdDSA", "keys": { "jwks-url": "https://a.example/" } } });
        Declaration::read(json!({ "sender": "S", "proof": { "any": [token, other] } })).unwrap()
    };
    let signed = json!({ "signed": { "algorithm": "hmac-sha256", "text": "{body}", "at": { "header": "X-Sign" }, "encoding": "base64" } });
    for (other, header, value) in [
        (json!({ "header": { "name": "X-Key" } }), "X-Key", set.to_owned()),
        (signed, "X-Sign", code(set.as_bytes(), &forged.request.body)),
    ] {
        let mut forged = forged.clone();
        forged.request.headers = BTreeMap::from([(header.to_owned(), value)]);
        let (declaration, keys) = (mixed(other), [key("set", set), key("secret", "a secret")]);
        let examined = forged.examine_at(&declaration, &keys, forged.now(), None);
        assert_eq!(examined, Examined::Refused(Refusal::WrongProof), "{header}");
    }
    // Where nothing tells them apart, there cannot be both.
    let raw = json!({ "signed": { "algorithm": "ed25519", "key": "hex", "text": "{body}", "at": { "header": "X-Sign" }, "encoding": "hex" } });
    let both = json!({ "sender": "S", "proof": { "any": [raw, { "header": { "name": "X-Key" } }] } });
    assert!(Declaration::read(both).unwrap_err().why.contains("tell"));
}

/// A request that is not proven yet must not take much more memory or time than its own length.
#[test]
fn what_is_not_proven_has_bounds() {
    use bounds::{code, examined};
    let body = "{}";
    let right = code(body);
    let lines = |count: usize| vec!["00".repeat(32); count - 1].into_iter().chain([right.clone()]).collect::<Vec<_>>();
    assert!(matches!(examined(json!("json"), "{body}", &lines(16), body), Examined::Delivery(..)));
    assert_eq!(examined(json!("json"), "{body}", &lines(17), body), Examined::Refused(Refusal::WrongProof));
    // A form of as many fields as an entity may have values, and of one more.
    let fields = |count: usize| format!("{}&b=1", vec!["a"; count].join("&"));
    let (most, over) = (fields(50_000), fields(50_001));
    for form in [json!("form"), json!({ "form-field": "b" })] {
        let is_read = |body: &str| examined(form.clone(), "{body}", &[code(body)], body);
        assert!(matches!(is_read(&most), Examined::Delivery(..)), "{form}");
        assert_eq!(is_read(&over), Examined::Refused(Refusal::MalformedProof), "{form}");
    }
    let sorted = |body: &str| examined(json!("json"), "{form}", &[code("ab1")], body);
    assert!(matches!(sorted(&most), Examined::Delivery(..)));
    assert_eq!(sorted(&over), Examined::Refused(Refusal::MalformedProof));
}

mod bounds {
    use super::*;

    pub fn code(text: &str) -> String {
        hex_hmac("a secret", text)
    }

    pub fn examined(body_form: Value, text: &str, signatures: &[String], body: &str) -> Examined {
        let signed = json!({ "algorithm": "hmac-sha256", "text": text, "at": { "header": "X" }, "encoding": "hex" });
        let declaration = json!({ "sender": "S", "body": body_form, "proof": { "signed": signed } });
        let declaration = Declaration::read(declaration).unwrap();
        let mut headers = HeaderMap::new();
        for signature in signatures {
            headers.append("x", signature.parse().unwrap());
        }
        let (constants, keys) = (BTreeMap::new(), [key("k", "a secret")]);
        let arrived = Arrived {
            method: "POST",
            target: "/",
            url: "https://a.example",
            headers: &headers,
            body: body.as_bytes(),
            constants: &constants,
        };
        declaration.examine(&arrived, &keys, Timestamp::from_millis(0), None)
    }
}
