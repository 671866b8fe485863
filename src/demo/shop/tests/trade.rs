//! Stock, prices and journeys, each read again from the events alone, in the plainest way there is.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};

use super::super::pricing::PROMOTIONS_MAX;
use super::{TICKS, events, moments, shop, start, text};

#[test]
fn stock_folded_from_the_events_never_goes_below_zero() {
    for seed in [1, 2, 3] {
        let mut shelves: BTreeMap<(String, String), (i64, i64)> = BTreeMap::new();
        let mut adjusted = HashMap::new();
        let (mut sold_out, mut undone) = (0, 0);
        for event in events(&mut shop(seed), TICKS) {
            let data = &event["data"];
            let shelf = || (text(data, "sku").to_owned(), text(data, "location").to_owned());
            let (shelf, on_hand, reserved) = match text(&event, "type") {
                "inventory.counted" => {
                    let count = (data["onHand"].as_i64().unwrap(), data["reserved"].as_i64().unwrap());
                    shelves.insert(shelf(), count);
                    (shelf(), count.0, count.1)
                }
                "inventory.adjusted" => {
                    let delta = data["delta"].as_i64().unwrap();
                    assert_eq!(delta < 0, text(data, "reason") == "sale", "{event}");
                    assert!(delta >= -9, "a sale, not a clearance: {event}");
                    let place = shelves.get_mut(&shelf()).expect("counted before");
                    place.0 += delta;
                    adjusted.insert(text(&event, "id").to_owned(), (shelf(), delta, text(&event, "subject").to_owned()));
                    (shelf(), place.0, place.1)
                }
                "event.compensated" => {
                    let (shelf, delta, subject) = adjusted.remove(text(data, "compensates")).expect("undone once");
                    assert_eq!(subject, text(&event, "subject"));
                    undone += 1;
                    let place = shelves.get_mut(&shelf).unwrap();
                    place.0 -= delta;
                    (shelf, place.0, place.1)
                }
                _ => continue,
            };
            assert!(0 <= reserved && reserved <= on_hand, "{shelf:?}: {on_hand}, {reserved} reserved, after {event}");
            assert!(on_hand < 500, "{shelf:?} overflows: {on_hand}");
            sold_out += usize::from(on_hand == reserved);
        }
        assert!(undone > 50 && sold_out > 100, "{undone} undone, {sold_out} sold out");
    }
}

/// Cents of a decimal with exactly two places.
fn cents(amount: &str) -> u64 {
    let (whole, part) = amount.split_once('.').unwrap();
    assert!(part.len() == 2 && !whole.is_empty(), "{amount}");
    assert!(format!("{whole}{part}").bytes().all(|digit| digit.is_ascii_digit()), "{amount}");
    whole.parse::<u64>().unwrap() * 100 + part.parse::<u64>().unwrap()
}

#[test]
fn prices_are_exact_decimals_and_promotions_end() {
    let mut prices: BTreeMap<(String, String), (u64, Option<u64>)> = BTreeMap::new();
    let mut restored = 0;
    for event in events(&mut shop(31), TICKS) {
        let data = &event["data"];
        if text(&event, "type") != "price.set" {
            continue;
        }
        let amount = cents(text(data, "amount"));
        let list = data["listAmount"].as_str().map(cents);
        assert!(amount > 0 && list.is_none_or(|list| amount < list), "{event}");
        let franc = text(data, "market") == "CH";
        assert_eq!(text(data, "currency"), if franc { "CHF" } else { "EUR" });
        assert_eq!(amount % 10, if franc { 5 } else { 9 }, "{event}");
        let key = (text(data, "sku").to_owned(), text(data, "market").to_owned());
        let before = prices.insert(key, (amount, list));
        assert_ne!(before, Some((amount, list)), "nothing moved: {event}");
        if let Some((_, Some(old_list))) = before {
            assert_eq!((amount, list), (old_list, None), "{event}");
            restored += 1;
        }
    }
    let running = prices.values().filter(|(_, list)| list.is_some()).count();
    assert!(restored > 100 && running <= PROMOTIONS_MAX, "{restored} ended, {running} run");
}

#[test]
fn journeys_make_sense_and_each_purchase_brings_its_sale() {
    let mut shop = shop(41);
    shop.opening(start());
    let mut carts: HashMap<String, BTreeMap<String, bool>> = HashMap::new();
    let mut visitors: HashMap<String, String> = HashMap::new();
    let mut actions = BTreeMap::new();
    for now in moments().take(TICKS) {
        let events = shop.tick(now);
        for (at, event) in events.iter().enumerate() {
            if text(event, "type") != "journey.recorded" {
                continue;
            }
            let data = &event["data"];
            let (session, action) = (text(data, "session"), text(data, "action"));
            *actions.entry(action.to_owned()).or_insert(0) += 1;
            let visitor = visitors.entry(session.to_owned()).or_insert_with(|| text(data, "visitor").to_owned());
            assert_eq!(visitor, text(data, "visitor"), "one session, one visitor");
            assert!(!text(&data["dimensions"], "platform").is_empty());
            assert!(!text(&data["dimensions"], "channel").is_empty());
            assert_eq!(data["value"].is_string(), action == "purchase", "{event}");
            assert_eq!(data["sku"].is_string(), !["search", "checkout"].contains(&action), "{event}");
            assert_eq!(data["sku"].is_string(), data["brand"].is_string(), "{event}");
            let cart = carts.entry(session.to_owned()).or_default();
            match action {
                "add_to_cart" => _ = cart.insert(text(data, "sku").to_owned(), true),
                "remove_from_cart" => {
                    assert_eq!(cart.remove(text(data, "sku")), Some(true), "{event}")
                }
                "checkout" => assert!(!cart.is_empty()),
                "purchase" => {
                    assert_eq!(cart.remove(text(data, "sku")), Some(true), "{event}");
                    assert!(cents(text(data, "value")) > 0);
                    let sale = &events[at + 1];
                    assert_eq!(text(sale, "subject"), text(data, "sku"));
                    assert_eq!(text(&sale["data"], "reason"), "sale");
                    assert_ne!(text(&sale["data"], "location"), "ZRH-1", "euros only");
                }
                "view" | "search" => {}
                other => panic!("an action of its own: {other}"),
            }
        }
    }
    assert_eq!(actions.len(), 6, "{actions:?}");
    assert!(actions["purchase"] > 500 && actions["checkout"] > actions["purchase"] / 2, "{actions:?}");
    let everyone: HashSet<&String> = visitors.values().collect();
    assert!(everyone.len() < visitors.len() && everyone.len() > 1_000, "some return");
}

#[test]
fn one_who_is_silent_for_long_does_not_come_back_to_the_session() {
    let mut shop = shop(81);
    let mut last: HashMap<String, Timestamp> = HashMap::new();
    for step in 0..2_000 {
        let now = start() + SignedDuration::from_mins(step);
        for event in shop.tick(now) {
            if let Some(session) = event["data"]["session"].as_str() {
                let before = last.insert(session.to_owned(), now).unwrap_or(now);
                assert!(now.duration_since(before) <= SignedDuration::from_mins(30));
            }
        }
    }
}
