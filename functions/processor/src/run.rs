//! The surroundings of the entities of one batch.

use crate::{drift::Findings, parse::Parsed, places::Places};

/// The context that the entities of a batch share.
#[derive(Clone, Copy)]
pub(crate) struct Run<'a> {
    /// The batch.
    pub batch: &'a [Parsed<'a>],
    /// The findings about drift and about parts that could not be read.
    pub findings: &'a Findings,
    /// The memory that there is room for.
    pub places: &'a Places,
}
