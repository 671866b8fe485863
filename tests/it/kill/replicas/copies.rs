//! A replica's id is one data folder's at a time; and who is suspended with a lock in its hands does not keep others waiting for good.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use super::Gateway;
use super::asking::ONE_UNIT;
use crate::kill::stock;
use crate::support::{Answer, Database, Kind, Process, ask, issue, plan, tollgate};

/// In seconds: how long who has an id must be silent before a copy of its folder gets it.
const LEASE: u64 = 10;

const USED: &str = "select cast(coalesce(sum(units), 0) as bigint) from usage_cell where meter <> 'requests'";
const GRANTED: &str = "select cast(coalesce(sum(units), 0) as bigint) from budget_grant where key_id = '' and meter = ''";

/// A partner with this plan, and something to ask for on each machine.
fn prepare(machines: [&Database; 2], settings: &str) -> String {
    let file = machines[0].file("plan.toml", &plan("p", settings));
    tollgate(machines[0], &["plan", "apply", file.to_str().unwrap()]).ok();
    tollgate(machines[0], &["partner", "create", "Ada", "--plan", "p"]).ok();
    machines.into_iter().for_each(stock);
    issue(machines[0], &["Ada"]).key
}

async fn one(process: &Process, key: &str) -> Answer {
    let url = format!("http://{}/graphql", process.address);
    ask(&reqwest::Client::new(), &url, key, json!({ "query": ONE_UNIT })).await
}

/// Asks until it is refused: how many it answered, and how it refused.
async fn to_the_end(process: &Process, key: &str) -> (i64, String) {
    for answered in 0..10_000 {
        let answer = one(process, key).await;
        if answer.status != 200 {
            return (answered, answer.code());
        }
    }
    panic!("it never ends");
}

fn copy(from: &Database, to: &Database) {
    // A folder that a gateway has had already.
    drop(std::fs::remove_dir_all(to.data_dir()));
    assert!(Command::new("cp").arg("-a").args([from.data_dir(), to.data_dir()]).status().unwrap().success());
}

/// A start that a test does not wait for.
pub(super) fn spawn(machine: &Database, arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.arg("serve").args(arguments).envs(machine.environment());
    command.env("TOLLGATE__SERVER__LISTEN", "127.0.0.1:0").env("TOLLGATE__SERVER__OPERATOR_LISTEN", "127.0.0.1:0");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// A start that fails; what it says.
pub(super) fn refused(mut child: Child) -> String {
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > Duration::from_secs(LEASE + 20) {
            child.kill().unwrap();
            panic!("it runs: {:?}", child.wait_with_output());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output().unwrap();
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_data_folder_is_no_second_replica() {
    const QUOTA: i64 = 200;
    let first = Database::new(Kind::Postgres).await;
    let second = first.beside();
    let key = prepare([&first, &second], &format!("quota = {{ units = {QUOTA}, then = \"refuse\" }}"));
    let running = Process::serve(&first);
    for _ in 0..5 {
        assert_eq!(one(&running, &key).await.status, 200);
    }

    // While the one that it was copied from runs, it does not start, and takes nothing away.
    copy(&first, &second);
    let said = refused(spawn(&second, &[]));
    assert!(said.contains("is a copy") && said.contains("set data_dir to a new folder"), "{said}");
    assert_eq!(one(&running, &key).await.status, 200);
    while first.number(USED).await < 6 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    // Killed and started again, the folder has its id at once.
    running.kill();
    let begun = Instant::now();
    let running = Process::serve(&first);
    assert!(begun.elapsed() < Duration::from_secs(LEASE), "it does not wait for itself: {:?}", begun.elapsed());
    assert_eq!(one(&running, &key).await.status, 200);
    while first.number(USED).await < 7 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    // Silent for a lease's time, it loses its id to a copy, for good.
    let leased = first.number(GRANTED).await - 7;
    assert!(leased > 0);
    running.signal("STOP");
    copy(&first, &second);
    let begun = Instant::now();
    let other = Process::serve(&second);
    assert!(begun.elapsed() > Duration::from_secs(LEASE - 3), "nobody was waited for");
    assert_eq!(one(&other, &key).await.status, 200);
    running.signal("CONT");
    let (late, code) = to_the_end(&running, &key).await;
    assert!(late <= leased && code != "QUOTA_EXCEEDED", "{late} answers of {leased} that were leased, then {code}");
    let (rest, code) = to_the_end(&other, &key).await;
    assert_eq!(code, "QUOTA_EXCEEDED");
    assert!(8 + rest <= QUOTA, "{rest}");

    // Each answer counts once, whoever gave it.
    running.terminate();
    other.terminate();
    assert_eq!(first.number(USED).await, 8 + late + rest);

    // A clean stop leaves the id to whoever comes next.
    let begun = Instant::now();
    Process::serve(&second).terminate();
    let third = first.beside();
    copy(&second, &third);
    Process::serve(&third).terminate();
    assert!(begun.elapsed() < Duration::from_secs(LEASE), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_suspended_in_the_middle_of_a_lease_keeps_others_waiting_for_a_while_only() {
    let database = Database::new(Kind::Postgres).await;
    let (mut first, second) = (Gateway::new(database.beside(), 0), database.beside());
    // Leased by ten.
    let settings = "quota = { units = 1000000, then = \"refuse\" }\nrate = { units_per_second = 1, burst = 1000000 }";
    let key = prepare([&first.machine, &second], settings);
    first.process = Some(Process::serve(&first.machine));
    let other = Process::serve(&second);
    let url = format!("http://{}/graphql", first.process().address);
    let asking = tokio::spawn({
        let (key, http) = (key.clone(), reqwest::Client::new());
        async move {
            while let Ok(answer) = http.post(&url).bearer_auth(&key).json(&json!({ "query": ONE_UNIT })).send().await {
                assert_eq!(answer.status(), 200);
            }
        }
    });
    first.suspend_in_transaction("budget_", 0).await.expect("it leases all the time");
    let begun = Instant::now();
    loop {
        let answer = one(&other, &key).await;
        if answer.status == 200 {
            break;
        }
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(begun.elapsed() < Duration::from_secs(40), "nobody else can lease any more");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    println!("another one leased {:?} later", begun.elapsed());
    first.process().signal("CONT");
    first.process.take().unwrap().kill();
    asking.await.unwrap();
}
