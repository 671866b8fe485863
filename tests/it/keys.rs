//! API keys: modes, terms, rotation, suspension, last use; through the command line on a running gateway.

use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use sqlx::Row;
use tollgate::clock::Micros;
use tollgate::directory::{KeyTerms, admin, key_store};
use tollgate::ids::KeyId;

use crate::support::{Database, Gateway, on_both_databases, tollgate};

/// What a command printed, without the line's end.
fn line(database: &Database, arguments: &[&str]) -> String {
    tollgate(database, arguments).ok().trim_end().to_owned()
}

fn id(key: &str) -> String {
    admin::key_id(key).unwrap().to_string()
}

/// A key as `key list` shows it.
fn listed(database: &Database, key: &str) -> Value {
    let all: Value = serde_json::from_str(&tollgate(database, &["key", "list", "--format", "json"]).ok()).unwrap();
    all.as_array().unwrap().iter().find(|row| row["id"] == id(key)).unwrap().clone()
}

/// Status, code or data, and message of a free query.
async fn ask(gateway: &Gateway, key: &str, forwarded: Option<&str>) -> (u16, Value, String) {
    let mut request = gateway
        .http
        .post(gateway.url("/graphql"))
        .bearer_auth(key)
        .header("accept", "application/graphql-response+json")
        .json(&json!({ "query": "{ viewer { keyId keyMode } }" }));
    if let Some(forwarded) = forwarded {
        request = request.header("x-forwarded-for", forwarded);
    }
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let answer: Value = response.json().await.unwrap();
    let error = &answer["errors"][0];
    let told = if status == 200 { &answer["data"]["viewer"] } else { &error["extensions"]["code"] };
    (status, told.clone(), error["message"].as_str().unwrap_or_default().to_owned())
}

/// A change takes effect on a running gateway within a second.
async fn within_a_second(gateway: &Gateway, key: &str, expected: u16) -> (Value, String) {
    let begun = Instant::now();
    loop {
        let (status, told, message) = ask(gateway, key, None).await;
        if status == expected {
            return (told, message);
        }
        assert!(begun.elapsed() < Duration::from_secs(1), "{status} instead of {expected} after a second: {message}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Everything that a refused command must leave as it was.
async fn control_plane(database: &Database) -> [i64; 5] {
    [
        database.number("select version from control").await,
        database.number("select count(*) from api_key").await,
        database.number("select count(*) from api_key_secret").await,
        database.number("select count(*) from api_key_secret where ends_at is not null").await,
        database.number("select count(*) from api_key where revoked_at is not null or suspended <> 0").await,
    ]
}

on_both_databases! {
    async fn a_key_is_issued_on_its_terms(database: Database) {
        let gateway = Gateway::start(&database).await;
        gateway.partner("Ada", "wide", &[]).await;
        let live = line(&database, &["key", "issue", "Ada"]);
        let test = line(&database, &["key", "issue", "Ada", "--mode", "test"]);
        assert!(live.starts_with("tg_live_") && test.starts_with("tg_test_"), "{live} {test}");
        for (key, mode) in [(&live, "live"), (&test, "test")] {
            let (told, _) = within_a_second(&gateway, key, 200).await;
            assert_eq!(told, json!({ "keyId": id(key), "keyMode": mode }));
            let row = listed(&database, key);
            assert_eq!((&row["mode"], &row["state"]), (&json!(mode), &json!("active")));
            for unrestricted in ["products", "addresses", "budget", "expiresAt", "revokedAt"] {
                assert_eq!(row[unrestricted], Value::Null, "{row}");
            }
        }
        gateway.running.app.ship().await.unwrap();
        let billed = database.number("select cast(sum(units) as bigint) from usage_cell where meter = 'requests'").await;
        assert_eq!(billed, 1, "the test key's answer is not");

        let all = [
            "key", "issue", "Ada", "--mode", "live", "--expires", "2999-01-31", "--product", "pricing", "--product", "inventory",
            "--address", "127.0.0.0/8", "--address", "2001:db8::1", "--units-per-second", "5", "--burst", "10", "--quota", "1000",
        ];
        let key = line(&database, &all);
        within_a_second(&gateway, &key, 200).await;
        let row = listed(&database, &key);
        assert_eq!(row["expiresAt"], "2999-01-31T00:00:00.000Z");
        assert_eq!(row["products"], json!(["inventory", "pricing"]));
        assert_eq!(row["addresses"], json!(["127.0.0.0/8", "2001:db8::1/128"]));
        assert_eq!(row["budget"], json!({ "rate": { "unitsPerSecond": 5, "burst": 10 }, "quotaUnits": 1000 }));
        let table = tollgate(&database, &["key", "list", "--partner", "Ada"]).ok();
        let expected = "inventory pricing, from 127.0.0.0/8 2001:db8::1, 5 units/s burst 10, 1000 units/month";
        assert!(table.contains(expected), "{table}");
        // What the gate works with is what was asked for.
        let app = &gateway.running.app;
        let picture = app.directory.current(app.clock.now()).unwrap();
        let credential = picture.key(&id(&key)).unwrap().clone();
        assert_eq!(credential.products.as_ref().unwrap().len(), 2);
        assert_eq!(credential.budget.unwrap().quota_units, Some(1000));
        drop(picture);
        gateway.stop().await;
    }

    async fn a_rotated_key_has_both_secrets_until_the_overlap_is_over(database: Database) {
        let gateway = Gateway::start(&database).await;
        gateway.partner("Ada", "wide", &[]).await;
        let first = line(&database, &["key", "issue", "Ada", "--expires", "2999-01-31", "--product", "pricing"]);
        let second = line(&database, &["key", "rotate", &id(&first)]);
        assert!(second.starts_with("tg_live_") && id(&second) == id(&first) && second != first);
        for key in [&second, &first] {
            within_a_second(&gateway, key, 200).await;
        }
        let row = listed(&database, &first);
        assert_eq!((&row["state"], &row["expiresAt"]), (&json!("rotating"), &json!("2999-01-31T00:00:00.000Z")));
        assert_eq!(row["products"], json!(["pricing"]));
        let ends: jiff::Timestamp = row["secrets"][0]["endsAt"].as_str().unwrap().parse().unwrap();
        let ahead = ends.as_microsecond() - gateway.running.app.clock.now().0;
        assert!((86_300_000_000..=86_400_000_000).contains(&ahead), "24 hours, unless said otherwise: {row}");
        assert_eq!(row["secrets"][1]["endsAt"], Value::Null);

        // A shorter overlap shortens the one before; a longer one does not lengthen it.
        let third = line(&database, &["key", "rotate", &second, "--overlap", "1s"]);
        let fourth = line(&database, &["key", "rotate", &third, "--overlap", "1h"]);
        within_a_second(&gateway, &fourth, 200).await;
        tokio::time::sleep(Duration::from_millis(1200)).await;
        for key in [&first, &second] {
            let (told, message) = within_a_second(&gateway, key, 401).await;
            assert_eq!(told, "UNAUTHENTICATED");
            assert!(message.starts_with("This key was rotated and its old secret ended at 20"), "{message}");
            assert!(message.ends_with("Z. Use the new one."), "{message}");
        }
        for key in [&third, &fourth] {
            within_a_second(&gateway, key, 200).await;
        }
        assert_eq!(listed(&database, &fourth)["state"], "rotating");

        // None at all.
        let rotated = tollgate(&database, &["key", "rotate", &fourth, "--overlap", "0s", "--format", "json"]).ok();
        let rotated: Value = serde_json::from_str(&rotated).unwrap();
        assert_eq!(rotated["id"], id(&first));
        let fifth = rotated["key"].as_str().unwrap();
        for key in [&third, &fourth] {
            within_a_second(&gateway, key, 401).await;
        }
        within_a_second(&gateway, fifth, 200).await;
        let row = listed(&database, fifth);
        assert_eq!((&row["state"], row["secrets"].as_array().unwrap().len()), (&json!("active"), 1));
        // All of its secrets go with the key.
        let sixth = line(&database, &["key", "rotate", fifth]);
        tollgate(&database, &["key", "revoke", &sixth]).ok();
        for key in [fifth, &sixth] {
            assert_eq!(within_a_second(&gateway, key, 401).await.1, "This key was revoked. Ask for a new one.");
        }
        gateway.stop().await;
    }

    async fn a_key_never_has_more_than_ten_good_secrets(database: Database) {
        let gateway = Gateway::start(&database).await;
        let partner = gateway.partner("Ada", "wide", &[]).await;
        let rotate = async |overlap: u64| {
            let db = gateway.running.db();
            let now = gateway.running.app.clock.now();
            let mut transaction = db.begin().await?;
            let rng = &mut StdRng::from_os_rng();
            let key = admin::rotate_key(&mut transaction, &partner.key_id, Duration::from_secs(overlap), now, rng).await?;
            transaction.commit().await?;
            anyhow::Ok(key)
        };
        // At once: each must count what the others added.
        let rotated = futures_util::future::join_all((0..14).map(|_| rotate(3600))).await;
        let (done, refused): (Vec<_>, Vec<_>) = rotated.into_iter().partition(Result::is_ok);
        assert_eq!((done.len(), refused.len()), (9, 5));
        for refusal in refused {
            let refusal = refusal.err().unwrap().to_string();
            assert!(refusal.contains("has 10 secrets that are still good: rotate it with an overlap of 0s"), "{refusal}");
        }
        assert_eq!(database.number("select count(*) from api_key_secret where ends_at is null").await, 1);
        rotate(0).await.unwrap();
        assert_eq!(database.number("select count(*) from api_key_secret where ends_at is null").await, 1);
        rotate(3600).await.unwrap();
        assert_eq!(database.number("select count(*) from api_key_secret").await, 12);
        // Ended ones are told so for 90 days, then forgotten.
        let mut connection = database.connect().await;
        sqlx::query("update api_key_secret set ends_at = $1 where ends_at is not null")
            .bind(gateway.running.app.clock.now().0 - 91 * 86_400_000_000)
            .execute(&mut connection)
            .await
            .unwrap();
        rotate(3600).await.unwrap();
        assert_eq!(database.number("select count(*) from api_key_secret").await, 2);
        gateway.stop().await;
    }

    async fn a_restricted_key_is_good_from_its_addresses_alone(database: Database) {
        let gateway = Gateway::start_with(&database, |settings| {
            settings.server.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
        })
        .await;
        gateway.partner("Ada", "wide", &[]).await;
        let inside = line(&database, &["key", "issue", "Ada", "--address", "10.0.0.0/8", "--address", "2001:db8::/32"]);
        let (told, message) = within_a_second(&gateway, &inside, 403).await;
        assert_eq!(told, "FORBIDDEN");
        assert_eq!(message, "This key may not be used from 127.0.0.1. Ask your provider to allow that address.");
        for forwarded in ["10.255.0.1", "::ffff:10.0.0.1", "2001:db8::7", "192.0.2.1, 10.0.0.1"] {
            assert_eq!(ask(&gateway, &inside, Some(forwarded)).await.0, 200, "{forwarded}");
        }
        for (forwarded, address) in [("11.0.0.1", "11.0.0.1"), ("10.0.0.1, 11.0.0.1", "11.0.0.1"), ("::ffff:11.0.0.1", "11.0.0.1"), ("2001:db9::7", "2001:db9::7")] {
            let (status, _, message) = ask(&gateway, &inside, Some(forwarded)).await;
            assert_eq!(status, 403);
            assert!(message.contains(&format!("may not be used from {address}.")), "{message}");
        }
        assert_eq!(listed(&database, &inside)["lastUsedAt"], Value::Null);
        let here = line(&database, &["key", "issue", "Ada", "--address", "127.0.0.1"]);
        within_a_second(&gateway, &here, 200).await;
        assert_eq!(ask(&gateway, &here, Some("10.0.0.1")).await.0, 403);
        gateway.stop().await;
    }

    async fn suspension_and_revocation_take_effect_within_a_second(database: Database) {
        let gateway = Gateway::start(&database).await;
        gateway.partner("Ada", "wide", &[]).await;
        let key = line(&database, &["key", "issue", "Ada"]);
        let other = line(&database, &["key", "issue", "Ada"]);
        within_a_second(&gateway, &key, 200).await;
        assert_eq!(line(&database, &["key", "suspend", &key]), format!("{} is suspended", id(&key)));
        let (told, message) = within_a_second(&gateway, &key, 403).await;
        assert_eq!((told, message.as_str()), (json!("FORBIDDEN"), "This key is suspended. Ask your provider."));
        assert_eq!(listed(&database, &key)["state"], "suspended");
        assert_eq!(ask(&gateway, &other, None).await.0, 200, "one key, not its partner");
        assert_eq!(line(&database, &["key", "resume", &id(&key)]), format!("{} is active", id(&key)));
        within_a_second(&gateway, &key, 200).await;
        assert_eq!(listed(&database, &key)["state"], "active");
        tollgate(&database, &["key", "revoke", &key]).ok();
        assert_eq!(within_a_second(&gateway, &key, 401).await.1, "This key was revoked. Ask for a new one.");
        let row = listed(&database, &key);
        assert_eq!(row["state"], "revoked");
        // Again: it stays as it is.
        tollgate(&database, &["key", "revoke", &key]).ok();
        assert_eq!(listed(&database, &key)["revokedAt"], row["revokedAt"]);
        gateway.stop().await;
    }

    async fn last_use_is_written_in_batches_and_at_a_clean_stop(database: Database) {
        let gateway = Gateway::start_with(&database, |settings| settings.gate.last_used_every = Duration::from_millis(50)).await;
        gateway.partner("Ada", "wide", &[]).await;
        let (key, idle) = (line(&database, &["key", "issue", "Ada"]), line(&database, &["key", "issue", "Ada"]));
        assert_eq!(listed(&database, &key)["lastUsedAt"], Value::Null);
        assert!(tollgate(&database, &["key", "list"]).ok().contains("never"));
        let version = database.number("select version from control").await;
        let before = gateway.running.app.clock.now();
        within_a_second(&gateway, &key, 200).await;
        let begun = Instant::now();
        let used = loop {
            if let Some(used) = listed(&database, &key)["lastUsedAt"].as_str() {
                break used.to_owned();
            }
            assert!(begun.elapsed() < Duration::from_secs(5));
        };
        let at: jiff::Timestamp = used.parse().unwrap();
        assert!(at.as_microsecond() + 1000 >= before.0 && at.as_microsecond() <= gateway.running.app.clock.now().0);
        assert_eq!(listed(&database, &idle)["lastUsedAt"], Value::Null);
        assert_eq!(database.number("select version from control").await, version, "no gateway reads everything anew for it");
        gateway.stop().await;

        // The last requests are written at the stop; what was seen before the control plane changed is not forgotten.
        let gateway = Gateway::start_with(&database, |settings| settings.gate.last_used_every = Duration::from_secs(3600)).await;
        assert_eq!(ask(&gateway, &key, None).await.0, 200);
        tollgate(&database, &["key", "issue", "Ada"]).ok();
        gateway.running.app.directory.refresh().await.unwrap();
        assert_eq!(listed(&database, &key)["lastUsedAt"], json!(used));
        gateway.stop().await;
        let row = listed(&database, &key);
        let later: jiff::Timestamp = row["lastUsedAt"].as_str().unwrap().parse().unwrap();
        assert!(later > at, "{row}");

        // Another gateway may have seen it later.
        let gateway = Gateway::start(&database).await;
        assert_eq!(ask(&gateway, &key, None).await.0, 200);
        let mut connection = database.connect().await;
        let far = 32_503_680_000_000_000_i64;
        sqlx::query("update api_key set last_used_at = $1 where id = $2").bind(far).bind(id(&key)).execute(&mut connection).await.unwrap();
        gateway.stop().await;
        let row = sqlx::query("select last_used_at from api_key where id = $1").bind(id(&key)).fetch_one(&mut connection).await.unwrap();
        assert_eq!(row.try_get::<i64, _>(0).unwrap(), far);
    }

    async fn more_uses_than_one_statement_holds_are_written(database: Database) {
        let gateway = Gateway::start(&database).await;
        let partner = gateway.partner("Ada", "wide", &[]).await;
        let (db, now) = (gateway.running.db(), gateway.running.app.clock.now());
        let mut transaction = db.begin().await.unwrap();
        let owner = key_store::api_key_by_id(&mut transaction, &partner.key_id).await.unwrap().unwrap().partner;
        let mut used: Vec<(KeyId, Micros)> = Vec::new();
        for n in 0..1201 {
            let key = admin::issue_key(&mut transaction, &owner, KeyTerms::default(), now, &mut StdRng::seed_from_u64(n)).await.unwrap();
            used.push((key.id, Micros(now.0 + i64::try_from(n).unwrap())));
        }
        key_store::set_last_used(&mut transaction, db.dialect(), &used).await.unwrap();
        // Half of them earlier: those stay.
        let again: Vec<_> = used.iter().enumerate().map(|(n, (id, at))| (id.clone(), Micros(at.0 + if n % 2 == 0 { 5 } else { -5 }))).collect();
        key_store::set_last_used(&mut transaction, db.dialect(), &again).await.unwrap();
        transaction.commit().await.unwrap();
        let keys = key_store::api_keys(&mut db.snapshot().await.unwrap()).await.unwrap();
        for (n, (id, at)) in used.iter().enumerate() {
            let stored = keys.iter().find(|key| key.id == *id).unwrap();
            assert_eq!(stored.last_used_at, Some(Micros(at.0 + if n % 2 == 0 { 5 } else { 0 })));
        }
        gateway.stop().await;
    }

    async fn bad_input_is_refused_in_one_sentence_and_changes_nothing(database: Database) {
        let gateway = Gateway::start(&database).await;
        let partner = gateway.partner("Ada", "wide", &[]).await;
        let key = line(&database, &["key", "issue", "Ada"]);
        let revoked = line(&database, &["key", "issue", "Ada"]);
        tollgate(&database, &["key", "revoke", &revoked]).ok();
        // Issued a while ago, as the clock has it.
        let past = Micros(gateway.running.app.clock.now().0 - 60_000_000);
        let mut transaction = gateway.running.db().begin().await.unwrap();
        let owner = key_store::api_key_by_id(&mut transaction, &partner.key_id).await.unwrap().unwrap().partner;
        let terms = KeyTerms { expires_at: Some(past.plus(Duration::from_secs(1))), ..KeyTerms::default() };
        let expired = admin::issue_key(&mut transaction, &owner, terms, past, &mut StdRng::from_os_rng()).await.unwrap().text;
        transaction.commit().await.unwrap();
        let before = control_plane(&database).await;
        let (key, revoked, expired) = (id(&key), id(&revoked), id(&expired));
        let cut_off = &partner.key[..partner.key.len() - 1];
        let bare = &partner.key["tg_live_".len()..];
        for (arguments, words) in [
            (&["issue", "Eve"][..], "there is no partner \"Eve\""),
            (&["issue", "Ada", "--product", "gold"], "\"gold\" is no product: known are inventory, pricing"),
            (&["issue", "Ada", "--product", ""], "\"\" is no product"),
            (&["issue", "Ada", "--address", "here"], "\"here\" is no address: write for example 203.0.113.9"),
            (&["issue", "Ada", "--address", "10.0.0.0/33"], "\"10.0.0.0/33\" is no address"),
            (&["issue", "Ada", "--address", "10.0.0.0/8", "--address", "a\nb"], "\"a\\nb\" is no address"),
            (&["issue", "Ada", "--address", "10.1.2.3/8"], "write 10.0.0.0/8 for the network, or 10.1.2.3 for the one address"),
            (&["issue", "Ada", "--units-per-second", "5"], "--units-per-second goes with --burst: give both, or none"),
            (&["issue", "Ada", "--burst", "5"], "--burst goes with --units-per-second: give both, or none"),
            (&["issue", "Ada", "--units-per-second", "0", "--burst", "1"], "0 units a second is impossible: give 1 to 100000"),
            (&["issue", "Ada", "--units-per-second", "100001", "--burst", "1"], "give 1 to 100000"),
            (&["issue", "Ada", "--units-per-second", "1", "--burst", "0"], "burst of 0 units is impossible: give 1 to 1000000"),
            (&["issue", "Ada", "--units-per-second", "1", "--burst", "1000001"], "give 1 to 1000000"),
            (&["issue", "Ada", "--quota", "0"], "quota of 0 units is impossible"),
            (&["issue", "Ada", "--mode", "test", "--quota", "5"], "a test key uses no quota: leave its quota out"),
            (&["issue", "Ada", "--expires", "soon"], "\"soon\" is no date"),
            (&["issue", "Ada", "--expires", "2020-01-31"], "would be of no use: give an instant in the future"),
            (&["issue", "Ada", "--expires", "2999-01-31T12:00:00"], "has no time zone"),
            (&["rotate", "abc"], "there is no key \"abc\": see tollgate key list"),
            (&["rotate", &key, "--overlap", "soon"], "\"soon\" is no duration: write for example 24h, 30m or 0s"),
            (&["rotate", &key, "--overlap", "31 days"], "an overlap lasts 30 days at most: give a shorter one, such as 24h"),
            (&["rotate", &revoked], "was revoked at 20"),
            (&["rotate", &expired], "expired at 20"),
            (&["suspend", "abc"], "there is no key \"abc\""),
            (&["suspend", &revoked], "stays so: issue a new one"),
            (&["suspend", &expired], "stays so: issue a new one"),
            (&["resume", "abc"], "there is no key \"abc\""),
            (&["revoke", "abc"], "there is no key \"abc\""),
            (&["list", "--partner", "Eve"], "there is no partner \"Eve\""),
            (&["rotate", cut_off], "neither a key's id nor all of a key"),
            (&["suspend", bare], "neither a key's id nor all of a key"),
            (&["resume", ""], "neither a key's id nor all of a key"),
            (&["revoke", cut_off], "neither a key's id nor all of a key"),
        ] {
            let failed = tollgate(&database, &[&["key"], arguments].concat()).failed();
            assert!(failed.contains(words), "{arguments:?}: {failed}");
            assert!(!failed.contains(&bare[10..30]), "a secret is not repeated: {failed}");
        }
        for arguments in [
            &["issue"][..],
            &["issue", "Ada", "--mode", "fast"],
            &["issue", "Ada", "--quota", "ten"],
            &["issue", "Ada", "--burst", "99999999999"],
            &["rotate"],
            &["suspend"],
            &["resume"],
        ] {
            let ran = tollgate(&database, &[&["key"], arguments].concat());
            assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{arguments:?}");
        }
        assert_eq!(control_plane(&database).await, before);
        gateway.stop().await;
    }
}
