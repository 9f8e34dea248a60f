//! The registry of platforms. A new platform is a folder beside its siblings and an entry in [`PLATFORMS`].

pub mod bigcommerce;
pub mod cloudblue;
pub mod custom;
pub mod directscale;
pub mod woocommerce;

use crate::platform::Platform;

/// All platforms.
pub static PLATFORMS: &[Platform] =
    &[bigcommerce::PLATFORM, cloudblue::PLATFORM, custom::PLATFORM, directscale::PLATFORM, woocommerce::PLATFORM];

#[cfg(test)]
mod tests;
