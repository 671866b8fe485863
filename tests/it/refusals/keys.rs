//! Who asks: keys that are not good, and partners that may not.

use std::time::Duration;

use super::picture::{self, Ask};
use crate::support::{Database, Gateway, Kind, issue, tollgate};

const QUERY: &str = "{ viewer { name } }";

#[tokio::test(flavor = "multi_thread")]
async fn keys() {
    let database = Database::new(Kind::Sqlite).await;
    let gateway = Gateway::start_with(&database, |settings| settings.gate.shield_burst = 1000).await;
    let partner = gateway.partner("P", "wide", &[]).await;
    let now = gateway.running.app.clock.now();
    let soon = now.plus(Duration::from_secs(2)).to_string();
    let [revoked, suspended, rotated, expired, elsewhere] = [
        &["P"][..],
        &["P"],
        &["P"],
        &["P", "--expires", &soon],
        &["P", "--address", "203.0.113.0/24", "--address", "2001:db8::/32"],
    ]
    .map(|arguments| issue(&database, arguments));
    tollgate(&database, &["key", "revoke", &revoked.id]).ok();
    tollgate(&database, &["key", "suspend", &suspended.id]).ok();
    let new = tollgate(&database, &["key", "rotate", &rotated.id, "--overlap", "1s"]).ok();
    let (stopped, unsubscribed) = (gateway.partner("Q", "wide", &[]).await, gateway.partner("R", "wide", &[]).await);
    tollgate(&database, &["partner", "suspend", "Q"]).ok();
    // No command ends a subscription yet.
    let mut connection = database.connect().await;
    for change in [
        "update subscription set ends_at = starts_at where partner_id in (select id from partner where name = 'R')",
        "update control set version = version + 1",
    ] {
        sqlx::query(change).execute(&mut connection).await.unwrap();
    }
    while gateway.running.app.clock.now() < now.plus(Duration::from_millis(2100)) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    gateway.refresh().await;
    assert_eq!(gateway.ask(new.trim(), QUERY).await.status, 200, "the rotated key's new secret");

    let mistyped = {
        let last = if partner.key.ends_with('x') { "y" } else { "x" };
        format!("{}{last}", &partner.key[..partner.key.len() - 1])
    };
    let unknown = tollgate::directory::key::generate(tollgate::directory::key::Kind::Live, &mut rand::rng()).text;
    let producer = gateway.producer().await;
    for (name, ask) in [
        ("key_missing", Ask::query("", QUERY).without("authorization")),
        ("key_no_bearer", Ask::query("", QUERY).with("authorization", "Basic abc")),
        ("key_mistyped", Ask::query(&mistyped, QUERY)),
        ("key_unknown", Ask::query(&unknown, QUERY)),
        ("key_of_a_producer", Ask::query(&producer, QUERY)),
        ("key_revoked", Ask::query(&revoked.key, QUERY)),
        ("key_expired", Ask::query(&expired.key, QUERY)),
        ("key_rotated_away", Ask::query(&rotated.key, QUERY)),
        ("key_suspended", Ask::query(&suspended.key, QUERY)),
        ("key_from_a_wrong_address", Ask::query(&elsewhere.key, QUERY)),
        ("partner_suspended", Ask::query(&stopped.key, QUERY)),
        ("partner_without_a_subscription", Ask::query(&unsubscribed.key, QUERY)),
    ] {
        let answer = ask.of(&gateway).await;
        assert!([401, 403].contains(&answer.status), "{name}: {answer:?}");
        picture::assert(name, &ask, &answer);
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_failed_keys() {
    let database = Database::new(Kind::Sqlite).await;
    let gateway = Gateway::start_with(&database, |settings| {
        settings.gate.shield_burst = 1;
        settings.gate.shield_interval = Duration::from_secs(30);
    })
    .await;
    let ask = Ask::query("wrong", QUERY);
    assert_eq!(ask.of(&gateway).await.status, 401);
    let mut answer = ask.of(&gateway).await;
    assert_eq!(answer.status, 429);
    // Whole seconds of which a part may have passed.
    let wait = answer.retry_after().unwrap();
    assert!((28..=31).contains(&wait), "{answer:?}");
    answer.headers.iter_mut().filter(|(name, _)| name == "retry-after").for_each(|(_, value)| *value = "30".to_owned());
    picture::assert("key_failed_too_often", &ask, &answer);
    gateway.stop().await;
}
