//! Tokens that were forged, bent or borrowed: each is 401, and none says why to whoever does not hold a real one.

use std::time::Duration;

use jsonwebtoken::crypto::sign;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};
use tollgate::clock::Micros;
use tollgate::operator::{Issuer, Role, Untrusted};

use crate::support::{Answer, Database, Gateway, Kind};

const PATH: &str = "/exports/invoices?period=2001-01&format=csv";
const FOREIGN: &str = "This token is not one of ours, or not for operators. Get one with: tollgate operator token --role finance";

/// RFC 4648, section 5, without padding.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits: String = bytes.iter().map(|byte| format!("{byte:08b}")).collect();
    let letters = bits.as_bytes().chunks(6).map(|bits| {
        let bits = format!("{:0<6}", std::str::from_utf8(bits).unwrap());
        char::from(LETTERS[usize::from_str_radix(&bits, 2).unwrap()])
    });
    letters.collect()
}

fn header() -> Value {
    json!({ "typ": "tollgate-operator+jwt", "alg": "HS256" })
}

fn claims(now: Micros) -> Value {
    let now = now.0 / 1_000_000;
    json!({ "iss": "tollgate", "aud": "tollgate-operator", "sub": "local", "jti": "tok_1", "role": "admin", "iat": now, "nbf": now, "exp": now + 600 })
}

fn with(of: &Value, name: &str, value: Value) -> Value {
    let mut changed = of.clone();
    changed[name] = value;
    changed
}

fn without(of: &Value, name: &str) -> Value {
    let mut changed = of.clone();
    changed.as_object_mut().unwrap().remove(name);
    changed
}

/// Signed with `key`, whatever the header says.
fn signed(header: &str, claims: &str, key: &[u8], algorithm: Algorithm) -> String {
    let message = format!("{}.{}", base64(header.as_bytes()), base64(claims.as_bytes()));
    let signature = sign(message.as_bytes(), &EncodingKey::from_secret(key), algorithm).unwrap();
    format!("{message}.{signature}")
}

fn key(database: &Database) -> Vec<u8> {
    let text = std::fs::read_to_string(database.data_dir().join("operator.key")).unwrap();
    (0..32).map(|place| u8::from_str_radix(&text[2 * place..2 * place + 2], 16).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_token_is_401() {
    let database = Database::new(Kind::Sqlite).await;
    let gateway = Gateway::start(&database).await;
    let now = gateway.running.app.clock.now();
    let (key, header, claims) = (key(&database), header(), claims(now));
    let hs = |header: &Value, claims: &Value| signed(&header.to_string(), &claims.to_string(), &key, Algorithm::HS256);
    let good = hs(&header, &claims);
    let parts: Vec<&str> = good.split('.').collect();
    let raw = |header: &Value, signature: &str| format!("{}.{}.{signature}", base64(header.to_string().as_bytes()), parts[1]);
    let foreign = |key: &[u8]| signed(&header.to_string(), &claims.to_string(), key, Algorithm::HS256);
    let seconds = now.0 / 1_000_000;
    let huge = format!("{}{}", claims.to_string().trim_end_matches('}'), format_args!(",\"x\":\"{}\"}}", "x".repeat(5000)));
    let doubled = format!("{}{}", claims.to_string().trim_end_matches('}'), ",\"role\":\"admin\"}");
    let forged = [
        ("alg none", raw(&with(&header, "alg", json!("none")), "")),
        ("alg None, signature kept", raw(&with(&header, "alg", json!("None")), parts[2])),
        ("no alg", raw(&without(&header, "alg"), parts[2])),
        ("no signature", format!("{}.{}.", parts[0], parts[1])),
        ("signature of another token", format!("{}.{}.{}", parts[0], parts[1], foreign(&[7; 32]).rsplit('.').next().unwrap())),
        ("another key", foreign(&[7; 32])),
        ("an empty key", foreign(b"")),
        (
            "the key's text as key",
            foreign(std::fs::read_to_string(database.data_dir().join("operator.key")).unwrap().trim().as_bytes()),
        ),
        ("HS384", signed(&with(&header, "alg", json!("HS384")).to_string(), &claims.to_string(), &key, Algorithm::HS384)),
        ("HS512", signed(&with(&header, "alg", json!("HS512")).to_string(), &claims.to_string(), &key, Algorithm::HS512)),
        ("says HS512, is HS256", hs(&with(&header, "alg", json!("HS512")), &claims)),
        ("says EdDSA, is HS256", hs(&with(&header, "alg", json!("EdDSA")), &claims)),
        ("says RS256, is HS256", hs(&with(&header, "alg", json!("RS256")), &claims)),
        ("says ES256, is HS256", hs(&with(&header, "alg", json!("ES256")), &claims)),
        ("no typ", hs(&without(&header, "typ"), &claims)),
        ("typ JWT", hs(&with(&header, "typ", json!("JWT")), &claims)),
        ("typ at+jwt", hs(&with(&header, "typ", json!("at+jwt")), &claims)),
        ("something critical", hs(&with(&header, "crit", json!(["exp"])), &claims)),
        ("no exp", hs(&header, &without(&claims, "exp"))),
        ("no nbf", hs(&header, &without(&claims, "nbf"))),
        ("no iss", hs(&header, &without(&claims, "iss"))),
        ("no aud", hs(&header, &without(&claims, "aud"))),
        ("no sub", hs(&header, &without(&claims, "sub"))),
        ("no jti", hs(&header, &without(&claims, "jti"))),
        ("no role", hs(&header, &without(&claims, "role"))),
        ("null exp", hs(&header, &with(&claims, "exp", Value::Null))),
        ("exp as text", hs(&header, &with(&claims, "exp", json!("9999999999")))),
        ("exp as float", hs(&header, &with(&claims, "exp", json!(1e300)))),
        ("exp past all numbers", hs(&header, &with(&claims, "exp", json!(u64::MAX)))),
        ("another iss", hs(&header, &with(&claims, "iss", json!("https://evil.example")))),
        ("iss in a list", hs(&header, &with(&claims, "iss", json!(["tollgate"])))),
        ("another aud", hs(&header, &with(&claims, "aud", json!("tollgate-partner")))),
        ("aud in a list", hs(&header, &with(&claims, "aud", json!(["tollgate-operator", "x"])))),
        ("an unknown role", hs(&header, &with(&claims, "role", json!("owner")))),
        ("a role in another case", hs(&header, &with(&claims, "role", json!("Admin")))),
        ("roles in a list", hs(&header, &with(&claims, "role", json!(["admin"])))),
        ("a claim twice", signed(&header.to_string(), &doubled, &key, Algorithm::HS256)),
        ("claims that are none", signed(&header.to_string(), "[]", &key, Algorithm::HS256)),
        ("claims that are no JSON", signed(&header.to_string(), "{", &key, Algorithm::HS256)),
        ("too long", signed(&header.to_string(), &huge, &key, Algorithm::HS256)),
        ("kid that is a path", raw(&with(&header, "kid", json!("../../../../dev/null")), parts[2])),
        (
            "kid of an empty file, signed with nothing",
            signed(&with(&header, "kid", json!("/dev/null")).to_string(), &claims.to_string(), b"", Algorithm::HS256),
        ),
        (
            "kid that is SQL",
            signed(&with(&header, "kid", json!("x' union select 'k")).to_string(), &claims.to_string(), b"k", Algorithm::HS256),
        ),
        (
            "its own key in jwk",
            signed(
                &with(&header, "jwk", json!({ "kty": "oct", "k": base64(b"k") })).to_string(),
                &claims.to_string(),
                b"k",
                Algorithm::HS256,
            ),
        ),
        (
            "its own key behind jku",
            signed(
                &with(&header, "jku", json!("http://127.0.0.1:9/jwks")).to_string(),
                &claims.to_string(),
                b"k",
                Algorithm::HS256,
            ),
        ),
        (
            "its own key behind x5u",
            signed(&with(&header, "x5u", json!("http://127.0.0.1:9/x")).to_string(), &claims.to_string(), b"k", Algorithm::HS256),
        ),
        (
            "another payload under the signature",
            format!("{}.{}.{}", parts[0], base64(with(&claims, "exp", json!(seconds + 9_999)).to_string().as_bytes()), parts[2]),
        ),
        ("two parts", format!("{}.{}", parts[0], parts[1])),
        ("four parts", format!("{good}.x")),
        ("five parts, as if encrypted", format!("{}.a.b.c.d", parts[0])),
        ("padding", format!("{}=.{}.{}", parts[0], parts[1], parts[2])),
        ("dots", "..".to_owned()),
        ("garbage", "§$%&".replace('§', "x")),
    ];
    for (what, token) in &forged {
        let answer = fetch(&gateway, token).await;
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer")), "{what}: {answer:?}");
        assert_eq!(answer.json()["detail"], FOREIGN, "{what}");
    }
    // The same makings, unbent, open: so each of the above failed by what it says.
    assert_eq!(fetch(&gateway, &good).await.status, 404);
    assert_eq!(fetch(&gateway, &hs(&with(&header, "kid", json!("ignored")), &claims)).await.status, 404);

    for (what, claims, words) in [
        ("ended", with(&with(&claims, "nbf", json!(seconds - 100)), "exp", json!(seconds - 60)), "This token ended at "),
        ("not begun", with(&claims, "nbf", json!(seconds + 60)), "This token begins at "),
        ("exp 0", with(&claims, "exp", json!(0)), "This token ended at 1970-01-01T00:00:00.000Z"),
        ("nbf at the end of time", with(&claims, "nbf", json!(i64::MAX)), "This token begins at "),
    ] {
        let answer = fetch(&gateway, &hs(&header, &claims)).await;
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer")), "{what}: {answer:?}");
        assert!(answer.json()["detail"].as_str().unwrap().starts_with(words), "{what}: {answer:?}");
    }
    gateway.stop().await;
}

async fn fetch(gateway: &Gateway, token: &str) -> Answer {
    let url = format!("http://{}{PATH}", gateway.running.operator_address);
    Answer::of(gateway.http.get(url).bearer_auth(token).send().await.unwrap()).await
}

#[test]
fn a_token_is_good_from_its_beginning_to_its_end_by_the_clock_that_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let mut rng = rand::rng();
    let issuer = Issuer::open(folder.path(), &mut rng).unwrap();
    // A day in 1999, and one in 2500: the machine's clock has no say.
    for day in [930_000_000_000_000, 16_730_000_000_000_000] {
        let token = issuer.issue(Role::Finance, Duration::from_secs(60), Micros(day), &mut rng).unwrap();
        let at = |seconds: i64| issuer.verify(&token, Micros(day + seconds * 1_000_000));
        let operator = at(0).unwrap();
        assert_eq!((operator.role, operator.subject.as_str()), (Role::Finance, "local"));
        assert!(operator.token.as_str().starts_with("tok_"));
        assert!(at(59).is_ok() && at(64).is_ok() && at(-5).is_ok(), "5 s of leeway");
        assert_eq!(at(65), Err(Untrusted::Expired(Micros(day + 60_000_000))));
        assert_eq!(at(-6), Err(Untrusted::Early(Micros(day))));
    }
    let other = tempfile::tempdir().unwrap();
    let other = Issuer::open(other.path(), &mut rng).unwrap();
    let token = other.issue(Role::Admin, Duration::from_secs(60), Micros(0), &mut rng).unwrap();
    assert_eq!(issuer.verify(&token, Micros(0)), Err(Untrusted::Foreign), "each data folder has a key of its own");
}
