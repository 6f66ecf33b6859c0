//! Texts by number: label names and values occur often, and numbers are small and quick to compare.

use std::{collections::HashMap, sync::Arc};

use slab::Slab;

/// The number of a text, as long as somebody uses it.
pub(super) type Word = u32;

/// The texts in use. Whoever keeps a number has taken it, and releases it when it is kept no longer.
#[derive(Clone, Debug, Default)]
pub(super) struct Words {
    numbers: HashMap<Arc<str>, Word>,
    entries: Slab<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    text: Arc<str>,
    uses: usize,
}

impl Words {
    /// The number of a text, with one user more.
    pub(super) fn take(&mut self, text: &str) -> Word {
        if let Some(word) = self.numbers.get(text) {
            self.entries[*word as usize].uses += 1;
            return *word;
        }
        let text: Arc<str> = text.into();
        let entry = Entry {
            text: text.clone(),
            uses: 1,
        };
        let word = self.entries.insert(entry) as Word;
        self.numbers.insert(text, word);
        word
    }

    /// One user less.
    pub(super) fn release(&mut self, word: Word) {
        let entry = &mut self.entries[word as usize];
        entry.uses -= 1;
        if entry.uses == 0 {
            let entry = self.entries.remove(word as usize);
            self.numbers.remove(&entry.text);
        }
    }

    /// The number of a text that somebody uses.
    pub(super) fn find(&self, text: &str) -> Option<Word> {
        self.numbers.get(text).copied()
    }

    /// The text of a number.
    pub(super) fn text(&self, word: Word) -> &str {
        &self.entries[word as usize].text
    }

    /// How many texts are in use.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}
