//! States of another version: rewritten all at once, beside those that there are.
//!
//! Owns how states are handed to a plugin to be rewritten. Invariant: until [`Aggregate::rewrite`] nothing has changed,
//! so that a plugin which cannot rewrite one of them costs nothing.

use super::{Aggregate, Rules};
use crate::{
    batch::Column,
    plugin::{Fault, Instance},
};

/// States as another version has them, beside the positions of their groups.
#[derive(Debug, Default)]
pub struct Migrated(Vec<(Vec<u32>, Column)>);

impl Aggregate {
    /// All states of version `from` as `instance` rewrites them for version `to`.
    ///
    /// # Errors
    /// A fault, or a state that the plugin refuses to rewrite.
    pub fn migrated(&self, from: u32, to: u32, instance: &mut dyn Instance) -> Result<Migrated, Box<Fault>> {
        let mut all = self.table.all();
        all.retain(|at| self.table.get(*at).is_some_and(|group| !group.state.is_empty()));
        let mut migrated = Vec::new();
        for part in all.chunks(self.rules.groups.max(1)) {
            let states: Column = part.iter().filter_map(|at| self.table.get(*at)).map(|group| group.state).collect();
            migrated.push((part.to_vec(), instance.migrate(from, to, &states)?));
        }
        Ok(Migrated(migrated))
    }

    /// Goes on by the rules of another generation, with the states as that one has them.
    pub fn take_over(&mut self, rules: Rules, migrated: Migrated) {
        self.rules = rules;
        self.rewrite(migrated);
    }

    /// Puts rewritten states where the others are.
    pub fn rewrite(&mut self, Migrated(migrated): Migrated) {
        for (part, states) in &migrated {
            for (at, state) in part.iter().zip(states.iter()) {
                self.table.write(*at, state);
            }
        }
    }
}
