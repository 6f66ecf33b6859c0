//! The path attributes of a route, as they are kept and compared.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::AsPath;

/// Everything a route is told with besides its prefix. Equal values are kept once (see `rib`), so it is small where
/// attributes are absent: an empty boxed slice owns no memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Attributes {
    /// ORIGIN.
    pub origin: OriginCode,
    /// AS_PATH, already merged with AS4_PATH.
    pub as_path: AsPath,
    /// NEXT_HOP, or the one in MP_REACH_NLRI.
    pub next_hop: NextHop,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// LOCAL_PREF.
    pub local_pref: Option<u32>,
    /// ATOMIC_AGGREGATE.
    pub atomic_aggregate: bool,
    /// AGGREGATOR, already merged with AS4_AGGREGATOR.
    pub aggregator: Option<Aggregator>,
    /// COMMUNITIES, sorted, as `high << 16 | low` (RFC 1997).
    pub communities: Box<[u32]>,
    /// EXTENDED COMMUNITIES, sorted (RFC 4360).
    pub extended_communities: Box<[u64]>,
    /// LARGE_COMMUNITY, sorted (RFC 8092).
    pub large_communities: Box<[[u32; 3]]>,
    /// ORIGINATOR_ID (RFC 4456).
    pub originator_id: Option<Ipv4Addr>,
    /// CLUSTER_LIST (RFC 4456).
    pub cluster_list: Box<[Ipv4Addr]>,
    /// OTC (RFC 9234 §5).
    pub only_to_customer: Option<u32>,
    /// Optional transitive attributes we do not know, in the order of their codes.
    pub unknown: Box<[RawAttribute]>,
}

impl Attributes {
    /// The attributes of a route that starts here.
    pub fn new(next_hop: NextHop) -> Self {
        Self {
            origin: OriginCode::Igp,
            as_path: AsPath::default(),
            next_hop,
            med: None,
            local_pref: None,
            atomic_aggregate: false,
            aggregator: None,
            communities: Box::default(),
            extended_communities: Box::default(),
            large_communities: Box::default(),
            originator_id: None,
            cluster_list: Box::default(),
            only_to_customer: None,
            unknown: Box::default(),
        }
    }

    /// It carries this community.
    pub fn has_community(&self, community: u32) -> bool {
        self.communities.contains(&community)
    }
}

/// Where packets for a route go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NextHop {
    /// The address; the global one where there are two.
    pub address: IpAddr,
    /// The link-local address beside it (RFC 2545 §3).
    pub link_local: Option<Ipv6Addr>,
}

impl From<IpAddr> for NextHop {
    fn from(address: IpAddr) -> Self {
        Self {
            address,
            link_local: None,
        }
    }
}

/// ORIGIN, the lower the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OriginCode {
    /// Inside the originating AS.
    Igp = 0,
    /// Learned by EGP.
    Egp = 1,
    /// By some other means.
    Incomplete = 2,
}

impl OriginCode {
    /// The RFC's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Igp => "IGP",
            Self::Egp => "EGP",
            Self::Incomplete => "incomplete",
        }
    }
}

/// Who aggregated a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Aggregator {
    /// Its AS.
    pub asn: u32,
    /// Its BGP identifier.
    pub router_id: Ipv4Addr,
}

/// An attribute we only pass on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RawAttribute {
    /// Its type code.
    pub code: u8,
    /// Its flags without the length bit; Partial is set, since we did not recognise it (RFC 4271 §5).
    pub flags: u8,
    /// Its value.
    pub value: Box<[u8]>,
}

/// Not to be told to any peer (RFC 1997).
pub(crate) const NO_ADVERTISE: u32 = 0xffff_ff02;
/// Not to leave the AS or confederation (RFC 1997).
pub(crate) const NO_EXPORT: u32 = 0xffff_ff01;
/// Not to leave the member AS (RFC 1997); without confederations, the AS.
pub(crate) const NO_EXPORT_SUBCONFED: u32 = 0xffff_ff03;
