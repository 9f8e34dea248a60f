//! Trials: what a declaration makes of a recorded request.

use commerce::trial::{self, Trial, TrialResult};

use crate::{Parts, Registrar, admin::object, problem::Problem};

impl<P: Parts> Registrar<P> {
    /// Tries a declaration. Nothing is stored, and nobody is called.
    pub(crate) fn try_declaration(&self, body: &[u8]) -> Result<TrialResult, Problem> {
        let given = object(body)?.into();
        let by = self.platforms.iter().find_map(|platform| platform.mapping.by_settings());
        let by = by.ok_or_else(|| Problem::NotFound("no platform here takes declarations".into()))?;
        let result = Trial::read(given).and_then(|trial| trial::run(&trial, by, (self.clock)()));
        result.map_err(|error| Problem::Invalid(error.to_string()))
    }
}
