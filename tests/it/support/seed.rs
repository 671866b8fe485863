//! Randomness that can be repeated: TOLLGATE_TEST_SEED=… runs a failed test again.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// A seeded generator; the seed is printed, and taken back from TOLLGATE_TEST_SEED.
pub(crate) fn rng(test: &str) -> (u64, ChaCha8Rng) {
    let seed = std::env::var("TOLLGATE_TEST_SEED").ok().map_or_else(rand::random, |text| text.parse().unwrap());
    println!("{test}: TOLLGATE_TEST_SEED={seed}");
    (seed, ChaCha8Rng::seed_from_u64(seed))
}

/// Whether `scripts/test --full` runs.
pub(crate) fn full() -> bool {
    std::env::var("TOLLGATE_TEST_FULL").is_ok_and(|full| full == "1")
}
