//! Definitions to what they hold once each spread is put in its place.

use std::collections::HashMap;

use super::Refusal;

pub(super) struct Spread<'a> {
    pub(super) name: &'a str,
    pub(super) at_root: bool,
    /// The selection sets that it is merged into.
    pub(super) sets: u64,
}

#[derive(Default)]
pub(super) struct Definition<'a> {
    pub(super) is_operation: bool,
    /// Fields, at any depth.
    pub(super) selections: u64,
    pub(super) root_fields: usize,
    /// Fields, inline fragments and spreads that are merged at its root.
    pub(super) merged_at_root: u64,
    /// The same, added up over all selection sets that are written in it. Those in fragments that it
    /// spreads are left to these: the rule begins at each set once, where it is written.
    pub(super) merged: u64,
    pub(super) spreads: Vec<Spread<'a>>,
    walked: Walked,
}

impl Definition<'_> {
    /// Counts so many selections that are merged into so many selection sets, of which one is that of
    /// the definition itself if they are at its root.
    pub(super) fn merge(&mut self, selections: u64, sets: u64, at_root: bool) {
        self.merged = self.merged.saturating_add(selections.saturating_mul(sets));
        if at_root {
            self.merged_at_root = self.merged_at_root.saturating_add(selections);
        }
    }
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
pub(super) struct Graph<'a> {
    pub(super) definitions: Vec<Definition<'a>>,
    fragments: HashMap<&'a str, usize>,
}

impl<'a> Graph<'a> {
    /// Adds a fragment of that name, or an operation, and says where in `definitions` it is.
    ///
    /// Fragments of the same name are taken together: none of them can then hide behind another.
    pub(super) fn define(&mut self, fragment: Option<&'a str>) -> usize {
        let next = self.definitions.len();
        let at = fragment.map_or(next, |name| *self.fragments.entry(name).or_insert(next));
        if at == next {
            self.definitions.push(Definition { is_operation: fragment.is_none(), ..Definition::default() });
        }
        at
    }

    /// Adds to each definition what its spreads stand for, looking at each spread once however many
    /// ways lead to it.
    pub(super) fn expand(&mut self) -> Result<(), Refusal> {
        (0..self.definitions.len()).try_for_each(|start| self.expand_one(start))
    }

    fn expand_one(&mut self, start: usize) -> Result<(), Refusal> {
        if self.definitions[start].walked == Walked::Done {
            return Ok(());
        }
        let mut path = vec![(start, 0)];
        while let Some((at, next)) = path.last_mut() {
            let Some(&Spread { name, at_root, sets }) = self.definitions[*at].spreads.get(*next) else {
                self.definitions[*at].walked = Walked::Done;
                path.pop();
                continue;
            };
            self.definitions[*at].walked = Walked::OnPath;
            // An unknown fragment counts for one: if it counted for nothing, then so would a chain of
            // fragments that ends in unknown ones, and walking along it takes as long as ever.
            let (mut selections, mut root_fields, mut merged) = (1, 0, 0);
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
                (selections, root_fields, merged) = (fragment.selections, fragment.root_fields, fragment.merged_at_root);
            }
            *next += 1;
            let definition = &mut self.definitions[*at];
            definition.selections = definition.selections.saturating_add(selections);
            definition.merge(merged, sets, at_root);
            if at_root {
                definition.root_fields = definition.root_fields.saturating_add(root_fields);
            }
        }
        Ok(())
    }
}
