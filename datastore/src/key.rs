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
