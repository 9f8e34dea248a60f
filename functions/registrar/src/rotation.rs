//! Rotating the signing keys without losing a delivery.

use serde_json::Value;

use crate::{Parts, Registrar, problem::Problem};

impl<P: Parts> Registrar<P> {
    /// Takes a rotation that is under way as far as it can go now.
    pub(crate) async fn advance_rotation(&self) -> Result<(), Problem> {
        Ok(())
    }

    /// How far a rotation has come.
    pub(crate) async fn rotation(&self) -> Result<Value, Problem> {
        Err(Problem::NotFound("no rotation is under way".into()))
    }

    /// Begins a rotation, or takes the one that is under way further.
    pub(crate) async fn rotate(&self) -> Result<Value, Problem> {
        Err(Problem::Conflict("this release cannot rotate its keys".into()))
    }
}
