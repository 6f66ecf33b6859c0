//! UPDATE: the walk over its attributes and what to do with wrong ones (RFC 7606).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use zettabgp::BgpTransportMode;
use zettabgp::message::attributes::BgpAttrItem;
use zettabgp::message::attributes::origin::BgpAttrOrigin;
use zettabgp::prelude::BgpSessionParams;

use super::{
    Aggregator, AsPath, Attributes, Context, NextHop, Notification, OriginCode, RawAttribute, code,
    nlri,
};
use crate::Family;

/// A decoded UPDATE. What came in families that were not agreed on is not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// Prefixes to forget, among them the announced ones of a message that must be treated as withdrawn. They come
    /// before the announced ones (RFC 4271 §3.1: a prefix in both is announced).
    pub withdrawn: Vec<IpNet>,
    /// Prefixes with their attributes: those of the NLRI field, those of MP_REACH_NLRI.
    pub announced: Vec<(Attributes, Vec<IpNet>)>,
    /// The family whose initial routes are complete (RFC 4724 §2).
    pub end_of_rib: Option<Family>,
    /// What was wrong without ending the session.
    pub errors: Vec<AttributeError>,
}

/// A wrong attribute.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} ({code}): {problem}; {class}")]
pub struct AttributeError {
    /// The attribute's type code.
    pub code: u8,
    /// Its name.
    pub name: &'static str,
    /// What is wrong.
    pub problem: &'static str,
    /// What follows from it.
    pub class: ErrorClass,
}

/// What a wrong attribute does (RFC 7606 §2), the strongest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ErrorClass {
    /// The route is used without the attribute.
    AttributeDiscard,
    /// The routes of the message are forgotten.
    TreatAsWithdraw,
    /// The session ends.
    SessionReset,
}

impl std::fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::AttributeDiscard => "attribute discard",
            Self::TreatAsWithdraw => "treat-as-withdraw",
            Self::SessionReset => "session reset",
        })
    }
}

impl Update {
    /// Reads the body.
    ///
    /// # Errors
    /// The prefixes could not be found for sure, so the session must end.
    pub fn decode(body: &[u8], context: &Context) -> Result<Self, Notification> {
        let malformed = || Notification::new(code::UPDATE, 1);
        let (withdrawn, rest) = take_u16(body).ok_or_else(malformed)?;
        let (attributes, nlri) = take_u16(rest).ok_or_else(malformed)?;

        let invalid_field = || Notification::new(code::UPDATE, 10);
        let withdrawn = nlri::decode(Family::Ipv4Unicast, withdrawn).ok_or_else(invalid_field)?;
        let nlri = nlri::decode(Family::Ipv4Unicast, nlri).ok_or_else(invalid_field)?;

        let mut walk = Walk::new(context);
        walk.attributes(attributes)?;

        if withdrawn.is_empty() && nlri.is_empty() && attributes.is_empty() {
            return Ok(Self {
                end_of_rib: context.families.get(&Family::Ipv4Unicast).copied(),
                ..Self::default()
            });
        }
        let use_v4 = context.families.contains(&Family::Ipv4Unicast);
        let (withdrawn, nlri) = if use_v4 {
            (withdrawn, nlri)
        } else {
            Default::default()
        };
        Ok(walk.finish(withdrawn, nlri))
    }
}

/// The state of the walk over the attributes.
struct Walk<'a> {
    context: &'a Context,
    params: BgpSessionParams,
    seen: [bool; 256],
    found: Found,
    errors: Vec<AttributeError>,
}

/// What the walk found.
#[derive(Default)]
struct Found {
    count: usize,
    origin: Option<OriginCode>,
    as_path: Option<AsPath>,
    as4_path: Option<AsPath>,
    next_hop: Option<Ipv4Addr>,
    med: Option<u32>,
    local_pref: Option<u32>,
    atomic_aggregate: bool,
    aggregator: Option<Aggregator>,
    as4_aggregator: Option<Aggregator>,
    communities: Box<[u32]>,
    extended_communities: Box<[u64]>,
    large_communities: Box<[[u32; 3]]>,
    originator_id: Option<Ipv4Addr>,
    cluster_list: Box<[Ipv4Addr]>,
    only_to_customer: Option<u32>,
    unknown: Vec<RawAttribute>,
    reach: Option<(NextHop, Vec<IpNet>)>,
    unreach: Option<(Option<Family>, Vec<IpNet>)>,
}

impl<'a> Walk<'a> {
    fn new(context: &'a Context) -> Self {
        // IPv4 also on an IPv6 session: the other mode reads the fixed fields of UPDATE as IPv6.
        let mut params = BgpSessionParams::new(
            0,
            0,
            BgpTransportMode::IPv4,
            Ipv4Addr::UNSPECIFIED,
            Vec::new(),
        );
        params.has_as32bit = context.four_octet_as;
        params.fuzzy_pathid = false;
        Self {
            context,
            params,
            seen: [false; 256],
            found: Found::default(),
            errors: Vec::new(),
        }
    }

    fn attributes(&mut self, mut rest: &[u8]) -> Result<(), Notification> {
        while !rest.is_empty() {
            let Some((attribute, after)) = Raw::split(rest) else {
                // The NLRI field is found by the total length, so the routes can still be withdrawn (RFC 7606 §4).
                let code = rest.get(1).copied().unwrap_or_default();
                self.error(
                    code,
                    "reaches beyond the attributes",
                    ErrorClass::TreatAsWithdraw,
                );
                return Ok(());
            };
            self.found.count += 1;
            self.attribute(&attribute)?;
            rest = after;
        }
        Ok(())
    }

    fn attribute(&mut self, raw: &Raw<'_>) -> Result<(), Notification> {
        let Some(rule) = rule(raw.code) else {
            self.unrecognised(raw);
            return Ok(());
        };
        if std::mem::replace(&mut self.seen[usize::from(raw.code)], true) {
            if matches!(raw.code, MP_REACH_NLRI | MP_UNREACH_NLRI) {
                return Err(Notification::new(code::UPDATE, 1)); // RFC 7606 §3 (g)
            }
            self.error(raw.code, "repeated", ErrorClass::AttributeDiscard);
            return Ok(());
        }
        if raw.flags & (OPTIONAL | TRANSITIVE) != rule.flags {
            self.error(raw.code, "wrong flags", ErrorClass::TreatAsWithdraw); // RFC 7606 §3 (c)
            if rule.class != ErrorClass::SessionReset {
                return Ok(()); // else its prefixes must still be found
            }
        }
        if rule.internal && !self.context.ibgp {
            // RFC 7606 §7.5, §7.9, §7.10: whatever it holds, an external peer has no say in it.
            self.error(
                raw.code,
                "from an external peer",
                ErrorClass::AttributeDiscard,
            );
            return Ok(());
        }
        if !rule.length.accepts(raw.value.len(), self.context) {
            return self.wrong(raw, rule, "wrong length");
        }
        match self.read(raw) {
            Ok(()) => Ok(()),
            Err(problem) => self.wrong(raw, rule, problem),
        }
    }

    fn wrong(
        &mut self,
        raw: &Raw<'_>,
        rule: &Rule,
        problem: &'static str,
    ) -> Result<(), Notification> {
        if rule.class == ErrorClass::SessionReset {
            return Err(Notification::with_data(code::UPDATE, 9, raw.whole));
        }
        self.error(raw.code, problem, rule.class);
        Ok(())
    }

    /// Reads an attribute of the right length.
    fn read(&mut self, raw: &Raw<'_>) -> Result<(), &'static str> {
        let value = raw.value;
        match raw.code {
            AS_PATH => {
                let path = AsPath::decode(value, self.context.four_octet_as).ok_or("malformed")?;
                if path.has_confederation() {
                    return Err("a confederation's segment from outside of one"); // RFC 5065 §5
                }
                self.found.as_path = Some(path);
            }
            ATOMIC_AGGREGATE => self.found.atomic_aggregate = true,
            AGGREGATOR => self.found.aggregator = Some(aggregator(value).ok_or("AS 0")?),
            AS4_AGGREGATOR => self.found.as4_aggregator = Some(aggregator(value).ok_or("AS 0")?),
            AS4_PATH => self.found.as4_path = Some(AsPath::decode(value, true).ok_or("malformed")?),
            LARGE_COMMUNITIES => {
                self.found.large_communities = sorted(value.chunks_exact(12).map(|community| {
                    [
                        number(&community[..4]),
                        number(&community[4..8]),
                        number(&community[8..]),
                    ]
                }));
            }
            ONLY_TO_CUSTOMER => self.found.only_to_customer = Some(number(value)),
            MP_REACH_NLRI => self.found.reach = self.reach(value)?,
            MP_UNREACH_NLRI => self.found.unreach = Some(self.unreach(value)?),
            _ => self.read_simple(raw)?,
        }
        Ok(())
    }

    /// Reads by zettabgp what it reads right once the length is right.
    fn read_simple(&mut self, raw: &Raw<'_>) -> Result<(), &'static str> {
        let item = BgpAttrItem::decode_from(
            &self.params,
            raw.code,
            raw.flags,
            raw.value.len(),
            raw.value,
        )
        .map_err(|_| "undefined value")?;
        let found = &mut self.found;
        match item {
            BgpAttrItem::Origin(origin) => {
                found.origin = Some(match origin.value {
                    BgpAttrOrigin::Igp => OriginCode::Igp,
                    BgpAttrOrigin::Egp => OriginCode::Egp,
                    BgpAttrOrigin::Incomplete => OriginCode::Incomplete,
                });
            }
            BgpAttrItem::NextHop(next_hop) => {
                if let IpAddr::V4(address) = next_hop.value {
                    found.next_hop = Some(address);
                }
            }
            BgpAttrItem::MED(med) => found.med = Some(med.value),
            BgpAttrItem::LocalPref(local_pref) => found.local_pref = Some(local_pref.value),
            BgpAttrItem::CommunityList(list) => {
                found.communities = list.value.iter().map(|community| community.value).collect();
            }
            BgpAttrItem::ExtCommunityList(_) => {
                // Its parts are not needed one by one, so the eight octets stay together.
                found.extended_communities = sorted(raw.value.chunks_exact(8).map(|community| {
                    u64::from(number(&community[..4])) << 32 | u64::from(number(&community[4..]))
                }));
            }
            BgpAttrItem::OriginatorID(id) => {
                if let IpAddr::V4(id) = id.value {
                    found.originator_id = Some(id);
                }
            }
            BgpAttrItem::ClusterList(list) => {
                let id = |address: &IpAddr| match address {
                    IpAddr::V4(id) => Some(*id),
                    IpAddr::V6(_) => None,
                };
                found.cluster_list = list.value.iter().filter_map(id).collect();
            }
            BgpAttrItem::ASPath(_)
            | BgpAttrItem::AtomicAggregate(_)
            | BgpAttrItem::AggregatorAS(_)
            | BgpAttrItem::MPUpdates(_)
            | BgpAttrItem::MPWithdraws(_)
            | BgpAttrItem::LargeCommunityList(_)
            | BgpAttrItem::PMSITunnel(_)
            | BgpAttrItem::AttrSet(_)
            | BgpAttrItem::Connector(_)
            | BgpAttrItem::OTC(_)
            | BgpAttrItem::Unknown(_) => return Err("unexpected kind"),
        }
        Ok(())
    }

    /// MP_REACH_NLRI (RFC 4760 §3); `None` for a family that was not agreed on.
    fn reach(&self, value: &[u8]) -> Result<Option<(NextHop, Vec<IpNet>)>, &'static str> {
        let (family, rest) = self.family(value)?;
        let (&len, rest) = rest.split_first().ok_or("too short")?;
        let (next_hop, rest) = rest
            .split_at_checked(usize::from(len))
            .ok_or("next hop beyond the end")?;
        let (_reserved, nlri) = rest.split_first().ok_or("too short")?;
        let Some(family) = family else {
            return Ok(None);
        };
        let v6 = |bytes: &[u8]| {
            <[u8; 16]>::try_from(bytes)
                .map(Ipv6Addr::from)
                .map_err(|_| "next hop's length")
        };
        let next_hop = match (family, len) {
            (Family::Ipv4Unicast, 4) => NextHop::from(IpAddr::from([
                next_hop[0],
                next_hop[1],
                next_hop[2],
                next_hop[3],
            ])),
            (Family::Ipv4Unicast, _) if !self.context.extended_next_hop => {
                return Err("next hop's length");
            }
            (_, 16) => NextHop::from(IpAddr::from(v6(next_hop)?)),
            (_, 32) => {
                let (global, link_local) = (v6(&next_hop[..16])?, v6(&next_hop[16..])?);
                NextHop {
                    // Some send the link-local one twice, or nothing before it.
                    address: if global.is_unspecified() {
                        link_local
                    } else {
                        global
                    }
                    .into(),
                    link_local: link_local.is_unicast_link_local().then_some(link_local),
                }
            }
            _ => return Err("next hop's length"),
        };
        let prefixes = nlri::decode(family, nlri).ok_or("prefix")?;
        Ok(Some((next_hop, prefixes)))
    }

    /// MP_UNREACH_NLRI (RFC 4760 §4).
    fn unreach(&self, value: &[u8]) -> Result<(Option<Family>, Vec<IpNet>), &'static str> {
        let (family, nlri) = self.family(value)?;
        let prefixes = match family {
            Some(family) => nlri::decode(family, nlri).ok_or("prefix")?,
            None => Vec::new(),
        };
        Ok((family, prefixes))
    }

    /// The family in front of a value, if it was agreed on.
    fn family<'v>(&self, value: &'v [u8]) -> Result<(Option<Family>, &'v [u8]), &'static str> {
        let (head, rest) = value.split_at_checked(3).ok_or("too short")?;
        let family = Family::from_wire(u16::from_be_bytes([head[0], head[1]]), head[2]);
        Ok((
            family.filter(|family| self.context.families.contains(family)),
            rest,
        ))
    }

    fn unrecognised(&mut self, raw: &Raw<'_>) {
        if raw.flags & OPTIONAL == 0 {
            // RFC 4271 §6.3 would end the session; RFC 7606 asks to spare the other routes wherever that is safe.
            self.error(
                raw.code,
                "well-known but not recognised",
                ErrorClass::TreatAsWithdraw,
            );
        } else if raw.flags & TRANSITIVE != 0 {
            if std::mem::replace(&mut self.seen[usize::from(raw.code)], true) {
                self.error(raw.code, "repeated", ErrorClass::AttributeDiscard);
                return;
            }
            self.found.unknown.push(RawAttribute {
                code: raw.code,
                flags: OPTIONAL | TRANSITIVE | PARTIAL,
                value: raw.value.into(),
            });
        }
    }

    fn error(&mut self, code: u8, problem: &'static str, class: ErrorClass) {
        let name = rule(code).map_or("attribute", |rule| rule.name);
        self.errors.push(AttributeError {
            code,
            name,
            problem,
            class,
        });
    }

    fn finish(mut self, mut withdrawn: Vec<IpNet>, nlri: Vec<IpNet>) -> Update {
        let announces = !nlri.is_empty()
            || self
                .found
                .reach
                .as_ref()
                .is_some_and(|(_, nlri)| !nlri.is_empty());
        if announces {
            for (missing, code) in [
                (self.found.origin.is_none(), ORIGIN),
                (self.found.as_path.is_none(), AS_PATH),
                (self.found.next_hop.is_none() && !nlri.is_empty(), NEXT_HOP),
            ] {
                if missing && !self.seen[usize::from(code)] {
                    self.error(code, "missing", ErrorClass::TreatAsWithdraw); // RFC 7606 §3 (d)
                }
            }
        }
        let treat_as_withdraw = self
            .errors
            .iter()
            .any(|error| error.class >= ErrorClass::TreatAsWithdraw);
        let mut found = self.found;
        let reach = found.reach.take();
        let mut end_of_rib = None;
        if let Some((family, prefixes)) = found.unreach.take() {
            if prefixes.is_empty() && withdrawn.is_empty() && found.count == 1 && !announces {
                end_of_rib = family;
            }
            withdrawn.extend(prefixes);
        }
        let mut announced: Vec<(NextHop, Vec<IpNet>)> = Vec::new();
        if let Some(next_hop) = found.next_hop.filter(|_| !nlri.is_empty()) {
            announced.push((IpAddr::from(next_hop).into(), nlri));
        } else {
            withdrawn.extend(nlri);
        }
        announced.extend(reach.filter(|(_, prefixes)| !prefixes.is_empty()));

        let attributes = found.attributes(self.context);
        let announced = match attributes {
            Some(attributes) if !treat_as_withdraw => announced
                .into_iter()
                .map(|(next_hop, prefixes)| {
                    (
                        Attributes {
                            next_hop,
                            ..attributes.clone()
                        },
                        prefixes,
                    )
                })
                .collect(),
            _ => {
                withdrawn.extend(announced.into_iter().flat_map(|(_, prefixes)| prefixes));
                Vec::new()
            }
        };
        Update {
            withdrawn,
            announced,
            end_of_rib,
            errors: self.errors,
        }
    }
}

impl Found {
    /// The attributes without their next hop; `None` if a mandatory one is missing.
    fn attributes(self, context: &Context) -> Option<Attributes> {
        let mut as_path = self.as_path?;
        let mut aggregator = self.aggregator;
        if !context.four_octet_as {
            // RFC 6793 §4.2.3: an AGGREGATOR that is not AS_TRANS tells that AS4_PATH is out of date.
            let up_to_date =
                aggregator.is_none_or(|aggregator| aggregator.asn == u32::from(super::AS_TRANS));
            if up_to_date {
                aggregator = aggregator.and(self.as4_aggregator).or(aggregator);
                if let Some(as4_path) = &self.as4_path {
                    as_path = as_path.merge(as4_path);
                }
            }
        }
        let mut unknown = self.unknown;
        unknown.sort_unstable();
        Some(Attributes {
            origin: self.origin?,
            as_path,
            next_hop: IpAddr::from(Ipv4Addr::UNSPECIFIED).into(),
            med: self.med,
            local_pref: self.local_pref,
            atomic_aggregate: self.atomic_aggregate,
            aggregator,
            communities: self.communities,
            extended_communities: self.extended_communities,
            large_communities: self.large_communities,
            originator_id: self.originator_id,
            cluster_list: self.cluster_list,
            only_to_customer: self.only_to_customer,
            unknown: unknown.into(),
        })
    }
}

/// An attribute with its value measured.
struct Raw<'a> {
    flags: u8,
    code: u8,
    value: &'a [u8],
    whole: &'a [u8],
}

impl<'a> Raw<'a> {
    fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (&[flags, code], rest) = bytes.split_first_chunk::<2>()?;
        let (value, after) = if flags & EXTENDED_LENGTH == 0 {
            let (&len, rest) = rest.split_first()?;
            rest.split_at_checked(usize::from(len))?
        } else {
            take_u16(rest)?
        };
        let whole = &bytes[..bytes.len() - after.len()];
        Some((
            Self {
                flags,
                code,
                value,
                whole,
            },
            after,
        ))
    }
}

/// What is known about an attribute.
struct Rule {
    code: u8,
    name: &'static str,
    flags: u8,
    length: Length,
    class: ErrorClass,
    /// Only an internal peer may send it.
    internal: bool,
}

enum Length {
    Any,
    AtLeast(usize),
    Exact(usize),
    /// AGGREGATOR: by the width of AS numbers.
    Aggregator,
    /// Not zero.
    Multiple(usize),
}

impl Length {
    fn accepts(&self, len: usize, context: &Context) -> bool {
        match *self {
            Self::Any => true,
            Self::AtLeast(least) => len >= least,
            Self::Exact(exact) => len == exact,
            Self::Aggregator => len == if context.four_octet_as { 8 } else { 6 },
            Self::Multiple(unit) => len != 0 && len.is_multiple_of(unit),
        }
    }
}

fn rule(code: u8) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.code == code)
}

fn take_u16(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(length)))
}

/// The big-endian number in at most four octets.
fn number(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .fold(0, |sum, &octet| sum << 8 | u32::from(octet))
}

fn sorted<T: Ord>(items: impl Iterator<Item = T>) -> Box<[T]> {
    let mut items: Vec<T> = items.collect();
    items.sort_unstable();
    items.dedup();
    items.into()
}

/// `None` for AS 0 (RFC 7607).
fn aggregator(value: &[u8]) -> Option<Aggregator> {
    let (asn, &router_id) = value.split_last_chunk::<4>()?;
    let asn = number(asn);
    (asn != 0).then_some(Aggregator {
        asn,
        router_id: router_id.into(),
    })
}

pub(super) const OPTIONAL: u8 = 0x80;
pub(super) const TRANSITIVE: u8 = 0x40;
pub(super) const PARTIAL: u8 = 0x20;
pub(super) const EXTENDED_LENGTH: u8 = 0x10;

pub(super) const ORIGIN: u8 = 1;
pub(super) const AS_PATH: u8 = 2;
pub(super) const NEXT_HOP: u8 = 3;
pub(super) const ATOMIC_AGGREGATE: u8 = 6;
pub(super) const AGGREGATOR: u8 = 7;
pub(super) const CLUSTER_LIST: u8 = 10;
pub(super) const MP_REACH_NLRI: u8 = 14;
pub(super) const MP_UNREACH_NLRI: u8 = 15;
pub(super) const EXTENDED_COMMUNITIES: u8 = 16;
pub(super) const AS4_PATH: u8 = 17;
pub(super) const AS4_AGGREGATOR: u8 = 18;
pub(super) const LARGE_COMMUNITIES: u8 = 32;
pub(super) const ONLY_TO_CUSTOMER: u8 = 35;

/// RFC 7606 §7, RFC 6793 §6, RFC 8092 §6, RFC 9234 §5.
#[rustfmt::skip]
static RULES: [Rule; 17] = {
    use ErrorClass::{AttributeDiscard as Discard, SessionReset as Reset, TreatAsWithdraw as Withdraw};
    const WELL_KNOWN: u8 = TRANSITIVE;
    const LOCAL: u8 = OPTIONAL;
    const PASSED_ON: u8 = OPTIONAL | TRANSITIVE;
    const fn rule(code: u8, name: &'static str, flags: u8, length: Length, class: ErrorClass, internal: bool) -> Rule {
        Rule { code, name, flags, length, class, internal }
    }
    [
        rule(ORIGIN, "ORIGIN", WELL_KNOWN, Length::Exact(1), Withdraw, false),
        rule(AS_PATH, "AS_PATH", WELL_KNOWN, Length::Any, Withdraw, false),
        rule(NEXT_HOP, "NEXT_HOP", WELL_KNOWN, Length::Exact(4), Withdraw, false),
        rule(4, "MULTI_EXIT_DISC", LOCAL, Length::Exact(4), Withdraw, false),
        rule(5, "LOCAL_PREF", WELL_KNOWN, Length::Exact(4), Withdraw, true),
        rule(ATOMIC_AGGREGATE, "ATOMIC_AGGREGATE", WELL_KNOWN, Length::Exact(0), Discard, false),
        rule(AGGREGATOR, "AGGREGATOR", PASSED_ON, Length::Aggregator, Discard, false),
        rule(8, "COMMUNITIES", PASSED_ON, Length::Multiple(4), Withdraw, false),
        rule(9, "ORIGINATOR_ID", LOCAL, Length::Exact(4), Withdraw, true),
        rule(CLUSTER_LIST, "CLUSTER_LIST", LOCAL, Length::Multiple(4), Withdraw, true),
        rule(MP_REACH_NLRI, "MP_REACH_NLRI", LOCAL, Length::AtLeast(5), Reset, false),
        rule(MP_UNREACH_NLRI, "MP_UNREACH_NLRI", LOCAL, Length::AtLeast(3), Reset, false),
        rule(EXTENDED_COMMUNITIES, "EXTENDED COMMUNITIES", PASSED_ON, Length::Multiple(8), Withdraw, false),
        rule(AS4_PATH, "AS4_PATH", PASSED_ON, Length::Any, Discard, false),
        rule(AS4_AGGREGATOR, "AS4_AGGREGATOR", PASSED_ON, Length::Exact(8), Discard, false),
        rule(LARGE_COMMUNITIES, "LARGE_COMMUNITY", PASSED_ON, Length::Multiple(12), Withdraw, false),
        rule(ONLY_TO_CUSTOMER, "OTC", PASSED_ON, Length::Exact(4), Withdraw, false),
    ]
};

#[cfg(test)]
#[path = "update_tests.rs"]
mod tests;
