//! The walls of ARCHITECTURE.md, as a test.

use std::fs;
use std::path::{Path, PathBuf};

const LINES_MAX: usize = 500;

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn each(check: impl Fn(&str, &str)) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    sources(&root.join("src"), &mut found);
    sources(&root.join("tests"), &mut found);
    assert!(found.len() > 50);
    for path in found {
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        check(&name, &fs::read_to_string(&path).unwrap());
    }
}

#[test]
fn sql_stands_only_in_store_files() {
    each(|name, text| {
        if name.starts_with("src/") && !name.ends_with("store.rs") && !name.starts_with("src/db/") {
            assert!(!text.contains("sqlx::query"), "{name} holds SQL: move it into a store.rs");
        }
    });
}

#[test]
fn billing_knows_nothing_of_what_stands_behind_it() {
    each(|name, text| {
        if name.starts_with("src/billing/") {
            for wall in ["crate::http", "crate::product", "crate::payment", "crate::gate", "axum"] {
                assert!(!text.contains(wall), "{name} reaches for {wall}");
            }
        }
        if name.starts_with("src/feature/") || name.starts_with("src/projector/") {
            for wall in ["crate::gate", "crate::http", "crate::metering", "crate::billing"] {
                assert!(!text.contains(wall), "{name} reaches for {wall}: dependencies point along the flow");
            }
        }
    });
}

#[test]
fn files_stay_readable() {
    each(|name, text| {
        let lines = text.lines().count();
        assert!(lines <= LINES_MAX, "{name} has {lines} lines: is there a wall missing?");
        assert!(text.starts_with("//!") || text.starts_with("#!"), "{name} does not begin with what it is for");
    });
}
