//! Operations as the tests see them: one small tree from which both the text is printed and the oracles compute. Nothing here
//! or below is the gateway's code.

mod generate;
mod read;

use std::collections::BTreeSet;
use std::fmt::Write;

use serde_json::{Map, Value as Json, json};

pub(crate) use generate::{World, generate};
pub(crate) use read::read;

/// A value as a document writes it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Int(i64),
    Boolean(bool),
    Text(String),
    List(Vec<Value>),
    Variable(String),
}

/// `@skip(if:)` or `@include(if:)`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Condition {
    pub(crate) include: bool,
    pub(crate) on: Value,
}

/// A field, with what is asked of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Field {
    pub(crate) alias: Option<String>,
    pub(crate) name: String,
    pub(crate) arguments: Vec<(String, Value)>,
    pub(crate) conditions: Vec<Condition>,
    /// Empty for a leaf.
    pub(crate) selections: Vec<Selection>,
}

impl Field {
    /// The name under which it is answered.
    pub(crate) fn key(&self) -> &str {
        self.alias.as_ref().unwrap_or(&self.name)
    }
}

/// One entry of a selection set.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Selection {
    Field(Field),
    Spread { fragment: String, conditions: Vec<Condition> },
    Inline { on: Option<String>, conditions: Vec<Condition>, selections: Vec<Selection> },
}

/// `fragment … on …`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fragment {
    pub(crate) name: String,
    pub(crate) on: String,
    pub(crate) selections: Vec<Selection>,
}

/// A variable; each operation that uses it defines it alike.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Variable {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) default: Option<Value>,
}

/// `query … { … }`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Operation {
    pub(crate) name: Option<String>,
    pub(crate) selections: Vec<Selection>,
}

/// A document, and how it is sent. Fragments and variables that nothing uses are not printed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Request {
    pub(crate) operations: Vec<Operation>,
    pub(crate) fragments: Vec<Fragment>,
    pub(crate) variables: Vec<Variable>,
    /// Which operation runs.
    pub(crate) chosen: usize,
    /// Whether `operationName` is sent.
    pub(crate) named: bool,
    /// What is sent for the variables.
    pub(crate) values: Map<String, Json>,
}

impl Request {
    pub(crate) fn operation(&self) -> &Operation {
        &self.operations[self.chosen]
    }

    #[track_caller]
    pub(crate) fn fragment(&self, name: &str) -> &Fragment {
        self.fragments.iter().find(|fragment| fragment.name == name).unwrap()
    }

    /// As GraphQL coerces it: what is sent, else the variable's default, else nothing at all.
    pub(crate) fn value(&self, value: &Value) -> Option<Json> {
        match value {
            Value::Null => Some(Json::Null),
            Value::Int(int) => Some(json!(int)),
            Value::Boolean(boolean) => Some(json!(boolean)),
            Value::Text(text) => Some(json!(text)),
            Value::List(items) => Some(items.iter().map(|item| self.value(item).unwrap_or_default()).collect()),
            Value::Variable(name) => self.values.get(name).cloned().or_else(|| {
                let variable = self.variables.iter().find(|variable| variable.name == *name).unwrap();
                variable.default.as_ref().and_then(|default| self.value(default))
            }),
        }
    }

    /// Whether its conditions let a selection be seen.
    pub(crate) fn seen(&self, conditions: &[Condition]) -> bool {
        conditions.iter().all(|condition| self.value(&condition.on).unwrap().as_bool().unwrap() == condition.include)
    }

    /// The same with the chosen operation alone in the document.
    pub(crate) fn alone(&self) -> Self {
        Self { operations: vec![self.operation().clone()], chosen: 0, ..self.clone() }
    }

    /// The body of a POST.
    pub(crate) fn body(&self) -> Json {
        let mut body = json!({ "query": self.text() });
        if self.named {
            body["operationName"] = json!(self.operation().name);
        }
        if !self.values.is_empty() {
            body["variables"] = Json::Object(self.values.clone());
        }
        body
    }

    /// The document.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let mut spread = BTreeSet::new();
        for operation in &self.operations {
            let used = self.uses(&operation.selections);
            let defined: Vec<String> = self.variables.iter().filter(|it| used.variables.contains(&it.name)).map(define).collect();
            // The short form is for what has neither a name nor variables.
            if operation.name.is_some() || !defined.is_empty() {
                let name = operation.name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
                let variables = if defined.is_empty() { String::new() } else { format!("({})", defined.join(", ")) };
                write!(text, "query{name}{variables} ").unwrap();
            }
            print_set(&mut text, &operation.selections);
            text.push('\n');
            spread.extend(used.fragments);
        }
        for fragment in self.fragments.iter().filter(|fragment| spread.contains(&fragment.name)) {
            write!(text, "fragment {} on {} ", fragment.name, fragment.on).unwrap();
            print_set(&mut text, &fragment.selections);
            text.push('\n');
        }
        text
    }

    fn uses(&self, selections: &[Selection]) -> Uses {
        let mut uses = Uses::default();
        uses.of(self, selections);
        uses
    }

    /// The same without its `n`th selection, for a smaller example; none past the last. A set that would be empty keeps it.
    pub(crate) fn without(&self, mut n: usize) -> Option<Self> {
        let mut request = self.clone();
        let operations = request.operations.iter_mut().map(|operation| &mut operation.selections);
        let mut sets = operations.chain(request.fragments.iter_mut().map(|fragment| &mut fragment.selections));
        sets.any(|set| drop_nth(set, &mut n)).then_some(request)
    }
}

#[derive(Default)]
struct Uses {
    variables: BTreeSet<String>,
    fragments: BTreeSet<String>,
}

impl Uses {
    fn of(&mut self, request: &Request, selections: &[Selection]) {
        for selection in selections {
            let conditions = match selection {
                Selection::Field(field) => {
                    field.arguments.iter().for_each(|(_, value)| self.value(value));
                    self.of(request, &field.selections);
                    &field.conditions
                }
                Selection::Spread { fragment, conditions } => {
                    if self.fragments.insert(fragment.clone()) {
                        self.of(request, &request.fragment(fragment).selections);
                    }
                    conditions
                }
                Selection::Inline { conditions, selections, .. } => {
                    self.of(request, selections);
                    conditions
                }
            };
            conditions.iter().for_each(|condition| self.value(&condition.on));
        }
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Variable(name) => {
                self.variables.insert(name.clone());
            }
            Value::List(items) => items.iter().for_each(|item| self.value(item)),
            _ => {}
        }
    }
}

fn drop_nth(set: &mut Vec<Selection>, n: &mut usize) -> bool {
    for place in 0..set.len() {
        if *n == 0 {
            if set.len() > 1 {
                set.remove(place);
            }
            return true;
        }
        *n -= 1;
        let inner = match &mut set[place] {
            Selection::Field(Field { selections, .. }) | Selection::Inline { selections, .. } => selections,
            Selection::Spread { .. } => continue,
        };
        if drop_nth(inner, n) {
            return true;
        }
    }
    false
}

fn define(variable: &Variable) -> String {
    let default = variable.default.as_ref().map(|default| format!(" = {}", print(default))).unwrap_or_default();
    format!("${}: {}{default}", variable.name, variable.kind)
}

fn print(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Int(int) => int.to_string(),
        Value::Boolean(boolean) => boolean.to_string(),
        Value::Text(text) => json!(text).to_string(),
        Value::List(items) => format!("[{}]", items.iter().map(print).collect::<Vec<_>>().join(", ")),
        Value::Variable(name) => format!("${name}"),
    }
}

fn print_set(text: &mut String, selections: &[Selection]) {
    text.push_str("{ ");
    for selection in selections {
        match selection {
            Selection::Field(field) => {
                if let Some(alias) = &field.alias {
                    write!(text, "{alias}: ").unwrap();
                }
                text.push_str(&field.name);
                let arguments: Vec<String> =
                    field.arguments.iter().map(|(name, value)| format!("{name}: {}", print(value))).collect();
                if !arguments.is_empty() {
                    write!(text, "({})", arguments.join(", ")).unwrap();
                }
                text.push(' ');
                print_conditions(text, &field.conditions);
                if !field.selections.is_empty() {
                    print_set(text, &field.selections);
                }
            }
            Selection::Spread { fragment, conditions } => {
                write!(text, "...{fragment} ").unwrap();
                print_conditions(text, conditions);
            }
            Selection::Inline { on, conditions, selections } => {
                text.push_str("... ");
                if let Some(on) = on {
                    write!(text, "on {on} ").unwrap();
                }
                print_conditions(text, conditions);
                print_set(text, selections);
            }
        }
    }
    text.push_str("} ");
}

fn print_conditions(text: &mut String, conditions: &[Condition]) {
    for condition in conditions {
        let name = if condition.include { "include" } else { "skip" };
        write!(text, "@{name}(if: {}) ", print(&condition.on)).unwrap();
    }
}
