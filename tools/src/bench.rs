//! Measures the release binaries.

/// What to measure.
#[derive(clap::Args)]
pub struct Options {}

/// Measures.
pub async fn run(_options: &Options) -> Result<(), Box<dyn std::error::Error>> {
    Err("not yet".into())
}
