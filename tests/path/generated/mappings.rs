//! The outputs of each mapping for the golden samples, remembered as hashes beside the mapping's number.

use std::collections::BTreeMap;

use commerce::{change::Change, install::sha256, platform::mapping::Mapped};
use serde::{Deserialize, Serialize};

/// The output of a mapping for one sample.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Made {
    /// The mapping's number, or 0 if it makes no upsert.
    pub number: u32,
    /// The hash of the sample.
    pub sample: String,
    /// The hash of the output.
    pub output: String,
}

/// Returns the outputs of a platform's mapping, by the names of the samples.
pub fn made(platform: &str) -> BTreeMap<String, Made> {
    let golden = crate::hops::all_golden().into_iter().filter(|golden| golden.platform == platform);
    let hash = |text: &str| sha256(text)[..8].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let made = golden.map(|golden| {
        let (sample, output) = (golden.sample.to_string(), crate::hops::shown(&golden.mapped).to_string());
        let made = Made { number: number(&golden.mapped), sample: hash(&sample), output: hash(&output) };
        (golden.name, made)
    });
    made.collect()
}

fn number(mapped: &Mapped) -> u32 {
    match mapped {
        Mapped::Change(_, Change::Upsert(upsert))
        | Mapped::PullWith(_, Change::Upsert(upsert))
        | Mapped::IfKnown(_, Change::Upsert(upsert), _) => upsert.mapping,
        _ => 0,
    }
}

/// Returns the samples whose output has changed although the mapping's number has not.
pub fn forgotten(before: &BTreeMap<String, Made>, now: &BTreeMap<String, Made>) -> Vec<String> {
    let differs = |(name, now): (&String, &Made)| {
        let before = before.get(name)?;
        let same = before.sample == now.sample && before.number == now.number && now.number > 0;
        (same && before.output != now.output).then(|| name.clone())
    };
    now.iter().filter_map(differs).collect()
}
