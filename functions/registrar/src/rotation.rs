//! Rotating the signing keys without losing a delivery.

use crate::{Parts, Registrar, problem::Problem};

impl<P: Parts> Registrar<P> {
    /// Takes a rotation that is under way as far as it can go now.
    pub(crate) async fn advance_rotation(&self) -> Result<(), Problem> {
        Ok(())
    }
}
