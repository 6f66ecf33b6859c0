//! Where IPAM lies in the store: Calico's keys, written and read, of which [`Key`] knows those of
//! hosts.

use std::fmt;

use ipnet::IpNet;

pub use crate::key::{BLOCK_ROOT as BLOCKS, HANDLE_ROOT as HANDLES, IPAM_CONFIG as CONFIG};
use crate::{
    key::{AFFINITY_ROOT, Key},
    value::IpVersion,
};

/// Where all of IPAM lies.
pub const ROOT: &str = "/calico/ipam/v2/";
/// Where the claims of owners that are no hosts lie.
const VIRTUAL_ROOT: &str = "/calico/ipam/v2/virtual/";

/// Who a block is kept for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// A host, by its node's name.
    Host(String),
    /// Something that is no host, such as `load-balancer`.
    Virtual(String),
}

impl Owner {
    /// A host.
    pub fn host(name: impl Into<String>) -> Self {
        Owner::Host(name.into())
    }

    /// The owner that a block's `affinity` names.
    pub fn parse(affinity: &str) -> Option<Self> {
        let (kind, name) = affinity.split_once(':')?;
        Self::from_parts(kind, name)
    }

    /// Its name, without saying what it is.
    pub fn name(&self) -> &str {
        match self {
            Owner::Host(name) | Owner::Virtual(name) => name,
        }
    }

    /// What it is: `host` or `virtual`.
    pub fn kind(&self) -> &'static str {
        match self {
            Owner::Host(_) => "host",
            Owner::Virtual(_) => "virtual",
        }
    }

    fn from_parts(kind: &str, name: &str) -> Option<Self> {
        match kind {
            "host" if is_segment(name) => Some(Owner::Host(name.to_owned())),
            "virtual" if is_segment(name) => Some(Owner::Virtual(name.to_owned())),
            _ => None,
        }
    }
}

/// As a block's `affinity` has it.
impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind(), self.name())
    }
}

/// Where a block lies.
pub fn block(cidr: IpNet) -> String {
    let block = cidr.trunc();
    Key::IpamBlock { block }.path()
}

/// Where the blocks of a family lie.
pub fn blocks(version: IpVersion) -> String {
    format!("{BLOCKS}{}/block/", family(version))
}

/// Where an owner's claim on a block lies.
pub fn affinity(owner: &Owner, cidr: IpNet) -> String {
    let host = owner.name().to_owned();
    let block = cidr.trunc();
    of_owner(owner, Key::BlockAffinity { host, block }.path())
}

/// Where an owner's claims in a family lie.
pub fn affinities(owner: &Owner, version: IpVersion) -> String {
    format!("{}/{}/block/", host(owner), family(version))
}

/// Where the claims of all owners of both kinds lie.
pub fn all_affinities() -> [String; 2] {
    [AFFINITY_ROOT.to_owned(), VIRTUAL_ROOT.to_owned()]
}

/// Where an owner itself lies, for those clients that write one.
pub fn host(owner: &Owner) -> String {
    let host = owner.name().to_owned();
    of_owner(owner, Key::IpamHost { host }.path())
}

/// Where a handle lies.
pub fn handle(id: &str) -> String {
    Key::IpamHandle { id: id.to_owned() }.path()
}

/// The block that lies here.
pub fn parse_block(key: &str) -> Option<IpNet> {
    if let Key::IpamBlock { block } = Key::parse(key)? {
        Some(block)
    } else {
        None
    }
}

/// The claim that lies here.
pub fn parse_affinity(key: &str) -> Option<(Owner, IpNet)> {
    match parse_of_owner(key)? {
        (is_virtual, Key::BlockAffinity { host, block }) => Some((owner(is_virtual, host), block)),
        _ => None,
    }
}

/// The owner that lies here itself.
pub fn parse_host(key: &str) -> Option<Owner> {
    match parse_of_owner(key)? {
        (is_virtual, Key::IpamHost { host }) => Some(owner(is_virtual, host)),
        _ => None,
    }
}

/// The id of the handle that lies here.
pub fn parse_handle(key: &str) -> Option<&str> {
    key.strip_prefix(HANDLES).filter(|id| is_segment(id))
}

/// Whether a text can be one part of a key.
pub(super) fn is_segment(text: &str) -> bool {
    !text.is_empty() && !text.contains('/')
}

fn family(version: IpVersion) -> &'static str {
    match version {
        IpVersion::V4 => "ipv4",
        IpVersion::V6 => "ipv6",
    }
}

/// What lies here if the owner is a host lies under another root for others.
fn of_owner(owner: &Owner, path: String) -> String {
    match (owner, path.strip_prefix(AFFINITY_ROOT)) {
        (Owner::Virtual(_), Some(rest)) => format!("{VIRTUAL_ROOT}{rest}"),
        _ => path,
    }
}

fn parse_of_owner(path: &str) -> Option<(bool, Key)> {
    match path.strip_prefix(VIRTUAL_ROOT) {
        Some(rest) => Some((true, Key::parse(&format!("{AFFINITY_ROOT}{rest}"))?)),
        None => Some((false, Key::parse(path)?)),
    }
}

fn owner(is_virtual: bool, name: String) -> Owner {
    if is_virtual {
        Owner::Virtual(name)
    } else {
        Owner::Host(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn keys_are_those_of_calico_and_are_read_back() {
        for (cidr, key) in [
            (
                "192.168.9.64/26",
                "/calico/ipam/v2/assignment/ipv4/block/192.168.9.64-26",
            ),
            (
                "fd00:1::40/122",
                "/calico/ipam/v2/assignment/ipv6/block/fd00:1::40-122",
            ),
        ] {
            assert_eq!(block(net(cidr)), key);
            assert_eq!(parse_block(key), Some(net(cidr)));
        }
        for (owner, cidr, key) in [
            (
                Owner::host("node1"),
                "192.168.9.64/26",
                "/calico/ipam/v2/host/node1/ipv4/block/192.168.9.64-26",
            ),
            (
                Owner::Virtual("load-balancer".to_owned()),
                "fd00::/122",
                "/calico/ipam/v2/virtual/load-balancer/ipv6/block/fd00::-122",
            ),
        ] {
            assert_eq!(affinity(&owner, net(cidr)), key);
            assert_eq!(parse_affinity(key), Some((owner.clone(), net(cidr))));
            assert_eq!(Owner::parse(&owner.to_string()), Some(owner));
        }
        assert_eq!(
            handle("k8s-pod-network.abc"),
            "/calico/ipam/v2/handle/k8s-pod-network.abc"
        );
        assert_eq!(parse_handle("/calico/ipam/v2/handle/a"), Some("a"));
        assert_eq!(host(&Owner::host("node1")), "/calico/ipam/v2/host/node1");
    }

    #[test]
    fn what_would_not_be_written_so_is_no_key() {
        for key in [
            "/calico/ipam/v2/assignment/ipv4/block/192.168.9.65-26",
            "/calico/ipam/v2/assignment/ipv6/block/192.168.9.64-26",
            "/calico/ipam/v2/assignment/ipv4/block/192.168.9.64",
            "/calico/ipam/v2/assignment/ipv4/192.168.9.64-26",
            "/calico/ipam/v2/assignment/ipv4/block/192.168.9.64-33",
        ] {
            assert_eq!(parse_block(key), None, "{key}");
        }
        for key in [
            "/calico/ipam/v2/host/node1",
            "/calico/ipam/v2/other/node1/ipv4/block/10.0.0.0-26",
            "/calico/ipam/v2/host//ipv4/block/10.0.0.0-26",
        ] {
            assert_eq!(parse_affinity(key), None, "{key}");
        }
        assert_eq!(parse_handle("/calico/ipam/v2/handle/a/b"), None);
    }
}
