//! Any sender that describes itself: a connection carries the declaration of its sender, which says how deliveries are
//! proven, what they mean, and how entities are pulled and listed. `declaration/` owns the form of declarations, and
//! `presets/` has those of known senders.
//!
//! - A sender shows its own keys, or its public ones. None is derived here, so nothing here can sign, and there are no
//!   probes.
//! - Webhooks are entered by hand.
//! - Where a proof covers only the caller, an entity is pulled if the declaration says how, and merged as it was delivered
//!   if not.

mod api;
mod delivery;
mod lists;
mod mapping;
mod pull;
mod webhooks;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use aws_lc_rs::digest;
use serde_json::{Map, Value};

pub use self::{mapping::map_by, webhooks::preset};
use super::Platform;
use crate::{
    declaration::{Declaration, DeclarationError},
    http_call::Hosts,
};

/// The declared senders, as each function sees them.
pub struct Custom;

/// The descriptor of declared senders.
pub const PLATFORM: Platform = Platform {
    name: "custom",
    hosts: Hosts::Site,
    delivery: &Custom,
    mapping: &Custom,
    budget: api::BUDGET,
    pull: Some(&Custom),
    lists: Some(&Custom),
    act: None,
    notices: None,
    setup: &Custom,
    installation: None,
};

/// The name of the setting that holds the declaration.
const DECLARATION: &str = "declaration";
/// The name of the setting that holds the account.
const ACCOUNT: &str = "account";
/// The most declarations that are kept read, because reading one compiles its expressions.
const MAX_KEPT: usize = 64;

type Kept = HashMap<[u8; 32], Arc<Declaration>>;

/// Returns the declaration of a connection with these settings.
///
/// # Errors
/// [`DeclarationError`] where another release wrote one that this one does not know.
fn declared(settings: &Map<String, Value>) -> Result<Arc<Declaration>, DeclarationError> {
    static KEPT: Mutex<Option<Kept>> = Mutex::new(None);
    let value = settings.get(DECLARATION).unwrap_or(&Value::Null);
    let hash = digest::digest(&digest::SHA256, value.to_string().as_bytes());
    let hash: [u8; 32] = hash.as_ref().try_into().unwrap_or_default();
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let kept = kept.get_or_insert_default();
    if let Some(declaration) = kept.get(&hash) {
        return Ok(Arc::clone(declaration));
    }
    let declaration = Arc::new(Declaration::read(value.clone())?);
    if kept.len() == MAX_KEPT {
        kept.clear();
    }
    kept.insert(hash, Arc::clone(&declaration));
    Ok(declaration)
}
