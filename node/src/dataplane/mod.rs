//! The kernel side of the node: maps, programs and where they are attached.
//!
//! ```text
//! <pin path>/<layout hash>/{iface,facts4,...}   maps: adopted when the layout is the same, left alone when it is not
//! <pin path>/links/<ifindex>-{ingress,egress}   links (tcx): their programs are replaced in place
//! ```
//!
//! Everything is pinned, so that the death of the process changes nothing. [`Dataplane::open`] writes to no map and moves no
//! packet: it makes or adopts the maps and loads the programs; the tables it hands out do the rest, and only a put into
//! [`AttachTable`] lets the new programs meet packets. So a daemon with another layout fills its own maps first, swaps the
//! programs, and then drops the old maps with [`Dataplane::retire_others`].

mod attach;
#[doc(hidden)]
pub mod check;
mod clsact;
mod flows;
mod object;
pub mod sys;
mod words;

use std::{
    collections::BTreeSet,
    fs, io,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

use aya::programs::{SchedClassifier, TcAttachType};
use cleat_bpf::{
    Config, Counted, Facts, Family, Hook, Iface, NetKey, V4, V6, verdict::DEFAULT_MARK,
};

pub use self::{
    attach::{AttachMode, AttachTable, Hooks},
    flows::{Expired, Flows, Timeouts, overdue},
    words::{Arena, Found, Full, GRACE},
};
use self::{
    object::{Layout, Programs},
    sys::{Map, Plain},
};
use crate::reconcile::Table;

/// Sizes and settings that a loaded dataplane keeps.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Interfaces.
    pub interfaces: u32,
    /// Exact addresses, in each family.
    pub facts: u32,
    /// Prefixes, in each family.
    pub nets: u32,
    /// Words of policy.
    pub words: u32,
    /// Entries of the IPv4 flow table, two for each flow. Its memory is taken at once: about 150 bytes an entry.
    pub flows4: u32,
    /// Entries of the IPv6 flow table.
    pub flows6: u32,
    /// Classes.
    pub classes: u32,
    /// The bits of a packet's mark that say "judged".
    pub mark: u32,
    /// Attach with clsact filters even where the kernel has tcx.
    pub clsact: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            interfaces: 16_384,
            facts: 262_144,
            nets: 65_536,
            words: 4 << 20,
            flows4: 262_144,
            flows6: 131_072,
            classes: 65_536,
            mark: DEFAULT_MARK,
            clsact: false,
        }
    }
}

/// Why the dataplane did not come up. What was attached before still is.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The pin path is not on a BPF file system.
    #[error("{path} is not on a mounted bpffs; mount one with: mount -t bpf bpf /sys/fs/bpf")]
    NoBpffs {
        /// The pin path.
        path: PathBuf,
    },
    /// A directory or pin could not be made or opened.
    #[error("cannot pin {path}")]
    Pin {
        /// Which.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The maps could not be created.
    #[error(
        "cannot create the maps; root, or CAP_BPF with CAP_NET_ADMIN and CAP_PERFMON, is needed"
    )]
    Maps(#[source] Box<aya::EbpfError>),
    /// The object lacks a program: it was built from another version.
    #[error("the embedded object has no program {name}")]
    NoProgram {
        /// Which.
        name: &'static str,
    },
    /// The kernel refused a program.
    #[error("the kernel refuses the program {name}; a kernel of 5.10 or later is needed")]
    Verifier {
        /// Which.
        name: &'static str,
        /// The verifier's log is in here.
        source: Box<aya::programs::ProgramError>,
    },
    /// The kernel does not describe its own objects.
    #[error("cannot read back what was loaded")]
    Describe(#[source] io::Error),
}

/// The loaded dataplane.
#[derive(Debug)]
pub struct Dataplane {
    pins: PathBuf,
    layout: PathBuf,
    mode: AttachMode,
    programs: Arc<Programs>,
    config: Map<u32, Config>,
}

impl Dataplane {
    /// Loads the programs, and creates or adopts the maps pinned under `pins`.
    pub fn open(pins: &Path, options: &Options) -> Result<Self, OpenError> {
        let layout = Layout::new(options);
        let dir = pins.join(layout.hash());
        for path in [&dir, &pins.join("links")] {
            fs::create_dir_all(path).map_err(|source| OpenError::Pin {
                path: path.clone(),
                source,
            })?;
        }
        if !is_bpffs(&dir) {
            return Err(OpenError::NoBpffs {
                path: pins.to_owned(),
            });
        }
        let programs = Programs::load(&layout, &dir, options.mark)?;
        let tcx =
            !options.clsact && SchedClassifier::query_tcx("lo", TcAttachType::Ingress).is_ok();
        let mode = if tcx {
            AttachMode::Tcx
        } else {
            AttachMode::Clsact
        };
        let config = open(&dir, "config")?;
        Ok(Self {
            pins: pins.to_owned(),
            layout: dir,
            mode,
            programs: Arc::new(programs),
            config,
        })
    }

    /// How programs are attached.
    pub fn attach_mode(&self) -> AttachMode {
        self.mode
    }

    /// Interfaces by ifindex.
    pub fn iface_table(&self) -> Result<HashTable<u32, Iface>, OpenError> {
        Ok(HashTable(open(&self.layout, "iface")?))
    }

    /// Facts by exact address.
    pub fn facts_table<F: Family>(&self) -> Result<HashTable<F::Addr, Facts>, OpenError> {
        Ok(HashTable(open(
            &self.layout,
            name::<F>("facts4", "facts6"),
        )?))
    }

    /// Facts by prefix.
    pub fn nets_table<F: Family>(&self) -> Result<TrieTable<NetKey<F>, Facts>, OpenError> {
        Ok(TrieTable(open(&self.layout, name::<F>("nets4", "nets6"))?))
    }

    /// Class ids with the hashes of their atom sets, so that ids survive a restart. A hash of 0 is no entry.
    pub fn classes_table(&self) -> Result<ArrayTable, OpenError> {
        Ok(ArrayTable(open(&self.layout, "classes")?))
    }

    /// The arena of policy blobs, with those in use that `iface` names.
    pub fn words(&self) -> Result<Arena, OpenError> {
        let map: Map<u32, u64> = open(&self.layout, "words")?;
        let interfaces = self.iface_table()?.dump().map_err(OpenError::Describe)?;
        let bases: BTreeSet<u32> = interfaces
            .iter()
            .flat_map(|(_, iface)| [iface.egress, iface.ingress])
            .filter(|&base| base != 0)
            .collect();
        Arena::map(&map, bases).map_err(OpenError::Describe)
    }

    /// Attached programs by ifindex.
    pub fn attach_table(&self) -> AttachTable {
        AttachTable {
            mode: self.mode,
            links: self.pins.join("links"),
            programs: Arc::clone(&self.programs),
        }
    }

    /// A family's flow table.
    pub fn flows<F: Family>(&self) -> Result<Flows<F>, OpenError> {
        Ok(Flows {
            map: open(&self.layout, name::<F>("ct4", "ct6"))?,
        })
    }

    /// Removes flows of both families that were silent too long; `now`: nanoseconds since boot ([`monotonic`]).
    pub fn expire(&self, timeouts: &Timeouts, now: u64) -> io::Result<[Expired; 2]> {
        let v4 = self
            .flows::<V4>()
            .map_err(io::Error::other)?
            .expire(timeouts, now)?;
        let v6 = self
            .flows::<V6>()
            .map_err(io::Error::other)?
            .expire(timeouts, now)?;
        Ok([v4, v6])
    }

    /// Packets counted since the maps were made, over all processors.
    pub fn counters(&self) -> io::Result<Vec<(Hook, Counted, u64)>> {
        let map: Map<u32, u64> = open(&self.layout, "counters").map_err(io::Error::other)?;
        let cpus = aya::util::nr_cpus().map_err(|(_, error)| error)?;
        Counted::all()
            .map(|(hook, counted)| {
                let values = map.get_per_cpu(&counted.slot(hook), cpus)?;
                Ok((hook, counted, values.iter().sum()))
            })
            .collect()
    }

    /// Makes every cached way out invalid: routes, neighbours or interfaces changed.
    pub fn bump_generation(&self) -> io::Result<u32> {
        let mut config = self.config()?;
        config.generation = config.generation.wrapping_add(1);
        self.config.put(&0, &config)?;
        Ok(config.generation)
    }

    /// Says whether workloads may talk to this host at all.
    pub fn set_endpoint_to_host_drop(&self, drop: bool) -> io::Result<()> {
        let mut config = self.config()?;
        config.flags = if drop {
            Config::ENDPOINT_TO_HOST_DROP
        } else {
            0
        };
        self.config.put(&0, &config)
    }

    /// The configuration the programs read.
    pub fn config(&self) -> io::Result<Config> {
        Ok(self.config.get(&0)?.unwrap_or_default())
    }

    /// Removes the maps of other layouts. To be called once this process's programs are attached everywhere.
    pub fn retire_others(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.pins)? {
            let path = entry?.path();
            if path == self.layout || path.ends_with("links") || !path.is_dir() {
                continue;
            }
            tracing::info!(layout = %path.display(), "removing the maps of another layout");
            for pin in fs::read_dir(&path)? {
                fs::remove_file(pin?.path())?;
            }
            fs::remove_dir(&path)?;
        }
        Ok(())
    }

    /// A hook's program, for test runs.
    pub fn program(&self, hook: Hook) -> BorrowedFd<'_> {
        self.programs.of(hook).fd.as_fd()
    }

    /// Instructions the verifier walked for a hook's program; 0 where the kernel does not tell (before 5.16).
    pub fn verified(&self, hook: Hook) -> u32 {
        self.programs.of(hook).verified
    }
}

/// Nanoseconds since boot, on the clock the programs use.
pub fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// A BPF hash map as a table.
#[derive(Debug)]
pub struct HashTable<K, V>(Map<K, V>);

impl<K: Plain, V: Plain> HashTable<K, V> {
    /// One entry.
    pub fn get(&self, key: &K) -> io::Result<Option<V>> {
        self.0.get(key)
    }
}

impl<K: Plain, V: Plain> Table<K, V> for HashTable<K, V> {
    type Error = io::Error;

    fn dump(&mut self) -> io::Result<Vec<(K, V)>> {
        let mut entries = Vec::new();
        self.0.scan(&mut |keys, values| {
            entries.extend(keys.iter().copied().zip(values.iter().copied()));
        })?;
        Ok(entries)
    }

    fn put(&mut self, key: &K, value: &V) -> io::Result<()> {
        self.0.put(key, value)
    }

    fn delete(&mut self, key: &K) -> io::Result<()> {
        self.0.delete(key).map(drop)
    }

    fn put_all(&mut self, entries: &[(&K, &V)], failed: &mut dyn FnMut(usize, io::Error)) {
        let keys: Vec<K> = entries.iter().map(|(key, _)| **key).collect();
        let values: Vec<V> = entries.iter().map(|(_, value)| **value).collect();
        let mut at = 0;
        while at < keys.len() {
            let (done, error) = self.0.put_batch(&keys[at..], &values[at..]);
            at += done;
            if let Some(error) = error {
                if at < keys.len() {
                    failed(at, error);
                }
                at += 1;
            }
        }
    }
}

/// A longest-prefix trie as a table.
#[derive(Debug)]
pub struct TrieTable<K, V>(Map<K, V>);

impl<K: Plain, V: Plain> Table<K, V> for TrieTable<K, V> {
    type Error = io::Error;

    fn dump(&mut self) -> io::Result<Vec<(K, V)>> {
        self.0.walk()
    }

    fn put(&mut self, key: &K, value: &V) -> io::Result<()> {
        self.0.put(key, value)
    }

    fn delete(&mut self, key: &K) -> io::Result<()> {
        self.0.delete(key).map(drop)
    }
}

/// An array of numbers in which 0 means "no entry", as a table.
#[derive(Debug)]
pub struct ArrayTable(Map<u32, u64>);

impl Table<u32, u64> for ArrayTable {
    type Error = io::Error;

    fn dump(&mut self) -> io::Result<Vec<(u32, u64)>> {
        let mut entries = Vec::new();
        self.0.scan(&mut |keys, values| {
            let pairs = keys.iter().copied().zip(values.iter().copied());
            entries.extend(pairs.filter(|&(_, value)| value != 0));
        })?;
        Ok(entries)
    }

    fn put(&mut self, key: &u32, value: &u64) -> io::Result<()> {
        self.0.put(key, value)
    }

    fn delete(&mut self, key: &u32) -> io::Result<()> {
        self.0.put(key, &0)
    }
}

fn name<F: Family>(v4: &'static str, v6: &'static str) -> &'static str {
    if F::VERSION == 4 { v4 } else { v6 }
}

fn open<K, V>(dir: &Path, name: &str) -> Result<Map<K, V>, OpenError> {
    let path = dir.join(name);
    Map::open(&path).map_err(|source| OpenError::Pin { path, source })
}

fn is_bpffs(path: &Path) -> bool {
    const BPF_FS_MAGIC: i64 = 0xcafe_4a11;
    rustix::fs::statfs(path).is_ok_and(|found| found.f_type == BPF_FS_MAGIC)
}
