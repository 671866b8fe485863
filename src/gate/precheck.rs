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
//! Where the parser (async-graphql-parser 7, a PEG without a lexer) strays from the specification,
//! this file follows the parser: what counts is what that one sees.

use std::collections::HashMap;
use std::fmt;

/// What one document may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of text, comments and white space included.
    pub bytes_max: usize,
    /// Tokens: names, numbers, strings and punctuators.
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
    /// Past [`Bounds::tokens_max`]; they are not counted to the end.
    TooManyTokens { allowed: usize },
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
        match self {
            Self::TooLong { found, allowed } => write!(
                f,
                "The document is {found} bytes long and may be {allowed}: ask for less, or in several requests."
            ),
            Self::TooManyTokens { allowed } => write!(
                f,
                "The document has more than {allowed} tokens: ask for less, or in several requests."
            ),
            Self::NestedTooDeep { line, allowed } => write!(
                f,
                "At line {line} more than {allowed} brackets are open at once: nest selections and values less deeply."
            ),
            Self::TooManyAliases { found, allowed } => write!(
                f,
                "The document has {found} aliases and may have {allowed}: ask in several requests."
            ),
            Self::TooManyRootFields { found, allowed } => write!(
                f,
                "An operation has {found} fields at its root and may have {allowed}: ask in several requests."
            ),
            Self::TooManyDefinitions { found, allowed } => write!(
                f,
                "The document has {found} operations and fragments and may have {allowed}: leave out what is not used."
            ),
            Self::TooManyDirectives { found, allowed } => write!(
                f,
                "The document has {found} directives and may have {allowed}: leave some out, or ask in several requests."
            ),
            Self::ExpandsTooFar { found, allowed } => write!(
                f,
                "With its fragments expanded an operation or fragment selects at least {found} fields and may select \
                 {allowed}: spread fragments less often."
            ),
            Self::FragmentCycle { name } => write!(
                f,
                "The fragment `{name:.80}` spreads itself, directly or through others: break the circle."
            ),
            Self::Unterminated { line } => write!(
                f,
                "The string that starts at line {line} does not end: close it with the quotes that it opens with."
            ),
        }
    }
}

impl std::error::Error for Refusal {}

/// Refuses a document that it would be unsafe, or too dear, to parse.
///
/// # Errors
///
/// The first bound found to be passed, a circle of fragments, or a string that does not end.
pub fn precheck(document: &str, bounds: &Bounds) -> Result<(), Refusal> {
    if document.len() > bounds.bytes_max {
        return Err(Refusal::TooLong {
            found: document.len(),
            allowed: bounds.bytes_max,
        });
    }
    let tokens = lex(document, bounds.tokens_max)?;
    let mut scan = Scan::new(document, &tokens);
    scan.run(bounds.nesting_max)?;

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

    let expanded = scan.graph.expand()?;
    let (found, allowed) = (expanded.selections, bounds.expanded_selections_max);
    if found > allowed {
        return Err(Refusal::ExpandsTooFar { found, allowed });
    }
    let (found, allowed) = (expanded.root_fields, bounds.root_fields_max);
    if found > allowed {
        return Err(Refusal::TooManyRootFields { found, allowed });
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

fn lex(document: &str, tokens_max: usize) -> Result<Vec<Token<'_>>, Refusal> {
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
                // Letters and dots that make no number are taken along: the parser stops at them anyway.
                at += run(&bytes[at..], |byte| is_name(byte) || byte == b'.');
                if matches!(bytes[at - 1], b'e' | b'E')
                    && matches!(bytes.get(at), Some(b'+' | b'-'))
                {
                    at += 1;
                    at += run(&bytes[at..], is_name);
                }
                Kind::Other
            }
            b'"' => {
                at = string_end(bytes, start).ok_or_else(|| Refusal::Unterminated {
                    line: line(document, start),
                })?;
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
        if tokens.len() == tokens_max {
            return Err(Refusal::TooManyTokens {
                allowed: tokens_max,
            });
        }
        tokens.push(Token {
            kind,
            start,
            end: at,
        });
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
            at += if bytes[at..].starts_with(b"\\\"\"\"") {
                4
            } else {
                1
            };
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
    1 + document.as_bytes()[..at]
        .iter()
        .filter(|&&byte| byte == b'\n')
        .count()
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
    fn new(document: &'a str, tokens: &'t [Token<'a>]) -> Self {
        Self {
            document,
            tokens,
            at: 0,
            open: Vec::new(),
            current: None,
            inline: false,
            definitions: 0,
            directives: 0,
            aliases: 0,
            graph: Graph::default(),
        }
    }

    fn run(&mut self, nesting_max: usize) -> Result<(), Refusal> {
        while let Some(token) = self.tokens.get(self.at) {
            self.at += 1;
            let inside = self.open.last().map(|&(_, inside)| inside);
            match (token.kind, inside) {
                (Kind::Open(_), _) if self.open.len() >= nesting_max => {
                    let line = line(self.document, token.start);
                    return Err(Refusal::NestedTooDeep {
                        line,
                        allowed: nesting_max,
                    });
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
        match self.tokens.get(self.at)?.kind {
            Kind::Name(name) => {
                self.at += 1;
                Some(name)
            }
            _ => None,
        }
    }

    fn open(&mut self, bracket: u8, inside: Option<Inside>) {
        let inside = match (bracket, inside) {
            (b'{', None) => {
                if self.current.is_none() {
                    self.define("query");
                }
                Inside::Selections { at_root: true }
            }
            (b'{', Some(Inside::Selections { at_root })) => Inside::Selections {
                at_root: at_root && self.inline,
            },
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
        self.current = Some(match keyword.strip_prefix("fragment") {
            None => self.graph.operation(),
            Some("") => {
                let name = self.take_name().unwrap_or_default();
                self.graph.fragment(name)
            }
            Some(name) => self.graph.fragment(name),
        });
    }

    fn field(&mut self, at_root: bool) {
        if self
            .tokens
            .get(self.at)
            .is_some_and(|next| next.kind == Kind::Colon)
        {
            // The field's own name follows, and is counted when it comes.
            self.at += 1;
            self.aliases += 1;
            return;
        }
        self.inline = false;
        if let Some(definition) = self
            .current
            .and_then(|at| self.graph.definitions.get_mut(at))
        {
            definition.selections += 1;
            definition.root_fields += usize::from(at_root);
        }
    }

    fn spread(&mut self, at_root: bool) {
        let condition = self.is_type_condition();
        let name = self.take_name();
        if condition {
            self.take_name();
        }
        self.inline = condition || name.is_none();
        if let (false, Some(name)) = (self.inline, name)
            && let Some(definition) = self
                .current
                .and_then(|at| self.graph.definitions.get_mut(at))
        {
            definition.spreads.push(Spread { name, at_root });
        }
    }

    /// To the parser `on` is a fragment's name unless a name follows it after white space that has
    /// no comment in it.
    fn is_type_condition(&self) -> bool {
        let [on, of, ..] = &self.tokens[self.at..] else {
            return false;
        };
        let between = &self.document[on.end..of.start];
        on.kind == Kind::Name("on")
            && matches!(of.kind, Kind::Name(_))
            && !between.is_empty()
            && !between.contains('#')
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

/// The most that any definition comes to.
#[derive(Default)]
struct Expanded {
    selections: u64,
    root_fields: usize,
}

/// Which definition spreads which fragments.
#[derive(Default)]
struct Graph<'a> {
    definitions: Vec<Definition<'a>>,
    fragments: HashMap<&'a str, usize>,
}

impl<'a> Graph<'a> {
    fn operation(&mut self) -> usize {
        self.definitions.push(Definition {
            is_operation: true,
            ..Definition::default()
        });
        self.definitions.len() - 1
    }

    /// Fragments of the same name are taken together: none of them can then hide behind another.
    fn fragment(&mut self, name: &'a str) -> usize {
        *self.fragments.entry(name).or_insert_with(|| {
            self.definitions.push(Definition::default());
            self.definitions.len() - 1
        })
    }

    /// Adds to each definition what its spreads stand for, looking at each spread once however many
    /// ways lead to it.
    fn expand(&mut self) -> Result<Expanded, Refusal> {
        let mut most = Expanded::default();
        for start in 0..self.definitions.len() {
            self.expand_one(start)?;
            let definition = &self.definitions[start];
            most.selections = most.selections.max(definition.selections);
            if definition.is_operation {
                most.root_fields = most.root_fields.max(definition.root_fields);
            }
        }
        Ok(most)
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
                let spread = &self.definitions[to];
                match spread.walked {
                    Walked::No => {
                        path.push((to, 0));
                        continue;
                    }
                    Walked::OnPath => {
                        return Err(Refusal::FragmentCycle {
                            name: name.to_owned(),
                        });
                    }
                    Walked::Done => {
                        (selections, root_fields) = (spread.selections, spread.root_fields)
                    }
                }
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

    /// Every count of a document, found by asking for the smallest bounds that it passes.
    fn counts(document: &str) -> Bounds {
        let passes = |set: &dyn Fn(&mut Bounds, usize)| {
            let within = |bound: &usize| {
                let mut bounds = LIFTED;
                set(&mut bounds, *bound);
                precheck(document, &bounds).is_ok()
            };
            (0..=10_000).find(within).unwrap()
        };
        Bounds {
            bytes_max: passes(&|bounds, max| bounds.bytes_max = max),
            tokens_max: passes(&|bounds, max| bounds.tokens_max = max),
            nesting_max: passes(&|bounds, max| bounds.nesting_max = max),
            aliases_max: passes(&|bounds, max| bounds.aliases_max = max),
            root_fields_max: passes(&|bounds, max| bounds.root_fields_max = max),
            definitions_max: passes(&|bounds, max| bounds.definitions_max = max),
            directives_max: passes(&|bounds, max| bounds.directives_max = max),
            expanded_selections_max: passes(&|bounds, max| {
                bounds.expanded_selections_max = max as u64;
            }) as u64,
        }
    }

    /// `F0` spreads `F1` so many times, and so on to the last, which selects `leaf`.
    fn chain(length: usize, spreads: usize, leaf: &str) -> String {
        let mut text = String::from("{ ...F0 }");
        for at in 0..length {
            let next = format!("...F{} ", at + 1).repeat(spreads);
            text += &format!("fragment F{at} on T{{{next}}}");
        }
        text + &format!("fragment F{length} on T{{{leaf}}}")
    }

    const LEGIT: &str = r#"
        # What a partner's page asks for: "{[(
        query Page($id: ID! = "a{", $tags: [String!] = ["x", "y"], $in: In = {a: {b: 1}}) @live {
          home: team(id: $id, where: {tags: $tags, near: {lat: -1.5e+3, note: """ }}" \""" """}}) {
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

    #[test]
    fn a_legit_query_is_counted_as_written() {
        assert_eq!(check(LEGIT), Ok(()));
        let expected = Bounds {
            bytes_max: LEGIT.len(),
            tokens_max: 133,
            nesting_max: 4,
            aliases_max: 2,
            root_fields_max: 4,
            definitions_max: 3,
            directives_max: 3,
            expanded_selections_max: 13,
        };
        assert_eq!(counts(LEGIT), expected);
    }

    #[test]
    fn each_bound_holds_at_its_limit_and_not_past_it() {
        let Bounds {
            bytes_max,
            nesting_max,
            aliases_max: aliases,
            ..
        } = Bounds::default();
        let padded = |len: usize| format!("{{a}}{}", " ".repeat(len - 3));
        let tokens = |n: usize| format!("{{a(b:[{}])}}", "1 ".repeat(n - 9));
        let nested = |n: usize| format!("{}a{}", "{a".repeat(n), "}".repeat(n));
        let aliased = |n: usize| format!("{{a{{{}}}}}", "a:b ".repeat(n));
        let roots = |n: usize| {
            format!(
                "{{{}...F}}fragment F on T{{a ...{{b}}}}",
                "a ".repeat(n - 2)
            )
        };
        let defined =
            |n: usize| "query A{a}fragment F on T{a}".repeat(n / 2) + &"{a}".repeat(n % 2);
        let directed = |n: usize| format!("query($a:A@d){{a{}}}", "@d".repeat(n - 1));
        let selected = |n: usize| {
            let rest = n - 1 - 4 * 1_000;
            let fragment = "a ".repeat(1_000);
            format!(
                "{{a{{...F...F...F...F {}}}}}fragment F on T{{{fragment}}}",
                "a ".repeat(rest)
            )
        };
        type Case<'a> = (usize, &'a dyn Fn(usize) -> String, fn(&Refusal) -> bool);
        let cases: [Case; 8] = [
            (bytes_max, &padded, |r| matches!(r, Refusal::TooLong { .. })),
            (4_000, &tokens, |r| {
                matches!(r, Refusal::TooManyTokens { .. })
            }),
            (nesting_max, &nested, |r| {
                matches!(r, Refusal::NestedTooDeep { line: 1, .. })
            }),
            (aliases, &aliased, |r| {
                matches!(r, Refusal::TooManyAliases { found: 101, .. })
            }),
            (50, &roots, |r| {
                matches!(r, Refusal::TooManyRootFields { found: 51, .. })
            }),
            (50, &defined, |r| {
                matches!(r, Refusal::TooManyDefinitions { found: 51, .. })
            }),
            (50, &directed, |r| {
                matches!(r, Refusal::TooManyDirectives { found: 51, .. })
            }),
            (5_000, &selected, |r| {
                matches!(r, Refusal::ExpandsTooFar { found: 5_001, .. })
            }),
        ];
        for (limit, document, is_it) in cases {
            assert_eq!(check(&document(limit)), Ok(()), "{}", document(limit));
            let refusal = check(&document(limit + 1)).unwrap_err();
            assert!(is_it(&refusal), "{refusal:?}");
            assert!(
                refusal.to_string().contains(&limit.to_string()),
                "{refusal}"
            );
        }
    }

    #[test]
    fn nested_values_are_refused() {
        let lists = format!("{{a(b:{}{})}}", "[".repeat(1_700), "]".repeat(1_700));
        let objects = format!("{{a(b:{}1{})}}", "{a:".repeat(1_300), "}".repeat(1_300));
        let types = format!("query($a:{}A{}){{a}}", "[".repeat(1_300), "]".repeat(1_300));
        let unbalanced = "{a".to_owned() + &"(b:[{} )".repeat(40);
        let stray = "\u{e9} ] } ) ;".to_owned() + &"[".repeat(33);
        for document in [lists, objects, types, unbalanced, stray] {
            let refusal = check(&document);
            assert!(
                matches!(refusal, Err(Refusal::NestedTooDeep { .. })),
                "{document}"
            );
        }
    }

    #[test]
    fn fragments_that_double_are_refused() {
        let found = |document: &str| match check(document) {
            Err(Refusal::ExpandsTooFar { found, .. }) => Some(found),
            _ => None,
        };
        assert_eq!(found(&chain(40, 2, "a")), Some(1 << 40));
        assert_eq!(found(&chain(40, 2, "...Unknown")), Some(1 << 40));
        assert_eq!(found(&chain(40, 4, "...{a}")), Some(u64::MAX));
        assert_eq!(found(&chain(12, 2, "a")), None);
        // None of them is spread by an operation, and the keyword runs into the name.
        let unused = chain(40, 2, "a").replace("{ ...F0 }", "{a}");
        assert_eq!(
            found(&unused.replace("fragment ", "fragment")),
            Some(1 << 40)
        );
        // The fragment's name is `on`: no name follows that is not behind a comment.
        let on = format!(
            "{{{}}}fragment on on T{{{}}}",
            "...on#\n".repeat(6),
            "a ".repeat(1_000)
        );
        assert_eq!(found(&on), Some(6_000));
        // Neither of two fragments of one name hides the other.
        let (few, many) = (
            "fragment F on T{a}",
            format!("fragment F on T{{{}}}", "a ".repeat(2_999)),
        );
        assert_eq!(found(&format!("{{...F...F}}{few}{many}")), Some(6_000));
        assert_eq!(found(&format!("{{...F...F}}{many}{few}")), Some(6_000));
    }

    #[test]
    fn circles_are_refused_and_long_chains_are_not() {
        let circle = |document: &str| match precheck(document, &LIFTED) {
            Err(Refusal::FragmentCycle { name }) => name,
            other => panic!("{other:?}"),
        };
        assert_eq!(circle("{...A}fragment A on T{a{...A}}"), "A");
        assert_eq!(
            circle("{a}fragment A on T{...B}fragment B on T{a ...on T{...A}}"),
            "A"
        );
        assert_eq!(
            circle("{a}fragment A on T{...B}fragment B on T{b ...B}"),
            "B"
        );
        assert_eq!(circle(&chain(10_000, 1, "...F7")), "F7");
        assert_eq!(precheck(&chain(10_000, 1, "a"), &LIFTED), Ok(()));
        assert_eq!(
            counts("{...A ...A}fragment A on T{a{b}}").expanded_selections_max,
            4
        );
    }

    #[test]
    fn brackets_count_unless_the_parser_sees_text() {
        let deep = "[{(".repeat(20);
        let nests = |before: &str, after: &str| {
            let document = format!("{{a(b:{before}{deep}{after})}}");
            matches!(check(&document), Err(Refusal::NestedTooDeep { .. }))
        };
        for (before, after) in [
            ("\"", "\""),
            (r#""\" \\\""#, "\""),
            (r#""\u0022"#, r#"\\""#),
            (r#"""" " "" \""""#, r#"\""" """"#),
            ("#\"", "\n"),
            ("\u{feff}# \"\"\" \u{2028}", "\r"),
        ] {
            assert!(!nests(before, after), "{before} {after}");
        }
        for (before, after) in [
            ("#\"\r", "#\""),
            (r#""\\""#, r#""\\""#),
            (r##""#""##, ""),
            (r#""" "#, r#" """#),
            (r##"""""""#", "##, ""),
            (r#"""" \\""" " """#, r#"""#),
        ] {
            assert!(nests(before, after), "{before} {after}");
        }
        for open in [
            "\"a",
            "\"\"\"a\" ",
            "\"a\\\"",
            "\"\"\"a\\\"\"\"",
            "\"\"\"\"\"",
            "\"a\\\n\"",
        ] {
            let document = format!("{{a\n(b:{open}\n{deep}");
            assert_eq!(
                check(&document),
                Err(Refusal::Unterminated { line: 2 }),
                "{open}"
            );
        }
    }

    #[test]
    fn only_a_selection_has_aliases() {
        let values = "query($a:A={b:1,c:[{d:2}]}){a(b:{c:1},d:[{e:$a}])@f(g:{h:1}){i}}";
        assert_eq!(
            (counts(values).aliases_max, counts(values).root_fields_max),
            (0, 1)
        );
        let aliases = "{on:on fragment : query{query:a(b:1)...on T@d(e:{f:1}){g:h}}}";
        assert_eq!(
            (counts(aliases).aliases_max, counts(aliases).root_fields_max),
            (4, 2)
        );
    }

    #[test]
    fn no_text_makes_it_panic() {
        let seed = 0x9e37_79b9_7f4a_7c15_u64;
        println!("seed {seed:#x}");
        let mut state = seed;
        let mut below = |bound: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state % bound as u64).unwrap()
        };
        let parts = [
            "{",
            "}",
            "[",
            "]",
            "(",
            ")",
            "\"",
            "\"\"\"",
            "\\",
            "#",
            "\n",
            "...",
            ".",
            ":",
            "@",
            "on",
            "a",
            " ",
            "fragment",
            "fragment A on T",
            "...A",
            "query",
            "-1e+",
            "\u{feff}",
            "\u{fe00}",
            "\u{e9}",
            "$",
            "=",
            "\0",
        ];
        for round in 0..50_000 {
            let text: String = (0..below(60)).map(|_| parts[below(parts.len())]).collect();
            let bytes: Vec<u8> = (0..below(60)).map(|_| below(256) as u8).collect();
            for document in [&*text, &*String::from_utf8_lossy(&bytes)] {
                let _ = precheck(
                    document,
                    if round % 2 == 0 {
                        &LIFTED
                    } else {
                        &Bounds::default()
                    },
                );
            }
        }
    }
}
