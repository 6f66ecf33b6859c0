//! The arena of policy blobs: a BPF array mapped into this process, and who uses which words.
//!
//! Nothing about the use is stored: a restarted process reads the offsets in `iface` and the blobs' own headers. Freed words rest
//! for [`GRACE`] before they are used again, since a program that read the old offset may still be walking the blob.

use std::{
    collections::BTreeMap,
    io,
    os::fd::AsRawFd,
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

use cleat_bpf::policy::{Blob, Layout, Query, Words};

use super::sys::{self, Map};

/// How long freed words rest: 1 s, in nanoseconds.
pub const GRACE: u64 = 1_000_000_000;

/// The arena.
#[derive(Debug)]
pub struct Arena {
    mapping: NonNull<AtomicU64>,
    words: u32,
    /// Runs in use: base -> length.
    used: BTreeMap<u32, u32>,
    /// Freed runs: base -> (length, when they may be used again).
    resting: BTreeMap<u32, (u32, u64)>,
}

// SAFETY: the mapping belongs to this value alone and is only accessed by atomics.
unsafe impl Send for Arena {}

/// A blob found in the arena.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where it begins: the offset an `iface` entry names.
    pub base: u32,
    /// Its content hash.
    pub hash: u64,
    /// Its length in words.
    pub len: u32,
}

/// There is no run of free words long enough.
#[derive(Debug, thiserror::Error)]
#[error("no {wanted} free words in a row for a policy list")]
pub struct Full {
    /// Words wanted.
    pub wanted: u32,
}

impl Arena {
    pub(super) fn map(
        map: &Map<u32, u64>,
        in_use: impl IntoIterator<Item = u32>,
    ) -> io::Result<Self> {
        let words = sys::shape(map.fd())?.entries;
        // SAFETY: a new shared mapping of a map whose shape is known; the kernel keeps its memory while it is mapped.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                words as usize * 8,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.fd().as_raw_fd(),
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let mapping =
            NonNull::new(at.cast()).ok_or_else(|| io::Error::other("mapped at address 0"))?;
        let mut arena = Self {
            mapping,
            words,
            used: BTreeMap::new(),
            resting: BTreeMap::new(),
        };
        for base in in_use {
            if let Some(found) = arena.header(base) {
                arena.used.insert(base, found.len);
            }
        }
        Ok(arena)
    }

    /// The blobs in use, as far as their headers can be trusted.
    pub fn found(&self) -> Vec<Found> {
        self.used
            .keys()
            .filter_map(|&base| self.header(base))
            .collect()
    }

    /// Writes a blob where no program looks and returns its base. `now`: nanoseconds since boot.
    pub fn write(&mut self, blob: &Blob, now: u64) -> Result<u32, Full> {
        let len = blob.words().len() as u32;
        let base = self.allocate(len, now)?;
        // The header last: until then the run is no blob to anyone.
        for (at, &word) in blob.words().iter().enumerate().rev() {
            self.store(base + at as u32, word);
        }
        Ok(base)
    }

    /// Writes the words that [`Blob::learn`] or [`Blob::forget`] named into the blob at `base`.
    pub fn patch(&self, base: u32, words: &[(u32, u64)]) {
        for &(at, word) in words {
            self.store(base + at, word);
        }
    }

    /// Frees the blob at `base`, which no `iface` entry names any more.
    pub fn free(&mut self, base: u32, now: u64) {
        if let Some(len) = self.used.remove(&base) {
            self.resting.insert(base, (len, now.saturating_add(GRACE)));
        }
    }

    /// Frees every blob but those at the given bases.
    pub fn keep_only(&mut self, bases: &std::collections::BTreeSet<u32>, now: u64) {
        let gone: Vec<u32> = self
            .used
            .keys()
            .filter(|base| !bases.contains(base))
            .copied()
            .collect();
        for base in gone {
            self.free(base, now);
        }
    }

    /// A word, such as a hit counter; 0 beyond the end.
    pub fn read(&self, index: u32) -> u64 {
        self.cell(index)
            .map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    /// Words in use or resting, and all words.
    pub fn usage(&self) -> (u32, u32) {
        let resting = self.resting.values().map(|(len, _)| len);
        (self.used.values().chain(resting).sum(), self.words)
    }

    /// Asks the blob at `base` what the programs would, without counting the hit.
    pub fn ask(&self, base: u32, query: Query) -> cleat_bpf::policy::Decision {
        cleat_bpf::policy::evaluate(self, base, query)
    }

    /// First fit, word 0 left out: it means "none".
    fn allocate(&mut self, len: u32, now: u64) -> Result<u32, Full> {
        self.resting.retain(|_, &mut (_, until)| until > now);
        let resting = self.resting.iter().map(|(&base, &(len, _))| (base, len));
        let mut taken: Vec<(u32, u32)> = self
            .used
            .iter()
            .map(|(&base, &len)| (base, len))
            .chain(resting)
            .collect();
        taken.sort_unstable();
        let mut base = 1;
        for (start, used) in taken {
            if start.saturating_sub(base) >= len {
                break;
            }
            base = base.max(start.saturating_add(used));
        }
        if base.checked_add(len).is_none_or(|end| end > self.words) {
            return Err(Full { wanted: len });
        }
        self.used.insert(base, len);
        Ok(base)
    }

    fn header(&self, base: u32) -> Option<Found> {
        let first = self.cell(base)?.load(Ordering::Relaxed);
        let len = first as u32;
        let whole = (first >> 32) as u32 == Layout::MAGIC
            && base != 0
            && base.checked_add(len).is_some_and(|end| end <= self.words);
        whole.then(|| Found {
            base,
            hash: self.read(base + 1),
            len,
        })
    }

    fn store(&self, index: u32, word: u64) {
        if let Some(cell) = self.cell(index) {
            cell.store(word, Ordering::Release);
        }
    }

    fn cell(&self, index: u32) -> Option<&AtomicU64> {
        // SAFETY: within the mapping, which lives as long as `self`; the kernel too writes whole words only.
        (index < self.words).then(|| unsafe { self.mapping.add(index as usize).as_ref() })
    }
}

impl Words for Arena {
    fn word(&self, index: u32) -> Option<u64> {
        self.cell(index).map(|cell| cell.load(Ordering::Relaxed))
    }

    fn hit(&self, _: u32) {}
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: mapped in `map` with this length, and nobody has a reference into it any more. A failure leaves it mapped.
        let _ = unsafe { libc::munmap(self.mapping.as_ptr().cast(), self.words as usize * 8) };
    }
}
