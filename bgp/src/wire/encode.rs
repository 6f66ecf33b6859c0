//! UPDATEs to send: as many prefixes of one attribute set in a message as fit.

use std::net::IpAddr;

use ipnet::IpNet;
use zettabgp::afi::BgpAddr;
use zettabgp::message::attributes::community::{BgpCommunity, BgpCommunityList};
use zettabgp::message::attributes::localpref::BgpLocalpref;
use zettabgp::message::attributes::med::BgpMED;
use zettabgp::message::attributes::multiproto::{BgpMPUpdates, BgpMPWithdraws};
use zettabgp::message::attributes::nexthop::BgpNextHop;
use zettabgp::message::attributes::origin::{BgpAttrOrigin, BgpOrigin};
use zettabgp::message::attributes::originatorid::BgpOriginatorID;
use zettabgp::message::attributes::unknown::BgpAttrUnknown;
use zettabgp::message::attributes::{BgpAttrItem, BgpAttrParams};
use zettabgp::message::update::BgpUpdateMessage;
use zettabgp::prelude::{BgpMessage, BgpSessionParams};
use zettabgp::{BgpTransportMode, afi::BgpAddrs};

use super::update::{
    AGGREGATOR, AS_PATH, AS4_AGGREGATOR, AS4_PATH, ATOMIC_AGGREGATE, CLUSTER_LIST,
    EXTENDED_COMMUNITIES, EXTENDED_LENGTH, LARGE_COMMUNITIES, MP_REACH_NLRI, ONLY_TO_CUSTOMER,
    OPTIONAL, TRANSITIVE,
};
use super::{
    AS_TRANS, Aggregator, Attributes, Context, HEADER_LEN, MARKER, MAX_LEN, MessageType, NextHop,
    OriginCode, nlri,
};
use crate::Family;

/// An attribute set ready to be sent with any number of prefixes of one family.
#[derive(Debug)]
pub struct Announcement {
    family: Family,
    max_len: usize,
    /// The MP_REACH_NLRI's next hop; `None`: the prefixes go to the NLRI field.
    multiprotocol: Option<NextHop>,
    items: Vec<BgpAttrItem>,
    /// The octets of `items`.
    items_len: usize,
}

/// The attributes leave no room for a prefix, or the next hop is of a family that was not agreed on.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the attributes do not fit into a message to this peer")]
pub struct TooLong;

impl Announcement {
    /// Prepares an attribute set.
    pub fn new(
        family: Family,
        attributes: &Attributes,
        context: &Context,
    ) -> Result<Self, TooLong> {
        let multiprotocol = match (family, attributes.next_hop.address) {
            (Family::Ipv4Unicast, IpAddr::V4(_)) => None,
            (Family::Ipv4Unicast, IpAddr::V6(_)) if context.extended_next_hop => {
                Some(attributes.next_hop)
            }
            (Family::Ipv6Unicast, IpAddr::V6(_)) => Some(attributes.next_hop),
            _ => return Err(TooLong),
        };
        let items = items(attributes, multiprotocol.is_none(), context);
        let items_len = encoded_len(&items).ok_or(TooLong)?;
        let announcement = Self {
            family,
            max_len: context.max_len,
            multiprotocol,
            items,
            items_len,
        };
        let longest = 1 + usize::from(family.max_prefix_len() / 8);
        if announcement.overhead() + longest > announcement.max_len {
            return Err(TooLong);
        }
        Ok(announcement)
    }

    /// Appends one message with as many of the prefixes as fit and tells how many these are: at least one, if there is
    /// one.
    pub fn message(&mut self, prefixes: &[IpNet], out: &mut Vec<u8>) -> usize {
        let (count, nlri_len) = fitting(prefixes, self.max_len - self.overhead());
        let addrs = nlri::items(self.family, &prefixes[..count]);
        let mut update = BgpUpdateMessage::new();
        update.attrs = std::mem::take(&mut self.items);
        match self.multiprotocol {
            None => update.updates = addrs,
            Some(next_hop) => update.attrs.insert(0, reach(next_hop, addrs)), // RFC 7606 §5.1: first
        }
        assemble(
            &update,
            self.overhead_without_header() + self.items_len + nlri_len,
            out,
        );
        if self.multiprotocol.is_some() {
            update.attrs.remove(0);
        }
        self.items = update.attrs;
        count
    }

    fn overhead(&self) -> usize {
        HEADER_LEN + self.overhead_without_header() + self.items_len
    }

    /// The two length fields and the fixed part of MP_REACH_NLRI.
    fn overhead_without_header(&self) -> usize {
        4 + self
            .multiprotocol
            .map_or(0, |next_hop| 4 + 5 + next_hop_len(next_hop))
    }
}

/// Appends messages that withdraw the prefixes, all of one family.
pub fn withdraw(family: Family, mut prefixes: &[IpNet], context: &Context, out: &mut Vec<u8>) {
    let overhead = 4 + match family {
        Family::Ipv4Unicast => 0,
        Family::Ipv6Unicast => 4 + 3,
    };
    while !prefixes.is_empty() {
        let (count, nlri_len) = fitting(prefixes, context.max_len - HEADER_LEN - overhead);
        assemble(
            &withdrawal(family, &prefixes[..count]),
            overhead + nlri_len,
            out,
        );
        prefixes = &prefixes[count..];
    }
}

/// The End-of-RIB marker (RFC 4724 §2).
pub fn end_of_rib(family: Family) -> Vec<u8> {
    let mut out = Vec::new();
    let len = match family {
        Family::Ipv4Unicast => 4,
        Family::Ipv6Unicast => 4 + 4 + 3,
    };
    assemble(&withdrawal(family, &[]), len, &mut out);
    out
}

fn withdrawal(family: Family, prefixes: &[IpNet]) -> BgpUpdateMessage {
    let mut update = BgpUpdateMessage::new();
    let addrs = nlri::items(family, prefixes);
    match family {
        Family::Ipv4Unicast => update.withdraws = addrs,
        Family::Ipv6Unicast => update
            .attrs
            .push(BgpAttrItem::MPWithdraws(BgpMPWithdraws::new(addrs))),
    }
    update
}

/// How many prefixes fit and how many octets they take.
fn fitting(prefixes: &[IpNet], room: usize) -> (usize, usize) {
    let mut used = 0;
    for (index, prefix) in prefixes.iter().enumerate() {
        let len = nlri::encoded_len(prefix);
        if used + len > room {
            return (index, used);
        }
        used += len;
    }
    (prefixes.len(), used)
}

/// Appends a message whose body zettabgp writes into exactly `body_len` octets and some slack.
fn assemble(update: &BgpUpdateMessage, body_len: usize, out: &mut Vec<u8>) {
    let start = out.len();
    super::push_header(out, MessageType::Update, HEADER_LEN + body_len);
    let body = out.len();
    // zettabgp asks for room for a few octets more than it writes.
    out.resize(body + body_len + SLACK, 0);
    let written = update.encode_to(&params(), &mut out[body..]);
    debug_assert_eq!(
        written.ok(),
        Some(body_len),
        "the length of an UPDATE is known beforehand"
    );
    out.truncate(body + body_len);
    debug_assert_eq!(out[start..start + 16], MARKER);
}

/// The attributes besides MP_REACH_NLRI, in the order of their codes.
fn items(attributes: &Attributes, with_next_hop: bool, context: &Context) -> Vec<BgpAttrItem> {
    let origin = match attributes.origin {
        OriginCode::Igp => BgpAttrOrigin::Igp,
        OriginCode::Egp => BgpAttrOrigin::Egp,
        OriginCode::Incomplete => BgpAttrOrigin::Incomplete,
    };
    let mut items = vec![
        BgpAttrItem::Origin(BgpOrigin { value: origin }),
        raw(
            AS_PATH,
            TRANSITIVE,
            attributes.as_path.encode(context.four_octet_as),
        ),
    ];
    if with_next_hop {
        items.push(BgpAttrItem::NextHop(BgpNextHop {
            value: attributes.next_hop.address,
        }));
    }
    items.extend(
        attributes
            .med
            .map(|value| BgpAttrItem::MED(BgpMED { value })),
    );
    items.extend(
        attributes
            .local_pref
            .map(|value| BgpAttrItem::LocalPref(BgpLocalpref { value })),
    );
    if attributes.atomic_aggregate {
        items.push(raw(ATOMIC_AGGREGATE, TRANSITIVE, Vec::new()));
    }
    let passed_on = OPTIONAL | TRANSITIVE;
    if let Some(aggregator) = attributes.aggregator {
        items.push(raw(
            AGGREGATOR,
            passed_on,
            aggregator_value(aggregator, context.four_octet_as),
        ));
    }
    if !attributes.communities.is_empty() {
        let communities = attributes
            .communities
            .iter()
            .map(|&value| BgpCommunity { value });
        items.push(BgpAttrItem::CommunityList(BgpCommunityList {
            value: communities.collect(),
        }));
    }
    items.extend(
        attributes
            .originator_id
            .map(|id| BgpAttrItem::OriginatorID(BgpOriginatorID { value: id.into() })),
    );
    if !attributes.cluster_list.is_empty() {
        let ids = attributes
            .cluster_list
            .iter()
            .flat_map(std::net::Ipv4Addr::octets);
        items.push(raw(CLUSTER_LIST, OPTIONAL, ids.collect()));
    }
    if !attributes.extended_communities.is_empty() {
        let octets = attributes
            .extended_communities
            .iter()
            .flat_map(|community| community.to_be_bytes());
        items.push(raw(EXTENDED_COMMUNITIES, passed_on, octets.collect()));
    }
    if !context.four_octet_as {
        if attributes.as_path.is_wide() {
            items.push(raw(AS4_PATH, passed_on, attributes.as_path.encode(true)));
        }
        if let Some(wide) = attributes
            .aggregator
            .filter(|aggregator| aggregator.asn > u32::from(u16::MAX))
        {
            items.push(raw(AS4_AGGREGATOR, passed_on, aggregator_value(wide, true)));
        }
    }
    if !attributes.large_communities.is_empty() {
        let octets = attributes
            .large_communities
            .iter()
            .flatten()
            .flat_map(|part| part.to_be_bytes());
        items.push(raw(LARGE_COMMUNITIES, passed_on, octets.collect()));
    }
    if let Some(asn) = attributes.only_to_customer {
        items.push(raw(ONLY_TO_CUSTOMER, passed_on, asn.to_be_bytes().to_vec()));
    }
    for unknown in &attributes.unknown {
        items.push(raw(unknown.code, unknown.flags, unknown.value.to_vec()));
    }
    items
}

fn reach(next_hop: NextHop, addrs: BgpAddrs) -> BgpAttrItem {
    let IpAddr::V6(address) = next_hop.address else {
        return BgpAttrItem::MPUpdates(BgpMPUpdates {
            nexthop: BgpAddr::None,
            addrs,
        });
    };
    let Some(link_local) = next_hop.link_local else {
        return BgpAttrItem::MPUpdates(BgpMPUpdates {
            nexthop: BgpAddr::V6(address),
            addrs,
        });
    };
    // zettabgp cannot write a next hop of 32 octets (RFC 2545 §3).
    let (afi, safi) = addrs.get_afi_safi();
    let mut value = afi.to_be_bytes().to_vec();
    value.extend([safi, 32]);
    value.extend(address.octets());
    value.extend(link_local.octets());
    value.push(0);
    let head = value.len();
    value.resize(head + addrs.len() * LONGEST_PREFIX + SLACK, 0);
    let written = addrs.encode_to(&params(), &mut value[head..]).unwrap_or(0);
    value.truncate(head + written);
    let mut item = BgpAttrUnknown::new(MP_REACH_NLRI, OPTIONAL | EXTENDED_LENGTH);
    item.value = value;
    BgpAttrItem::Unknown(item)
}

fn next_hop_len(next_hop: NextHop) -> usize {
    if next_hop.link_local.is_some() {
        32
    } else {
        16
    }
}

fn raw(code: u8, flags: u8, value: Vec<u8>) -> BgpAttrItem {
    let long = if value.len() > 255 {
        EXTENDED_LENGTH
    } else {
        0
    };
    BgpAttrItem::Unknown(BgpAttrUnknown {
        params: BgpAttrParams {
            typecode: code,
            flags: flags & !EXTENDED_LENGTH | long,
        },
        value,
    })
}

fn aggregator_value(aggregator: Aggregator, four_octets: bool) -> Vec<u8> {
    let mut value = if four_octets {
        aggregator.asn.to_be_bytes().to_vec()
    } else {
        u16::try_from(aggregator.asn)
            .unwrap_or(AS_TRANS)
            .to_be_bytes()
            .to_vec()
    };
    value.extend(aggregator.router_id.octets());
    value
}

/// The octets the attributes take; `None`: more than any message holds.
fn encoded_len(items: &[BgpAttrItem]) -> Option<usize> {
    let bound = |item: &BgpAttrItem| match item {
        BgpAttrItem::Unknown(unknown) => 4 + unknown.value.len(),
        BgpAttrItem::CommunityList(list) => 4 + 4 * list.value.len(),
        BgpAttrItem::Origin(_)
        | BgpAttrItem::NextHop(_)
        | BgpAttrItem::MED(_)
        | BgpAttrItem::LocalPref(_)
        | BgpAttrItem::OriginatorID(_) => 8,
        // Never made by `items`.
        BgpAttrItem::ASPath(_)
        | BgpAttrItem::AtomicAggregate(_)
        | BgpAttrItem::AggregatorAS(_)
        | BgpAttrItem::ClusterList(_)
        | BgpAttrItem::MPUpdates(_)
        | BgpAttrItem::MPWithdraws(_)
        | BgpAttrItem::ExtCommunityList(_)
        | BgpAttrItem::LargeCommunityList(_)
        | BgpAttrItem::PMSITunnel(_)
        | BgpAttrItem::AttrSet(_)
        | BgpAttrItem::Connector(_)
        | BgpAttrItem::OTC(_) => usize::MAX / 64,
    };
    let bound: usize = items.iter().map(bound).sum();
    if bound > usize::from(u16::MAX) {
        return None;
    }
    let mut scratch = vec![0; bound + SLACK];
    let mut len = 0;
    for item in items {
        len += item.encode_to(&params(), &mut scratch[len..]).ok()?;
    }
    Some(len)
}

fn params() -> BgpSessionParams {
    // The mode is the one in which zettabgp writes the fixed fields of UPDATE, on IPv6 sessions too.
    BgpSessionParams::new(
        0,
        0,
        BgpTransportMode::IPv4,
        std::net::Ipv4Addr::UNSPECIFIED,
        Vec::new(),
    )
}

const SLACK: usize = 32;
/// An IPv6 host prefix with its length.
const LONGEST_PREFIX: usize = 17;
const _: () = assert!(SLACK < MAX_LEN);
