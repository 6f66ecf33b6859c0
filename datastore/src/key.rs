//! Names of objects: what a key in the store is, and where it lies.
//!
//! A [`Key`] and its path in etcd are two spellings of one thing: [`Key::path`] writes it,
//! [`Key::parse`] reads it, and a path that would not be written back letter for letter is no key of
//! ours. Other keys under the same prefixes (statuses, kinds of later releases) parse to `None` and are
//! left alone.

use std::{fmt, str::FromStr};

use ipnet::IpNet;

pub use crate::kind::Kind;

/// Where the v3 resources lie.
pub const RESOURCE_ROOT: &str = "/calico/resources/v3/projectcalico.org/";
/// Where the kinds lie that Calico keeps in no etcd.
pub const CLEAT_ROOT: &str = "/cleat/resources/v1/";
/// Where the affinities of IPAM blocks to hosts lie, and the hosts that have had any.
pub const AFFINITY_ROOT: &str = "/calico/ipam/v2/host/";
/// Where the blocks of IPAM lie.
pub const BLOCK_ROOT: &str = "/calico/ipam/v2/assignment/";
/// Where the handles of IPAM lie.
pub const HANDLE_ROOT: &str = "/calico/ipam/v2/handle/";
/// Where the settings of IPAM lie.
pub const IPAM_CONFIG: &str = "/calico/ipam/v2/config";
/// Where the subnets of OpenStack lie.
pub const SUBNET_ROOT: &str = "/calico/dhcp/v2/";
/// Everything that a watch follows lies under these, and some that it does not: see [`Key::watched`].
pub const WATCHED_ROOTS: [&str; 4] = [RESOURCE_ROOT, CLEAT_ROOT, AFFINITY_ROOT, SUBNET_ROOT];

/// The name of an object in the store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A resource: one of Calico's v3 API, or one of Kubernetes that cleat keeps beside them.
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
    /// A block of addresses and what they are assigned to.
    IpamBlock {
        /// The block, without host bits.
        block: IpNet,
    },
    /// The settings of all IPAM.
    IpamConfig,
    /// How many addresses of which blocks one handle holds.
    IpamHandle {
        /// The handle.
        id: String,
    },
    /// A host that some clients note beside its claims.
    IpamHost {
        /// The node.
        host: String,
    },
    /// A subnet of OpenStack, for its DHCP agents.
    Subnet {
        /// The region: `no-region`, or `region-` and its name.
        region: String,
        /// The subnet's id in Neutron.
        id: String,
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

    /// The kind, for a resource.
    pub fn kind(&self) -> Option<Kind> {
        match self {
            Key::Resource { kind, .. } => Some(*kind),
            Key::BlockAffinity { .. }
            | Key::IpamBlock { .. }
            | Key::IpamConfig
            | Key::IpamHandle { .. }
            | Key::IpamHost { .. }
            | Key::Subnet { .. } => None,
        }
    }

    /// What sort of object it is, in the words of [`Display`](fmt::Display).
    pub fn sort(&self) -> &'static str {
        match self {
            Key::Resource { kind, .. } => kind.name(),
            Key::BlockAffinity { .. } => "BlockAffinity",
            Key::IpamBlock { .. } => "IPAMBlock",
            Key::IpamConfig => "IPAMConfig",
            Key::IpamHandle { .. } => "IPAMHandle",
            Key::IpamHost { .. } => "IPAMHost",
            Key::Subnet { .. } => "Subnet",
        }
    }

    /// The namespace, if there is one.
    pub fn namespace(&self) -> Option<&str> {
        match self {
            Key::Resource { namespace, .. } => namespace.as_deref(),
            Key::BlockAffinity { .. }
            | Key::IpamBlock { .. }
            | Key::IpamConfig
            | Key::IpamHandle { .. }
            | Key::IpamHost { .. }
            | Key::Subnet { .. } => None,
        }
    }

    /// The object's name; of an affinity, the host's; empty for what has none.
    pub fn name(&self) -> &str {
        match self {
            Key::Resource { name, .. } => name,
            Key::BlockAffinity { host, .. } | Key::IpamHost { host } => host,
            Key::IpamHandle { id } | Key::Subnet { id, .. } => id,
            Key::IpamBlock { .. } | Key::IpamConfig => "",
        }
    }

    /// Whether a watch follows the object. Blocks and handles change with every workload and matter to
    /// those alone who assign addresses: they are listed when asked for.
    pub fn watched(&self) -> bool {
        match self {
            Key::Resource { .. } | Key::BlockAffinity { .. } | Key::Subnet { .. } => true,
            Key::IpamBlock { .. }
            | Key::IpamConfig
            | Key::IpamHandle { .. }
            | Key::IpamHost { .. } => false,
        }
    }

    /// The path in etcd.
    pub fn path(&self) -> String {
        match self {
            Key::Resource {
                kind,
                namespace: Some(namespace),
                name,
            } => format!("{}{}/{namespace}/{name}", kind.root(), kind.plural()),
            Key::Resource {
                kind,
                namespace: None,
                name,
            } => format!("{}{}/{name}", kind.root(), kind.plural()),
            Key::BlockAffinity { host, block } => {
                format!("{AFFINITY_ROOT}{host}/{}", block_path(*block))
            }
            Key::IpamBlock { block } => format!("{BLOCK_ROOT}{}", block_path(*block)),
            Key::IpamConfig => IPAM_CONFIG.to_owned(),
            Key::IpamHandle { id } => format!("{HANDLE_ROOT}{id}"),
            Key::IpamHost { host } => format!("{AFFINITY_ROOT}{host}"),
            Key::Subnet { region, id } => format!("{SUBNET_ROOT}{region}/subnet/{id}"),
        }
    }

    /// The key of a path, or `None` if it is not one of ours.
    pub fn parse(path: &str) -> Option<Self> {
        let key = if let Some(rest) = path.strip_prefix(RESOURCE_ROOT) {
            Self::parse_resource(RESOURCE_ROOT, rest)
        } else if let Some(rest) = path.strip_prefix(CLEAT_ROOT) {
            Self::parse_resource(CLEAT_ROOT, rest)
        } else if let Some(rest) = path.strip_prefix(AFFINITY_ROOT) {
            match rest.split_once('/') {
                None => segment(rest).map(|host| Key::IpamHost { host }),
                Some((host, block)) => Some(Key::BlockAffinity {
                    host: segment(host)?,
                    block: parse_block(block)?,
                }),
            }
        } else if let Some(rest) = path.strip_prefix(BLOCK_ROOT) {
            parse_block(rest).map(|block| Key::IpamBlock { block })
        } else if let Some(rest) = path.strip_prefix(HANDLE_ROOT) {
            segment(rest).map(|id| Key::IpamHandle { id })
        } else if let Some(rest) = path.strip_prefix(SUBNET_ROOT) {
            let (region, id) = rest.split_once("/subnet/")?;
            Some(Key::Subnet {
                region: segment(region)
                    .filter(|region| region == "no-region" || region.starts_with("region-"))?,
                id: segment(id)?,
            })
        } else {
            (path == IPAM_CONFIG).then_some(Key::IpamConfig)
        }?;
        // An address has many spellings; only the one that is written back names the object.
        (key.path() == path).then_some(key)
    }

    fn parse_resource(root: &str, rest: &str) -> Option<Self> {
        let mut segments = rest.split('/');
        let kind = Kind::from_plural(segments.next()?).filter(|kind| kind.root() == root)?;
        let namespace = if kind.namespaced() {
            Some(segment(segments.next()?)?)
        } else {
            None
        };
        let name = segment(segments.next()?)?;
        segments.next().is_none().then_some(Key::Resource {
            kind,
            namespace,
            name,
        })
    }
}

/// One part of a path.
fn segment(text: &str) -> Option<String> {
    (!text.is_empty() && !text.contains('/')).then(|| text.to_owned())
}

fn block_path(block: IpNet) -> String {
    let family = match block {
        IpNet::V4(_) => 4,
        IpNet::V6(_) => 6,
    };
    format!("ipv{family}/block/{}-{}", block.addr(), block.prefix_len())
}

fn parse_block(text: &str) -> Option<IpNet> {
    let (family, rest) = text.split_once("/block/")?;
    let (address, length) = rest.rsplit_once('-')?;
    let block = IpNet::from_str(&format!("{address}/{length}")).ok()?;
    let of_family = match block {
        IpNet::V4(_) => family == "ipv4",
        IpNet::V6(_) => family == "ipv6",
    };
    (of_family && block == block.trunc()).then_some(block)
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.sort())?;
        match self {
            Key::Resource {
                namespace: Some(namespace),
                name,
                ..
            } => write!(f, "{namespace}/{name}")?,
            Key::Resource { name, .. } => f.write_str(name)?,
            Key::BlockAffinity { host, block } => write!(f, "{host}/{block}")?,
            Key::IpamBlock { block } => write!(f, "{block}")?,
            Key::IpamConfig => {}
            Key::IpamHandle { id } => f.write_str(id)?,
            Key::IpamHost { host } => f.write_str(host)?,
            Key::Subnet { region, id } => write!(f, "{region}/{id}")?,
        }
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::{
        resource::{AffinityState, Resource, decode},
        status,
    };

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
            ("/calico/ipam/v2/host/node1", "IPAMHost(node1)"),
            (
                "/calico/ipam/v2/assignment/ipv4/block/10.0.0.0-26",
                "IPAMBlock(10.0.0.0/26)",
            ),
            (
                "/calico/ipam/v2/assignment/ipv6/block/fd00::-122",
                "IPAMBlock(fd00::/122)",
            ),
            ("/calico/ipam/v2/handle/k8s.c0", "IPAMHandle(k8s.c0)"),
            ("/calico/ipam/v2/config", "IPAMConfig()"),
            ("/calico/dhcp/v2/region-1/subnet/s1", "Subnet(region-1/s1)"),
            ("/cleat/resources/v1/services/ns/web", "Service(ns/web)"),
            (
                "/cleat/resources/v1/endpointslices/ns/web-1",
                "EndpointSlice(ns/web-1)",
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
            "/calico/resources/v3/projectcalico.org/felixconfigurations/ns/default",
            "/calico/resources/v3/projectcalico.org/services/ns/x",
            "/calico/resources/v3/projectcalico.org/kubernetesservices/ns/x",
            "/cleat/resources/v1/nodes/x",
            "/cleat/resources/v1/services/x",
            "/calico/ipam/v2/config/",
            "/calico/ipam/v2/handle/",
            "/calico/ipam/v2/handle/a/b",
            "/calico/ipam/v2/host/",
            "/calico/ipam/v2/assignment/ipv4/block/10.0.0.1-26",
            "/calico/ipam/v2/assignment/ipv6/block/10.0.0.0-26",
            "/calico/dhcp/v2/elsewhere/subnet/s1",
            "/calico/dhcp/v2/no-region/subnet/",
            "/calico/dhcp/v2/no-region/subnet/a/b",
            "calico/ipam/v2/host/0/ipv0/block/0",
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

    /// What the table's sorts of keys are here: reports of the state of things lie beside the objects, and
    /// the others are Calico's names in a process's memory, which no store holds.
    #[test]
    fn paths_of_calico_give_its_keys_or_none() {
        let text = include_str!("../tests/vectors/keys.json");
        let vectors: Value = serde_json::from_str(text).unwrap();
        let list = |name: &str| vectors[name].as_array().unwrap().clone();
        let mut reports = 0;
        for case in list("paths").iter().chain(&list("legacyPaths")) {
            let path = case["path"].as_str().unwrap();
            assert_eq!(Key::parse(path), None, "{path}");
            let key = &case["key"];
            let text = |field: &str| key[field].as_str().unwrap_or_default();
            let (region, host) = (text("regionString"), text("hostname"));
            match text("type") {
                "ActiveStatusReportKey" => assert_eq!(status::alive(region, host), path),
                "LastStatusReportKey" => assert_eq!(status::last_alive(region, host), path),
                "HostConfigKey"
                | "LegacyPolicyKey"
                | "NetworkSetKey"
                | "PolicyKey"
                | "ReadyFlagKey"
                | "WorkloadEndpointKey" => {
                    assert!(path.starts_with("/calico/v1/"), "{path}");
                    continue;
                }
                _ => {
                    assert_eq!(case["error"], true, "{case}");
                    continue;
                }
            }
            reports += 1;
        }
        assert_eq!(reports, 2);
        let mut keys = Vec::new();
        for path in list("noCrash") {
            let path = path.as_str().unwrap().to_owned();
            if let Some(key) = Key::parse(&path) {
                assert_eq!(key.path(), path);
                keys.push(key.to_string());
            }
        }
        assert_eq!(keys, ["FelixConfiguration(default)"]);
        for case in list("values") {
            let key = &case["key"];
            let key = Key::BlockAffinity {
                host: key["host"].as_str().unwrap().to_owned(),
                block: key["cidr"].as_str().unwrap().parse().unwrap(),
            };
            let bytes = case["value"].as_str().unwrap().as_bytes();
            let Ok(Resource::BlockAffinity(affinity)) = decode(&key, bytes) else {
                panic!("{case}");
            };
            let wanted = match case["parsed"]["state"].as_str() {
                None => AffinityState::Confirmed,
                Some("pending") => AffinityState::Pending,
                Some(other) => panic!("{other}"),
            };
            assert_eq!(affinity.state, wanted, "{case}");
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
