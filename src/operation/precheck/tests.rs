//! The bounds at their limits and past them, and the documents that made them necessary.

use super::*;

const LIFTED: Bounds = Bounds {
    bytes_max: usize::MAX,
    tokens_max: usize::MAX,
    nesting_max: usize::MAX,
    aliases_max: usize::MAX,
    root_fields_max: usize::MAX,
    definitions_max: usize::MAX,
    directives_max: usize::MAX,
    expanded_selections_max: u64::MAX,
    comparisons_max: u64::MAX,
};

fn check(document: &str) -> Result<(), Refusal> {
    precheck(document, &Bounds::default())
}

/// `F0` spreads `F1` so many times, and so on to the last, which selects `leaf`.
fn chain(length: usize, spreads: usize, leaf: &str) -> String {
    let fragment = |at: usize| {
        let next = format!("...F{} ", at + 1).repeat(spreads);
        format!("fragment F{at} on T{{{next}}}")
    };
    let links: String = (0..length).map(fragment).collect();
    format!("{{...F0}}{links}fragment F{length} on T{{{leaf}}}")
}

#[test]
fn a_legit_query_passes_bounds_of_just_its_size() {
    let document = r#"
            # What a page asks for: "{[(
            query Page($id: ID! = "a{", $tags: [String!] = ["x"], $in: In = {a: {b: 1}}) @live {
              home: team(id: $id, in: {tags: $tags, at: [-1.5e+3], note: """ }}" \""" """}) {
                ...Team @include(if: true)
                ... on Club { founded, stadium(unit: METRIC) { seats } }
                ... @skip(if: false) { query fragment on: mutation }
              }
              ...Root
              ... { status }
            }
            fragment Root on Query { version region }
            fragment Team on Team { name players(first: 10) { name } }
        "#;
    let size = Bounds {
        bytes_max: document.len(),
        tokens_max: 136,
        nesting_max: 4,
        aliases_max: 2,
        root_fields_max: 4,
        definitions_max: 3,
        directives_max: 3,
        expanded_selections_max: 13,
        comparisons_max: 112,
    };
    assert_eq!(check(document), Ok(()));
    assert_eq!(precheck(document, &size), Ok(()));
    let tighten: [fn(&mut Bounds); 9] = [
        |size| size.bytes_max -= 1,
        |size| size.tokens_max -= 1,
        |size| size.nesting_max -= 1,
        |size| size.aliases_max -= 1,
        |size| size.root_fields_max -= 1,
        |size| size.definitions_max -= 1,
        |size| size.directives_max -= 1,
        |size| size.expanded_selections_max -= 1,
        |size| size.comparisons_max -= 1,
    ];
    for (at, tighten) in tighten.iter().enumerate() {
        let mut tighter = size;
        tighten(&mut tighter);
        assert!(precheck(document, &tighter).is_err(), "{at}");
    }
}

/// `document(limit)` passes and `document(limit + 1)` does not, for the reason that `says` has.
fn edge(limit: usize, says: &str, document: impl Fn(usize) -> String) {
    assert_eq!(check(&document(limit)), Ok(()), "{says}");
    let refusal = check(&document(limit + 1)).unwrap_err().to_string();
    assert!(refusal.contains(says), "{refusal}");
    assert!(refusal.contains(&limit.to_string()), "{refusal}");
}

#[test]
fn each_bound_holds_at_its_limit_and_not_past_it() {
    let a = |times: usize| "a ".repeat(times);
    let long = |n| format!("{{a}}{}", " ".repeat(n - 3));
    let tokens = |n| format!("{{a(b:[{}])}}", "1 ".repeat(n - 9));
    let nested = |n| "{a".repeat(n) + &"}".repeat(n);
    let aliases = |n| format!("{{a{{{}}}}}", "a:b ".repeat(n));
    let directives = |n| format!("query($a:A@d){{a{}}}", "@d".repeat(n - 1));
    let defined = |n| "{a}fragment F on T{a}".repeat(n / 2) + &"{a}".repeat(n % 2);
    let root = |n| format!("{{{}...F}}fragment F on T{{a ...{{b}}}}", a(n - 2));
    let fragment = format!("fragment F on T{{{}}}", a(1_000));
    let spread = |n| format!("{{a{{...F ...F ...F ...F {}}}}}{fragment}", a(n - 4_001));
    edge(16_384, "16385 bytes", long);
    edge(4_000, "4001 tokens", tokens);
    edge(32, "are open at line 1", nested);
    edge(100, "101 aliases", aliases);
    edge(50, "51 directives", directives);
    edge(50, "51 operations and fragments", defined);
    edge(50, "51 fields at the root", root);
    edge(5_000, "5001 fields in one", spread);
    // One for `q`, 36 for the inline fragments, and nine for each `a` in the nine sets that merge it.
    let merged = |n| format!("{{q{{{}{}{} {}}}}}", "...{".repeat(8), a((n - 37) / 9), "}".repeat(8), a((n - 37) % 9));
    edge(30_000, "30001 comparisons", merged);
}

#[test]
fn deep_values_are_refused() {
    for document in [
        format!("{{a(b:{}{})}}", "[".repeat(1_700), "]".repeat(1_700)),
        format!("{{a(b:{}1{})}}", "{a:".repeat(1_300), "}".repeat(1_300)),
        format!("query($a:{}A{}){{a}}", "[".repeat(1_300), "]".repeat(1_300)),
        "{a".to_owned() + &"(b:[{} )".repeat(40),
        "\u{e9} ] } ) ;".to_owned() + &"[".repeat(33),
    ] {
        let refusal = check(&document).unwrap_err();
        assert!(matches!(refusal, Refusal::NestedTooDeep { .. }), "{refusal}");
    }
}

#[test]
fn fragments_that_multiply_are_refused() {
    let found = |document: &str| match check(document) {
        Err(Refusal::ExpandsTooFar { found, .. }) => Some(found),
        _ => None,
    };
    assert_eq!(found(&chain(12, 2, "a")), None);
    assert_eq!(found(&chain(40, 2, "a")), Some(1 << 40));
    assert_eq!(found(&chain(40, 2, "...Unknown")), Some(1 << 40));
    assert_eq!(found(&chain(40, 4, "...{a}")), Some(u64::MAX));
    // No operation spreads them, and the keyword runs into the names.
    let unused = chain(40, 2, "a").replace("{...F0}", "{a}");
    let joined = unused.replace("fragment ", "fragment");
    assert_eq!(found(&joined), Some(1 << 40));
    let many = "a ".repeat(1_000);
    // The name that follows each `on` is behind a comment, so `on` is a fragment's name.
    let on = "...on#\nb ".repeat(5);
    let on = format!("{{{on}}}fragment on on T{{{many}}}");
    assert_eq!(found(&on), Some(5_005));
    // Neither of two fragments of one name hides the other.
    let spread = "{...F ...F ...F ...F ...F}";
    let (one, other) = ("fragment F on T{a}", format!("fragment F on T{{{many}}}"));
    assert_eq!(found(&format!("{spread}{one}{other}")), Some(5_005));
    assert_eq!(found(&format!("{spread}{other}{one}")), Some(5_005));
}

/// The comparisons that a document takes, if it takes any.
fn comparisons(document: &str) -> u64 {
    match precheck(document, &Bounds { comparisons_max: 0, ..LIFTED }) {
        Err(Refusal::TooManyComparisons { found, allowed: 0 }) => found,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_merged_into_several_sets_counts_in_each() {
    assert_eq!(comparisons("{a b:a}"), 2);
    assert_eq!(comparisons("{a{b c}}"), 1 + 2);
    assert_eq!(comparisons("{...{a}}"), 2 + 1);
    assert_eq!(comparisons("{...on T@d{...{a{b}}}c}"), 4 + 2 + 1 + 1);
    assert_eq!(comparisons("{...F ...Unknown}fragment F on T{a b}"), 4 + 2);
    assert_eq!(comparisons("{...{...F}}fragment F on T{a}"), 3 + 2 + 1);
    assert_eq!(comparisons("{a{...F}b{...F}}fragment F on T{...{a{...G}}}fragment G on T{a}"), 2 + 3 + 3 + 2 + 1 + 2 + 1);
    assert_eq!(comparisons("{a}{a}fragment F on T{a}fragment F on T{a}"), 4);
    let spread = |fragments: &str| comparisons(&format!("{{...F}}{fragments}"));
    assert_eq!(spread("fragment F on T{...G ...G}fragment G on T{a}"), 5 + 4 + 1);
    assert_eq!(spread("fragment G on T{a}fragment F on T{...G ...G}"), 5 + 4 + 1);
    // The last fragment merges one selection, and each before it two spreads and what they bring.
    assert_eq!(comparisons(&chain(40, 2, "a")), (0..=40).map(|n| (3 << n) - 2).sum::<u64>() + (3 << 40) - 1);
    assert_eq!(comparisons(&chain(100, 2, "a")), u64::MAX);
}

#[test]
fn all_fields_count_as_the_one_with_the_largest_arguments() {
    assert_eq!(comparisons("{a(b:1)a a(b:2,d:{e:[1],f:G})}"), 3 * 3);
    assert_eq!(comparisons("query($a:A,$b:B,$c:C){a @d(a:1,b:2){b}}"), 2 * 3);
    assert_eq!(comparisons("query @d(a:1,b:2){a}"), 1);
    assert_eq!(comparisons("{a}fragment F on T{a}fragment G on T{a{b(c:1)}}"), 4 * 2);
    let lists = |ones: usize| format!("{{a(b:[{}])a}}", "1 ".repeat(ones));
    assert_eq!([11, 12, 28].map(|ones| comparisons(&lists(ones))), [2 * 2, 2 * (2 + 1), 2 * (2 + 2)]);
    let name = |length: usize| "x".repeat(length);
    assert_eq!(comparisons(&format!("{{a {}}}", name(127))), 2);
    assert_eq!(comparisons(&format!("{{a {}}}", name(128))), 2 * 2);
    assert_eq!(comparisons(&format!("{{a {}:a}}", name(256))), 2 * 3);
    assert_eq!(comparisons(&format!("{{a a({}:1)}}", name(255))), 2 * 2 * 3);
    let arguments = |times: usize| comparisons(&format!("{{a({})}}", "b:1 ".repeat(times)));
    assert_eq!([126, 127].map(arguments), [127 + 378 / 16, 128 * 2 + 381 / 16]);
}

#[test]
fn fields_that_do_not_merge_are_refused_before_each_set_reports_them() {
    let nested = |depth: usize, arguments: usize, fields: usize| {
        let (inner, arguments) = ("a ".repeat(fields), "b:1 ".repeat(arguments));
        format!("{{q{{{}a({arguments}){inner}{}}}}}", "...{".repeat(depth), "}".repeat(depth))
    };
    let spread = |times: usize, arguments: usize, fields: usize| {
        let (inner, arguments) = ("a ".repeat(fields), "b:1 ".repeat(arguments));
        format!("{{q{{{}}}}}fragment F on T{{a({arguments}){inner}}}", "n{...F}".repeat(times))
    };
    let refused = |document: &str| matches!(check(document), Err(Refusal::TooManyComparisons { .. }));
    for depth in [0, 4, 25] {
        assert!(refused(&nested(depth, 600, 1_900)), "{depth}");
        assert!(!refused(&nested(depth, 5, 20)), "{depth}");
    }
    assert!(!refused(&nested(0, 20, 1_000)));
    assert!(refused(&nested(4, 20, 1_000)));
    assert!(!refused(&spread(10, 10, 100)));
    assert!(refused(&spread(40, 10, 100)));
    let refusal = check(&nested(25, 600, 1_900)).unwrap_err().to_string();
    assert!(
        refusal.ends_with(
            "where 30000 are allowed: pass fewer arguments, spread fragments less often, or nest inline fragments less deeply."
        ),
        "{refusal}"
    );
}

#[test]
fn many_ordinary_products_pass_with_room() {
    let products = |fields: &str| {
        let product = |at| format!("p{at}:product(id:{at},unit:EUR,at:\"now\",first:10){{{fields}}}");
        format!("{{shop{{{}}}}}", (0..100).map(product).collect::<String>())
    };
    let field = |at| format!("field{at}(id:1,unit:EUR,at:\"now\",first:10)");
    let fragment = format!("fragment F on Product{{{}}}", (0..10).map(field).collect::<String>());
    let plain = products("a b c d e f g h i j");
    let spread = products("...F") + &fragment;
    let inline = products("...on Product{...F}") + &fragment;
    for document in [plain, spread, inline] {
        assert_eq!(check(&document), Ok(()));
        assert!(comparisons(&document) < Bounds::default().comparisons_max / 2);
    }
}

#[test]
fn circles_are_refused_and_long_chains_are_not() {
    let circle = |document: &str| match precheck(document, &LIFTED) {
        Err(Refusal::FragmentCycle { name }) => name,
        other => panic!("{other:?}"),
    };
    let through = "{a}fragment A on T{...B}fragment B on T{a ...on T{...A}}";
    let aside = "{a}fragment A on T{...B}fragment B on T{b ...B}";
    assert_eq!(circle("{...A}fragment A on T{a{...A}}"), "A");
    assert_eq!(circle(through), "A");
    assert_eq!(circle(aside), "B");
    assert_eq!(circle(&chain(10_000, 1, "...F7")), "F7");
    assert_eq!(precheck(&chain(10_000, 1, "a"), &LIFTED), Ok(()));
}

#[test]
fn brackets_count_unless_the_parser_sees_text() {
    let deep = "[{(".repeat(20);
    let nests = |[before, after]: [&str; 2]| {
        let refusal = check(&format!("{{a(b:{before}{deep}{after})}}"));
        matches!(refusal, Err(Refusal::NestedTooDeep { .. }))
    };
    let (block, escaped) = (r#"""""#, r#"\""""#);
    assert!(!nests(["\"", "\""]));
    assert!(!nests([r#""\" \\\""#, "\""]));
    assert!(!nests([r#""\u0022"#, r#"\\""#]));
    let before = format!("{block} \" \"\" {escaped}");
    assert!(!nests([&before, &format!("{escaped}{block}")]));
    assert!(!nests(["#\"", "\n"]));
    assert!(!nests(["\u{feff}# \"\"\" \u{2028}", "\r"]));
    assert!(nests(["#\"\r", "#\""]));
    assert!(nests([r#""\\""#, r#""\\""#]));
    assert!(nests([r##""#""##, ""]));
    assert!(nests([r#""" "#, r#" """#]));
    assert!(nests([&format!("{block}{block}"), "#\""]));
    assert!(nests([&format!("{block}\\{escaped}{block}"), ""]));
    for open in ["'", "'a\\'", "'''a' ", "'''a\\'''", "'''''", "'a\\\n'"] {
        let open = open.replace('\'', "\"");
        let refusal = check(&format!("{{a\n(b:{open}\n{deep}"));
        assert_eq!(refusal, Err(Refusal::Unterminated { line: 2 }), "{open}");
    }
}

#[test]
fn only_a_selection_has_aliases_and_fields() {
    let counts = |document: &str| {
        let bounds = |aliases_max, root_fields_max| Bounds { aliases_max, root_fields_max, ..LIFTED };
        let passes = |bounds: Bounds| precheck(document, &bounds).is_ok();
        let aliases = (0..9).find(|max| passes(bounds(*max, 9)));
        let root_fields = (0..9).find(|max| passes(bounds(9, *max)));
        (aliases.unwrap(), root_fields.unwrap())
    };
    let values = "query($a:A={b:1,c:[{d:2}]}){a(b:{c:1},d:[{e:$a}])@f(g:{h:1}){i}}";
    let keywords = "{on:on fragment : query{query:a(b:1)...on T@d(e:{f:1}){g:h}}}";
    let inlined = "{...on T@d(e:{f:1}){a ...@d{b:c d{e}}}}";
    assert_eq!(counts(values), (0, 1));
    assert_eq!(counts(keywords), (4, 2));
    assert_eq!(counts(inlined), (1, 3));
}

#[test]
fn no_text_makes_it_panic() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    eprintln!("seed {state:#x}");
    let mut below = |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % bound as u64).unwrap()
    };
    let parts = "{ } [ ] ( ) \" \"\"\" \\ # \n \r ... . : @ on a fragment A \
                     fragment\tA\ton\tT ...A query 9 -1e+ \u{feff} \u{fe00} \u{e9} $ = \0";
    let parts: Vec<&str> = parts.split(' ').chain([" "]).collect();
    for _ in 0..50_000 {
        let text: String = (0..below(60)).map(|_| parts[below(parts.len())]).collect();
        let bytes: Vec<u8> = (0..below(60)).map(|_| below(256) as u8).collect();
        for document in [&*text, &*String::from_utf8_lossy(&bytes)] {
            let _ = check(document);
            let _ = precheck(document, &LIFTED);
        }
    }
}
