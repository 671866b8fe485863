//! The check that a GraphQL document passes before any parser sees it.
//!
//! The parser behind the gate calls itself once for each open bracket, and some of its visitors walk
//! a fragment once for each way that leads to it: a few kilobytes of text are enough to overflow its
//! stack, or to keep it busy for minutes. So the text is measured first, by code that nothing in the
//! text can make recurse, in time linear in its length.
//!
//! What [`precheck`] promises of a document that it lets pass:
//!
//! - Its brackets nest no deeper than the bound, whether or not it is GraphQL.
//! - If the parser accepts it, then it is within every other bound too, and no fragment spreads
//!   itself.
//!
//! It does not promise that the document is GraphQL: saying what is wrong, and where, is the parser's
//! business. The one mistake that it refuses itself is a string that does not end, since there
//! lexers do not agree on where the text goes on.
//!
//! Where the parser (async-graphql-parser 7, a PEG without a lexer) sees other brackets, definitions
//! or selections than the specification does, this file follows the parser.

use std::collections::HashMap;
use std::fmt;

/// What one document may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of text, comments and white space included.
    pub bytes_max: usize,
    /// Names, numbers, strings and punctuators, divided as the specification has it: the parser
    /// takes `00` and `truetrue` for two values each, which is left to [`Self::bytes_max`].
    pub tokens_max: usize,
    /// Brackets open at the same time, `{`, `[` and `(` together.
    pub nesting_max: usize,
    /// Fields with an alias, as written: a fragment's count once, however often it is spread.
    pub aliases_max: usize,
    /// Fields at the root of any one operation, those of fragments included.
    pub root_fields_max: usize,
    /// Operations and fragments.
    pub definitions_max: usize,
    /// Directives, as written.
    pub directives_max: usize,
    /// Fields of any one operation or fragment, once what it spreads is put in its place.
    pub expanded_selections_max: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            bytes_max: 16 * 1024,
            tokens_max: 4_000,
            nesting_max: 32,
            aliases_max: 100,
            root_fields_max: 50,
            definitions_max: 50,
            directives_max: 50,
            expanded_selections_max: 5_000,
        }
    }
}

/// Why a document is refused; its `Display` is one sentence that whoever sent it may read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Past [`Bounds::bytes_max`].
    TooLong { found: usize, allowed: usize },
    /// Past [`Bounds::tokens_max`].
    TooManyTokens { found: usize, allowed: usize },
    /// Past [`Bounds::nesting_max`], first at this line (from 1).
    NestedTooDeep { line: usize, allowed: usize },
    /// Past [`Bounds::aliases_max`].
    TooManyAliases { found: usize, allowed: usize },
    /// Past [`Bounds::root_fields_max`].
    TooManyRootFields { found: usize, allowed: usize },
    /// Past [`Bounds::definitions_max`].
    TooManyDefinitions { found: usize, allowed: usize },
    /// Past [`Bounds::directives_max`].
    TooManyDirectives { found: usize, allowed: usize },
    /// Past [`Bounds::expanded_selections_max`]; `found` stops at the largest number there is.
    ExpandsTooFar { found: u64, allowed: u64 },
    /// This fragment spreads itself, directly or through others.
    FragmentCycle { name: String },
    /// The string that starts at this line (from 1) does not end.
    Unterminated { line: usize },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let split = "ask for less, or in several requests";
        let unused = "leave out what is not used";
        let rarer = "spread fragments less often";
        let defined = "operations and fragments";
        let roots = "fields at the root of one operation";
        let expanded = "fields in one operation or fragment, with what it spreads,";
        match self {
            Self::TooLong { found, allowed } => over(f, found, "bytes", allowed, split),
            Self::TooManyTokens { found, allowed } => over(f, found, "tokens", allowed, split),
            Self::TooManyAliases { found, allowed } => over(f, found, "aliases", allowed, split),
            Self::TooManyRootFields { found, allowed } => over(f, found, roots, allowed, split),
            Self::TooManyDefinitions { found, allowed } => over(f, found, defined, allowed, unused),
            Self::TooManyDirectives { found, allowed } => over(f, found, "directives", allowed, split),
            Self::ExpandsTooFar { found, allowed } => over(f, found, expanded, allowed, rarer),
            Self::NestedTooDeep { line, allowed } => {
                write!(f, "More than {allowed} brackets are open at line {line}: nest fields and values less deeply.")
            }
            Self::FragmentCycle { name } => {
                write!(f, "The fragment `{name:.80}` spreads itself, directly or through others: break the circle.")
            }
            Self::Unterminated { line } => {
                write!(f, "The string that starts at line {line} does not end: close it with the quotes that open it.")
            }
        }
    }
}

fn over<N: fmt::Display>(f: &mut fmt::Formatter<'_>, found: N, what: &str, allowed: N, mend: &str) -> fmt::Result {
    write!(f, "The document has {found} {what} where {allowed} are allowed: {mend}.")
}

impl std::error::Error for Refusal {}

/// Refuses a document that it would be unsafe, or too dear, to parse.
///
/// # Errors
///
/// The first bound found to be passed, a circle of fragments, or a string that does not end.
pub fn precheck(document: &str, bounds: &Bounds) -> Result<(), Refusal> {
    if document.len() > bounds.bytes_max {
        return Err(Refusal::TooLong { found: document.len(), allowed: bounds.bytes_max });
    }
    let tokens = lex(document)?;
    let mut scan = Scan { document, tokens: &tokens, ..Scan::default() };
    scan.run(bounds.nesting_max)?;

    let (found, allowed) = (tokens.len(), bounds.tokens_max);
    if found > allowed {
        return Err(Refusal::TooManyTokens { found, allowed });
    }
    let (found, allowed) = (scan.definitions, bounds.definitions_max);
    if found > allowed {
        return Err(Refusal::TooManyDefinitions { found, allowed });
    }
    let (found, allowed) = (scan.directives, bounds.directives_max);
    if found > allowed {
        return Err(Refusal::TooManyDirectives { found, allowed });
    }
    let (found, allowed) = (scan.aliases, bounds.aliases_max);
    if found > allowed {
        return Err(Refusal::TooManyAliases { found, allowed });
    }

    scan.graph.expand()?;
    let definitions = &scan.graph.definitions;
    for definition in definitions {
        let (found, allowed) = (definition.selections, bounds.expanded_selections_max);
        if found > allowed {
            return Err(Refusal::ExpandsTooFar { found, allowed });
        }
    }
    for operation in definitions.iter().filter(|it| it.is_operation) {
        let (found, allowed) = (operation.root_fields, bounds.root_fields_max);
        if found > allowed {
            return Err(Refusal::TooManyRootFields { found, allowed });
        }
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind<'a> {
    Name(&'a str),
    Open(u8),
    Close(u8),
    Spread,
    Colon,
    At,
    /// Strings, numbers, the other punctuators, and each byte that cannot start a token.
    Other,
}

struct Token<'a> {
    kind: Kind<'a>,
    start: usize,
    end: usize,
}

fn lex(document: &str) -> Result<Vec<Token<'_>>, Refusal> {
    let bytes = document.as_bytes();
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let start = at;
        at += 1;
        let kind = match byte {
            b' ' | b'\t' | b'\n' | b'\r' | b',' => continue,
            0xEF if bytes[start..].starts_with("\u{feff}".as_bytes()) => {
                at += 2;
                continue;
            }
            b'#' => {
                at += run(&bytes[at..], |byte| !matches!(byte, b'\n' | b'\r'));
                continue;
            }
            b'A'..=b'Z' | b'a'..=b'z' | b'_' => {
                at += run(&bytes[at..], is_name);
                Kind::Name(&document[start..at])
            }
            b'-' | b'0'..=b'9' => {
                // What makes no number is taken along: it has no bracket and no quote in it.
                at += run(&bytes[at..], |byte| is_name(byte) || byte == b'.');
                if matches!(bytes[at - 1], b'e' | b'E') && matches!(bytes.get(at), Some(b'+' | b'-')) {
                    at += 1;
                    at += run(&bytes[at..], is_name);
                }
                Kind::Other
            }
            b'"' => {
                let Some(end) = string_end(bytes, start) else {
                    let line = line(document, start);
                    return Err(Refusal::Unterminated { line });
                };
                at = end;
                Kind::Other
            }
            b'.' if bytes[start..].starts_with(b"...") => {
                at += 2;
                Kind::Spread
            }
            b'{' | b'[' | b'(' => Kind::Open(byte),
            b'}' | b']' | b')' => Kind::Close(byte),
            b':' => Kind::Colon,
            b'@' => Kind::At,
            _ => Kind::Other,
        };
        let end = at;
        tokens.push(Token { kind, start, end });
    }
    Ok(tokens)
}

fn run(bytes: &[u8], belongs: impl Fn(u8) -> bool) -> usize {
    bytes.iter().take_while(|&&byte| belongs(byte)).count()
}

/// The end of the string whose first quote is at `start`.
///
/// `None` matters most for block strings: where `"""` is never closed, the parser falls back to an
/// empty string, and goes on with what the specification takes for the text of the block.
fn string_end(bytes: &[u8], start: usize) -> Option<usize> {
    const BLOCK: &[u8] = b"\"\"\"";
    if bytes[start..].starts_with(BLOCK) {
        let mut at = start + BLOCK.len();
        while !bytes[at..].starts_with(BLOCK) {
            let escaped = bytes[at..].starts_with(b"\\\"\"\"");
            at += if escaped { 4 } else { 1 };
            if at >= bytes.len() {
                return None;
            }
        }
        return Some(at + BLOCK.len());
    }
    let mut at = start + 1;
    loop {
        match (*bytes.get(at)?, bytes.get(at + 1)) {
            (b'"', _) => return Some(at + 1),
            (b'\n' | b'\r', _) => return None,
            (b'\\', Some(b'"' | b'\\')) => at += 2,
            _ => at += 1,
        }
    }
}

fn line(document: &str, at: usize) -> usize {
    let before = document.bytes().take(at);
    1 + before.filter(|&byte| byte == b'\n').count()
}

/// What an open bracket holds.
#[derive(Clone, Copy)]
enum Inside {
    /// `at_root`: its fields are those of the operation or fragment itself.
    Selections { at_root: bool },
    /// Arguments, variables, lists, objects: nothing in them is a field.
    Values,
}

/// One walk over the tokens, which counts what is written and collects what is spread where.
#[derive(Default)]
struct Scan<'a, 't> {
    document: &'a str,
    tokens: &'t [Token<'a>],
    at: usize,
    open: Vec<(u8, Inside)>,
    /// The definition that the walk is in, in `graph.definitions`.
    current: Option<usize>,
    /// The selection in hand is an inline fragment: the next `{` opens no field's selections.
    inline: bool,
    definitions: usize,
    directives: usize,
    aliases: usize,
    graph: Graph<'a>,
}

impl<'a, 't> Scan<'a, 't> {
    fn run(&mut self, nesting_max: usize) -> Result<(), Refusal> {
        while let Some(token) = self.tokens.get(self.at) {
            self.at += 1;
            let inside = self.open.last().map(|&(_, inside)| inside);
            match (token.kind, inside) {
                (Kind::Open(_), _) if self.open.len() >= nesting_max => {
                    let (line, allowed) = (line(self.document, token.start), nesting_max);
                    return Err(Refusal::NestedTooDeep { line, allowed });
                }
                (Kind::Open(bracket), _) => self.open(bracket, inside),
                (Kind::Close(bracket), _) => self.close(bracket),
                (Kind::At, _) => {
                    self.directives += 1;
                    self.take_name();
                }
                (Kind::Name(name), None) if self.current.is_none() => self.define(name),
                (Kind::Name(_), Some(Inside::Selections { at_root })) => self.field(at_root),
                (Kind::Spread, Some(Inside::Selections { at_root })) => self.spread(at_root),
                _ => {}
            }
        }
        Ok(())
    }

    fn take_name(&mut self) -> Option<&'a str> {
        let Kind::Name(name) = self.tokens.get(self.at)?.kind else {
            return None;
        };
        self.at += 1;
        Some(name)
    }

    fn definition(&mut self) -> Option<&mut Definition<'a>> {
        self.graph.definitions.get_mut(self.current?)
    }

    fn open(&mut self, bracket: u8, inside: Option<Inside>) {
        let inside = match (bracket, inside) {
            (b'{', None) => {
                if self.current.is_none() {
                    self.define("query");
                }
                Inside::Selections { at_root: true }
            }
            (b'{', Some(Inside::Selections { at_root })) => Inside::Selections { at_root: at_root && self.inline },
            _ => Inside::Values,
        };
        self.open.push((bracket, inside));
    }

    /// A bracket that closes nothing leaves all open, so that no mistake makes the nesting look
    /// shallower than it is.
    fn close(&mut self, bracket: u8) {
        let opened = match bracket {
            b'}' => b'{',
            b']' => b'[',
            _ => b'(',
        };
        let Some((_, inside)) = self.open.pop_if(|(open, _)| *open == opened) else {
            return;
        };
        if self.open.is_empty() && matches!(inside, Inside::Selections { .. }) {
            self.current = None;
        }
    }

    /// To the parser `fragmentA on T` is the fragment `A`: it wants no space after the keyword.
    fn define(&mut self, keyword: &'a str) {
        self.definitions += 1;
        let name = match keyword.strip_prefix("fragment") {
            Some("") => Some(self.take_name().unwrap_or_default()),
            rest => rest,
        };
        self.current = Some(self.graph.define(name));
    }

    fn field(&mut self, at_root: bool) {
        let next = self.tokens.get(self.at).map(|token| token.kind);
        if next == Some(Kind::Colon) {
            // The field's own name follows, and is counted when it comes.
            self.at += 1;
            self.aliases += 1;
            return;
        }
        self.inline = false;
        if let Some(definition) = self.definition() {
            definition.selections += 1;
            definition.root_fields += usize::from(at_root);
        }
    }

    fn spread(&mut self, at_root: bool) {
        if self.is_type_condition() {
            self.at += 2;
            self.inline = true;
            return;
        }
        let name = self.take_name();
        self.inline = name.is_none();
        if let (Some(name), Some(definition)) = (name, self.definition()) {
            definition.spreads.push(Spread { name, at_root });
        }
    }

    /// To the parser `on` is a fragment's name unless a name follows it after white space that has
    /// no comment in it.
    fn is_type_condition(&self) -> bool {
        let [on, of, ..] = &self.tokens[self.at..] else {
            return false;
        };
        let between = &self.document.as_bytes()[on.end..of.start];
        on.kind == Kind::Name("on") && matches!(of.kind, Kind::Name(_)) && !between.is_empty() && !between.contains(&b'#')
    }
}

struct Spread<'a> {
    name: &'a str,
    at_root: bool,
}

#[derive(Default)]
struct Definition<'a> {
    is_operation: bool,
    selections: u64,
    root_fields: usize,
    spreads: Vec<Spread<'a>>,
    walked: Walked,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Walked {
    #[default]
    No,
    /// On the way from where the walk began to where it is.
    OnPath,
    /// Its counts include all that it spreads.
    Done,
}

/// Which definition spreads which fragments.
#[derive(Default)]
struct Graph<'a> {
    definitions: Vec<Definition<'a>>,
    fragments: HashMap<&'a str, usize>,
}

impl<'a> Graph<'a> {
    /// Adds a fragment of that name, or an operation, and says where in `definitions` it is.
    ///
    /// Fragments of the same name are taken together: none of them can then hide behind another.
    fn define(&mut self, fragment: Option<&'a str>) -> usize {
        let next = self.definitions.len();
        let at = fragment.map_or(next, |name| *self.fragments.entry(name).or_insert(next));
        if at == next {
            self.definitions.push(Definition { is_operation: fragment.is_none(), ..Definition::default() });
        }
        at
    }

    /// Adds to each definition what its spreads stand for, looking at each spread once however many
    /// ways lead to it.
    fn expand(&mut self) -> Result<(), Refusal> {
        (0..self.definitions.len()).try_for_each(|start| self.expand_one(start))
    }

    fn expand_one(&mut self, start: usize) -> Result<(), Refusal> {
        if self.definitions[start].walked == Walked::Done {
            return Ok(());
        }
        let mut path = vec![(start, 0)];
        while let Some((at, next)) = path.last_mut() {
            let Some(&Spread { name, at_root }) = self.definitions[*at].spreads.get(*next) else {
                self.definitions[*at].walked = Walked::Done;
                path.pop();
                continue;
            };
            self.definitions[*at].walked = Walked::OnPath;
            // An unknown fragment counts for one: if it counted for nothing, then so would a chain of
            // fragments that ends in unknown ones, and walking along it takes as long as ever.
            let (mut selections, mut root_fields) = (1, 0);
            if let Some(&to) = self.fragments.get(name) {
                let fragment = &self.definitions[to];
                match fragment.walked {
                    Walked::Done => {}
                    Walked::No => {
                        path.push((to, 0));
                        continue;
                    }
                    Walked::OnPath => {
                        let name = name.to_owned();
                        return Err(Refusal::FragmentCycle { name });
                    }
                }
                (selections, root_fields) = (fragment.selections, fragment.root_fields);
            }
            *next += 1;
            let definition = &mut self.definitions[*at];
            definition.selections = definition.selections.saturating_add(selections);
            if at_root {
                definition.root_fields = definition.root_fields.saturating_add(root_fields);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
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
        };
        assert_eq!(check(document), Ok(()));
        assert_eq!(precheck(document, &size), Ok(()));
        let tighten: [fn(&mut Bounds); 8] = [
            |size| size.bytes_max -= 1,
            |size| size.tokens_max -= 1,
            |size| size.nesting_max -= 1,
            |size| size.aliases_max -= 1,
            |size| size.root_fields_max -= 1,
            |size| size.definitions_max -= 1,
            |size| size.directives_max -= 1,
            |size| size.expanded_selections_max -= 1,
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
}
