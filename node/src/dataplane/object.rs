//! The programs and the maps they want: layout, adoption of pinned maps, loading.

use std::{
    fs, io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use aya::{
    EbpfLoader,
    programs::{ProgramError, ProgramType, SchedClassifier},
    sys::{BpfHelper, is_helper_supported},
};
use cleat_bpf::{Config, Counted, Facts, Flow, FlowKey, Hook, Iface, NetKey, V4, V6};
use tracing::{info, warn};

use super::{
    OpenError, Options,
    sys::{self, MapShape},
};

/// The object that the build script made.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/cleat-tc"));

/// Raised when the meaning of a value changes while its size stays.
const LAYOUT: u32 = 1;

/// The maps, by name.
pub(super) struct Layout {
    maps: Vec<(&'static str, MapShape)>,
}

impl Layout {
    pub(super) fn new(options: &Options) -> Self {
        const HASH: u32 = 1;
        const ARRAY: u32 = 2;
        const PER_CPU_ARRAY: u32 = 6;
        const LPM_TRIE: u32 = 11;
        const NO_PREALLOC: u32 = 1;
        const MMAPABLE: u32 = 1 << 10;
        let of = |kind, key: usize, value: usize, entries, flags| MapShape {
            kind,
            key: key as u32,
            value: value as u32,
            entries,
            flags,
        };
        let facts = size_of::<Facts>();
        let flow = size_of::<Flow>();
        let maps = vec![
            (
                "iface",
                of(HASH, 4, size_of::<Iface>(), options.interfaces, NO_PREALLOC),
            ),
            ("facts4", of(HASH, 4, facts, options.facts, NO_PREALLOC)),
            ("facts6", of(HASH, 16, facts, options.facts, NO_PREALLOC)),
            (
                "nets4",
                of(
                    LPM_TRIE,
                    size_of::<NetKey<V4>>(),
                    facts,
                    options.nets,
                    NO_PREALLOC,
                ),
            ),
            (
                "nets6",
                of(
                    LPM_TRIE,
                    size_of::<NetKey<V6>>(),
                    facts,
                    options.nets,
                    NO_PREALLOC,
                ),
            ),
            ("words", of(ARRAY, 4, 8, options.words, MMAPABLE)),
            (
                "ct4",
                of(HASH, size_of::<FlowKey<V4>>(), flow, options.flows4, 0),
            ),
            (
                "ct6",
                of(HASH, size_of::<FlowKey<V6>>(), flow, options.flows6, 0),
            ),
            ("counters", of(PER_CPU_ARRAY, 4, 8, Counted::SLOTS, 0)),
            ("config", of(ARRAY, 4, size_of::<Config>(), 1, 0)),
            ("classes", of(ARRAY, 4, 8, options.classes, 0)),
        ];
        Self { maps }
    }

    /// Names the directory of the pins: equal for equal layouts.
    pub(super) fn hash(&self) -> String {
        let text = format!("{LAYOUT} {:?}", self.maps);
        // FNV-1a.
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        format!("{hash:016x}")
    }

    /// Removes pins whose maps are not what their names promise: somebody else put them there.
    fn clear_strangers(&self, dir: &Path) -> Result<(), OpenError> {
        for (name, wanted) in &self.maps {
            let path = dir.join(name);
            let found = match sys::open_pin(&path) {
                Ok(fd) => sys::shape(fd.as_fd()).ok(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(_) => None,
            };
            if found != Some(*wanted) {
                warn!(
                    map = name,
                    ?found,
                    ?wanted,
                    "a pinned map is not what its name promises; it is unpinned and made anew"
                );
                fs::remove_file(&path).map_err(|source| OpenError::Pin { path, source })?;
            }
        }
        Ok(())
    }
}

impl Layout {
    /// Makes the maps that no program uses.
    fn create_missing(&self, dir: &Path) -> Result<(), OpenError> {
        for (name, shape) in &self.maps {
            let path = dir.join(name);
            if !path.exists() {
                let made = sys::create(name, shape).and_then(|map| sys::pin(map.as_fd(), &path));
                made.map_err(|source| OpenError::Pin { path, source })?;
            }
        }
        Ok(())
    }
}

/// The programs of this process, one for each hook.
#[derive(Debug)]
pub(super) struct Programs {
    // Keeps the descriptors open.
    _ebpf: aya::Ebpf,
    programs: Vec<Program>,
}

/// A loaded program.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) fd: OwnedFd,
    pub(super) id: u32,
    pub(super) verified: u32,
}

impl Programs {
    /// Loads the programs on the maps pinned in `dir`, creating those that are missing.
    pub(super) fn load(layout: &Layout, dir: &Path, mark: u32) -> Result<Self, OpenError> {
        layout.clear_strangers(dir)?;
        let coarse = u32::from(has_coarse_clock());
        let paths: Vec<PathBuf> = layout.maps.iter().map(|(name, _)| dir.join(name)).collect();
        let mut loader = EbpfLoader::new();
        loader.override_global("COARSE_CLOCK", &coarse, true);
        loader.override_global("MARK", &mark, true);
        for ((name, shape), path) in layout.maps.iter().zip(&paths) {
            loader.map_max_entries(name, shape.entries);
            loader.map_pin_path(name, path);
        }
        let mut ebpf = loader
            .load(OBJECT)
            .map_err(|source| OpenError::Maps(Box::new(source)))?;
        layout.create_missing(dir)?;
        let mut programs = Vec::new();
        for hook in Hook::ALL {
            let name = hook.as_str();
            let program: &mut SchedClassifier = ebpf
                .program_mut(name)
                .and_then(|program| program.try_into().ok())
                .ok_or(OpenError::NoProgram { name })?;
            program.load().map_err(|source| OpenError::Verifier {
                name,
                source: Box::new(source),
            })?;
            let fd = program.fd().map_err(|source| OpenError::Verifier {
                name,
                source: Box::new(source),
            })?;
            let fd = fd.as_fd();
            let (id, verified) = sys::program(fd).map_err(OpenError::Describe)?;
            let fd = fd.try_clone_to_owned().map_err(OpenError::Describe)?;
            programs.push(Program { fd, id, verified });
        }
        info!(coarse_clock = coarse != 0, "programs loaded");
        Ok(Self {
            _ebpf: ebpf,
            programs,
        })
    }

    pub(super) fn of(&self, hook: Hook) -> &Program {
        &self.programs[hook as usize]
    }
}

fn has_coarse_clock() -> bool {
    let answer: Result<bool, ProgramError> = is_helper_supported(
        ProgramType::SchedClassifier,
        BpfHelper::BPF_FUNC_ktime_get_coarse_ns,
    );
    answer.unwrap_or(false)
}
