//! The bound on what one input may cost: processor time of the thread, so that a busy machine does not fail a run.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cpu_time::ThreadTime;

const CPU_MAX: Duration = Duration::from_millis(250);

static SLOWEST_MICROS: AtomicU64 = AtomicU64::new(0);

/// Runs `target`, panics when it takes too long, and prints the slowest so far: scripts/fuzz reads the last such line.
pub fn watched<T>(data: &[u8], target: fn(&[u8]) -> T) {
    let start = ThreadTime::now();
    drop(target(data));
    let taken = start.elapsed();
    assert!(
        taken <= CPU_MAX,
        "{} bytes took {} ms of CPU, where {} are allowed",
        data.len(),
        taken.as_millis(),
        CPU_MAX.as_millis()
    );
    let micros = taken.as_micros() as u64;
    if micros > SLOWEST_MICROS.fetch_max(micros, Ordering::Relaxed) {
        eprintln!("slowest input so far: {:.3} ms of CPU, {} bytes", micros as f64 / 1000.0, data.len());
        if let Some(file) = std::env::var_os("TOLLGATE_FUZZ_SLOWEST") {
            std::fs::write(file, data).expect("the slowest input cannot be written");
        }
    }
}
