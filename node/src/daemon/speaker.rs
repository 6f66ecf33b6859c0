//! From the calculation's BGP settings to the speaker's configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use cleat_bgp::config::{GracefulRestart, PeerConfig};
use cleat_bgp::{Config, Family, Origin, PeerAddress};
use cleat_datastore::value::Community;
use ipnet::IpNet;

use super::node_status;
use crate::calc::{Bgp, PeerWish};

/// How this host is reached from a peer.
pub trait Reach {
    /// An address of the other family than the peer's, of the link that packets to the peer leave by; none for a session
    /// from a loopback address.
    fn other_address(&self, peer: IpAddr, source: Option<IpAddr>) -> Option<IpAddr>;

    /// Packets to the peer leave by another link than the one that has the source address, and that is no loopback.
    fn leaves_elsewhere(&self, peer: IpAddr, source: IpAddr) -> bool;
}

/// The speaker's whole configuration. `restarting` tells peers that the forwarding state of the last run is in place.
pub fn config(
    nodename: &str,
    bgp: &Bgp,
    reach: &impl Reach,
    restarting: bool,
    deferral: Duration,
) -> Config {
    let router_id = bgp.router_id.unwrap_or_else(|| made_up_id(nodename));
    let mut config = Config::new(router_id, bgp.local_as);
    config.listen = [
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    ]
    .map(|address| SocketAddr::new(address, bgp.listen_port))
    .to_vec();
    config.restarting = restarting;
    config.deferral = deferral;
    config.peers = bgp
        .peers
        .iter()
        .map(|((address, port), wish)| ((*address).into(), peer(bgp, reach, *address, *port, wish)))
        .collect();
    config
}

/// The resource that each peer comes from.
pub fn names(bgp: &Bgp) -> Arc<BTreeMap<PeerAddress, String>> {
    let names = bgp
        .peers
        .iter()
        .map(|((address, _), wish)| ((*address).into(), wish.resource.to_string()));
    Arc::new(names.collect())
}

/// What kind of peer each is, in the words of CalicoNodeStatus.
pub fn kinds(bgp: &Bgp) -> Arc<BTreeMap<PeerAddress, &'static str>> {
    let kinds = bgp
        .peers
        .iter()
        .map(|((address, _), wish)| ((*address).into(), node_status::kind(wish.kind)));
    Arc::new(kinds.collect())
}

/// What is told of each originated prefix.
pub fn originated(bgp: &Bgp, prefixes: impl Iterator<Item = IpNet>) -> BTreeMap<IpNet, Origin> {
    prefixes
        .map(|prefix| (prefix, origin(bgp, prefix)))
        .collect()
}

/// The communities of all prefixes around this one.
fn origin(bgp: &Bgp, prefix: IpNet) -> Origin {
    let mut origin = Origin::default();
    let around = bgp
        .communities
        .iter()
        .filter(|(net, _)| net.contains(&prefix));
    let communities: BTreeSet<Community> = around.flat_map(|(_, values)| values).copied().collect();
    for community in communities {
        match community {
            Community::Standard(high, low) => origin
                .communities
                .push(u32::from(high) << 16 | u32::from(low)),
            Community::Large(a, b, c) => origin.large_communities.push([a, b, c]),
        }
    }
    origin
}

fn peer(bgp: &Bgp, reach: &impl Reach, address: IpAddr, port: u16, wish: &PeerWish) -> PeerConfig {
    let mut peer = PeerConfig::new(wish.remote_as);
    peer.local_as = wish.local_as;
    peer.port = port;
    // A router that is a neighbour on a link knows this host by its address on that link, and takes no connection from the
    // node's address on another one. A router further away (as in iBGP) knows the node's address only.
    let is_neighbour = wish.remote_as != wish.local_as.unwrap_or(bgp.local_as);
    peer.local_address = wish
        .source
        .filter(|source| !(is_neighbour && reach.leaves_elsewhere(address, *source)));
    // The session's own family takes the session's address. The other one needs an address of the same link, or a router
    // on another link than the node's own address could not use it.
    let nodes = bgp
        .addresses
        .iter()
        .find(|own| own.is_ipv4() != address.is_ipv4());
    let other = reach.other_address(address, wish.source).or(nodes);
    peer.next_hops = other
        .into_iter()
        .map(|own| (Family::of_address(own), own))
        .collect();
    peer.keepalive = wish.keepalive;
    peer.passive = wish.passive;
    // RFC 5082 §3: who wants to be believed sends with the highest TTL.
    peer.ttl = wish.ttl_security.map(|_| u8::MAX);
    if let Some(restart_time) = wish.restart_time {
        let defaults = GracefulRestart::default();
        peer.graceful_restart = Some(GracefulRestart {
            restart_time,
            ..defaults
        });
    }
    peer.allow_own_as = wish.allow_own_as;
    peer
}

/// An identifier for a node without an IPv4 address: any number but 0 that no other node has (RFC 6286 §2.1), the same
/// after a restart.
fn made_up_id(nodename: &str) -> Ipv4Addr {
    // FNV-1a: spreads names over 32 bits, and is the same in every release.
    let hash = nodename.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    Ipv4Addr::from(hash.max(1))
}

#[cfg(test)]
mod tests {
    use cleat_datastore::{Kind, Update};
    use serde_json::{Value, json};

    use super::*;
    use crate::calc::Graph;

    fn graph(manifests: &[Value]) -> Graph {
        let mut graph = Graph::new("h1");
        for manifest in manifests {
            let (key, resource) =
                cleat_datastore::resource::from_manifest(manifest.clone()).unwrap();
            graph.update(&Update {
                key,
                value: Some(Arc::new(resource)),
                revision: 1,
                problem: None,
            });
        }
        graph.flush();
        graph
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "every caller has just made it"
    )]
    fn manifest(kind: Kind, name: &str, spec: Value) -> Value {
        json!({"apiVersion": "projectcalico.org/v3", "kind": kind.name(), "metadata": {"name": name}, "spec": spec})
    }

    /// A host that is reached through one link with both families, and through none for other peers.
    struct Link;

    impl Reach for Link {
        fn other_address(&self, peer: IpAddr, _: Option<IpAddr>) -> Option<IpAddr> {
            (peer == IpAddr::from([192, 0, 2, 129])).then(|| "2001:db8:2::11".parse().unwrap())
        }

        fn leaves_elsewhere(&self, peer: IpAddr, _: IpAddr) -> bool {
            [
                IpAddr::from([192, 0, 2, 129]),
                IpAddr::from([192, 0, 2, 130]),
            ]
            .contains(&peer)
        }
    }

    #[test]
    fn a_peer_of_one_family_is_told_a_next_hop_of_the_other_that_it_can_reach() {
        let graph = graph(&[
            manifest(
                Kind::BgpConfiguration,
                "default",
                json!({"nodeToNodeMeshEnabled": false, "asNumber": 64600}),
            ),
            manifest(
                Kind::Node,
                "h1",
                json!({"bgp": {"ipv4Address": "192.0.2.11/24", "ipv6Address": "2001:db8::11/64"}}),
            ),
            manifest(
                Kind::BgpPeer,
                "tor4",
                json!({"peerIP": "192.0.2.1", "asNumber": 65001}),
            ),
            manifest(
                Kind::BgpPeer,
                "tor6",
                json!({"peerIP": "2001:db8::1", "asNumber": 65001}),
            ),
            manifest(
                Kind::BgpPeer,
                "other-link",
                json!({"peerIP": "192.0.2.129", "asNumber": 65001}),
            ),
        ]);
        let bgp = &graph.plan().bgp;
        let config = config("h1", bgp, &Link, true, Duration::from_secs(7));
        assert_eq!(
            (config.router_id, config.local_as),
            (Ipv4Addr::new(192, 0, 2, 11), 64_600)
        );
        assert!(config.restarting && config.deferral == Duration::from_secs(7));
        for (peer, family, next_hop) in [
            ("192.0.2.1", Family::Ipv6Unicast, "2001:db8::11"),
            ("192.0.2.129", Family::Ipv6Unicast, "2001:db8:2::11"),
            ("2001:db8::1", Family::Ipv4Unicast, "192.0.2.11"),
        ] {
            let address: IpAddr = peer.parse().unwrap();
            let peer = &config.peers[&address.into()];
            assert_eq!(peer.next_hops, [(family, next_hop.parse().unwrap())].into());
            assert_eq!(peer.remote_as, 65_001);
        }
        let names = names(bgp);
        assert_eq!(
            names.values().collect::<Vec<_>>(),
            ["BGPPeer(tor4)", "BGPPeer(other-link)", "BGPPeer(tor6)"]
        );
    }

    #[test]
    fn a_neighbour_on_another_link_is_not_spoken_to_from_the_nodes_address() {
        let graph = graph(&[
            manifest(
                Kind::BgpConfiguration,
                "default",
                json!({"nodeToNodeMeshEnabled": false, "asNumber": 64600}),
            ),
            manifest(
                Kind::Node,
                "h1",
                json!({"bgp": {"ipv4Address": "192.0.2.11/24"}}),
            ),
            manifest(
                Kind::BgpPeer,
                "same-link",
                json!({"peerIP": "192.0.2.1", "asNumber": 65001}),
            ),
            manifest(
                Kind::BgpPeer,
                "other-link",
                json!({"peerIP": "192.0.2.129", "asNumber": 65001}),
            ),
            manifest(
                Kind::BgpPeer,
                "reflector",
                json!({"peerIP": "192.0.2.130", "asNumber": 64600}),
            ),
        ]);
        let config = config("h1", &graph.plan().bgp, &Link, false, Duration::ZERO);
        let source = |peer: [u8; 4]| config.peers[&IpAddr::from(peer).into()].local_address;
        let node = Some(IpAddr::from([192, 0, 2, 11]));
        assert_eq!(
            [
                source([192, 0, 2, 1]),
                source([192, 0, 2, 129]),
                source([192, 0, 2, 130])
            ],
            [node, None, node]
        );
    }

    #[test]
    fn a_prefix_is_told_with_the_communities_of_all_nets_around_it() {
        let graph = graph(&[
            manifest(
                Kind::BgpConfiguration,
                "default",
                json!({"communities": [{"name": "gold", "value": "64600:7"}], "prefixAdvertisements": [
                    {"cidr": "10.0.0.0/8", "communities": ["gold"]},
                    {"cidr": "10.1.0.0/16", "communities": ["1:2:3", "64600:7"]},
                ]}),
            ),
            manifest(
                Kind::Node,
                "h1",
                json!({"bgp": {"ipv4Address": "192.0.2.11/24"}}),
            ),
        ]);
        let prefixes =
            ["10.1.0.0/26", "10.2.0.0/26", "192.0.2.0/24"].map(|net| net.parse().unwrap());
        let told = originated(&graph.plan().bgp, prefixes.into_iter());
        let gold = 64_600 << 16 | 7;
        let of = |place: usize| {
            let origin = &told[&prefixes[place]];
            (origin.communities.clone(), origin.large_communities.clone())
        };
        assert_eq!(of(0), (vec![gold], vec![[1, 2, 3]]));
        assert_eq!(of(1), (vec![gold], vec![]));
        assert_eq!(of(2), (vec![], vec![]));
    }

    #[test]
    fn a_node_without_ipv4_has_an_identifier_all_the_same() {
        let id = made_up_id("h1");
        assert_eq!(id, made_up_id("h1"));
        assert_ne!(id, made_up_id("h2"));
        assert_ne!(made_up_id(""), Ipv4Addr::UNSPECIFIED);
    }
}
