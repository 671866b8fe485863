//! Tokens to what the document holds as written.

use super::Refusal;
use super::expand::{Definition, Graph, Spread};
use super::lexer::{Kind, Token, line};
use super::merge::Largest;

/// What is written, and what is spread where.
#[derive(Default)]
pub(super) struct Document<'a> {
    pub(super) definitions: usize,
    pub(super) directives: usize,
    pub(super) aliases: usize,
    pub(super) largest: Largest,
    pub(super) graph: Graph<'a>,
}

/// Walks over the tokens once.
///
/// # Errors
///
/// Too many brackets are open at the same time.
pub(super) fn read<'a>(text: &'a str, tokens: &[Token<'a>], nesting_max: usize) -> Result<Document<'a>, Refusal> {
    let document = Document::default();
    let mut walk = Walk { text, tokens, at: 0, open: Vec::new(), current: None, inline: false, arguments: 0, document };
    walk.run(nesting_max)?;
    Ok(walk.document)
}

/// What an open bracket holds.
#[derive(Clone, Copy)]
enum Inside {
    /// Fields, spreads and inline fragments.
    Selections(Place),
    /// Arguments of a field, or of a directive in a selection, whose first token is at `from`.
    Arguments { from: usize },
    /// Other arguments, variables, lists, objects: nothing in them is a field.
    Values,
}

/// Where a selection stands.
#[derive(Clone, Copy)]
struct Place {
    /// Its fields are those of the operation or fragment itself.
    at_root: bool,
    /// The selection sets that it is merged into: the one it is written in and, if that is an inline
    /// fragment's, those around it.
    sets: u64,
}

struct Walk<'a, 't> {
    text: &'a str,
    tokens: &'t [Token<'a>],
    at: usize,
    open: Vec<(u8, Inside)>,
    /// The definition that the walk is in, in `document.graph.definitions`.
    current: Option<usize>,
    /// The selection in hand is an inline fragment: the next `{` opens no field's selections.
    inline: bool,
    /// Arguments so far, of those that are in hand.
    arguments: usize,
    document: Document<'a>,
}

impl<'a> Walk<'a, '_> {
    fn run(&mut self, nesting_max: usize) -> Result<(), Refusal> {
        while let Some(token) = self.tokens.get(self.at) {
            self.at += 1;
            let inside = self.open.last().map(|&(_, inside)| inside);
            match (token.kind, inside) {
                (Kind::Open(_), _) if self.open.len() >= nesting_max => {
                    let (line, allowed) = (line(self.text, token.start), nesting_max);
                    return Err(Refusal::NestedTooDeep { line, allowed });
                }
                (Kind::Open(bracket), _) => self.open(bracket, inside),
                (Kind::Close(bracket), _) => self.close(bracket),
                (Kind::At, _) => {
                    self.document.directives += 1;
                    self.take_name();
                }
                (Kind::Name(name), None) if self.current.is_none() => self.define(name),
                (Kind::Name(name), Some(Inside::Selections(place))) => self.field(name, place),
                (Kind::Spread, Some(Inside::Selections(place))) => self.spread(place),
                (Kind::Name(name), Some(Inside::Arguments { .. })) => self.measure(name),
                (Kind::Colon, Some(Inside::Arguments { .. })) => self.arguments += 1,
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
        self.document.graph.definitions.get_mut(self.current?)
    }

    fn open(&mut self, bracket: u8, inside: Option<Inside>) {
        let inside = match (bracket, inside) {
            (b'{', None) => {
                if self.current.is_none() {
                    self.define("query");
                }
                Inside::Selections(Place { at_root: true, sets: 1 })
            }
            (b'{', Some(Inside::Selections(around))) if self.inline => {
                Inside::Selections(Place { sets: around.sets.saturating_add(1), ..around })
            }
            (b'{', Some(Inside::Selections(_))) => Inside::Selections(Place { at_root: false, sets: 1 }),
            (b'(', Some(Inside::Selections(_))) => {
                self.arguments = 0;
                Inside::Arguments { from: self.at }
            }
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
        match inside {
            Inside::Selections(_) if self.open.is_empty() => self.current = None,
            Inside::Arguments { from } => {
                let largest = &mut self.document.largest;
                largest.arguments = largest.arguments.max(self.arguments);
                largest.tokens = largest.tokens.max(self.at - 1 - from);
            }
            _ => {}
        }
    }

    /// To the parser `fragmentA on T` is the fragment `A`: it wants no space after the keyword.
    fn define(&mut self, keyword: &'a str) {
        self.document.definitions += 1;
        let name = match keyword.strip_prefix("fragment") {
            Some("") => Some(self.take_name().unwrap_or_default()),
            rest => rest,
        };
        self.current = Some(self.document.graph.define(name));
    }

    fn field(&mut self, name: &str, place: Place) {
        self.measure(name);
        let next = self.tokens.get(self.at).map(|token| token.kind);
        if next == Some(Kind::Colon) {
            // The field's own name follows, and is counted when it comes.
            self.at += 1;
            self.document.aliases += 1;
            return;
        }
        self.inline = false;
        if let Some(definition) = self.definition() {
            definition.selections += 1;
            definition.root_fields += usize::from(place.at_root);
            definition.merge(1, place.sets, place.at_root);
        }
    }

    fn measure(&mut self, name: &str) {
        let largest = &mut self.document.largest;
        largest.name = largest.name.max(name.len());
    }

    fn spread(&mut self, Place { at_root, sets }: Place) {
        if let Some(definition) = self.definition() {
            definition.merge(1, sets, at_root);
        }
        if self.is_type_condition() {
            self.at += 2;
            self.inline = true;
            return;
        }
        let name = self.take_name();
        self.inline = name.is_none();
        if let (Some(name), Some(definition)) = (name, self.definition()) {
            definition.spreads.push(Spread { name, at_root, sets });
        }
    }

    /// To the parser `on` is a fragment's name unless a name follows it after white space that has
    /// no comment in it.
    fn is_type_condition(&self) -> bool {
        let [on, of, ..] = &self.tokens[self.at..] else {
            return false;
        };
        let between = &self.text.as_bytes()[on.end..of.start];
        on.kind == Kind::Name("on") && matches!(of.kind, Kind::Name(_)) && !between.is_empty() && !between.contains(&b'#')
    }
}
