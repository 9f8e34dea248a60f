//! The registry of platforms. A new platform is a folder beside its siblings and an entry in [`ALL`].

pub mod bigcommerce;
pub mod cloudblue;
pub mod custom;
pub mod directscale;
pub mod shopify;
pub mod woocommerce;

use crate::platform::{Inbound, Platform};

const ALL: [Platform; 6] = [
    bigcommerce::PLATFORM,
    cloudblue::PLATFORM,
    custom::PLATFORM,
    directscale::PLATFORM,
    shopify::PLATFORM,
    woocommerce::PLATFORM,
];

/// All platforms.
pub static PLATFORMS: &[Platform] = &ALL;

/// All platforms as the receiver sees them. This table is apart, so that the receiver's binary holds no more of them.
pub static INBOUND: &[Inbound] = &inbound(&ALL);

const fn inbound<const N: usize>(all: &[Platform; N]) -> [Inbound; N] {
    let mut table = [all[0].inbound(); N];
    let mut place = 1;
    while place < N {
        table[place] = all[place].inbound();
        place += 1;
    }
    table
}

#[cfg(test)]
mod tests;
