//! Owns the public keys that are none: keys under which anybody can sign, whoever publishes them.

/// Returns whether a modulus comes from the library whose keys can be factored (ROCA, CVE-2017-15361). Such a modulus
/// is a power of 65537 modulo each small prime. By chance, one in some billion is.
pub(crate) fn is_roca(modulus: &[u8]) -> bool {
    const PRIMES: [u32; 38] = [
        3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107,
        109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
    ];
    PRIMES.iter().all(|prime| {
        let rest = modulus.iter().fold(0, |rest, byte| (rest * 256 + u32::from(*byte)) % prime);
        let mut power = 1;
        (0..*prime).any(|_| {
            power = power * 65_537 % prime;
            power == rest
        })
    })
}

/// Returns whether an Ed25519 key, raw or at the end of its DER, is one of the points whose order divides eight. Under
/// such a key, a fixed signature verifies one text in eight, or every text (RFC 8032, section 8.8).
pub(crate) fn is_small_order(key: &[u8]) -> bool {
    /// The coordinates of the points, in every spelling; the highest bit is the sign of the other coordinate.
    const POINTS: [[u8; 32]; 7] = [
        // 0, 1, -1, and the same beyond the prime.
        spelled(0, 0, 0),
        spelled(1, 0, 0),
        spelled(0xec, 0xff, 0x7f),
        spelled(0xed, 0xff, 0x7f),
        spelled(0xee, 0xff, 0x7f),
        // The points of order eight.
        [
            0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
            0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
        ],
        [
            0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
            0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
        ],
    ];
    const fn spelled(first: u8, middle: u8, last: u8) -> [u8; 32] {
        let mut point = [middle; 32];
        point[0] = first;
        point[31] = last;
        point
    }
    let Some(mut point) = key.last_chunk::<32>().copied() else { return false };
    point[31] &= 0x7f;
    POINTS.contains(&point)
}
