//! Making tables outside this process agree with what is wanted.
//!
//! What is wanted, by key, goes into a [`Delta`] together with what the table was seen to hold; the difference is all that is
//! ever written. Several wishes for one key meet in a [`Contrib`] first. [`apply`] runs a list of [`Stage`]s: puts forward,
//! deletes backward, so that nothing refers to what is not yet, or no longer, there.
//!
//! ```text
//! wishes -> Contrib (one winner per key) -> Delta (wanted, actual, dirty) -> Table (BPF map, kernel routes, attachments)
//! ```

mod backoff;
mod contrib;
mod delta;
mod memory;
mod stage;

pub use backoff::Backoff;
pub use contrib::Contrib;
pub use delta::{Applied, Delta, Drift};
pub use memory::{Fault, MemoryTable};
pub use stage::{Outcome, Pair, Stage, StageReport, apply, resync};

/// A keyed table outside this process: a BPF map, the kernel's routes, attached programs.
pub trait Table<K, V> {
    /// Why a read or a write failed.
    type Error: std::fmt::Display;

    /// Everything in the table that is ours. What "ours" means is decided here, from the table alone: a pin directory, a route
    /// protocol number, a link's name.
    fn dump(&mut self) -> Result<Vec<(K, V)>, Self::Error>;

    /// Writes an entry, replacing the one there. After an error the entry may or may not be there.
    fn put(&mut self, key: &K, value: &V) -> Result<(), Self::Error>;

    /// Removes an entry. Removing what is not there succeeds.
    fn delete(&mut self, key: &K) -> Result<(), Self::Error>;

    /// Writes many entries; `failed` is told the position of each that was not written. For tables with batch calls.
    fn put_all(&mut self, entries: &[(&K, &V)], failed: &mut dyn FnMut(usize, Self::Error)) {
        for (position, (key, value)) in entries.iter().enumerate() {
            if let Err(error) = self.put(key, value) {
                failed(position, error);
            }
        }
    }

    /// Removes many entries; `failed` is told the position of each that may still be there.
    fn delete_all(&mut self, keys: &[&K], failed: &mut dyn FnMut(usize, Self::Error)) {
        for (position, key) in keys.iter().enumerate() {
            if let Err(error) = self.delete(key) {
                failed(position, error);
            }
        }
    }
}

impl<K, V, T: Table<K, V> + ?Sized> Table<K, V> for &mut T {
    type Error = T::Error;

    fn dump(&mut self) -> Result<Vec<(K, V)>, Self::Error> {
        (**self).dump()
    }

    fn put(&mut self, key: &K, value: &V) -> Result<(), Self::Error> {
        (**self).put(key, value)
    }

    fn delete(&mut self, key: &K) -> Result<(), Self::Error> {
        (**self).delete(key)
    }

    fn put_all(&mut self, entries: &[(&K, &V)], failed: &mut dyn FnMut(usize, Self::Error)) {
        (**self).put_all(entries, failed);
    }

    fn delete_all(&mut self, keys: &[&K], failed: &mut dyn FnMut(usize, Self::Error)) {
        (**self).delete_all(keys, failed);
    }
}
