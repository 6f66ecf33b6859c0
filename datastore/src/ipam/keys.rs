//! Where IPAM lies in the store: Calico's keys, written and read.

use std::{fmt, net::IpAddr};

use ipnet::IpNet;

use super::addr::version;
use crate::value::IpVersion;

/// Where the settings of all IPAM lie.
pub const CONFIG: &str = "/calico/ipam/v2/config";
/// Where the handles lie.
pub const HANDLES: &str = "/calico/ipam/v2/handle/";
/// Where the blocks of both families lie.
pub const BLOCKS: &str = "/calico/ipam/v2/assignment/";
/// Where all of IPAM lies.
pub const ROOT: &str = "/calico/ipam/v2/";

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
    format!("{}{}", blocks(version(cidr)), dashed(cidr))
}

/// Where the blocks of a family lie.
pub fn blocks(version: IpVersion) -> String {
    format!("{BLOCKS}{}/block/", family(version))
}

/// Where an owner's claim on a block lies.
pub fn affinity(owner: &Owner, cidr: IpNet) -> String {
    format!("{}{}", affinities(owner, version(cidr)), dashed(cidr))
}

/// Where an owner's claims in a family lie.
pub fn affinities(owner: &Owner, version: IpVersion) -> String {
    format!("{}/{}/block/", host(owner), family(version))
}

/// Where the claims of all owners of both kinds lie.
pub fn all_affinities() -> [String; 2] {
    [format!("{ROOT}host/"), format!("{ROOT}virtual/")]
}

/// Where an owner itself lies, for those clients that write one.
pub fn host(owner: &Owner) -> String {
    format!("{ROOT}{}/{}", owner.kind(), owner.name())
}

/// Where a handle lies.
pub fn handle(id: &str) -> String {
    format!("{HANDLES}{id}")
}

/// The block that lies here.
pub fn parse_block(key: &str) -> Option<IpNet> {
    let (family, rest) = key.strip_prefix(BLOCKS)?.split_once('/')?;
    parse_cidr(family, rest.strip_prefix("block/")?)
}

/// The claim that lies here.
pub fn parse_affinity(key: &str) -> Option<(Owner, IpNet)> {
    let mut parts = key.strip_prefix(ROOT)?.splitn(4, '/');
    let (kind, name, family, rest) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let owner = Owner::from_parts(kind, name)?;
    Some((owner, parse_cidr(family, rest.strip_prefix("block/")?)?))
}

/// The owner that lies here itself.
pub fn parse_host(key: &str) -> Option<Owner> {
    let (kind, name) = key.strip_prefix(ROOT)?.split_once('/')?;
    Owner::from_parts(kind, name)
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

fn dashed(cidr: IpNet) -> String {
    format!("{}-{}", cidr.network(), cidr.prefix_len())
}

fn parse_cidr(family_name: &str, dashed: &str) -> Option<IpNet> {
    let (address, len) = dashed.split_once('-')?;
    let address: IpAddr = address.parse().ok()?;
    let net = IpNet::new(address, len.parse().ok()?).ok()?;
    // One block has one key: host bits or another family would make a second one.
    (net.trunc() == net && family(version(net)) == family_name).then_some(net)
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
