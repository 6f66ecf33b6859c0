//! What is accepted from a peer and what it is told.
//!
//! Import never changes a route, it only refuses it; the refused one stays in the table with its reason, so that a
//! change of configuration can judge it again and a person can see it.
//! RFC 4271 §5, §9.1.2, §9.2; RFC 1997 (well-known communities), RFC 4456 §8 (ORIGINATOR_ID of our own).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use serde::Serialize;

use crate::Family;
use crate::config::Export;
use crate::decision::{SourceKind, local_pref};
use crate::wire::{Attributes, NO_ADVERTISE, NO_EXPORT, NO_EXPORT_SUBCONFED};

/// Why import refuses a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rejection {
    /// Our own AS is in the path: a loop.
    OwnAs,
    /// We made the route, and it came back through a reflector.
    OwnOriginatorId,
    /// The path does not begin with the peer's AS.
    FirstAs,
    /// No packet may have such a destination.
    MartianPrefix,
    /// No packet can be sent to such a next hop.
    MartianNextHop,
    /// The next hop is our own address.
    OwnNextHop,
}

/// What import must know about a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// The peer is in our AS.
    pub ibgp: bool,
    /// Our AS towards it.
    pub local_as: u32,
    /// Its AS.
    pub remote_as: u32,
    /// Our BGP identifier.
    pub router_id: Ipv4Addr,
    /// How often our AS may be in the path.
    pub allow_own_as: u8,
    /// The path must begin with the peer's AS.
    pub enforce_first_as: bool,
    /// Our addresses towards it.
    pub own_addresses: Vec<IpAddr>,
}

impl Import {
    /// Judges attributes; prefixes are judged by [`martian`].
    pub fn judge(&self, attributes: &Attributes) -> Option<Rejection> {
        let own = attributes
            .as_path
            .asns()
            .filter(|&asn| asn == self.local_as)
            .count();
        if own > usize::from(self.allow_own_as) {
            return Some(Rejection::OwnAs);
        }
        if attributes.originator_id == Some(self.router_id) {
            return Some(Rejection::OwnOriginatorId);
        }
        if !self.ibgp
            && self.enforce_first_as
            && attributes.as_path.first_as() != Some(self.remote_as)
        {
            return Some(Rejection::FirstAs);
        }
        let next_hop = attributes.next_hop.address;
        if is_unusable(next_hop) {
            return Some(Rejection::MartianNextHop);
        }
        self.own_addresses
            .contains(&next_hop)
            .then_some(Rejection::OwnNextHop)
    }
}

/// The prefix lies where no packet from outside may go: loopback, link-local, multicast, "this network".
pub fn martian(prefix: &IpNet) -> Option<Rejection> {
    is_martian(prefix).then_some(Rejection::MartianPrefix)
}

fn is_martian(prefix: &IpNet) -> bool {
    match prefix {
        IpNet::V4(net) => {
            let first = net.network();
            let zero = first.octets()[0] == 0 && net.prefix_len() != 0;
            zero || first.is_loopback() || first.is_link_local() || first.octets()[0] >= 224
        }
        IpNet::V6(net) => {
            let first = net.network();
            let within = |len: u8| net.prefix_len() >= len;
            (within(128) && (first.is_loopback() || first.is_unspecified()))
                || (within(96) && first.to_ipv4_mapped().is_some())
                || (within(10) && first.is_unicast_link_local())
                || first.is_multicast()
        }
    }
}

/// What export must know about a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportContext {
    /// The peer is in our AS.
    pub ibgp: bool,
    /// Our AS towards it.
    pub local_as: u32,
    /// Which routes it is told.
    pub export: Export,
    /// Our next hop by family; a family without one cannot be told what needs one.
    pub next_hops: BTreeMap<Family, IpAddr>,
}

impl ExportContext {
    /// The attributes by which this peer is told a best path, or `None`. The caller keeps a path from the peer it came
    /// from.
    pub fn apply(
        &self,
        family: Family,
        kind: SourceKind,
        attributes: &Attributes,
    ) -> Option<Attributes> {
        match (kind, self.export) {
            (SourceKind::External | SourceKind::Internal, Export::Originated) => return None,
            // RFC 4271 §9.2: what an internal peer told, all internal peers heard from it.
            (SourceKind::Internal, Export::Best) if self.ibgp => return None,
            (SourceKind::Local, Export::Originated | Export::Best)
            | (SourceKind::External | SourceKind::Internal, Export::Best) => {}
        }
        if attributes.has_community(NO_ADVERTISE) {
            return None;
        }
        let stays_inside = [NO_EXPORT, NO_EXPORT_SUBCONFED];
        if !self.ibgp
            && stays_inside
                .iter()
                .any(|&community| attributes.has_community(community))
        {
            return None;
        }
        let mut told = attributes.clone();
        let keep_next_hop = self.ibgp && kind != SourceKind::Local;
        if !keep_next_hop {
            told.next_hop = (*self.next_hops.get(&family)?).into();
        }
        if self.ibgp {
            told.local_pref = Some(local_pref(attributes));
        } else {
            told.as_path = attributes.as_path.prepend(self.local_as);
            told.local_pref = None;
            told.originator_id = None;
            told.cluster_list = Box::default();
            if kind != SourceKind::Local {
                told.med = None; // RFC 4271 §5.1.4: not passed on to other ASes
            }
        }
        Some(told)
    }
}

fn is_unusable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            address.is_unspecified()
                || address.is_loopback()
                || address.is_multicast()
                || address.is_broadcast()
        }
        // Link-local ones are no use without the interface they came by.
        IpAddr::V6(address) => {
            address.is_unspecified()
                || address.is_loopback()
                || address.is_multicast()
                || address.is_unicast_link_local()
                || address.to_ipv4_mapped().is_some()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::AsPath;

    #[test]
    fn import_refuses_with_a_reason() {
        type Case<'a> = (&'a str, &'a Import, &'a [u32], &'a str, Option<Rejection>);
        let import = Import {
            ibgp: false,
            local_as: 64512,
            remote_as: 65001,
            router_id: Ipv4Addr::new(10, 0, 0, 1),
            allow_own_as: 0,
            enforce_first_as: true,
            own_addresses: vec![[192, 0, 2, 1].into()],
        };
        let allowing = Import {
            allow_own_as: 1,
            ..import.clone()
        };
        let route_server = Import {
            enforce_first_as: false,
            ..import.clone()
        };
        let internal = Import {
            ibgp: true,
            remote_as: 64512,
            ..import.clone()
        };
        let hop = "192.0.2.2";
        let cases: &[Case<'_>] = &[
            ("good", &import, &[65001, 7], hop, None),
            (
                "loop",
                &import,
                &[65001, 64512],
                hop,
                Some(Rejection::OwnAs),
            ),
            ("allowed once", &allowing, &[65001, 64512], hop, None),
            (
                "not twice",
                &allowing,
                &[65001, 64512, 64512],
                hop,
                Some(Rejection::OwnAs),
            ),
            (
                "another's path",
                &import,
                &[7, 65001],
                hop,
                Some(Rejection::FirstAs),
            ),
            ("no path", &import, &[], hop, Some(Rejection::FirstAs)),
            ("no path inside", &internal, &[], hop, None),
            ("route server", &route_server, &[7], hop, None),
            (
                "our address",
                &import,
                &[65001],
                "192.0.2.1",
                Some(Rejection::OwnNextHop),
            ),
            (
                "zero",
                &import,
                &[65001],
                "0.0.0.0",
                Some(Rejection::MartianNextHop),
            ),
            (
                "loopback",
                &import,
                &[65001],
                "127.0.0.1",
                Some(Rejection::MartianNextHop),
            ),
            (
                "multicast",
                &import,
                &[65001],
                "224.0.0.5",
                Some(Rejection::MartianNextHop),
            ),
            ("v6", &import, &[65001], "2001:db8::2", None),
            (
                "v6 zero",
                &import,
                &[65001],
                "::",
                Some(Rejection::MartianNextHop),
            ),
            (
                "v6 multicast",
                &import,
                &[65001],
                "ff02::5",
                Some(Rejection::MartianNextHop),
            ),
            (
                "v6 link-local",
                &import,
                &[65001],
                "fe80::1",
                Some(Rejection::MartianNextHop),
            ),
            (
                "mapped",
                &import,
                &[65001],
                "::ffff:192.0.2.2",
                Some(Rejection::MartianNextHop),
            ),
        ];
        for (name, import, path, next_hop, expected) in cases {
            let mut attributes = Attributes::new(next_hop.parse::<IpAddr>().unwrap().into());
            attributes.as_path = AsPath::sequence(path);
            assert_eq!(import.judge(&attributes), *expected, "{name}");
        }
        let mut reflected = Attributes::new(IpAddr::from([192, 0, 2, 2]).into());
        reflected.originator_id = Some(import.router_id);
        assert_eq!(internal.judge(&reflected), Some(Rejection::OwnOriginatorId));
    }

    #[test]
    fn martian_prefixes_are_known_and_the_default_route_is_none() {
        let cases = [
            ("0.0.0.0/0", false),
            ("10.0.0.0/8", false),
            ("0.0.0.0/8", true),
            ("127.0.0.0/8", true),
            ("169.254.0.0/16", true),
            ("224.0.0.0/4", true),
            ("255.255.255.255/32", true),
            ("192.0.2.0/24", false),
            ("::/0", false),
            ("2001:db8::/32", false),
            ("::1/128", true),
            ("fe80::/10", true),
            ("ff00::/8", true),
            ("::ffff:0:0/96", true),
            ("fd00::/8", false),
        ];
        for (prefix, expected) in cases {
            assert_eq!(
                martian(&prefix.parse().unwrap()).is_some(),
                expected,
                "{prefix}"
            );
        }
    }

    #[test]
    fn a_host_is_never_the_way_between_two_routers() {
        let external = context(false, Export::Originated);
        let internal = context(true, Export::Originated);
        for (kind, expected) in [
            (SourceKind::Local, true),
            (SourceKind::External, false),
            (SourceKind::Internal, false),
        ] {
            for context in [&external, &internal] {
                let told = context.apply(Family::Ipv4Unicast, kind, &route());
                assert_eq!(told.is_some(), expected, "{kind:?}");
            }
        }
    }

    #[test]
    fn best_paths_follow_the_rules_of_ibgp_and_ebgp() {
        let external = context(false, Export::Best);
        let internal = context(true, Export::Best);
        let v4 = Family::Ipv4Unicast;

        assert_eq!(
            internal.apply(v4, SourceKind::Internal, &route()),
            None,
            "no iBGP to iBGP"
        );

        let inside = internal.apply(v4, SourceKind::External, &route()).unwrap();
        assert_eq!(inside.next_hop, route().next_hop, "unchanged inside the AS");
        assert_eq!(inside.local_pref, Some(100));
        assert_eq!(
            (inside.as_path.to_string(), inside.med),
            ("65001 7".to_owned(), Some(5))
        );

        let own = internal.apply(v4, SourceKind::Local, &route()).unwrap();
        assert_eq!(
            own.next_hop.address,
            IpAddr::from([192, 0, 2, 1]),
            "self on what is originated"
        );

        let outside = external.apply(v4, SourceKind::External, &route()).unwrap();
        assert_eq!(outside.next_hop.address, IpAddr::from([192, 0, 2, 1]));
        assert_eq!(
            (outside.as_path.to_string(), outside.med),
            ("64512 65001 7".to_owned(), None)
        );
        assert_eq!(outside.local_pref, None);
        assert_eq!(
            external.apply(v4, SourceKind::Local, &route()).unwrap().med,
            Some(5),
            "ours is told"
        );

        assert_eq!(
            external.apply(Family::Ipv6Unicast, SourceKind::Local, &route()),
            None,
            "no next hop"
        );
    }

    #[test]
    fn well_known_communities_hold_a_route_back() {
        let cases = [
            (NO_EXPORT, false, true),
            (NO_EXPORT_SUBCONFED, false, true),
            (NO_ADVERTISE, false, false),
            (7, true, true),
        ];
        for (community, outside, inside) in cases {
            let mut route = route();
            route.communities = [community].into();
            let told = |ibgp| {
                context(ibgp, Export::Best).apply(Family::Ipv4Unicast, SourceKind::External, &route)
            };
            assert_eq!(
                (told(false).is_some(), told(true).is_some()),
                (outside, inside),
                "{community:x}"
            );
        }
    }

    fn context(ibgp: bool, export: Export) -> ExportContext {
        ExportContext {
            ibgp,
            local_as: 64512,
            export,
            next_hops: [(Family::Ipv4Unicast, [192, 0, 2, 1].into())].into(),
        }
    }

    fn route() -> Attributes {
        let mut route = Attributes::new(IpAddr::from([198, 51, 100, 1]).into());
        route.as_path = AsPath::sequence(&[65001, 7]);
        route.med = Some(5);
        route
    }
}
