//! Names of objects: what a key in the store is, and where it lies.
//!
//! A [`Key`] and its path in etcd are two spellings of one thing: [`Key::path`] writes it,
//! [`Key::parse`] reads it, and a path that would not be written back letter for letter is no key of
//! ours. Other keys under the same prefix (IPAM blocks, statuses, kinds of later releases) parse to
//! `None` and are left alone.

use std::{fmt, str::FromStr};

use ipnet::IpNet;

/// Where the v3 resources lie.
pub const RESOURCE_ROOT: &str = "/calico/resources/v3/projectcalico.org/";
/// Where the affinities of IPAM blocks to hosts lie.
pub const AFFINITY_ROOT: &str = "/calico/ipam/v2/host/";

/// A kind of v3 resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "a variant is the kind of that name")]
pub enum Kind {
    BgpConfiguration,
    BgpPeer,
    GlobalNetworkPolicy,
    GlobalNetworkSet,
    IpPool,
    NetworkPolicy,
    NetworkSet,
    Node,
    Profile,
    Tier,
    WorkloadEndpoint,
}

struct KindFacts {
    name: &'static str,
    plural: &'static str,
    namespaced: bool,
    aliases: &'static [&'static str],
}

impl Kind {
    /// Every kind, in the order of the names.
    pub const ALL: [Kind; 11] = [
        Kind::BgpConfiguration,
        Kind::BgpPeer,
        Kind::GlobalNetworkPolicy,
        Kind::GlobalNetworkSet,
        Kind::IpPool,
        Kind::NetworkPolicy,
        Kind::NetworkSet,
        Kind::Node,
        Kind::Profile,
        Kind::Tier,
        Kind::WorkloadEndpoint,
    ];

    /// The name as it stands in `kind:`.
    pub fn name(self) -> &'static str {
        self.facts().name
    }

    /// The name as it stands in a path.
    pub fn plural(self) -> &'static str {
        self.facts().plural
    }

    /// Whether objects of this kind lie in a namespace.
    pub fn namespaced(self) -> bool {
        self.facts().namespaced
    }

    /// What the command line accepts beside the name, in lower case.
    pub fn aliases(self) -> &'static [&'static str] {
        self.facts().aliases
    }

    /// The kind of a path's segment.
    pub fn from_plural(plural: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.plural() == plural)
    }

    /// The kind written exactly so in `kind:`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The kind meant by a word on the command line: name, plural or alias, in any case.
    pub fn from_word(word: &str) -> Option<Self> {
        let word = word.to_ascii_lowercase();
        Self::ALL.into_iter().find(|kind| {
            kind.name().eq_ignore_ascii_case(&word)
                || kind.plural() == word
                || kind.aliases().contains(&word.as_str())
        })
    }

    fn facts(self) -> KindFacts {
        let (name, plural, namespaced, aliases): (_, _, _, &'static [&'static str]) = match self {
            Kind::BgpConfiguration => (
                "BGPConfiguration",
                "bgpconfigurations",
                false,
                &["bgpconfig", "bgpconfigs"],
            ),
            Kind::BgpPeer => ("BGPPeer", "bgppeers", false, &["bgpp", "bgpps", "bp"]),
            Kind::GlobalNetworkPolicy => (
                "GlobalNetworkPolicy",
                "globalnetworkpolicies",
                false,
                &["gnp", "gnps"],
            ),
            Kind::GlobalNetworkSet => (
                "GlobalNetworkSet",
                "globalnetworksets",
                false,
                &["gnetset", "gnetsets"],
            ),
            Kind::IpPool => (
                "IPPool",
                "ippools",
                false,
                &["ipp", "ipps", "pool", "pools"],
            ),
            Kind::NetworkPolicy => (
                "NetworkPolicy",
                "networkpolicies",
                true,
                &["np", "nps", "policy", "policies", "pol", "pols"],
            ),
            Kind::NetworkSet => ("NetworkSet", "networksets", true, &["netset", "netsets"]),
            Kind::Node => ("Node", "nodes", false, &["no", "nos"]),
            Kind::Profile => ("Profile", "profiles", false, &["pro", "pros"]),
            Kind::Tier => ("Tier", "tiers", false, &[]),
            Kind::WorkloadEndpoint => (
                "WorkloadEndpoint",
                "workloadendpoints",
                true,
                &["wep", "weps"],
            ),
        };
        KindFacts {
            name,
            plural,
            namespaced,
            aliases,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name of an object in the store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A v3 resource.
    Resource {
        /// Its kind.
        kind: Kind,
        /// Its namespace, present exactly if the kind is namespaced.
        namespace: Option<String>,
        /// Its name, as stored.
        name: String,
    },
    /// The claim of a host on a block of addresses.
    BlockAffinity {
        /// The node that holds the block.
        host: String,
        /// The block, without host bits.
        block: IpNet,
    },
}

impl Key {
    /// The key of a cluster-wide resource.
    pub fn global(kind: Kind, name: impl Into<String>) -> Self {
        Key::Resource {
            kind,
            namespace: None,
            name: name.into(),
        }
    }

    /// The key of a namespaced resource.
    pub fn namespaced(kind: Kind, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Key::Resource {
            kind,
            namespace: Some(namespace.into()),
            name: name.into(),
        }
    }

    /// The kind, for a v3 resource.
    pub fn kind(&self) -> Option<Kind> {
        match self {
            Key::Resource { kind, .. } => Some(*kind),
            Key::BlockAffinity { .. } => None,
        }
    }

    /// The namespace, if there is one.
    pub fn namespace(&self) -> Option<&str> {
        match self {
            Key::Resource { namespace, .. } => namespace.as_deref(),
            Key::BlockAffinity { .. } => None,
        }
    }

    /// The object's name; of an affinity, the host's.
    pub fn name(&self) -> &str {
        match self {
            Key::Resource { name, .. } => name,
            Key::BlockAffinity { host, .. } => host,
        }
    }

    /// The path in etcd.
    pub fn path(&self) -> String {
        match self {
            Key::Resource {
                kind,
                namespace: Some(namespace),
                name,
            } => format!("{RESOURCE_ROOT}{}/{namespace}/{name}", kind.plural()),
            Key::Resource {
                kind,
                namespace: None,
                name,
            } => format!("{RESOURCE_ROOT}{}/{name}", kind.plural()),
            Key::BlockAffinity { host, block } => {
                let family = match block {
                    IpNet::V4(_) => 4,
                    IpNet::V6(_) => 6,
                };
                format!(
                    "{AFFINITY_ROOT}{host}/ipv{family}/block/{}-{}",
                    block.addr(),
                    block.prefix_len()
                )
            }
        }
    }

    /// The key of a path, or `None` if it is not one of ours.
    pub fn parse(path: &str) -> Option<Self> {
        let key = if let Some(rest) = path.strip_prefix(RESOURCE_ROOT) {
            Self::parse_resource(rest)
        } else {
            Self::parse_affinity(path.strip_prefix(AFFINITY_ROOT)?)
        }?;
        // An address has many spellings; only the one that is written back names the object.
        (key.path() == path).then_some(key)
    }

    fn parse_resource(rest: &str) -> Option<Self> {
        let mut segments = rest.split('/');
        let kind = Kind::from_plural(segments.next()?)?;
        let namespace = if kind.namespaced() {
            Some(segments.next().filter(|text| !text.is_empty())?.to_owned())
        } else {
            None
        };
        let name = segments.next().filter(|text| !text.is_empty())?.to_owned();
        segments.next().is_none().then_some(Key::Resource {
            kind,
            namespace,
            name,
        })
    }

    fn parse_affinity(rest: &str) -> Option<Self> {
        let mut segments = rest.split('/');
        let host = segments.next().filter(|text| !text.is_empty())?;
        let family = segments.next()?;
        if segments.next()? != "block" {
            return None;
        }
        let (address, length) = segments.next()?.rsplit_once('-')?;
        let block = IpNet::from_str(&format!("{address}/{length}")).ok()?;
        let of_family = match block {
            IpNet::V4(_) => family == "ipv4",
            IpNet::V6(_) => family == "ipv6",
        };
        (segments.next().is_none() && of_family && block == block.trunc()).then(|| {
            Key::BlockAffinity {
                host: host.to_owned(),
                block,
            }
        })
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Resource {
                kind,
                namespace: Some(namespace),
                name,
            } => write!(f, "{kind}({namespace}/{name})"),
            Key::Resource { kind, name, .. } => write!(f, "{kind}({name})"),
            Key::BlockAffinity { host, block } => write!(f, "BlockAffinity({host}/{block})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn paths_and_keys_are_two_spellings_of_one_thing() {
        for (path, shown) in [
            (
                "/calico/resources/v3/projectcalico.org/nodes/n1",
                "Node(n1)",
            ),
            (
                "/calico/resources/v3/projectcalico.org/workloadendpoints/openstack/node1-openstack-vm--1-port--1",
                "WorkloadEndpoint(openstack/node1-openstack-vm--1-port--1)",
            ),
            (
                "/calico/resources/v3/projectcalico.org/networkpolicies/openstack/ossg.default.3ab1",
                "NetworkPolicy(openstack/ossg.default.3ab1)",
            ),
            (
                "/calico/ipam/v2/host/node1/ipv4/block/192.168.9.64-26",
                "BlockAffinity(node1/192.168.9.64/26)",
            ),
            (
                "/calico/ipam/v2/host/node-1/ipv6/block/fd00:1::-122",
                "BlockAffinity(node-1/fd00:1::/122)",
            ),
        ] {
            let key = Key::parse(path).unwrap();
            assert_eq!(key.to_string(), shown);
            assert_eq!(key.path(), path);
        }
        for kind in Kind::ALL {
            let key = if kind.namespaced() {
                Key::namespaced(kind, "ns", "x")
            } else {
                Key::global(kind, "x")
            };
            assert_eq!(Key::parse(&key.path()), Some(key));
        }
    }

    #[test]
    fn other_paths_are_no_keys() {
        for path in [
            "",
            "/",
            "/calico/resources/v3/projectcalico.org/",
            "/calico/resources/v3/projectcalico.org/nodes",
            "/calico/resources/v3/projectcalico.org/nodes/",
            "/calico/resources/v3/projectcalico.org/nodes/a/b",
            "/calico/resources/v3/projectcalico.org/networkpolicies/ns",
            "/calico/resources/v3/projectcalico.org/networkpolicies/ns/",
            "/calico/resources/v3/projectcalico.org/networkpolicies//x",
            "/calico/resources/v3/projectcalico.org/networkpolicies/ns/x/y",
            "/calico/resources/v3/projectcalico.org/felixconfigurations/default",
            "calico/ipam/v2/host/0/ipv0/block/0",
            "/calico/ipam/v2/host/h",
            "/calico/ipam/v2/host/h/ipv6/block/10.0.0.0-26",
            "/calico/ipam/v2/host/h/ipv4/block/10.0.0.0-33",
            "/calico/ipam/v2/host/h/ipv4/block/10.0.0.1-26",
            "/calico/ipam/v2/host/h/ipv4/block/010.0.0.0-26",
            "/calico/ipam/v2/host/h/ipv6/block/fd00:0::-122",
            "/calico/ipam/v2/host/h/ipv4/block/10.0.0.0-26/x",
            "/calico/ipam/v2/host//ipv4/block/10.0.0.0-26",
        ] {
            assert_eq!(Key::parse(path), None, "{path}");
        }
    }

    /// Of the lists there, `paths` and `legacyPaths` name keys of a process's memory that no store holds
    /// (`/calico/v1/...`), but for one; `values` are tested where values are decoded.
    #[test]
    fn paths_of_calico_give_its_keys_or_none() {
        let text = include_str!("../tests/vectors/keys.json");
        let vectors: Value = serde_json::from_str(text).unwrap();
        for case in vectors["paths"].as_array().unwrap() {
            let path = case["path"].as_str().unwrap();
            assert_eq!(Key::parse(path), None, "{path}");
        }
        for path in vectors["noCrash"].as_array().unwrap() {
            let path = path.as_str().unwrap();
            if let Some(key) = Key::parse(path) {
                assert_eq!(key.path(), path);
            }
        }
    }

    #[test]
    fn kinds_are_known_by_name_plural_and_alias() {
        for (word, kind) in [
            ("wep", Kind::WorkloadEndpoint),
            ("WorkloadEndpoints", Kind::WorkloadEndpoint),
            ("gnp", Kind::GlobalNetworkPolicy),
            ("np", Kind::NetworkPolicy),
            ("policy", Kind::NetworkPolicy),
            ("ipp", Kind::IpPool),
            ("pool", Kind::IpPool),
            ("bgpp", Kind::BgpPeer),
            ("bgpconfig", Kind::BgpConfiguration),
            ("gnetset", Kind::GlobalNetworkSet),
            ("netset", Kind::NetworkSet),
            ("no", Kind::Node),
            ("tier", Kind::Tier),
            ("pro", Kind::Profile),
        ] {
            assert_eq!(Kind::from_word(word), Some(kind), "{word}");
        }
        assert_eq!(Kind::from_word("pod"), None);
        let mut words: Vec<&str> = Kind::ALL
            .into_iter()
            .flat_map(|kind| kind.aliases().iter().copied().chain([kind.plural()]))
            .collect();
        let all = words.len();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), all, "a word means one kind");
    }

    proptest! {
        #[test]
        fn a_parsed_path_is_written_back_as_it_was(
            path in "/calico/(resources/v3/projectcalico.org/(nodes|tiers|networksets)|ipam/v2/host)/[-a-z0-9./:]{0,20}(/ipv[46]/block/[0-9a-f.:-]{1,12})?"
        ) {
            if let Some(key) = Key::parse(&path) {
                prop_assert_eq!(key.path(), path);
            }
        }

        #[test]
        fn an_affinity_has_one_path(host in "[a-z0-9.-]{1,10}", bits: u128, v6: bool, len in 0..=128u8) {
            let block = if v6 {
                IpNet::new(std::net::Ipv6Addr::from(bits).into(), len)
            } else {
                IpNet::new(std::net::Ipv4Addr::from(bits as u32).into(), len.min(32))
            };
            let key = Key::BlockAffinity { host, block: block.unwrap().trunc() };
            prop_assert_eq!(Key::parse(&key.path()), Some(key));
        }
    }
}
