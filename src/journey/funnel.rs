//! How far a unit gets in a funnel.

use crate::clock::Micros;

/// The chain of one unit: when it reached each step, as far as it got. Empty: no event was a first step.
pub(super) type Chain = Vec<Micros>;

/// The best chain through `events` (times in order, each with its action), whose first step `begins` allows. `is_step(step, action)`.
///
/// Of those that get furthest, the one that begins earliest; each further step by the earliest event that can be it.
pub(super) fn best(
    events: &[(Micros, u8)],
    steps: usize,
    window: i64,
    is_step: impl Fn(usize, u8) -> bool,
    begins: impl Fn(Micros) -> bool,
) -> Chain {
    let mut best = Chain::new();
    for (at, &(first, action)) in events.iter().enumerate() {
        if !is_step(0, action) || !begins(first) {
            continue;
        }
        let mut chain = vec![first];
        for &(time, action) in &events[at + 1..] {
            if chain.len() == steps || time.0 > first.0.saturating_add(window) {
                break;
            }
            if is_step(chain.len(), action) {
                chain.push(time);
            }
        }
        if chain.len() > best.len() {
            best = chain;
        }
        if best.len() == steps {
            break;
        }
    }
    best
}
