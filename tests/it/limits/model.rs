//! Random work of several replicas on one database, against a ledger-style sum of all that was billed: requests held back,
//! settled, given up, replicas killed and started again, journals shipped late, plans changed, months turned. Nothing ever goes
//! past a limit, and what is left at the end can be used.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use tollgate::billing::calendar::Calendar;
use tollgate::billing::plan::{self, Plan};
use tollgate::billing::store as ledger;
use tollgate::clock::Micros;
use tollgate::db::Db;
use tollgate::directory::admin::{self, NewPartner};
use tollgate::gate::budget::{Ask, Budgets, Reservation};
use tollgate::ids::{KeyId, PartnerId, PlanId, ReplicaId};
use tollgate::metering::{Product, Tally, replica_store};

use crate::support::{self, Database, Gateway, Kind, full};

const KEYS: [&str; 2] = ["k1", "k2"];
/// Of the second key.
const KEY_QUOTA: u64 = 30;
/// Longer than a refusal is repeated without asking the database.
const FORGOTTEN: Duration = Duration::from_millis(550);

/// All prices are whole cents.
const CHARGES: &str = "[[plan.charge]]\nmeter = \"inventory\"\nmodel = \"graduated\"\nincluded = 3\n\
    tiers = [{ up_to = 20, unit_price = \"0.10\" }, { unit_price = \"0.03\" }]\n\
    [[plan.charge]]\nmeter = \"requests\"\nmodel = \"per_unit\"\nunit_price = \"0.01\"\n";
const VOLUME: &str = "[[plan.charge]]\nmeter = \"pricing\"\nmodel = \"volume\"\n\
    tiers = [{ up_to = 10, unit_price = \"0.05\" }, { unit_price = \"0.02\" }]\n";

/// Quota, cap in cents, and whether prices are sold by volume.
const PLANS: [(&str, Option<u64>, Option<u64>, bool); 4] = [
    ("quota", Some(200), None, false),
    ("cap", None, Some(500), false),
    ("both", Some(150), Some(300), true),
    ("free", None, None, false),
];

fn plans() -> String {
    let of = |(id, quota, cap, volume): (&str, Option<u64>, Option<u64>, bool)| {
        let quota = quota.map(|units| format!("quota = {{ units = {units}, then = \"refuse\" }}\n")).unwrap_or_default();
        let cap = cap.map(|cents| format!("spend_cap = \"{}.{:02}\"\n", cents / 100, cents % 100)).unwrap_or_default();
        let rate = "rate = { units_per_second = 20, burst = 100 }\n";
        support::plan(id, &format!("{rate}{quota}{cap}{CHARGES}{}", if volume { VOLUME } else { "" }))
    };
    PLANS.into_iter().map(of).collect()
}

/// What one request used.
#[derive(Clone, Copy, Debug)]
struct Use {
    plan: usize,
    key: usize,
    month: usize,
    inventory: u64,
    pricing: u64,
}

/// The sum of everything that was billed.
#[derive(Default)]
struct Oracle(Vec<Use>);

impl Oracle {
    fn of(&self, month: usize) -> impl Iterator<Item = &Use> {
        self.0.iter().filter(move |it| it.month == month)
    }

    fn units(&self, month: usize) -> u64 {
        self.of(month).map(|it| it.inventory + it.pricing).sum()
    }

    fn key_units(&self, month: usize) -> u64 {
        self.of(month).filter(|it| it.key == 1).map(|it| it.inventory + it.pricing).sum()
    }

    /// In cents, of `plan` alone, with `more` units of inventory and their request.
    fn cents(&self, month: usize, plan: usize, included: u64, more: u64) -> u64 {
        let of = || self.of(month).filter(|it| it.plan == plan);
        let billable = (of().map(|it| it.inventory).sum::<u64>() + more).saturating_sub(included);
        let prices: u64 = of().map(|it| it.pricing).sum();
        let by_volume = if PLANS[plan].3 { prices * if prices <= 10 { 5 } else { 2 } } else { 0 };
        billable.min(20) * 10 + billable.saturating_sub(20) * 3 + by_volume + of().count() as u64 + more.min(1)
    }
}

struct Replica {
    id: ReplicaId,
    /// None while it is dead.
    budgets: Option<Arc<Budgets>>,
    open: Vec<(Reservation, Use)>,
    /// In its journal, and not in the ledger.
    unshipped: Vec<Use>,
}

struct World {
    db: Db,
    partner: PartnerId,
    calendar: Arc<Calendar>,
    plans: Vec<Arc<Plan>>,
    plan: usize,
    /// Midday of some day of two months.
    months: [Micros; 2],
    month: usize,
    replicas: Vec<Replica>,
    oracle: Oracle,
    /// Units of inventory that the plan includes: none where all days of the month are another plan's.
    included: u64,
}

fn tally(of: &Use) -> Tally {
    let mut tally = Tally::default();
    tally.add(Product::Inventory, of.inventory);
    tally.add(Product::Pricing, of.pricing);
    tally
}

impl World {
    async fn new(database: &Database, replicas: usize, plan: usize) -> Self {
        let settings = Gateway::settings(database);
        let db = Db::open(&settings.database_url(), 12, &settings.data_dir).await.unwrap();
        let at = |text: &str| Micros::from(text.parse::<jiff::Timestamp>().unwrap());
        let (begin, months) = (at("2026-11-01T00:00:00Z"), [at("2026-11-17T12:00:00Z"), at("2026-12-03T12:00:00Z")]);
        let mut rng = rand::SeedableRng::seed_from_u64(1);
        let parsed = plan::parse(&plans()).unwrap();
        let mut transaction = db.begin().await.unwrap();
        admin::apply_plans(&mut transaction, &parsed, begin).await.unwrap();
        let new = PlanId::from(PLANS[plan].0);
        let rng: &mut ChaCha8Rng = &mut rng;
        let partner = admin::create_partner(&mut transaction, NewPartner::new("P", &new), begin, rng).await.unwrap().id;
        transaction.commit().await.unwrap();
        let plans = PLANS.iter().map(|(id, ..)| Arc::new(parsed.iter().find(|it| it.id.as_str() == *id).unwrap().clone()));
        let calendar = Arc::new(ledger::calendar(&mut db.read().await.unwrap(), &partner).await.unwrap());
        let replica = |n| Replica { id: format!("rep_{n}").into(), budgets: None, open: Vec::new(), unshipped: Vec::new() };
        let mut world = Self {
            partner,
            calendar,
            plans: plans.collect(),
            plan,
            months,
            month: 0,
            replicas: (0..replicas).map(replica).collect(),
            oracle: Oracle::default(),
            included: 3,
            db,
        };
        for place in 0..replicas {
            world.start(place).await;
        }
        world
    }

    async fn start(&mut self, place: usize) {
        self.ship(place).await;
        let (id, now) = (self.replicas[place].id.clone(), self.months[self.month]);
        let mut transaction = self.db.begin().await.unwrap();
        let epoch = replica_store::begin_epoch(&mut transaction, &id, 0, now).await.unwrap().epoch;
        transaction.commit().await.unwrap();
        self.replicas[place].budgets = Some(Arc::new(Budgets::open(&self.db, &id, epoch, now).await.unwrap()));
    }

    /// Killed: what was on its way is in the journal, or never was.
    fn kill(&mut self, place: usize, rng: &mut ChaCha8Rng) {
        let replica = &mut self.replicas[place];
        replica.budgets = None;
        for (reservation, of) in std::mem::take(&mut replica.open) {
            if rng.random_bool(0.5) {
                replica.unshipped.push(of);
                self.oracle.0.push(of);
            }
            drop(reservation);
        }
    }

    async fn reserve(&mut self, place: usize, of: Use) -> Result<(), String> {
        let ask = Ask {
            partner: self.partner.clone(),
            calendar: self.calendar.clone(),
            key: KeyId::from(KEYS[of.key]),
            key_quota: (of.key == 1).then_some(KEY_QUOTA),
            plan: self.plans[of.plan].clone(),
            units: tally(&of),
            now: self.months[of.month],
        };
        let budgets = self.replicas[place].budgets.clone().unwrap();
        let reservation = budgets.reserve(ask).await.map_err(|refusal| refusal.code.as_str().to_owned())?;
        self.replicas[place].open.push((reservation, of));
        Ok(())
    }

    fn settle(&mut self, place: usize, nth: usize, of: Use) {
        let (reservation, _) = self.replicas[place].open.swap_remove(nth);
        reservation.settle(tally(&of));
        self.replicas[place].unshipped.push(of);
        self.oracle.0.push(of);
    }

    async fn ship(&mut self, place: usize) {
        let replica = &mut self.replicas[place];
        let mut transaction = self.db.begin().await.unwrap();
        for of in std::mem::take(&mut replica.unshipped) {
            for (meter, units) in [("inventory", of.inventory), ("pricing", of.pricing), ("requests", 1)] {
                let sql = "insert into usage_cell (partner_id, key_id, plan_id, plan_version, product, meter, cell_start, replica_id, \
                    epoch, units, waived_units, records, first_sequence, last_sequence) values ($1, $2, $3, 1, $4, $4, $5, $6, 1, $7, 0, 1, 1, 1) \
                    on conflict (partner_id, cell_start, product, meter, plan_id, plan_version, key_id, replica_id, epoch) \
                    do update set units = usage_cell.units + excluded.units";
                let insert = sqlx::query(sql).bind(self.partner.as_str()).bind(KEYS[of.key]).bind(PLANS[of.plan].0).bind(meter);
                let insert = insert.bind(self.months[of.month].0).bind(replica.id.as_str()).bind(units as i64);
                insert.execute(&mut *transaction).await.unwrap();
            }
        }
        transaction.commit().await.unwrap();
    }

    async fn ship_all(&mut self) {
        for place in 0..self.replicas.len() {
            self.ship(place).await;
        }
    }

    fn cents(&self, month: usize, more: u64) -> u64 {
        self.oracle.cents(month, self.plan, self.included, more) + self.oracle.cents(month, 3, 3, 0)
    }

    fn check(&self, told: &str) {
        for month in 0..2 {
            if let Some(quota) = PLANS[self.plan].1 {
                assert!(self.oracle.units(month) <= quota, "{told}: {} units of {quota}", self.oracle.units(month));
            }
            if let Some(cap) = PLANS[self.plan].2 {
                let cents = self.cents(month, 0);
                assert!(cents <= cap, "{told}: {cents} cents of {cap}");
            }
            assert!(self.oracle.key_units(month) <= KEY_QUOTA, "{told}: {} units of the key", self.oracle.key_units(month));
        }
    }

    async fn step(&mut self, rng: &mut ChaCha8Rng) {
        let place = rng.random_range(0..self.replicas.len());
        if self.replicas[place].budgets.is_none() {
            if rng.random_bool(0.3) {
                self.start(place).await;
            }
            return;
        }
        let open = self.replicas[place].open.len();
        match rng.random_range(0..100) {
            0..45 => {
                let key = usize::from(rng.random_bool(0.3));
                let most = *[0, 1, 1, 3, 8].choose(rng).unwrap();
                let (inventory, pricing) = (rng.random_range(0..=most), rng.random_range(0..=most));
                let of = Use { plan: self.plan, key, month: self.month, inventory, pricing };
                drop(self.reserve(place, of).await);
            }
            45..72 if open > 0 => {
                let nth = rng.random_range(0..open);
                let mut of = self.replicas[place].open[nth].1;
                if rng.random_bool(0.4) {
                    of.inventory = rng.random_range(0..=of.inventory);
                    of.pricing = rng.random_range(0..=of.pricing);
                }
                self.settle(place, nth, of);
            }
            72..78 if open > 0 => drop(self.replicas[place].open.swap_remove(rng.random_range(0..open))),
            78..88 => self.ship(place).await,
            88..95 => self.replicas[place].budgets.clone().unwrap().give_back_wanted().await,
            95..97 => self.replicas[place].budgets.clone().unwrap().give_back().await,
            97.. => self.kill(place, rng),
            _ => {}
        }
    }

    /// One unit after the other, wherever there is one; what is refused everywhere twice is at its end.
    async fn use_up(&mut self, key: usize, told: &str) {
        let mut refused = 0;
        while refused < 2 * self.replicas.len() {
            let place = (refused + self.oracle.0.len()) % self.replicas.len();
            let of = Use { plan: self.plan, key, month: self.month, inventory: 1, pricing: 0 };
            match self.reserve(place, of).await {
                Ok(()) => {
                    self.settle(place, self.replicas[place].open.len() - 1, of);
                    self.check(told);
                    refused = 0;
                }
                Err(_) => {
                    refused += 1;
                    for replica in &self.replicas {
                        replica.budgets.clone().unwrap().give_back_wanted().await;
                    }
                    tokio::time::sleep(FORGOTTEN).await;
                }
            }
        }
    }
}

async fn round(database: Database, replicas: usize, seed: u64, nth: usize, rng: &mut ChaCha8Rng) {
    let limited = nth % 3;
    // Every other one comes from a plan that limits nothing.
    let first = if nth % 2 == 1 { 3 } else { limited };
    let told = format!("seed {seed}, round {nth}, {replicas} replicas, {}", PLANS[limited].0);
    let mut world = World::new(&database, replicas, first).await;
    if first == 3 {
        for n in 0..10 {
            let of = Use { plan: 3, key: 0, month: 0, inventory: 1, pricing: 1 };
            let place = n % replicas;
            world.reserve(place, of).await.unwrap();
            world.settle(place, 0, of);
        }
        world.ship_all().await;
        (world.plan, world.included) = (limited, 0);
    }
    let turns = rng.random_bool(0.3).then(|| rng.random_range(0..300));
    for step in 0..300 {
        if turns == Some(step) {
            world.month = 1;
        }
        world.step(rng).await;
        world.check(&format!("{told}, step {step}"));
    }
    for place in 0..replicas {
        while let Some((_, of)) = world.replicas[place].open.last() {
            let (nth, of) = (world.replicas[place].open.len() - 1, *of);
            world.settle(place, nth, of);
        }
        if world.replicas[place].budgets.is_none() {
            world.start(place).await;
        }
    }
    world.ship_all().await;
    world.check(&told);
    if PLANS[limited].3 {
        // By volume less may cost more, and nobody knows what the others will have used: it ends early.
        return;
    }
    let before = world.oracle.units(world.month);
    world.use_up(1, &told).await;
    world.use_up(0, &told).await;
    let (units, month) = (world.oracle.units(world.month), world.month);
    println!("{told}: {before} units, {units} at the end");
    if let Some(quota) = PLANS[limited].1 {
        assert_eq!(units, quota, "{told}: all of it can be used");
    } else {
        let more = world.cents(month, 1);
        assert!(Some(more) > PLANS[limited].2, "{told}: one more would cost {more}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_interleaving_of_replicas_goes_past_a_limit() {
    let (seed, mut rng) = support::rng("no_interleaving_of_replicas_goes_past_a_limit");
    for nth in 0..if full() { 200 } else { 12 } {
        let replicas = rng.random_range(2..=4);
        round(Database::new(Kind::Postgres).await, replicas, seed, nth, &mut rng).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_replica_on_sqlite_goes_past_no_limit() {
    let (seed, mut rng) = support::rng("one_replica_on_sqlite_goes_past_no_limit");
    for nth in 0..if full() { 60 } else { 6 } {
        round(Database::new(Kind::Sqlite).await, 1, seed, nth, &mut rng).await;
    }
}
