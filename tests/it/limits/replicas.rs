//! Several gateways on one database: together they never go past a quota, a spend cap or a key's quota, whoever is killed, and what
//! one gives back another can use.

use std::time::Duration;

use serde_json::json;

use super::{ONE, plan, products, stocked};
use crate::support::{
    self, Answer, Database, Gateway, Kind, Process, ask, counted, issue, on_both_databases, price, tollgate, upserted,
};

const USED: &str = "select cast(coalesce(sum(units), 0) as bigint) from usage_cell where meter <> 'requests'";

/// Three gateways with the same product, on one PostgreSQL.
async fn three(plans: &str) -> ([Database; 3], Vec<Gateway>) {
    let database = Database::new(Kind::Postgres).await;
    let databases = [database.beside(), database.beside(), database];
    let mut gateways = Vec::new();
    for database in &databases {
        let gateway = Gateway::start(database).await;
        gateway.plans(plans).await;
        let producer = gateway.producer().await;
        gateway.feed(&producer, &[upserted("u", "A", "Alba"), counted("c", "A", "X", 7), price("p", "A", "X", "12.50")]).await;
        gateways.push(gateway);
    }
    (databases, gateways)
}

async fn refresh(gateways: &[Gateway]) {
    for gateway in gateways {
        gateway.running.app.directory.refresh().await.unwrap();
    }
}

async fn ship(gateways: &[Gateway]) {
    for gateway in gateways {
        gateway.running.app.ship().await.unwrap();
    }
}

/// The same bodies on all gateways at once.
async fn everywhere(gateways: &[Gateway], key: &str, bodies: &[serde_json::Value]) -> Vec<Answer> {
    let each = gateways.iter().map(|gateway| super::at_once(gateway, key, bodies.to_vec()));
    futures_util::future::join_all(each).await.into_iter().flatten().collect()
}

/// One unit here and there until all gateways refuse, which they do for good once the others have given back what they do not use.
async fn to_the_end(gateways: &[Gateway], key: &str, status: u16, code: &str) -> u64 {
    let (mut billed, mut refused_in_a_row) = (0, 0);
    for round in 0.. {
        assert!(round < 10_000, "it never ends");
        let answer = gateways[round % gateways.len()].ask(key, ONE).await;
        if answer.status == 200 {
            (billed, refused_in_a_row) = (billed + answer.units(), 0);
            continue;
        }
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{answer:?}");
        refused_in_a_row += 1;
        if refused_in_a_row >= 9 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    billed
}

#[tokio::test(flavor = "multi_thread")]
async fn three_gateways_use_a_quota_up_to_the_unit() {
    let (databases, gateways) = three(&plan("q", 100_000, 100_000, "quota = { units = 300, then = \"refuse\" }")).await;
    let partner = gateways[0].partner("P", "q", &[]).await;
    refresh(&gateways).await;
    // What is reserved is more than what is billed.
    let bodies: Vec<_> = (0..60).map(|n| products(1 + n % 5, n % 4)).collect();
    let answers = everywhere(&gateways, &partner.key, &bodies).await;
    let so_far = super::billed(&answers, 429, "QUOTA_EXCEEDED");
    ship(&gateways).await;
    assert_eq!(databases[0].number(USED).await, so_far as i64);
    assert!(so_far <= 300, "{so_far}");
    let rest = everywhere(&gateways, &partner.key, &vec![json!({ "query": ONE }); 60]).await;
    let so_far = so_far + super::billed(&rest, 429, "QUOTA_EXCEEDED");
    println!("{so_far} of 300 while all hurried");
    let all = so_far + to_the_end(&gateways, &partner.key, 429, "QUOTA_EXCEEDED").await;
    ship(&gateways).await;
    assert_eq!((all, databases[0].number(USED).await), (300, 300));
    for gateway in gateways {
        gateway.stop().await;
    }
    let granted = "select cast(sum(units) as bigint) from budget_grant where key_id = '' and meter = ''";
    assert_eq!(databases[0].number(granted).await, 300, "a clean stop leaves what was used");
}

#[tokio::test(flavor = "multi_thread")]
async fn three_gateways_keep_a_cap_on_graduated_prices_to_the_cent() {
    // 3 are free, the next 20 cost 0.10, then 0.03 each: 23 cost 2.00, 56 2.99, 57 3.02.
    let charge = "spend_cap = \"3.00\"\n[[plan.charge]]\nmeter = \"inventory\"\nmodel = \"graduated\"\nincluded = 3\n\
                  tiers = [{ up_to = 20, unit_price = \"0.10\" }, { unit_price = \"0.03\" }]";
    let (databases, gateways) = three(&plan("s", 100_000, 100_000, charge)).await;
    let partner = gateways[0].partner("P", "s", &[]).await;
    refresh(&gateways).await;
    let bodies: Vec<_> = (0..20).map(|n| products(1 + n % 3, n % 3)).collect();
    let so_far = super::billed(&everywhere(&gateways, &partner.key, &bodies).await, 402, "SPEND_CAP_REACHED");
    assert!(so_far <= 56, "{so_far}");
    let all = so_far + to_the_end(&gateways, &partner.key, 402, "SPEND_CAP_REACHED").await;
    ship(&gateways).await;
    assert_eq!((all, databases[0].number(USED).await), (56, 56));
    for gateway in gateways {
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_gateways_keep_a_keys_own_quota_beside_its_partners() {
    let (databases, gateways) = three(&plan("k", 100_000, 100_000, "quota = { units = 200, then = \"refuse\" }")).await;
    let partner = gateways[0].partner("P", "k", &[]).await;
    let small = issue(&databases[0], &["P", "--quota", "40"]).key;
    refresh(&gateways).await;
    let (thirty, twenty) = (vec![json!({ "query": ONE }); 30], vec![json!({ "query": ONE }); 20]);
    let (of_small, of_other) = tokio::join!(everywhere(&gateways, &small, &thirty), everywhere(&gateways, &partner.key, &twenty));
    let (small_so_far, other_so_far) =
        (super::billed(&of_small, 429, "QUOTA_EXCEEDED"), super::billed(&of_other, 429, "QUOTA_EXCEEDED"));
    let of_small = small_so_far + to_the_end(&gateways, &small, 429, "QUOTA_EXCEEDED").await;
    assert_eq!(of_small, 40);
    let of_other = other_so_far + to_the_end(&gateways, &partner.key, 429, "QUOTA_EXCEEDED").await;
    assert_eq!(of_other, 160);
    for gateway in gateways {
        gateway.stop().await;
    }
}

/// Three processes; one of them is killed again and again while all are asked.
#[tokio::test(flavor = "multi_thread")]
async fn a_quota_holds_while_gateways_are_killed() {
    const QUOTA: i64 = 1500;
    let (seed, mut rng) = support::rng("a_quota_holds_while_gateways_are_killed");
    let database = Database::new(Kind::Postgres).await;
    let file = database.file("plan.toml", &plan("q", 1000, 1000, &format!("quota = {{ units = {QUOTA}, then = \"refuse\" }}")));
    tollgate(&database, &["plan", "apply", file.to_str().unwrap()]).ok();
    tollgate(&database, &["partner", "create", "Ada", "--plan", "q"]).ok();
    let key = issue(&database, &["Ada"]).key;
    let machines = [database.beside(), database.beside(), database];
    let events = machines[0].file("events.ndjson", &format!("{}\n", counted("c", "A", "X", 1)));
    let mut processes = Vec::new();
    for machine in &machines {
        tollgate(machine, &["ingest", events.to_str().unwrap()]).ok();
        processes.push(Process::serve(machine));
    }
    let http = reqwest::Client::new();
    let mut told = 0;
    for round in 0..4 {
        let urls: Vec<_> = processes.iter().map(|process| format!("http://{}/graphql", process.address)).collect();
        let asking: Vec<_> = (0..12)
            .map(|n| {
                let (http, url, key) = (http.clone(), urls[n % 3].clone(), key.clone());
                tokio::spawn(async move {
                    let mut answered = 0;
                    for _ in 0..60 {
                        let sent = http.post(&url).bearer_auth(&key).json(&json!({ "query": ONE })).send().await;
                        // The one that is killed takes some answers with it.
                        let Ok(response) = sent else { break };
                        answered += i64::from(response.status().as_u16() == 200);
                    }
                    answered
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(rand::Rng::random_range(&mut rng, 20..300))).await;
        let killed = round % 3;
        processes.remove(killed).kill();
        for asking in asking {
            told += asking.await.unwrap();
        }
        processes.insert(killed, Process::serve(&machines[killed]));
        let used = machines[0].number(USED).await;
        assert!(used <= QUOTA, "seed {seed}: {used}");
    }
    for round in 0..600 {
        let url = format!("http://{}/graphql", processes[round % 3].address);
        let answer = ask(&http, &url, &key, json!({ "query": ONE })).await;
        told += i64::from(answer.status == 200);
        if answer.status != 200 {
            assert_eq!(answer.code(), "QUOTA_EXCEEDED", "{answer:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
            if machines[0].number(USED).await == QUOTA {
                break;
            }
        }
    }
    processes.into_iter().for_each(Process::terminate);
    let used = machines[0].number(USED).await;
    println!("{told} answers were received, {used} are in the ledger");
    assert_eq!(used, QUOTA, "seed {seed}: all of it could be used, and no more");
    assert!(told <= used, "seed {seed}: {told}");
}

/// What a gateway had leased that is gone for good is free again once it is retired, and not before.
#[tokio::test(flavor = "multi_thread")]
async fn retiring_a_gateway_sets_free_what_it_had_leased() {
    let database = Database::new(Kind::Postgres).await;
    let file = database.file("plan.toml", &plan("q", 1000, 1000, "quota = { units = 100, then = \"refuse\" }"));
    tollgate(&database, &["plan", "apply", file.to_str().unwrap()]).ok();
    tollgate(&database, &["partner", "create", "Ada", "--plan", "q"]).ok();
    let key = issue(&database, &["Ada"]).key;
    let machines = [database.beside(), database];
    let events = machines[0].file("events.ndjson", &format!("{}\n", counted("c", "A", "X", 1)));
    for machine in &machines {
        tollgate(machine, &["ingest", events.to_str().unwrap()]).ok();
    }
    let (goes, stays) = (Process::serve(&machines[0]), Process::serve(&machines[1]));
    let http = reqwest::Client::new();
    let asked = async |process: &Process| {
        ask(&http, &format!("http://{}/graphql", process.address), &key, json!({ "query": ONE })).await.status
    };
    assert_eq!(asked(&goes).await, 200);
    while machines[0].number(USED).await < 1 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let gone: i64 =
        machines[0].number("select cast(sum(units) as bigint) from budget_grant where key_id = '' and meter = ''").await;
    assert!(gone > 1, "it has leased some ahead: {gone}");
    goes.kill();
    let to_the_end = async || {
        let (mut answered, mut refused) = (0, 0);
        while refused < 4 {
            if asked(&stays).await == 200 {
                (answered, refused) = (answered + 1, 0);
            } else {
                refused += 1;
                tokio::time::sleep(Duration::from_millis(400)).await;
            }
        }
        answered
    };
    assert_eq!(to_the_end().await, 100 - gone);
    let mut connection = machines[0].connect().await;
    let dead: String =
        sqlx::query_scalar("select id from replica order by watermark limit 1").fetch_one(&mut connection).await.unwrap();
    // While it seems to run, it may still use what it has.
    tollgate(&machines[1], &["replica", "retire", &dead, "--force"]).ok();
    assert_eq!(to_the_end().await, 0);
    let silent = "update replica set reported_at = 0 where id = $1";
    sqlx::query(silent).bind(&dead).execute(&mut connection).await.unwrap();
    tollgate(&machines[1], &["replica", "retire", &dead]).ok();
    assert_eq!(to_the_end().await, gone - 1);
    stays.terminate();
    assert_eq!(machines[0].number(USED).await, 100);
}

on_both_databases! {
    async fn where_nothing_is_limited_nothing_is_leased(database: Database) {
        let gateway = stocked(&database, &plan("bill", 1000, 1000, "quota = { units = 3, then = \"bill\" }")).await;
        let (free, billing) = (gateway.partner("P", "wide", &[]).await, gateway.partner("Q", "bill", &[]).await);
        for _ in 0..5 {
            assert_eq!(gateway.ask(&free.key, ONE).await.status, 200);
            assert_eq!(gateway.ask(&billing.key, ONE).await.status, 200);
        }
        assert_eq!(database.number("select count(*) from budget_month").await, 0);
        gateway.stop().await;
        assert_eq!(database.number("select count(*) from budget_grant").await, 0);
    }
}
