//! The table of the senders that are described as data.

use std::{collections::BTreeSet, fs, path::PathBuf};

use commerce::declaration::{Algorithm, Declaration, Evidence, Proof};
use serde_json::Value;

fn yaml(path: &std::path::Path) -> Value {
    serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Returns the table, with a row for each preset.
pub fn table() -> String {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/commerce/presets");
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.is_file());
    files.sort();
    let mut table = format!("\n{} senders.\n\n", files.len());
    table.push_str("| preset | sender | proof | handshake | says where | entities | facts from | vectors from |\n");
    table.push_str("|---|---|---|---|---|---|---|---|\n");
    for file in files {
        let preset = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let declaration = Declaration::read(yaml(&file)).unwrap();
        let vectors = yaml(&folder.join("vectors").join(file.file_name().unwrap()));
        let sources: BTreeSet<&str> = vectors.as_array().unwrap().iter().filter_map(|v| v["source"].as_str()).collect();
        let mut proofs = BTreeSet::new();
        proof(&declaration.proof, &mut proofs);
        let extract = &declaration.extract;
        let found = [
            ("topic", !extract.topic.is_empty()),
            ("id", !extract.id.is_empty()),
            ("message", !extract.message.is_empty()),
            ("account", !extract.account.is_empty()),
            ("time", extract.time.is_some()),
        ];
        let found: Vec<_> = found.into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| name).collect();
        let evidence = match declaration.evidence {
            Some(Evidence::Documentation) => "documentation",
            Some(Evidence::Library) => "library",
            Some(Evidence::ThirdParty) => "third parties: unconfirmed",
            None => "–",
        };
        let handshake = if declaration.handshakes.is_empty() { "–" } else { "yes" };
        let kinds: BTreeSet<_> = declaration.map.iter().map(|meaning| meaning.entity.as_str()).collect();
        let kinds =
            if kinds.is_empty() { "record".to_owned() } else { kinds.into_iter().collect::<Vec<_>>().join(", ") };
        table.push_str(&format!(
            "| `{preset}` | {} | {} | {handshake} | {} | {kinds} | {evidence} | {} |\n",
            declaration.sender,
            proofs.into_iter().collect::<Vec<_>>().join("; "),
            if found.is_empty() { "–".to_owned() } else { found.join(", ") },
            sources.into_iter().collect::<Vec<_>>().join("; "),
        ));
    }
    table
}

/// Returns the presets as one JSON text, by their names, without what only people read.
pub fn presets() -> String {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/commerce/presets");
    let files = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    let preset = |file: PathBuf| {
        let mut declaration = yaml(&file);
        let members = declaration.as_object_mut().unwrap();
        members.retain(|name, _| !matches!(name.as_str(), "notes" | "evidence"));
        (file.file_stem().unwrap().to_str().unwrap().to_owned(), declaration)
    };
    let presets: std::collections::BTreeMap<String, Value> = files.map(preset).collect();
    format!("{}\n", serde_json::to_string(&presets).unwrap())
}

fn proof(of: &Proof, found: &mut BTreeSet<String>) {
    match of {
        Proof::Any(several) | Proof::All(several) | Proof::FirstPresent(several) => {
            several.iter().for_each(|one| proof(one, found));
        }
        Proof::Signed(signed) => {
            let name = match signed.algorithm {
                Algorithm::HmacSha1 => "HMAC-SHA1",
                Algorithm::HmacSha256 => "HMAC-SHA256",
                Algorithm::HmacSha384 => "HMAC-SHA384",
                Algorithm::HmacSha512 => "HMAC-SHA512",
                Algorithm::Sha256 => "SHA-256 with the secret",
                Algorithm::Ed25519 => "Ed25519",
                Algorithm::EcdsaP256Sha256 => "ECDSA P-256",
                Algorithm::RsaSha256 => "RSA-SHA256",
            };
            let time = if signed.time.is_some() { ", with a time" } else { "" };
            found.insert(format!("{name} in {}{time}", signed.at));
        }
        Proof::Hash(_) => _ = found.insert("a hash of the body".to_owned()),
        Proof::Jwt(token) => _ = found.insert(format!("JWT ({:?}) in {}", token.algorithm, token.at)),
        Proof::Header(header) => _ = found.insert(format!("a key in header {}", header.name)),
        Proof::Basic {} => _ = found.insert("basic authentication".to_owned()),
        Proof::Query(name) => _ = found.insert(format!("a key in query {name}")),
        Proof::Json(pointer) => _ = found.insert(format!("a key in json {pointer}")),
    }
}
