//! Forged tokens with shared secrets: RFC 7515 (JWS), 7519 (JWT), 7797 (`b64`), 8725 (best practices), and advisories.

use aws_lc_rs::hmac::{HMAC_SHA384, HMAC_SHA512};
use commerce::{
    declaration::Declaration,
    keys::KeyRing,
    platform::{delivery::Delivery, find},
    platforms::PLATFORMS,
    request::WebhookPath,
    scheme::jwt::{Algorithm, Hs256, Keys, MAX_TOKEN_BYTES, Rules},
    verify::{Material, verify},
};
use serde_json::{Value, json};

use super::{
    NOW, base64url, code, flips, fresh, hs256, is_taken, object, request, seconds, spellings, token, with_part,
};

const RING: &str = "0123456789abcdef0123456789abcdef";
const SECRET: &str = "the secret of a sender, of more than sixty-four bytes, as some algorithms need it";
const RULES: Rules<'static> = Rules {
    algorithm: Algorithm::HS256,
    issuer: None,
    audience: None,
    required: &[],
    by_kid: false,
    max_lifetime_seconds: None,
    max_age_seconds: None,
};

/// A place where a token opens something.
struct Door {
    name: &'static str,
    secret: Vec<u8>,
    claims: Value,
    opens: Box<dyn Fn(&str) -> bool>,
}

fn ring() -> KeyRing {
    KeyRing::parse(RING).unwrap()
}

fn path() -> WebhookPath {
    WebhookPath::parse("cloudblue", "va-000-111", None).unwrap()
}

fn delivery(name: &str) -> &'static dyn Delivery {
    find(PLATFORMS, name).unwrap().delivery
}

fn delivered(token: &str) -> bool {
    let request =
        request(&[("authorization", &format!("Bearer {token}"))], br#"{"object_class":"fulfillment_request"}"#);
    let ring = ring();
    let keys = Material { ring: &ring, app: None, brought: None, now: NOW };
    verify(delivery("cloudblue"), &path(), &request, &keys).is_ok()
}

fn declared(token: &str) -> bool {
    let declaration = Declaration::read(json!({ "sender": "S", "proof": { "jwt": {
        "at": { "header": "Authorization" }, "prefix": "Bearer ", "algorithm": "HS256", "keys": "secrets",
    } } }));
    let request = request(&[("authorization", &format!("Bearer {token}"))], b"{}");
    is_taken(&declaration.unwrap(), &request, SECRET)
}

fn doors() -> Vec<Door> {
    const ADMIN: Hs256 = Hs256 { audience: "commerce-hooks/admin", max_lifetime_seconds: 3600 };
    vec![
        Door {
            name: "the rules alone",
            secret: SECRET.into(),
            claims: fresh(&json!({})),
            opens: Box::new(|token| RULES.verify(token, &Keys::Secrets(vec![("k", SECRET.as_bytes())]), NOW).is_ok()),
        },
        Door {
            name: "the admin interface",
            secret: RING.into(),
            claims: fresh(&json!({ "aud": ADMIN.audience })),
            opens: Box::new(|token| ADMIN.verify(token, &ring(), NOW).is_ok()),
        },
        Door {
            name: "a delivery with a token",
            secret: ring().signing().webhook_secret(&path(), None).reveal().into(),
            claims: fresh(&json!({ "webhook_id": "WH-1" })),
            opens: Box::new(delivered),
        },
        Door { name: "a declared token", secret: SECRET.into(), claims: fresh(&json!({})), opens: Box::new(declared) },
    ]
}

const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

/// What one who does not have the secret can make of an honest token.
fn without_the_secret(door: &Door, honest: &str) -> Vec<(&'static str, String)> {
    let claims = object(&door.claims);
    let unsigned = |_: &[u8]| Vec::new();
    let mut all: Vec<(&str, String)> = Vec::new();
    let parts: Vec<&str> = honest.split('.').collect();
    let [head, body, signature] = parts[..] else { panic!("three parts") };

    // CVE-2015-9235, CVE-2020-28042; RFC 8725, section 2.1: no signature, however "none" is spelt.
    for none in ["none", "None", "NONE", "nOnE", "none ", "", "NoNe\u{0}", "null"] {
        let header = json!({ "alg": none, "typ": "JWT" }).to_string();
        all.push(("alg none", token(&header, &claims, &unsigned)));
        all.push(("alg none under an honest signature", with_part(honest, 0, &base64url(&header))));
        all.push(("alg none signed by an empty key", token(&header, &claims, &hs256(b""))));
    }
    for header in [r#"{"typ":"JWT"}"#, r#"{"alg":null}"#, r#"{"alg":0}"#, "{}", "null", "[]", "\"HS256\"", ""] {
        all.push(("no algorithm", token(header, &claims, &unsigned)));
    }
    // CVE-2016-5431, CVE-2020-28637 and their like: no signature under an algorithm that wants one.
    all.push(("empty signature", format!("{head}.{body}.")));
    all.push(("no signature", format!("{head}.{body}")));
    all.push(("no token", String::new()));
    all.extend([".", "..", "...", "....", "a.b.c"].map(|dots| ("dots alone", dots.to_owned())));
    // CVE-2024-54150: another algorithm of the same or of another family.
    for (alg, hash) in [("HS384", HMAC_SHA384), ("HS512", HMAC_SHA512)] {
        let header = json!({ "alg": alg }).to_string();
        all.push(("a longer code without the key", token(&header, &claims, &|text| code(hash, b"guess", text))));
    }
    for alg in ["RS256", "ES256", "PS256", "EdDSA", "ES256K", "HS1", "HS256/64", "dir", "A128KW"] {
        all.push(("another algorithm", with_part(honest, 0, &base64url(json!({ "alg": alg }).to_string()))));
    }
    // CVE-2022-21449 (psychic signatures): zeros, in both forms of ECDSA.
    for zeros in [vec![0; 64], vec![0; 32], vec![0x30, 6, 2, 1, 0, 2, 1, 0], vec![0; 1]] {
        for header in [HEADER, r#"{"alg":"ES256"}"#] {
            all.push(("a signature of zeros", token(header, &claims, &|_: &[u8]| zeros.clone())));
        }
    }
    // RFC 2104, section 5, and RFC 7518, section 3.2: a code cut short, or with more behind it.
    let bytes = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, signature).unwrap();
    for length in 1..bytes.len() {
        all.push(("truncated code", format!("{head}.{body}.{}", base64url(&bytes[..length]))));
    }
    all.push(("extended code", format!("{head}.{body}.{}", base64url([bytes.as_slice(), &[0]].concat()))));
    all.push(("doubled code", format!("{head}.{body}.{}", base64url([bytes.as_slice(), &bytes].concat()))));
    // Keys that everybody has.
    for key in [&b""[..], b"\0", b"secret", b"null", b"undefined", &RING.as_bytes()[..16], b"k", b"\0\0\0\0\0\0\0\0"] {
        all.push(("a key that everybody has", token(HEADER, &claims, &hs256(key))));
    }
    // CVE-2018-0114 (embedded jwk) and RFC 7515, sections 4.1.2 to 4.1.8: the token brings its key along.
    let own = b"a key that the attacker made, of enough bytes for all";
    let jwk = json!({ "kty": "oct", "k": base64url(own), "alg": "HS256" });
    for (member, value) in [
        ("jwk", jwk.clone()),
        ("jku", json!("https://attacker.example/jwks.json")),
        ("x5u", json!("https://attacker.example/cert.pem")),
        ("x5c", json!([base64url(own)])),
        ("x5t", json!(base64url(own))),
        ("x5t#S256", json!(base64url(own))),
        ("kid", jwk),
        ("kid", json!(base64url(own))),
        // CVE-2018-1000531 and reports of `kid` as a path, a query and a command.
        ("kid", json!("../../../../dev/null")),
        ("kid", json!("/proc/sys/kernel/randomize_va_space")),
        ("kid", json!("x' UNION SELECT 'a key that the attacker made'; --")),
        ("kid", json!("| /bin/true")),
        ("kid", json!(["k", "bare"])),
        ("kid", json!({ "k": base64url(own) })),
    ] {
        let mut header = json!({ "alg": "HS256", "typ": "JWT" });
        header[member] = value;
        for key in [&own[..], b"", b"\0", b"2\n"] {
            all.push(("a key of the token's own", token(&header.to_string(), &claims, &hs256(key))));
        }
        all.push(("a header under an honest signature", with_part(honest, 0, &base64url(header.to_string()))));
    }
    // The signature of something else.
    all.push(("signed claims alone", format!("{head}.{body}.{}", base64url(hs256(own)(body.as_bytes())))));
    let more = object(&fresh(&json!({ "aud": door.claims["aud"], "webhook_id": "WH-2", "scope": "read write" })));
    all.push(("other claims", with_part(honest, 1, &base64url(more))));
    // RFC 7515, section 7.2, and RFC 7516: other serialisations, and encrypted tokens.
    let flat = json!({ "protected": head, "payload": body, "signature": signature });
    let general = json!({ "payload": body, "signatures": [{ "protected": head, "signature": signature }] });
    all.push(("flattened serialisation", flat.to_string()));
    all.push(("general serialisation", general.to_string()));
    all.push(("unprotected header", json!({ "header": { "alg": "none" }, "payload": body }).to_string()));
    let encrypted = base64url(r#"{"alg":"dir","enc":"A128CBC-HS256"}"#);
    all.push(("encrypted", format!("{encrypted}..{body}.{body}.{signature}")));
    all.push(("encrypted under an honest signature", format!("{encrypted}.{body}.{signature}")));
    // RFC 8725, section 2.4, CVE-2022-23539 ff.: two tokens, joined and nested.
    all.push(("a fourth part", format!("{honest}.{signature}")));
    all.push(("a token in front", format!("{head}.{honest}")));
    all.push(("two tokens", format!("{honest},{honest}")));
    all.push(("two tokens in one header", format!("{honest} {honest}")));
    all.push(("quoted", format!("\"{honest}\"")));
    all.push(("nested", token(r#"{"alg":"none","cty":"JWT"}"#, honest, &unsigned)));
    // RFC 7515, sections 2 and 5.2: one spelling.
    for (place, part) in parts.iter().enumerate() {
        all.extend(spellings(part).into_iter().map(|part| ("another spelling", with_part(honest, place, &part))));
    }
    for dot in ["%2E", "\u{ff0e}", "\u{3002}", "\u{0}.", ". ", " .", ",", ":"] {
        all.push(("other dots", honest.replacen('.', dot, 1)));
    }
    for bearer in ["bearer ", "BEARER ", "Bearer  ", "Basic ", "Bearer\t", "JWT "] {
        all.push(("another word before it", format!("{bearer}{honest}")));
    }
    all.push(("longer than any token", format!("{honest}{}", "A".repeat(MAX_TOKEN_BYTES))));
    all
}

/// What even the holder of the secret must not get through: tokens that two readers could read differently.
fn with_the_secret(door: &Door) -> Vec<(&'static str, String)> {
    let sign = hs256(&door.secret);
    let claims = object(&door.claims);
    let of_header = |header: &str| token(header, &claims, &sign);
    let of_claims = |claims: &str| token(HEADER, claims, &sign);
    let mut all: Vec<(&str, String)> = Vec::new();
    for (what, header) in [
        // RFC 7515, section 4: member names are unique.
        ("alg twice", r#"{"alg":"HS256","alg":"HS256"}"#),
        ("alg twice", r#"{"alg":"none","alg":"HS256"}"#),
        ("alg twice", r#"{"alg":"HS256","alg":"none"}"#),
        ("alg twice, escaped", r#"{"alg":"HS256","\u0061lg":"none"}"#),
        ("kid twice", r#"{"alg":"HS256","kid":"a","kid":"b"}"#),
        // RFC 7515, section 4.1.11, and RFC 7797: extensions that are not understood. CVE-2025-59420.
        ("crit", r#"{"alg":"HS256","crit":["exp"],"exp":0}"#),
        ("crit", r#"{"alg":"HS256","crit":["b64"],"b64":false}"#),
        ("crit", r#"{"alg":"HS256","crit":["bork"],"bork":true}"#),
        ("empty crit", r#"{"alg":"HS256","crit":[]}"#),
        ("crit that is no list", r#"{"alg":"HS256","crit":"b64"}"#),
        ("crit that names alg", r#"{"alg":"HS256","crit":["alg"]}"#),
        ("crit null", r#"{"alg":"HS256","crit":null}"#),
        // RFC 8725, section 3.11: a token for something else.
        ("typ", r#"{"alg":"HS256","typ":"JWE"}"#),
        ("typ", r#"{"alg":"HS256","typ":"secevent+jwt"}"#),
        ("typ", r#"{"alg":"HS256","typ":["JWT"]}"#),
        ("typ", r#"{"alg":"HS256","typ":"JWT\u0000"}"#),
        ("alg in another case", r#"{"alg":"hs256"}"#),
        ("alg with a space", r#"{"alg":"HS256 "}"#),
        ("alg in a list", r#"{"alg":["HS256","none"]}"#),
        ("alg in an object", r#"{"alg":{"HS256":1}}"#),
        ("Alg", r#"{"Alg":"HS256"}"#),
        ("more behind the header", "{\"alg\":\"HS256\"}{}"),
        ("more behind the header", "{\"alg\":\"HS256\"}\0"),
        ("a mark before the header", "\u{feff}{\"alg\":\"HS256\"}"),
        ("a comment in the header", "{\"alg\":\"HS256\"/**/}"),
        ("a comma too many", r#"{"alg":"HS256",}"#),
        ("a header in single quotes", "{'alg':'HS256'}"),
        ("a list for a header", r#"["alg","HS256"]"#),
        ("jwk beside it", r#"{"alg":"HS256","jwk":{}}"#),
        ("jku beside it", r#"{"alg":"HS256","jku":"https://a.example"}"#),
        ("x5c beside it", r#"{"alg":"HS256","x5c":[]}"#),
        ("kid that is no text", r#"{"alg":"HS256","kid":0}"#),
        ("kid that is no text", r#"{"alg":"HS256","kid":null}"#),
        ("kid that is no text", r#"{"alg":"HS256","kid":["k"]}"#),
    ] {
        all.push((what, of_header(header)));
    }
    let with = |member: &str, value: Value| {
        let mut claims = door.claims.clone();
        claims[member] = value;
        of_claims(&claims.to_string())
    };
    let written = |member: &str, text: &str| {
        let mut claims = door.claims.clone();
        claims[member] = json!("@");
        of_claims(&claims.to_string().replace("\"@\"", text))
    };
    // RFC 7519, section 4.1.4: a time is a number, and "exp" is a time from which the token is no longer valid.
    for exp in [json!(0), json!(-1), json!(1), json!(seconds() - 30), json!(null), json!(true), json!([]), json!({})] {
        all.push(("exp", with("exp", exp)));
    }
    for exp in
        ["\"4102444800\"", "\"\"", "\"NaN\"", "1e400", "-1e400", "99999999999999999999999999", "1e308", "0e0", "NaN"]
    {
        all.push(("exp", written("exp", exp)));
    }
    for (name, edge) in [("nbf", 31), ("iat", 31)] {
        for time in [json!(seconds() + edge), json!("1"), json!(null), json!([1]), json!(1e18), json!(i64::MAX)] {
            all.push((name, with(name, time)));
        }
    }
    // RFC 7519, section 4: claim names are unique.
    let twice = claims.strip_suffix('}').unwrap();
    all.push(("exp twice", of_claims(&format!(r#"{twice},"exp":{}}}"#, seconds() + 600))));
    all.push(("exp twice, escaped", of_claims(&format!(r#"{twice},"\u0065xp":{}}}"#, seconds() + 600))));
    all.push(("exp twice, first over", of_claims(&format!(r#"{{"exp":1,{}"#, &claims[1..]))));
    for claims in [
        format!("[{claims}]"),
        format!("{claims}{claims}"),
        format!("{claims}\0"),
        format!("\u{feff}{claims}"),
        format!("{claims}//"),
        "null".to_owned(),
        "\"{}\"".to_owned(),
        "{}".to_owned(),
        String::new(),
        format!("{}1{}", "[".repeat(1_000), "]".repeat(1_000)),
    ] {
        all.push(("claims that are no object", of_claims(&claims)));
    }
    let bytes = [claims.as_bytes(), b"\xff"].concat();
    let signed = format!("{}.{}", base64url(HEADER), base64url(bytes));
    all.push(("claims that are no text", format!("{signed}.{}", base64url(sign(signed.as_bytes())))));
    // RFC 7518, section 3.2, the other way: the right key with another hash is another algorithm.
    for (alg, hash) in [("HS384", HMAC_SHA384), ("HS512", HMAC_SHA512)] {
        all.push((
            "the key with another hash",
            token(&json!({ "alg": alg }).to_string(), &claims, &|text| code(hash, &door.secret, text)),
        ));
        all.push(("another hash under the name", token(HEADER, &claims, &|text| code(hash, &door.secret, text))));
    }
    for part in [HEADER, claims.as_str()] {
        let signed = base64url(part);
        all.push((
            "one part signed",
            format!("{}.{}.{}", base64url(HEADER), base64url(&claims), base64url(sign(signed.as_bytes()))),
        ));
    }
    let raw = format!("{HEADER}.{claims}");
    all.push((
        "signed before it was encoded",
        format!("{}.{}.{}", base64url(HEADER), base64url(&claims), base64url(sign(raw.as_bytes()))),
    ));
    let hex = hex::encode(sign(format!("{}.{}", base64url(HEADER), base64url(&claims)).as_bytes()));
    all.push(("signature in hex", format!("{}.{}.{hex}", base64url(HEADER), base64url(&claims))));
    all
}

#[test]
fn no_forged_token_opens_a_door() {
    let mut wrong = Vec::new();
    let mut tried = 0;
    for door in doors() {
        let honest = token(HEADER, &object(&door.claims), &hs256(&door.secret));
        assert!((door.opens)(&honest), "{} does not open", door.name);
        for (what, forged) in without_the_secret(&door, &honest).into_iter().chain(with_the_secret(&door)) {
            tried += 1;
            // One word before a token is a prefix that its door takes off, or leaves to be part of the token.
            if forged != honest && (door.opens)(&forged) {
                wrong.push(format!("{}: {what}: {forged:.300}", door.name));
            }
        }
        for forged in flips(&honest) {
            tried += 1;
            if (door.opens)(&forged) {
                wrong.push(format!("{}: a bit: {forged}", door.name));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(tried > 5_000, "{tried}");
}

/// A token for one door opens no other, nor that of another connection or generation (RFC 8725, section 2.8).
#[test]
fn a_token_opens_one_door() {
    let all = doors();
    for (place, door) in all.iter().enumerate() {
        let mut claims = door.claims.clone();
        // All that any door asks for, so that the key alone decides.
        claims["aud"] = json!("commerce-hooks/admin");
        claims["webhook_id"] = json!("WH-1");
        let honest = token(HEADER, &claims.to_string(), &hs256(&door.secret));
        for (other, another) in all.iter().enumerate() {
            let same = door.secret == another.secret;
            assert_eq!((another.opens)(&honest), same, "{} at {}", door.name, another.name);
            assert!(same || place != other);
        }
    }
    for other in [
        WebhookPath::parse("cloudblue", "va-000-112", None).unwrap(),
        WebhookPath::parse("cloudblue", "va-000-111", Some("2")).unwrap(),
        WebhookPath::parse("bigcommerce", "va-000-111", None).unwrap(),
    ] {
        let secret = ring().signing().webhook_secret(&other, None).reveal().to_owned();
        assert!(!delivered(&token(
            HEADER,
            &object(&fresh(&json!({ "webhook_id": "WH-1" }))),
            &hs256(secret.as_bytes())
        )));
    }
}

/// One token in two places, or two tokens, or one beside a broken one: no reader may choose (RFC 6750, section 2).
#[test]
fn a_token_is_in_one_place() {
    let door = doors().into_iter().find(|door| door.name == "a delivery with a token").unwrap();
    let honest = token(HEADER, &object(&door.claims), &hs256(&door.secret));
    let forged = token(HEADER, &object(&door.claims), &hs256(b"another key, of thirty-two bytes or more"));
    let ring = ring();
    let keys = Material { ring: &ring, app: None, brought: None, now: NOW };
    let opens =
        |headers: &[(&str, &str)]| verify(delivery("cloudblue"), &path(), &request(headers, b"{}"), &keys).is_ok();
    let (good, bad) = (format!("Bearer {honest}"), format!("Bearer {forged}"));
    assert!(opens(&[("authorization", &good)]) && opens(&[("authentication", &good)]));
    for headers in [
        &[("authorization", good.as_str()), ("authorization", good.as_str())][..],
        &[("authorization", &good), ("authorization", &bad)],
        &[("authorization", &bad), ("authorization", &good)],
        &[("authorization", &good), ("authentication", &bad)],
        &[("authorization", &bad), ("authentication", &good)],
        &[("authorization", &good), ("authentication", "")],
        &[("authorization", ""), ("authentication", &good)],
        &[("authorization", &format!("{good},{good}"))],
        &[("authorization", &format!("{bad}, {good}"))],
        &[("authorization", &format!("{good}\u{a0}"))],
        &[("x-authorization", &good)],
        &[("proxy-authorization", &good)],
        &[("cookie", &good)],
        &[],
    ] {
        assert!(!opens(headers), "{headers:?}");
    }
}
