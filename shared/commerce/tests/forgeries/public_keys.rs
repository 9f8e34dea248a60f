//! Forged signatures under public keys: RFC 7515, 7517, 7518, 8032 (Ed25519), FIPS 186 (ECDSA), RFC 8017 (RSA), and
//! advisories.

use aws_lc_rs::{
    hmac::{HMAC_SHA256, HMAC_SHA512},
    rand::SystemRandom,
    rsa,
    signature::{self, KeyPair as _},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use commerce::{
    declaration::Declaration,
    scheme::jwt::{Algorithm, Keys, PublicKeys, Rules},
};
use serde_json::{Value, json};

use super::{NOW, Sign, base64url, code, fresh, is_taken, request, seconds, spellings, token, with_part};

const RULES: Rules<'static> = Rules {
    algorithm: Algorithm::RS256,
    issuer: None,
    audience: None,
    required: &[],
    by_kid: false,
    max_lifetime_seconds: None,
    max_age_seconds: None,
};

/// A key pair of an issuer.
struct Pair {
    algorithm: Algorithm,
    name: &'static str,
    jwk: Value,
    /// The public key in the forms in which everybody can have it.
    public: Vec<Vec<u8>>,
    sign: Box<Sign<'static>>,
}

fn rsa_pair() -> (rsa::KeyPair, Value) {
    let pair = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap();
    let der = pair.public_key().as_ref().to_vec();
    let jwk = json!({ "kty": "RSA", "n": base64url(&der[9..265]), "e": "AQAB" });
    (pair, jwk)
}

fn pem(der: &[u8]) -> Vec<u8> {
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der)).into_bytes()
}

fn pairs() -> Vec<Pair> {
    let (rsa, rsa_jwk) = rsa_pair();
    let der = rsa.public_key().as_ref().to_vec();
    let rsa_public = vec![der.clone(), pem(&der), der[9..265].to_vec(), rsa_jwk.to_string().into_bytes()];
    let rsa_sign = move |text: &[u8]| {
        let mut made = vec![0; 256];
        rsa.sign(&signature::RSA_PKCS1_SHA256, &SystemRandom::new(), text, &mut made).unwrap();
        made
    };
    let ec = signature::EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let point = ec.public_key().as_ref().to_vec();
    let ec_jwk = json!({
        "kty": "EC", "crv": "P-256", "x": base64url(&point[1..33]), "y": base64url(&point[33..]),
    });
    let ed = signature::Ed25519KeyPair::generate().unwrap();
    let ed_public = ed.public_key().as_ref().to_vec();
    let ed_jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": base64url(&ed_public) });
    vec![
        Pair { algorithm: Algorithm::RS256, name: "RS256", jwk: rsa_jwk, public: rsa_public, sign: Box::new(rsa_sign) },
        Pair {
            algorithm: Algorithm::ES256,
            name: "ES256",
            public: vec![point.clone(), pem(&point), ec_jwk.to_string().into_bytes()],
            jwk: ec_jwk,
            sign: Box::new(move |text| ec.sign(&SystemRandom::new(), text).unwrap().as_ref().to_vec()),
        },
        Pair {
            algorithm: Algorithm::EdDSA,
            name: "EdDSA",
            public: vec![ed_public.clone(), pem(&ed_public), ed_jwk.to_string().into_bytes()],
            jwk: ed_jwk,
            sign: Box::new(move |text| ed.sign(text).as_ref().to_vec()),
        },
    ]
}

/// The order of P-256's group.
const P256_ORDER: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
/// The order of Ed25519's group, least byte first.
const ED25519_ORDER: &str = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";

/// Adds two numbers, least byte first, within their length.
fn sum(one: &[u8], other: &[u8]) -> Vec<u8> {
    let mut carry = 0;
    let add = |(one, other): (&u8, &u8)| {
        let sum = u16::from(*one) + u16::from(*other) + carry;
        carry = sum >> 8;
        (sum & 255) as u8
    };
    one.iter().zip(other).map(add).collect()
}

impl Pair {
    fn rules(&self) -> Rules<'static> {
        Rules { algorithm: self.algorithm, ..RULES }
    }

    /// Returns whether a token opens either of the doors with this key: the rules alone, and a declared sender.
    fn opens(&self, jwks: &Value, token: &str) -> bool {
        let by_rules =
            PublicKeys::from_jwks(jwks).is_ok_and(|keys| self.rules().verify(token, &Keys::Public(&keys), NOW).is_ok());
        let declaration = Declaration::read(json!({ "sender": "S", "proof": { "jwt": {
            "at": { "header": "X-Token" }, "algorithm": self.name, "keys": "jwks",
        } } }));
        let request = request(&[("x-token", token)], b"{}");
        let declared = is_taken(&declaration.unwrap(), &request, &jwks.to_string());
        assert_eq!(by_rules, declared, "both doors open to the same");
        by_rules
    }

    fn token(&self, sign: &Sign<'_>) -> String {
        token(&json!({ "alg": self.name, "typ": "JWT" }).to_string(), &fresh(&json!({})).to_string(), sign)
    }
}

#[test]
fn no_forged_signature_opens_a_door() {
    let mut wrong = Vec::new();
    let all = pairs();
    for pair in &all {
        let honest = pair.token(&pair.sign);
        assert!(pair.opens(&pair.jwk, &honest), "{} does not open", pair.name);
        let claims = fresh(&json!({})).to_string();
        let mut forged: Vec<(&str, String)> = Vec::new();
        // CVE-2015-9235, CVE-2016-10555, CVE-2017-11424, CVE-2022-29217, CVE-2023-48223: a public key as a secret.
        for key in &pair.public {
            for (alg, hash) in [("HS256", HMAC_SHA256), ("HS512", HMAC_SHA512), (pair.name, HMAC_SHA256)] {
                let header = json!({ "alg": alg, "typ": "JWT" }).to_string();
                forged.push(("a public key as a secret", token(&header, &claims, &|text| code(hash, key, text))));
            }
        }
        for none in ["none", "None", ""] {
            forged.push(("none", token(&json!({ "alg": none }).to_string(), &claims, &|_| Vec::new())));
        }
        forged.push(("no signature", pair.token(&|_| Vec::new())));
        // CVE-2022-21449, CVE-2021-43572 (psychic signatures), and signatures of the wrong length.
        let order = hex::decode(P256_ORDER).unwrap();
        let one = [vec![0; 31], vec![1]].concat();
        let zero = vec![0; 32];
        for (r, s) in [
            (&zero, &zero),
            (&zero, &one),
            (&one, &zero),
            (&order, &order),
            (&order, &one),
            (&one, &order),
            (&one, &one),
        ] {
            forged.push(("r and s at their edges", pair.token(&|_| [r.as_slice(), s].concat())));
        }
        for length in [1, 32, 63, 64, 65, 128, 255, 256, 257] {
            for byte in [0, 1, 255] {
                forged.push(("one byte alone", pair.token(&|_| vec![byte; length])));
            }
        }
        // Signatures in another form: cut, extended, with zeros before them, in DER, in hex.
        let change = |of: &dyn Fn(Vec<u8>) -> Vec<u8>| pair.token(&|text| of((pair.sign)(text)));
        forged.push(("cut short", change(&|made| made[..made.len() - 1].to_vec())));
        forged.push(("cut at its beginning", change(&|made| made[1..].to_vec())));
        forged.push(("extended", change(&|made| [made.as_slice(), &[0]].concat())));
        forged.push(("zeros before it", change(&|made| [&[0][..], &made].concat())));
        forged.push(("doubled", change(&|made| [made.as_slice(), &made].concat())));
        forged.push(("reversed", change(&|made| made.into_iter().rev().collect())));
        forged.push(("in hex", change(&|made| hex::encode(made).into_bytes())));
        if pair.name == "ES256" {
            forged.push((
                "in DER",
                change(&|made| {
                    let number = |bytes: &[u8]| [&[2, 33, 0][..], bytes].concat();
                    [&[0x30, 70][..], &number(&made[..32]), &number(&made[32..])].concat()
                }),
            ));
            forged.push(("r and s exchanged", change(&|made| [&made[32..], &made[..32]].concat())));
        }
        if pair.name == "EdDSA" {
            // RFC 8032, section 5.1.7: S below the order, or there are several signatures (CVE-2020-36843).
            let order = hex::decode(ED25519_ORDER).unwrap();
            forged.push(("S and the order", change(&|made| [&made[..32], &sum(&made[32..], &order)].concat())));
            forged.push((
                "the highest bit of S",
                change(&|mut made| {
                    made[63] |= 0x80;
                    made
                }),
            ));
        }
        // RFC 7515, section 10.10: another text, another key, another algorithm of the same key.
        forged.push(("other claims", with_part(&honest, 1, &base64url(fresh(&json!({ "x": 1 })).to_string()))));
        forged
            .push(("other header", with_part(&honest, 0, &base64url(json!({ "alg": pair.name, "x": 1 }).to_string()))));
        for other in all.iter().filter(|other| other.name != pair.name) {
            forged.push(("another kind of key", pair.token(&other.sign)));
            forged.push(("another kind of token", other.token(&other.sign)));
        }
        for other in ["RS384", "RS512", "PS256", "ES384", "ES512", "ES256K", "Ed25519", "HS256"] {
            forged.push(("another algorithm", token(&json!({ "alg": other }).to_string(), &claims, &pair.sign)));
        }
        // CVE-2018-0114: the key of the attacker in the header.
        let (attacker, jwk) = rsa_pair();
        let by_attacker = |text: &[u8]| {
            let mut made = vec![0; 256];
            attacker.sign(&signature::RSA_PKCS1_SHA256, &SystemRandom::new(), text, &mut made).unwrap();
            made
        };
        for (member, value) in [
            ("jwk", jwk.clone()),
            ("jku", json!("https://attacker.example/jwks")),
            ("x5u", json!("https://attacker.example/cert")),
            ("x5c", json!(["MIIB"])),
            ("kid", json!("../../attacker")),
        ] {
            let mut header = json!({ "alg": pair.name });
            header[member] = value;
            forged.push(("the attacker's key", token(&header.to_string(), &claims, &by_attacker)));
            if member != "kid" {
                forged.push(("a key beside it", token(&header.to_string(), &claims, &pair.sign)));
            }
        }
        for header in [r#""crit":["b64"],"b64":false"#, r#""crit":[]"#, r#""alg":"none""#] {
            let header = format!(r#"{{"alg":"{}",{header}}}"#, pair.name);
            forged.push(("a header that can be read otherwise", token(&header, &claims, &pair.sign)));
        }
        for (place, part) in honest.split('.').enumerate() {
            forged
                .extend(spellings(part).into_iter().map(|part| ("another spelling", with_part(&honest, place, &part))));
        }
        for (what, forged) in forged {
            if pair.opens(&pair.jwk, &forged) {
                wrong.push(format!("{}: {what}: {forged}", pair.name));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// An ECDSA signature has a twin, with the other half of the curve. It proves the same token, and no other.
#[test]
fn the_twin_of_a_signature_proves_nothing_else() {
    let pair = pairs().remove(1);
    let order = hex::decode(P256_ORDER).unwrap();
    let twin = pair.token(&|text| {
        let made = (pair.sign)(text);
        // The order less S: the sum of the order, the complement of S, and one.
        let complement: Vec<u8> = made[32..].iter().rev().map(|byte| !byte).collect();
        let order: Vec<u8> = order.iter().rev().copied().collect();
        let one: Vec<u8> = (0..32).map(|place| u8::from(place == 0)).collect();
        let other: Vec<u8> = sum(&sum(&order, &complement), &one).into_iter().rev().collect();
        [&made[..32], &other].concat()
    });
    let keys = PublicKeys::from_jwks(&pair.jwk).unwrap();
    let verified = pair.rules().verify(&twin, &Keys::Public(&keys), NOW);
    assert!(verified.is_err() || verified.unwrap().claims["exp"] == json!(seconds() + 600));
    assert!(!pair.opens(&pair.jwk, &with_part(&twin, 1, &base64url(fresh(&json!({ "x": 1 })).to_string()))));
}

/// Keys under which anybody can sign (RFC 8725, section 3.5): they are no keys, whoever publishes them.
#[test]
fn a_key_under_which_anybody_can_sign_is_none() {
    // Ed25519: the points whose order divides eight, in all spellings. With the point of order one, or with luck with
    // the others, a signature of the point itself and zero verifies any text.
    let small = [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "0100000000000000000000000000000000000000000000000000000000000080",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    ]
    .map(|point| hex::decode(point).unwrap());
    let ed = pairs().remove(2);
    let mut wrong = Vec::new();
    for point in &small {
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": base64url(point) });
        let others = [jwk.clone(), json!({ "keys": [jwk] })];
        let forged = |attempt: u32, r: &[u8]| {
            let claims = fresh(&json!({ "attempt": attempt })).to_string();
            token(r#"{"alg":"EdDSA"}"#, &claims, &|_| [r, &[0; 32][..]].concat())
        };
        for jwks in &others {
            let opened = (0..16).any(|attempt| small.iter().any(|r| ed.opens(jwks, &forged(attempt, r))));
            if opened {
                wrong.push(format!("Ed25519 under {}", hex::encode(point)));
            }
        }
        // The same as a declared sender's own key.
        let declaration = Declaration::read(json!({ "sender": "S", "proof": { "signed": {
            "algorithm": "ed25519", "key": "hex", "text": "{body}", "at": { "header": "X-Sign" }, "encoding": "hex",
        } } }));
        let declaration = declaration.unwrap();
        for attempt in 0..16 {
            for r in &small {
                let body = format!("{{\"attempt\":{attempt}}}");
                let signature = hex::encode([r.as_slice(), &[0; 32]].concat());
                let request = request(&[("x-sign", &signature)], body.as_bytes());
                if is_taken(&declaration, &request, &hex::encode(point)) {
                    wrong.push(format!("a declared Ed25519 under {}", hex::encode(point)));
                }
            }
        }
    }
    // RSA: an exponent of one makes the text its own signature, and a short modulus can be factored.
    let digest = |text: &[u8]| {
        let prefix = hex::decode("3031300d060960864801650304020105000420").unwrap();
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text);
        let tail = [prefix.as_slice(), hash.as_ref()].concat();
        let filler = vec![255; 256 - 3 - tail.len()];
        [&[0, 1][..], &filler, &[0], &tail].concat()
    };
    let (_, jwk) = rsa_pair();
    let rs256 = &pairs()[0];
    for e in ["AQ", "AA", "Ag", "AAE"] {
        let mut jwk = jwk.clone();
        jwk["e"] = json!(e);
        if rs256.opens(&jwk, &rs256.token(&digest)) {
            wrong.push(format!("RSA with the exponent {e}"));
        }
    }
    wrong.sort();
    wrong.dedup();
    assert_eq!(wrong, Vec::<String>::new());
}
