//! The speaker's settings and peers.

use cleat_datastore::Kind;

use crate::config::Level;

use super::super::*;
use super::*;

#[test]
fn peers_come_from_the_mesh_and_from_resources() {
    let node = |name: &str, v4: &str, more: Value| {
        let mut node = json!({"kind": "Node", "metadata": {"name": name, "labels": {"rack": name}}, "spec": {"bgp": {"ipv4Address": v4}}});
        node["spec"]["bgp"]
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        node
    };
    let nodes = [
        node(
            "here",
            "192.0.2.5/24",
            json!({"ipv6Address": "2001:db8::5/64"}),
        ),
        node(
            "there",
            "192.0.2.6/24",
            json!({"ipv6Address": "2001:db8::6/64", "asNumber": 65001}),
        ),
        node(
            "reflector",
            "192.0.2.1/24",
            json!({"routeReflectorClusterID": "1.1.1.1"}),
        ),
    ];
    let with = |more: &[Value]| {
        fresh(&state(
            &nodes.iter().chain(more).cloned().collect::<Vec<_>>(),
        ))
    };
    let peers = |graph: &Graph| -> Vec<String> {
        graph
            .plan()
            .bgp
            .peers
            .iter()
            .map(|((address, port), wish)| {
                format!(
                    "{address}:{port} as {} {}{}",
                    wish.remote_as,
                    wish.kind,
                    if wish.passive { " passive" } else { "" }
                )
            })
            .collect()
    };
    let mesh = with(&[]);
    assert_eq!(
        peers(&mesh),
        [
            "192.0.2.6:179 as 65001 node-to-node mesh passive",
            "2001:db8::6:179 as 65001 node-to-node mesh passive"
        ]
    );
    assert_eq!(mesh.plan().bgp.local_as, 64_512);
    let configuration = json!({"kind": "BGPConfiguration", "metadata": {"name": "default"}, "spec": {"nodeToNodeMeshEnabled": false, "asNumber": 64_600}});
    let tor = json!({"kind": "BGPPeer", "metadata": {"name": "tor"}, "spec": {"nodeSelector": "rack == 'here'", "peerIP": "192.0.2.254:1179", "asNumber": 65_100, "ttlSecurity": 1, "keepaliveTime": "10s"}});
    let elsewhere = json!({"kind": "BGPPeer", "metadata": {"name": "elsewhere"}, "spec": {"node": "there", "peerIP": "192.0.2.253", "asNumber": 65_100}});
    let reflectors = json!({"kind": "BGPPeer", "metadata": {"name": "rr"}, "spec": {"peerSelector": "rack == 'reflector'"}});
    let graph = with(&[configuration.clone(), tor.clone(), elsewhere, reflectors]);
    assert_eq!(
        peers(&graph),
        [
            "192.0.2.1:179 as 64600 global",
            "192.0.2.254:1179 as 65100 node specific"
        ]
    );
    let wish = &graph.plan().bgp.peers[&("192.0.2.254".parse().unwrap(), 1179)];
    assert_eq!(
        (wish.source, wish.ttl_security, wish.resource.clone()),
        (
            Some("192.0.2.5".parse().unwrap()),
            Some(1),
            Key::global(Kind::BgpPeer, "tor")
        )
    );
}

#[test]
fn a_selected_peer_peers_back_unless_told_otherwise() {
    let node = |name: &str, v4: &str, role: &str| json!({"kind": "Node", "metadata": {"name": name, "labels": {"role": role}}, "spec": {"bgp": {"ipv4Address": v4}}});
    let peers = |role: &str, reverse: Option<&str>| {
        let mut peer = json!({"kind": "BGPPeer", "metadata": {"name": "rr"}, "spec": {"nodeSelector": "role == 'leaf'", "peerSelector": "role == 'rr'"}});
        if let Some(reverse) = reverse {
            peer["spec"]["reversePeering"] = json!(reverse);
        }
        let graph = fresh(&state(&[
            json!({"kind": "BGPConfiguration", "metadata": {"name": "default"}, "spec": {"nodeToNodeMeshEnabled": false}}),
            node("here", "192.0.2.1/24", role),
            node("leaf", "192.0.2.2/24", "leaf"),
            node("rr", "192.0.2.3/24", "rr"),
            peer,
        ]));
        let peers = graph.plan().bgp.peers.keys();
        peers
            .map(|(address, _)| address.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(peers("leaf", None), ["192.0.2.3"]);
    assert_eq!(peers("rr", None), ["192.0.2.2"]);
    assert_eq!(peers("rr", Some("Manual")), [] as [&str; 0]);
}

#[test]
fn a_nodes_own_configuration_counts_for_four_fields_and_no_others() {
    let node = json!({"kind": "Node", "metadata": {"name": "here"}, "spec": {"bgp": {"ipv4Address": "192.0.2.1/24"}}});
    let configuration = |name: &str, spec: Value| json!({"kind": "BGPConfiguration", "metadata": {"name": name}, "spec": spec});
    let of_all = configuration(
        "default",
        json!({"asNumber": 64600, "listenPort": 1790, "logSeverityScreen": "Warning",
            "communities": [{"name": "gold", "value": "64600:1"}], "prefixAdvertisements": [{"cidr": "10.0.0.0/8", "communities": ["gold"]}]}),
    );
    let own = configuration(
        "node.here",
        json!({"asNumber": 64700, "listenPort": 1791, "logSeverityScreen": "debug",
            "communities": [{"name": "gold", "value": "64600:2:3"}], "prefixAdvertisements": [{"cidr": "10.1.0.0/16", "communities": ["gold", "1:2"]}]}),
    );
    let only_names = configuration(
        "node.here",
        json!({"communities": [{"name": "gold", "value": "9:9"}]}),
    );
    let elsewhere = configuration("node.there", json!({"listenPort": 1792}));
    let nobodys = configuration("rack-a", json!({"listenPort": 1793}));
    let states = [
        state(std::slice::from_ref(&node)),
        state(&[node.clone(), of_all.clone()]),
        state(&[
            node.clone(),
            of_all.clone(),
            own.clone(),
            elsewhere,
            nobodys,
        ]),
        state(&[node.clone(), own]),
        state(&[node, of_all, only_names]),
    ];
    expand(&states);
    let told = |place: usize| {
        let bgp = fresh(&states[place]).plan().bgp.clone();
        let communities: Vec<String> = bgp
            .communities
            .iter()
            .map(|(net, values)| {
                let values: Vec<String> = values.iter().map(ToString::to_string).collect();
                format!("{net} {}", values.join(" "))
            })
            .collect();
        (bgp.local_as, bgp.listen_port, bgp.log_severity, communities)
    };
    let list = |text: &str| vec![text.to_owned()];
    assert_eq!(told(0), (64_512, 179, None, vec![]));
    assert_eq!(
        told(1),
        (64_600, 1790, Some(Level::Warn), list("10.0.0.0/8 64600:1"))
    );
    assert_eq!(
        told(2),
        (
            64_600,
            1791,
            Some(Level::Debug),
            list("10.1.0.0/16 1:2 64600:2:3")
        )
    );
    assert_eq!(
        told(3),
        (
            64_512,
            1791,
            Some(Level::Debug),
            list("10.1.0.0/16 1:2 64600:2:3")
        )
    );
    assert_eq!(told(4).3, list("10.0.0.0/8 9:9"));
    let problems: Vec<String> = fresh(&states[2])
        .problems()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        problems,
        [
            "BGPConfiguration(node.here): spec.asNumber: is read from the configuration named default only",
            "BGPConfiguration(rack-a): metadata.name: is neither default nor node.NAME: it concerns no node",
        ]
    );
}
