//! Policy lists as blobs in the arena.
//!
//! Lists of equal content share a blob. Before any address carries a new class every blob in use learns it, in place where the
//! blob has room, else by being written again elsewhere; the interfaces that refer to it then follow.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cleat_bpf::policy::{Blob, EncodeError, Learn, encode};

use super::classes::Classes;
use crate::calc::{ListId, PolicyList};

/// The words that blobs are written into.
pub trait Arena {
    /// Why a write failed.
    type Error: std::fmt::Display;

    /// The blob that begins at `base`, if there is a whole one. It is in use from now on.
    fn adopt(&mut self, base: u32) -> Option<Vec<u64>>;

    /// Writes a blob where none is and says where it begins, which is never 0.
    fn store(&mut self, blob: &Blob) -> Result<u32, Self::Error>;

    /// Writes one word of a blob.
    fn set(&mut self, index: u32, word: u64) -> Result<(), Self::Error>;

    /// Reads one word.
    fn get(&self, index: u32) -> Option<u64>;

    /// Gives a blob's words back. They are used again no sooner than a second later.
    fn free(&mut self, base: u32);
}

/// The lists that interfaces refer to.
#[derive(Debug, Default)]
pub(super) struct Lists {
    stored: BTreeMap<u32, Stored>,
    bases: BTreeMap<ListId, u32>,
    /// Lists that cannot be encoded, and why: their interfaces drop.
    refused: BTreeMap<ListId, EncodeError>,
    /// Blobs of an earlier process that no list has turned out to be.
    adopted: BTreeMap<u32, Vec<u64>>,
}

#[derive(Debug)]
struct Stored {
    list: Arc<PolicyList>,
    blob: Blob,
}

impl Lists {
    /// Takes over a blob that an interface refers to.
    pub(super) fn adopt(&mut self, base: u32, words: Vec<u64>) {
        self.adopted.insert(base, words);
    }

    /// Teaches every blob the new classes.
    pub(super) fn learn<A: Arena>(
        &mut self,
        classes: &Classes,
        arena: &mut A,
    ) -> Result<(), A::Error> {
        for base in self.stored.keys().copied().collect::<Vec<_>>() {
            let Some(stored) = self.stored.get_mut(&base) else {
                continue;
            };
            let list = stored.list.clone();
            let holds = holds(&list, classes);
            for &class in classes.unlearned() {
                if stored.blob.knows(class) {
                    continue;
                }
                match stored.blob.learn(class, &holds) {
                    Learn::InPlace(words) => {
                        if let Err(error) = write_all(base, words, arena) {
                            self.distrust(base);
                            return Err(error);
                        }
                    }
                    Learn::Reencode => {
                        self.rewrite(base, &list, classes, arena)?;
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Sees to it that a list is in the arena, if it can be.
    pub(super) fn store<A: Arena>(
        &mut self,
        id: ListId,
        list: &Arc<PolicyList>,
        classes: &Classes,
        arena: &mut A,
    ) -> Result<(), A::Error> {
        if self.bases.contains_key(&id) {
            return Ok(());
        }
        match encode_list(list, classes) {
            Ok(blob) => {
                let base = self.place(list, blob, arena)?;
                self.bases.insert(id, base);
                self.refused.remove(&id);
            }
            Err(error) => {
                self.refused.insert(id, error);
            }
        }
        Ok(())
    }

    /// Makes every blob forget classes that nothing carries.
    pub(super) fn forget<A: Arena>(
        &mut self,
        gone: &[u32],
        classes: &Classes,
        arena: &mut A,
    ) -> Result<(), A::Error> {
        for base in self.stored.keys().copied().collect::<Vec<_>>() {
            let Some(stored) = self.stored.get_mut(&base) else {
                continue;
            };
            let list = stored.list.clone();
            let holds = holds(&list, classes);
            let words = gone
                .iter()
                .flat_map(|&class| stored.blob.forget(class, &holds))
                .collect();
            if let Err(error) = write_all(base, words, arena) {
                self.distrust(base);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Gives back the blobs that no interface refers to.
    pub(super) fn keep<A: Arena>(&mut self, in_use: &BTreeSet<u32>, arena: &mut A) {
        self.bases.retain(|_, base| in_use.contains(base));
        let stored = self.stored.keys().chain(self.adopted.keys());
        for base in stored
            .filter(|base| !in_use.contains(base))
            .copied()
            .collect::<Vec<_>>()
        {
            self.stored.remove(&base);
            self.adopted.remove(&base);
            arena.free(base);
        }
    }

    /// Drops what is known of lists that are no more.
    pub(super) fn keep_refused(&mut self, wanted: &BTreeSet<ListId>) {
        self.refused.retain(|id, _| wanted.contains(id));
    }

    /// Where a list begins; 0 if it could not be encoded.
    pub(super) fn base(&self, id: ListId) -> u32 {
        self.bases.get(&id).copied().unwrap_or(0)
    }

    /// The lists that cannot be encoded.
    pub(super) fn refused(&self) -> &BTreeMap<ListId, EncodeError> {
        &self.refused
    }

    /// How often each line of a list was met.
    pub(super) fn hits<A: Arena>(&self, id: ListId, arena: &A) -> Vec<u64> {
        let Some((base, stored)) = self
            .bases
            .get(&id)
            .and_then(|base| Some((base, self.stored.get(base)?)))
        else {
            return Vec::new();
        };
        let clause = |index: u32| arena.get(base + stored.blob.hit_index(index)).unwrap_or(0);
        stored
            .list
            .lines
            .iter()
            .map(|line| (line.clauses.0..line.clauses.1).map(clause).sum())
            .collect()
    }

    /// How many words the blobs in use have.
    pub(super) fn words(&self) -> usize {
        self.stored
            .values()
            .map(|stored| stored.blob.words().len())
            .sum()
    }

    /// Nobody knows what a blob has after a failed write: its lists are written again elsewhere.
    fn distrust(&mut self, base: u32) {
        self.stored.remove(&base);
        self.bases.retain(|_, at| *at != base);
        self.adopted.insert(base, Vec::new());
    }

    fn rewrite<A: Arena>(
        &mut self,
        base: u32,
        list: &Arc<PolicyList>,
        classes: &Classes,
        arena: &mut A,
    ) -> Result<(), A::Error> {
        match encode_list(list, classes) {
            Ok(blob) => {
                let new = self.place(list, blob, arena)?;
                for at in self.bases.values_mut().filter(|at| **at == base) {
                    *at = new;
                }
            }
            Err(error) => {
                // The old blob does not know the class and drops its packets.
                let lost: Vec<ListId> = self
                    .bases
                    .iter()
                    .filter(|(_, at)| **at == base)
                    .map(|(id, _)| *id)
                    .collect();
                for id in lost {
                    self.bases.remove(&id);
                    self.refused.insert(id, error.clone());
                }
            }
        }
        Ok(())
    }

    /// Where a blob of this content begins: an equal one that is there, or a new one.
    fn place<A: Arena>(
        &mut self,
        list: &Arc<PolicyList>,
        blob: Blob,
        arena: &mut A,
    ) -> Result<u32, A::Error> {
        let same = self.stored.iter().find(|(_, stored)| {
            stored.blob.hash() == blob.hash() && same_lines(&stored.list, list)
        });
        if let Some((base, _)) = same {
            return Ok(*base);
        }
        let adopted = self
            .adopted
            .iter()
            .find(|(_, words)| equal(words, &blob))
            .map(|(base, _)| *base);
        let base = match adopted {
            Some(base) => {
                self.adopted.remove(&base);
                base
            }
            None => arena.store(&blob)?,
        };
        self.stored.insert(
            base,
            Stored {
                list: list.clone(),
                blob,
            },
        );
        Ok(base)
    }
}

/// Lists of one blob have the same clauses; what they ask by number must be the same too, since the blob asks one of them.
fn same_lines(a: &PolicyList, b: &PolicyList) -> bool {
    a.clauses == b.clauses && a.exprs == b.exprs
}

fn holds<'a>(list: &'a PolicyList, classes: &'a Classes) -> impl Fn(u32, u32) -> bool + 'a {
    |expr, class| {
        classes.set(class).is_some_and(|set| {
            list.exprs
                .get(expr as usize)
                .is_some_and(|expr| expr.holds(set))
        })
    }
}

fn write_all<A: Arena>(base: u32, words: Vec<(u32, u64)>, arena: &mut A) -> Result<(), A::Error> {
    words
        .into_iter()
        .try_for_each(|(index, word)| arena.set(base + index, word))
}

fn encode_list(list: &PolicyList, classes: &Classes) -> Result<Blob, EncodeError> {
    encode(&list.clauses, classes.ids(), &holds(list, classes))
}

/// Whether words found are the blob's, hit counters left out.
fn equal(words: &[u64], blob: &Blob) -> bool {
    let counters = blob.hit_index(0) as usize..blob.hit_index(blob.clauses()) as usize;
    words.len() == blob.words().len()
        && words
            .iter()
            .zip(blob.words())
            .enumerate()
            .all(|(index, (found, wanted))| counters.contains(&index) || found == wanted)
}
