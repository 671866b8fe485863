//! Power cuts, kills and failing disks under the usage journal, and under a log that goes on: what was acknowledged is there,
//! once and in order; what was refused is not; a crash alone never looks like damage, and damage never like a crash.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Instant;

use parking_lot::Mutex;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tollgate::config::Durability;
use tollgate::metering::Journal;
use tollgate::segment::{AppendError, Options};

use self::disk::{LetGo, SimDisk, Tally};
use self::model::{Counts, Model, Outcome};
use self::subject::{Answer, Log, Subject};
use crate::support::{self, full};

mod disk;
mod model;
mod subject;

/// One disk, and the processes that come and go on it.
struct Case {
    rng: ChaCha8Rng,
    disk: SimDisk,
    model: Model,
    options: Options,
    epoch: i64,
    next_id: u64,
    counts: Counts,
}

/// What was asked for and not answered: the entry's place in the model, none for a seal.
type Waiting = Vec<(Option<usize>, Answer)>;

impl Case {
    fn new(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let durability = if rng.random_bool(0.25) { Durability::Os } else { Durability::Fsync };
        let options = Options { segment_bytes: rng.random_range(500..6000), durability };
        let disk = SimDisk::new(rng.random());
        Self { rng, disk, model: Model::default(), options, epoch: 0, next_id: 1, counts: Counts::default() }
    }

    async fn run<S: Subject>(mut self) -> Counts {
        for _ in 0..self.rng.random_range(1..6) {
            let ends_at = self.rng.random_bool(0.8).then(|| self.rng.random_range(1..70));
            let fault_rate = if self.rng.random_bool(0.3) { 0.04 } else { 0.0 };
            self.life::<S>(ends_at, fault_rate).await;
        }
        // The last one is calm, and stops by itself.
        self.life::<S>(None, 0.0).await;
        if self.options.durability == Durability::Fsync {
            self.damage::<S>();
        }
        self.counts.disk += self.disk.tally();
        self.counts
    }

    /// A process from its start to its end.
    async fn life<S: Subject>(&mut self, ends_at: Option<u64>, fault_rate: f64) {
        self.counts.lives += 1;
        self.epoch += 1;
        let calm = ends_at.is_none() && fault_rate == 0.0;
        let subject = match S::open(self.disk.process(ends_at, fault_rate), self.epoch, self.options) {
            Ok(subject) => subject,
            Err(error) => {
                assert!(self.disk.has_ended() || self.disk.had_faults(), "a crash alone looks like damage: {error:#}");
                return self.end();
            }
        };
        let found: Vec<_> = S::frames(&self.disk.files()).into_iter().map(|frame| frame.entry).collect();
        let read = subject.read().expect("what a start left can be read");
        assert_eq!(read, found.iter().map(|entry| entry.id).collect::<Vec<_>>(), "its own reader finds the same");
        self.counts.found_unacknowledged += self.model.check(&found);

        self.disk.hold_writes();
        let mut waiting = Waiting::new();
        let _let_go = LetGo(self.disk.clone());
        for _ in 0..self.rng.random_range(1..20) {
            // A first one alone, so that the writing thread is held before it can look for more: what is in a group is the seed's
            // matter, not the scheduler's.
            let more = if waiting.is_empty() { 1 } else { self.rng.random_range(0..5) };
            for _ in 0..more {
                self.ask(&subject, &mut waiting).await;
            }
            if self.rng.random_bool(0.1) {
                self.retire(&subject, calm);
            }
            self.proceed(&mut waiting).await;
            if self.disk.has_ended() {
                break;
            }
        }
        if !calm && self.rng.random_bool(0.8) {
            // Between a write and its sync as well as anywhere else.
            self.disk.ends_after(self.rng.random_range(1..4));
        }
        while !waiting.is_empty() {
            self.proceed(&mut waiting).await;
        }
        drop(subject);
        if !calm {
            self.end();
        }
    }

    async fn ask<S: Subject>(&mut self, subject: &Arc<S>, waiting: &mut Waiting) {
        let (place, mut answer) = if self.rng.random_bool(0.1) {
            (None, subject.seal())
        } else {
            let bytes = if self.rng.random_bool(0.7) { self.rng.random_range(1..200) } else { self.rng.random_range(200..2500) };
            self.next_id += 1;
            (Some(self.model.asked(self.next_id)), subject.append(self.next_id, bytes))
        };
        // The first look hands it over.
        match poll_fn(|context| Poll::Ready(answer.as_mut().poll(context))).await {
            Poll::Ready(answered) => self.answered(place, answered),
            Poll::Pending => waiting.push((place, answer)),
        }
    }

    /// Lets a held write go, and waits until the next one is held or everything is answered.
    async fn proceed(&mut self, waiting: &mut Waiting) {
        self.disk.let_go();
        poll_fn(|context| {
            // Before the answers are looked at: a write that is held now comes after all that was answered.
            let held = self.disk.holds(context.waker());
            waiting.retain_mut(|(place, answer)| match answer.as_mut().poll(context) {
                Poll::Ready(answered) => {
                    self.answered(*place, answered);
                    false
                }
                Poll::Pending => true,
            });
            if held || waiting.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    fn answered(&mut self, place: Option<usize>, answered: Result<Option<u64>, AppendError>) {
        let Some(place) = place else { return };
        let outcome = match answered {
            Ok(sequence) => Outcome::Acknowledged(sequence.unwrap()),
            // What a process that is gone would have said was not said.
            Err(AppendError::NotWritten(..)) if !self.disk.has_ended() => Outcome::Refused,
            Err(_) => Outcome::Unknown,
        };
        self.counts.acknowledged += u64::from(matches!(outcome, Outcome::Acknowledged(_)));
        self.counts.refused += u64::from(outcome == Outcome::Refused);
        self.model.answered(place, outcome);
    }

    fn retire<S: Subject>(&mut self, subject: &Arc<S>, calm: bool) {
        let files = self.disk.files();
        let numbers: Vec<u64> = files.keys().filter_map(|name| name.strip_suffix(".seg")?.parse().ok()).collect();
        let keep = numbers[self.rng.random_range(0..numbers.len())];
        let before = files.into_iter().filter(|(name, _)| *name < format!("{keep:016}.seg")).collect();
        self.model.retired(S::frames(&before).iter().map(|frame| frame.entry.id));
        let retired = subject.retire(keep);
        assert!(retired.is_ok() || !calm, "{retired:?}");
    }

    fn end(&mut self) {
        let power_cut = self.rng.random_bool(0.75);
        if !power_cut || self.rng.random_bool(0.2) {
            self.disk.kill();
        }
        if power_cut {
            self.disk.power_cut();
            self.model.power_cut(self.options.durability);
        }
    }

    /// Flips bits of what is durable. Each is reported at the next start, or when that part is read; but for the last group, which
    /// looks like one that a crash tore.
    fn damage<S: Subject>(&mut self) {
        let files = self.disk.files();
        let frames = S::frames(&files);
        let last = files.keys().rfind(|name| name.ends_with(".seg")).unwrap();
        for _ in 0..3 {
            let segments: Vec<_> = files.iter().filter(|(name, _)| name.ends_with(".seg")).collect();
            let (name, bytes) = segments[self.rng.random_range(0..segments.len())];
            let byte = self.rng.random_range(0..bytes.len());
            let frame = frames.iter().find(|frame| frame.file == *name && (frame.start..frame.end).contains(&byte));
            let vouched = frame.is_none_or(|frame| frames.iter().any(|it| it.file == *name && it.synced > frame.start));
            let empty = frames.iter().all(|frame| frame.file != *name);
            if if name == last { !vouched } else { empty } {
                continue;
            }
            let damaged = self.disk.copy();
            damaged.flip(name, byte, self.rng.random_range(0..8));
            let opened = S::open(damaged.process(None, 0.0), self.epoch + 1, self.options);
            self.counts.damages += 1;
            match opened {
                Err(error) if name == last && frame.is_some() => {
                    assert!(format!("{error:#}").contains("is damaged at byte"), "{name}, byte {byte}: {error:#}");
                }
                Err(_) => {}
                Ok(opened) => {
                    assert!(name != last, "{name}: a flipped bit of byte {byte} was passed over");
                    assert!(opened.read().is_err(), "{name}: a flipped bit of byte {byte} was read over");
                }
            }
        }
    }
}

/// Says which case it was, and stops the others.
struct Told<'a>(u64, &'a AtomicU64);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.1.store(u64::MAX / 2, Ordering::Relaxed);
            println!("power cuts: the case that failed is TOLLGATE_TEST_SEED={}", self.0);
        }
    }
}

fn cases<S: Subject>(test: &str) {
    let (seed, _) = support::rng(test);
    let cases = if full() { 100_000 } else { 1_000 };
    let (next, counts, began) = (AtomicU64::new(0), Mutex::new(Counts::default()), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                loop {
                    let case = next.fetch_add(1, Ordering::Relaxed);
                    if case >= cases {
                        return;
                    }
                    let told = Told(seed.wrapping_add(case), &next);
                    let counted = runtime.block_on(Case::new(told.0).run::<S>());
                    *counts.lock() += counted;
                }
            });
        }
    });
    let counts = counts.into_inner();
    println!("{test}: seeds {seed} and {cases} on, {:.1} s: {counts:?}", began.elapsed().as_secs_f64());
    // Not a test of nothing: by far fewer than there are.
    let Tally { power_cuts, mid_operation, writes_torn, names_lost, .. } = counts.disk;
    assert!(counts.acknowledged > 20 * cases && power_cuts > cases && mid_operation > cases);
    assert!(writes_torn > cases / 3 && names_lost > cases / 8 && counts.refused > cases / 8 && counts.damages > cases);
}

#[test]
fn the_journal_keeps_what_it_acknowledged() {
    cases::<Journal>("the_journal_keeps_what_it_acknowledged");
}

#[test]
fn a_log_that_goes_on_keeps_what_it_acknowledged() {
    cases::<Log>("a_log_that_goes_on_keeps_what_it_acknowledged");
}
