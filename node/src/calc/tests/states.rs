//! Ways through lists of states.

use serde_json::{Value, json};

use super::super::policy::DEFAULT_ALLOW;
use super::{endpoint, expand, policy, state};

#[test]
fn every_way_through_a_list_of_states_ends_where_a_new_graph_does() {
    let base = vec![
        endpoint(
            "a",
            "e1",
            "here",
            json!({"app": "web"}),
            &["10.0.0.1/32", "fd00::1/128"],
            &["p"],
        ),
        endpoint(
            "a",
            "e2",
            "there",
            json!({"app": "db"}),
            &["10.0.0.2/32", "fd00::2/128"],
            &["p"],
        ),
        json!({"kind": "Profile", "metadata": {"name": "p"}, "spec": {"labelsToApply": {"team": "red"}, "egress": [{"action": "Allow"}]}}),
        json!({"kind": "IPPool", "metadata": {"name": "pool"}, "spec": {"cidr": "10.0.0.0/16"}}),
        json!({"kind": "BlockAffinity", "host": "here", "block": "10.0.0.0/26", "value": {"state": "confirmed"}}),
        json!({"kind": "Node", "metadata": {"name": "here"}, "spec": {"bgp": {"ipv4Address": "192.0.2.1/24", "ipv6Address": "2001:db8::1/64"}}}),
        json!({"kind": "Node", "metadata": {"name": "there"}, "spec": {"bgp": {"ipv4Address": "192.0.2.2/24", "asNumber": 65001}}}),
    ];
    let with = |more: &[Value]| state(&base.iter().chain(more).cloned().collect::<Vec<_>>());
    let web = policy(
        "a",
        "web",
        json!({"selector": "app == 'web'", "types": ["Ingress"], "ingress": [
        {"action": "Allow", "protocol": "TCP", "source": {"selector": "app == 'db'"}, "destination": {"ports": ["http", 443]}}]}),
    );
    let red = json!({"kind": "GlobalNetworkPolicy", "metadata": {"name": "red"}, "spec": {"tier": "sec", "selector": "team == 'red'", "ingress": [
        {"action": "Pass", "source": {"nets": ["10.0.0.0/8", "fd00::/8"], "notNets": ["10.0.0.0/30"]}}, {"action": "Deny", "protocol": "TCP", "destination": {"notPorts": ["http"]}}]}});
    let set = json!({"kind": "GlobalNetworkSet", "metadata": {"name": "s", "labels": {"app": "db"}}, "spec": {"nets": ["10.0.0.0/24", "198.51.100.0/24", "fd00::/64"]}});
    expand(&[
        state(&base),
        with(std::slice::from_ref(&web)),
        with(&[web.clone(), red.clone()]),
        with(&[
            web.clone(),
            red.clone(),
            json!({"kind": "Tier", "metadata": {"name": "sec"}, "spec": {"order": 1.0, "defaultAction": "Pass"}}),
        ]),
        with(&[
            web.clone(),
            set.clone(),
            endpoint(
                "a",
                "e3",
                "here",
                json!({"app": "db"}),
                &["10.0.0.1/32", "10.9.0.3/32"],
                &["missing"],
            ),
        ]),
        with(&[
            web,
            set,
            red,
            policy(
                "a",
                "web2",
                json!({"order": 1.0, "egress": [{"action": "Deny", "destination": {"notSelector": "team == 'red'"}}]}),
            ),
        ]),
        state(&[endpoint(
            "b",
            "e1",
            "here",
            json!({}),
            &["fd00::1/128"],
            &[DEFAULT_ALLOW],
        )]),
    ]);
}
