//! A change of a key reaches every gateway at once, by word from the database; and where word is cut, by looking.

use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::json;
use tollgate::config::Settings;
use tollgate::directory::{KeyTerms, admin};

use crate::support::{Database, Gateway, Kind, graphql};

const ROUNDS: usize = 30;

/// How long each of `ROUNDS` revocations took until no gateway let the key in any more.
async fn revocations(poll: Duration, is_cut: bool) -> Vec<Duration> {
    let database = Database::new(Kind::Postgres).await;
    let folders = [database.beside(), database.beside(), database.beside()];
    let mut gateways = Vec::new();
    for folder in &folders {
        let change = |settings: &mut Settings| {
            settings.gate.directory_poll = poll;
            // Keys are tried before they are known, all from one address.
            settings.gate.shield_burst = 1_000_000;
        };
        gateways.push(Gateway::start_with(folder, change).await);
    }
    let partner = gateways[0].partner("P", "wide", &[]).await;
    let partner_id = {
        let picture = gateways[0].running.app.directory.current(gateways[0].running.app.clock.now()).unwrap();
        picture.key(partner.key_id.as_str()).unwrap().account.partner.id.clone()
    };
    let db = gateways[0].running.db().clone();
    let answers = async |gateway: &Gateway, key: &str| {
        graphql(&gateway.http, &gateway.url("/graphql"), key, json!({ "query": "{ viewer { partnerId } }" })).await.0
    };
    let mut took = Vec::new();
    for _ in 0..ROUNDS {
        let now = gateways[0].running.app.clock.now();
        let mut transaction = db.begin().await.unwrap();
        let key =
            admin::issue_key(&mut transaction, &partner_id, KeyTerms::default(), now, &mut StdRng::from_os_rng()).await.unwrap();
        transaction.commit().await.unwrap();
        for gateway in &gateways {
            let begun = Instant::now();
            while answers(gateway, &key.text).await != 200 {
                assert!(begun.elapsed() < Duration::from_secs(60), "a new key is not let in");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        if is_cut {
            // As it would be without the word.
            let mut connection = database.connect().await;
            let revoked = sqlx::query("update api_key set revoked_at = $1 where id = $2").bind(now.0).bind(key.id.as_str());
            revoked.execute(&mut connection).await.unwrap();
            sqlx::query("update control set version = version + 1 where id = 1").execute(&mut connection).await.unwrap();
        } else {
            let mut transaction = db.begin().await.unwrap();
            admin::revoke_key(&mut transaction, &key.id, now).await.unwrap();
            transaction.commit().await.unwrap();
        }
        let begun = Instant::now();
        for gateway in &gateways {
            while answers(gateway, &key.text).await != 401 {
                assert!(begun.elapsed() < Duration::from_secs(60), "a revoked key is still let in");
            }
        }
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    took
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_stops_on_all_gateways_by_word_alone() {
    // Nobody looks by themselves in this time.
    let took = revocations(Duration::from_secs(600), false).await;
    println!("{ROUNDS} revocations on three gateways, told: median {:?}, slowest {:?}", took[ROUNDS / 2], took[ROUNDS - 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_stops_on_all_gateways_where_word_is_cut() {
    let took = revocations(Duration::from_millis(250), true).await;
    println!("{ROUNDS} revocations on three gateways, not told: median {:?}, slowest {:?}", took[ROUNDS / 2], took[ROUNDS - 1]);
}
