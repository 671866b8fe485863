//! Who may fetch what: each role at each endpoint, and the token command.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::routing::get;
use tollgate::app::App;
use tollgate::operator::{Admin, Finance, Issuer, Role, Viewer};
use tower::ServiceExt;

use crate::support::{Answer, Database, Gateway, Kind, on_both_databases, tollgate};

const ENDPOINTS: [&str; 2] = ["/exports/invoices?period=2001-01&format=csv", "/exports/revenue?period=2001-01&format=json"];

async fn fetch(gateway: &Gateway, path: &str, token: Option<&str>) -> Answer {
    let url = format!("http://{}{path}", gateway.running.operator_address);
    let request = gateway.http.get(url);
    let request = token.into_iter().fold(request, |request, token| request.bearer_auth(token));
    Answer::of(request.send().await.unwrap()).await
}

on_both_databases! {
    async fn finance_and_admin_may_export_and_nobody_else(database: Database) {
        let gateway = Gateway::start(&database).await;
        let partner = gateway.partner("P", "wide", &[]).await;
        for (role, status) in [("admin", 404), ("finance", 404), ("viewer", 403)] {
            let token = tollgate(&database, &["operator", "token", "--role", role]).ok();
            assert_eq!(token.lines().count(), 1, "the token alone: {token}");
            for path in ENDPOINTS {
                let answer = fetch(&gateway, path, Some(token.trim())).await;
                // 404: it was let in, and that month has nothing.
                assert_eq!(answer.status, status, "{role} {path} {answer:?}");
                assert_eq!(answer.header("content-type"), Some("application/problem+json"));
                assert_eq!(answer.header("www-authenticate"), None);
                if status == 403 {
                    assert_eq!(answer.json()["detail"], "This takes the role finance, and your token has the role viewer.");
                    assert_eq!(answer.json()["code"], "FORBIDDEN");
                }
            }
        }
        for token in [None, Some(""), Some("x"), Some(partner.key.as_str())] {
            for path in ENDPOINTS {
                let answer = fetch(&gateway, path, token).await;
                assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer")), "{token:?} {path}");
                assert_eq!(answer.json()["code"], "UNAUTHENTICATED");
            }
        }
        // Another scheme, and more than one word.
        for value in ["Basic YTpi", "Bearer", "bearer  ", "Bearer a b"] {
            let url = format!("http://{}{}", gateway.running.operator_address, ENDPOINTS[0]);
            let answer = gateway.http.get(url).header("authorization", value).send().await.unwrap();
            assert_eq!(answer.status(), 401, "{value}");
        }
        // What needs no token needs none.
        assert_eq!(fetch(&gateway, "/healthz", None).await.status, 200);
        gateway.stop().await;
    }

    /// The token's time is the database's with its shift, not the machine's.
    async fn a_token_lives_by_the_databases_time(database: Database) {
        let gateway = Gateway::start_with(&database, |settings| {
            settings.database.clock_shift = jiff::SignedDuration::from_hours(24 * 35);
        }).await;
        let today = tollgate(&database, &["operator", "token", "--role", "finance", "--ttl", "24h"]).ok();
        let answer = fetch(&gateway, ENDPOINTS[0], Some(today.trim())).await;
        assert_eq!(answer.status, 401);
        assert!(answer.json()["detail"].as_str().unwrap().starts_with("This token ended at "), "{answer:?}");
        let config = database.file("shifted.toml", "[database]\nclock_shift = \"35 days\"\n");
        let then = tollgate(&database, &["--config", config.to_str().unwrap(), "operator", "token", "--role", "finance", "--ttl", "30s"]).ok();
        assert_eq!(fetch(&gateway, ENDPOINTS[0], Some(then.trim())).await.status, 404);
        gateway.stop().await;
        let gateway = Gateway::start(&database).await;
        let answer = fetch(&gateway, ENDPOINTS[0], Some(then.trim())).await;
        assert_eq!(answer.status, 401);
        assert!(answer.json()["detail"].as_str().unwrap().starts_with("This token begins at "), "{answer:?}");
        assert_eq!(fetch(&gateway, ENDPOINTS[0], Some(today.trim())).await.status, 404);
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_extractor_lets_in_whom_it_names_and_those_above() {
    let database = Database::new(Kind::Sqlite).await;
    let gateway = Gateway::start(&database).await;
    let app: Arc<App> = gateway.running.app.clone();
    let router = Router::new()
        .route("/admin", get(|Admin(who): Admin| async move { who.role.to_string() }))
        .route("/finance", get(|Finance(who): Finance| async move { who.role.to_string() }))
        .route("/viewer", get(|Viewer(who): Viewer| async move { who.role.to_string() }))
        .with_state(app.clone());
    let issuer = Issuer::open(&database.data_dir(), &mut rand::rng()).unwrap();
    let mut seen = Vec::new();
    for role in [Role::Admin, Role::Finance, Role::Viewer] {
        let token = issuer.issue(role, Duration::from_secs(60), app.clock.now(), &mut rand::rng()).unwrap();
        for path in ["/admin", "/finance", "/viewer"] {
            let request = Request::get(path).header("authorization", format!("Bearer {token}")).body(Body::empty()).unwrap();
            let status = router.clone().oneshot(request).await.unwrap().status().as_u16();
            seen.push((role.to_string(), path, status));
        }
    }
    let statuses: Vec<u16> = seen.iter().map(|(_, _, status)| *status).collect();
    assert_eq!(statuses, [200, 200, 200, 403, 200, 200, 403, 403, 200], "{seen:?}");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_refuses_what_no_token_may_have() {
    let database = Database::new(Kind::Sqlite).await;
    for (ttl, words) in [
        ("25h", "a token's ttl must be 1s to 24h, not 1day 1h"),
        ("0s", "a token's ttl must be 1s to 24h, not 0s"),
        ("soon", "\"soon\" is no duration"),
        ("999999999999 years", "is no duration"),
    ] {
        let told = tollgate(&database, &["operator", "token", "--role", "finance", "--ttl", ttl]).failed();
        assert!(told.contains(words), "{ttl} gave {told}");
    }
    assert_eq!(tollgate(&database, &["operator", "token", "--role", "owner"]).code, 2);
    assert_eq!(tollgate(&database, &["operator", "token"]).code, 2);
    let token = tollgate(&database, &["operator", "token", "--role", "viewer", "--ttl", "24h"]).ok();
    let key = database.data_dir().join("operator.key");
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&key), mode(&database.data_dir())), (0o600, 0o700));
    let kept = std::fs::read_to_string(&key).unwrap();
    assert!(!token.contains(kept.trim()));
    tollgate(&database, &["operator", "token", "--role", "viewer"]).ok();
    assert_eq!(std::fs::read_to_string(&key).unwrap(), kept, "made once");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let told = tollgate(&database, &["operator", "token", "--role", "viewer"]).failed();
    assert!(told.contains("may be read by others"), "{told}");
}
