//! Which interface has which programs, as a table.
//!
//! With tcx a pinned link for each interface and hook holds the program; without it a filter of ours does. Both are found again
//! from the kernel alone, so a program that somebody took off is seen as missing at the next dump and put back.

use std::{
    collections::BTreeMap,
    fs, io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use cleat_bpf::Hook;

use super::{clsact, object::Programs, sys};
use crate::reconcile::Table;

/// The programs on an interface.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hooks {
    /// Those of a workload's host-side interface.
    Workload,
    /// Those of a host interface.
    Host,
    /// Some of ours, but not all of this process's: never wanted, only found.
    Partial,
}

impl Hooks {
    fn pair(self) -> [Hook; 2] {
        match self {
            Self::Workload | Self::Partial => [Hook::FromWorkload, Hook::ToWorkload],
            Self::Host => [Hook::FromHost, Hook::ToHost],
        }
    }
}

/// How programs are attached.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum AttachMode {
    /// Links (kernel 6.6 and later).
    Tcx,
    /// Filters of a clsact qdisc.
    Clsact,
}

/// Attached programs by ifindex.
#[derive(Debug)]
pub struct AttachTable {
    pub(super) mode: AttachMode,
    pub(super) links: PathBuf,
    pub(super) programs: Arc<Programs>,
}

impl AttachTable {
    fn attach(&self, ifindex: u32, hook: Hook) -> io::Result<()> {
        let ingress = is_ingress(hook);
        let program = self.programs.of(hook);
        match self.mode {
            AttachMode::Clsact => {
                let name = format!("{}{hook}", clsact::NAME_PREFIX);
                clsact::attach(ifindex, ingress, &name, program.fd.as_fd())
            }
            AttachMode::Tcx => {
                let path = self.links.join(link_name(ifindex, ingress));
                if let Ok(link) = sys::open_pin(&path) {
                    let there = sys::tcx_link(link.as_fd())?;
                    if there
                        .is_some_and(|there| there.ifindex == ifindex && there.ingress == ingress)
                    {
                        return sys::update_link(link.as_fd(), program.fd.as_fd());
                    }
                    // The interface of that number is another one by now.
                }
                remove(&path)?;
                let link = sys::attach_tcx(program.fd.as_fd(), ifindex, ingress)?;
                sys::pin(link.as_fd(), &path)
            }
        }
    }

    /// The program of ours on each side of each interface: its id.
    fn found(&self) -> io::Result<BTreeMap<u32, [Option<u32>; 2]>> {
        let mut found: BTreeMap<u32, [Option<u32>; 2]> = BTreeMap::new();
        match self.mode {
            AttachMode::Clsact => {
                for interface in clsact::interfaces()? {
                    for ingress in [true, false] {
                        if let Some(filter) = clsact::find(interface, ingress)? {
                            found.entry(interface).or_default()[usize::from(!ingress)] =
                                Some(filter.program);
                        }
                    }
                }
            }
            AttachMode::Tcx => {
                for path in pins(&self.links)? {
                    let Ok(link) = sys::open_pin(&path) else {
                        continue;
                    };
                    match sys::tcx_link(link.as_fd())? {
                        Some(link) if link.ifindex != 0 => {
                            found.entry(link.ifindex).or_default()[usize::from(!link.ingress)] =
                                Some(link.program);
                        }
                        // The interface is gone, or somebody detached the link: the pin is all that is left.
                        _ => remove(&path)?,
                    }
                }
            }
        }
        Ok(found)
    }
}

impl Table<u32, Hooks> for AttachTable {
    type Error = io::Error;

    fn dump(&mut self) -> io::Result<Vec<(u32, Hooks)>> {
        let hooks = |ids: [Option<u32>; 2]| {
            let is = |hooks: Hooks| hooks.pair().map(|hook| Some(self.programs.of(hook).id)) == ids;
            [Hooks::Workload, Hooks::Host]
                .into_iter()
                .find(|&hooks| is(hooks))
                .unwrap_or(Hooks::Partial)
        };
        Ok(self
            .found()?
            .into_iter()
            .map(|(ifindex, ids)| (ifindex, hooks(ids)))
            .collect())
    }

    fn put(&mut self, ifindex: &u32, hooks: &Hooks) -> io::Result<()> {
        for hook in hooks.pair() {
            self.attach(*ifindex, hook)?;
        }
        Ok(())
    }

    fn delete(&mut self, ifindex: &u32) -> io::Result<()> {
        for ingress in [true, false] {
            match self.mode {
                AttachMode::Clsact => clsact::detach(*ifindex, ingress)?,
                AttachMode::Tcx => remove(&self.links.join(link_name(*ifindex, ingress)))?,
            }
        }
        Ok(())
    }
}

const fn is_ingress(hook: Hook) -> bool {
    matches!(hook, Hook::FromWorkload | Hook::FromHost)
}

fn link_name(ifindex: u32, ingress: bool) -> String {
    format!("{ifindex}-{}", if ingress { "ingress" } else { "egress" })
}

fn pins(dir: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(dir)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
