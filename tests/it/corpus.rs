//! The committed fuzz corpus, through what the fuzz targets run: no panic, no abort, each input becomes what its name says, and in
//! a release build none takes more than 250 ms of processor time.

use std::fs;
use std::path::Path;
use std::time::Duration;

use cpu_time::ThreadTime;

#[path = "../../fuzz/src/event.rs"]
#[expect(unreachable_pub, reason = "public in the fuzz crate")]
mod event;
#[path = "../../fuzz/src/operation.rs"]
#[expect(unreachable_pub, reason = "public in the fuzz crate")]
mod operation;
#[path = "../../fuzz/src/recount.rs"]
#[expect(unreachable_pub, reason = "public in the fuzz crate")]
mod recount;

const CPU_MAX: Duration = Duration::from_millis(250);

/// Runs `target` over every file of `folder`, and holds each to how its name begins.
fn replay<T>(folder: &str, target: fn(&[u8]) -> T, becomes: fn(T) -> &'static str) {
    let mut paths: Vec<_> = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(paths.len() > 50, "fuzz/seeds.py writes the corpus");
    let mut slowest = (Duration::ZERO, String::new());
    let mut wrong = Vec::new();
    for path in paths {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let data = fs::read(&path).unwrap();
        // Captured unless the test fails or the process dies: then the last line tells the input.
        println!("{folder}/{name}");
        let start = ThreadTime::now();
        let became = becomes(target(&data));
        let taken = start.elapsed();
        if name.split('-').next() != Some(became) {
            wrong.push(format!("{folder}/{name} is {became}"));
        }
        assert!(cfg!(debug_assertions) || taken <= CPU_MAX, "{folder}/{name} took {taken:?} of CPU");
        slowest = slowest.max((taken, name));
    }
    println!("slowest of {folder}: {}, {:.1} ms of CPU", slowest.1, slowest.0.as_secs_f64() * 1000.0);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_operation_of_the_corpus_becomes_what_its_name_says() {
    // So that the first input does not pay for the schema.
    operation::operation(b"{__typename}");
    replay("operation", operation::operation, |outcome| match outcome {
        operation::Outcome::Ran => "ran",
        operation::Outcome::Invalid => "invalid",
        operation::Outcome::Refused => "refused",
    });
}

#[test]
fn every_event_of_the_corpus_becomes_what_its_name_says() {
    replay("event", event::event, |outcome| match outcome {
        event::Outcome { refused: 0, .. } => "taken",
        event::Outcome { taken: 0, .. } => "refused",
        event::Outcome { .. } => "mixed",
    });
}
