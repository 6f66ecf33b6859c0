//! Objects that want one thing, and what of an object is not meant for it.

use std::net::IpAddr;

use super::super::*;
use super::*;

fn problems(resources: &Resources) -> Vec<String> {
    let mut problems: Vec<String> = fresh(resources)
        .problems()
        .map(ToString::to_string)
        .collect();
    problems.sort();
    problems
}

#[test]
fn of_pools_with_one_prefix_the_first_by_name_counts_until_it_goes() {
    let pool = |name: &str, exported: bool| json!({"kind": "IPPool", "metadata": {"name": name}, "spec": {"cidr": "10.0.0.0/16", "disableBGPExport": !exported}});
    let for_services = json!({"kind": "IPPool", "metadata": {"name": "0"}, "spec": {"cidr": "10.0.0.0/16", "allowedUses": ["LoadBalancer"]}});
    let block = json!({"kind": "BlockAffinity", "host": "here", "block": "10.0.0.0/26", "value": {"state": "confirmed"}});
    let states = [
        state(&[block.clone(), pool("b", true)]),
        state(&[block.clone(), pool("b", true), pool("a", false)]),
        state(&[
            block.clone(),
            pool("b", true),
            pool("a", false),
            for_services,
        ]),
        state(&[block.clone(), pool("b", true), pool("c", false)]),
        state(&[block, pool("c", false)]),
    ];
    expand(&states);
    let exported = states
        .each_ref()
        .map(|state| fresh(state).plan().originated.len());
    assert_eq!(exported, [1, 0, 0, 1, 0]);
    let inside: IpAddr = "10.0.9.9".parse().unwrap();
    let places = states
        .each_ref()
        .map(|state| fresh(state).lookup(inside).unwrap().place.clone());
    let workload = Place::RemoteWorkload;
    assert_eq!(
        places,
        [
            workload.clone(),
            workload.clone(),
            Place::Outside,
            workload.clone(),
            workload
        ]
    );
    assert_eq!(problems(&states[0]), Vec::<String>::new());
    assert_eq!(
        problems(&states[2]),
        [
            "IPPool(a): spec.cidr: 10.0.0.0/16 is taken by IPPool(0), the first by name",
            "IPPool(b): spec.cidr: 10.0.0.0/16 is taken by IPPool(0), the first by name",
        ]
    );
}

#[test]
fn of_host_endpoints_of_one_interface_the_others_are_told() {
    let endpoint = |name: &str, node: &str, interface: &str| json!({"kind": "HostEndpoint", "metadata": {"name": name}, "spec": {"node": node, "interfaceName": interface}});
    let states = [
        state(&[endpoint("b", "here", "eth0")]),
        state(&[
            endpoint("b", "here", "eth0"),
            endpoint("a", "here", "eth0"),
            endpoint("c", "there", "eth0"),
        ]),
        state(&[endpoint("a", "here", "eth1"), endpoint("b", "here", "eth0")]),
    ];
    expand(&states);
    assert_eq!(problems(&states[0]), Vec::<String>::new());
    assert_eq!(
        problems(&states[1]),
        [
            "HostEndpoint(b): spec.interfaceName: eth0 of here is taken by HostEndpoint(a), the first by name"
        ]
    );
    assert_eq!(problems(&states[2]), Vec::<String>::new());
}

#[test]
fn sets_of_one_name_are_one_set_whatever_they_held_before() {
    // The name is the key: a second object of the name is the first one's new state.
    let set = |nets: &[&str]| json!({"kind": "GlobalNetworkSet", "metadata": {"name": "s", "labels": {"a": "b"}}, "spec": {"nets": nets}});
    let asks = policy(
        "a",
        "p",
        json!({"types": ["Ingress"], "ingress": [{"action": "Allow", "source": {"selector": "a == 'b'", "namespaceSelector": "global()"}}]}),
    );
    let web = endpoint("a", "e1", "here", json!({}), &["10.0.0.1/32"], &[]);
    let states = [
        state(&[set(&["198.51.100.0/24"]), asks.clone(), web.clone()]),
        state(&[set(&["198.51.100.0/25", "203.0.113.0/24"]), asks, web]),
    ];
    expand(&states);
    let held = |place: usize, address: &str| {
        let graph = fresh(&states[place]);
        let facts = graph.lookup(address.parse().unwrap()).unwrap();
        graph
            .spell(&facts.atoms)
            .iter()
            .any(|atom| atom.contains("a == "))
    };
    assert_eq!(
        [held(0, "198.51.100.200"), held(1, "198.51.100.200")],
        [true, false]
    );
    assert_eq!(
        [held(0, "203.0.113.1"), held(1, "203.0.113.1")],
        [false, true]
    );
}

#[test]
fn an_endpoint_without_networks_is_none() {
    let with = endpoint(
        "a",
        "e1",
        "here",
        json!({"app": "web"}),
        &["10.0.0.1/32"],
        &[],
    );
    let without = endpoint("a", "e1", "here", json!({"app": "web"}), &[], &[]);
    let states = [state(&[with]), state(&[without])];
    expand(&states);
    let interfaces = states
        .each_ref()
        .map(|state| fresh(state).plan().interfaces.len());
    assert_eq!(interfaces, [1, 0]);
}

#[test]
fn labels_of_an_endpoint_are_its_own_and_not_made_up() {
    let mut web = endpoint(
        "a",
        "e1",
        "here",
        json!({"pcns.stage": "prod", "pcsa.trusted": "yes", "app": "web"}),
        &["10.0.0.1/32"],
        &[],
    );
    web["spec"]["serviceAccountName"] = "sa".into();
    web["spec"]["ports"] = json!([{"name": "", "protocol": "TCP", "port": 80, "hostPort": 8080}, {"name": "http", "protocol": "TCP", "port": 81}]);
    let selects = |name: &str, selector: &str| json!({"kind": "GlobalNetworkPolicy", "metadata": {"name": name}, "spec": {"selector": selector, "types": ["Ingress"], "ingress": [{"action": "Allow"}]}});
    let resources = state(&[
        web,
        selects("stage", "has(pcns.stage)"),
        selects("trusted", "has(pcsa.trusted)"),
        selects("app", "app == 'web'"),
        selects("account", "projectcalico.org/serviceaccount == 'sa'"),
        selects("space", "projectcalico.org/namespace == 'a'"),
    ]);
    expand(&[resources.clone(), Resources::new()]);
    let graph = fresh(&resources);
    let list = &graph.plan().lists[&graph.plan().interfaces["calie1"].ingress];
    let policies: Vec<&str> = list
        .lines
        .iter()
        .filter_map(|line| line.rule.policy().map(Key::name))
        .collect();
    assert_eq!(policies, ["account", "app", "space"]);
}

#[test]
fn a_port_without_a_name_is_no_named_port() {
    let mut web = endpoint("a", "e1", "here", json!({}), &["10.0.0.1/32"], &[]);
    web["spec"]["ports"] = json!([{"name": "", "protocol": "TCP", "port": 80, "hostPort": 8080}, {"name": "http", "protocol": "TCP", "port": 81}]);
    let asks = policy(
        "a",
        "p",
        json!({"types": ["Ingress"], "ingress": [{"action": "Allow", "protocol": "TCP", "destination": {"ports": ["http"]}}]}),
    );
    let graph = fresh(&state(&[web, asks]));
    let facts = graph.lookup("10.0.0.1".parse().unwrap()).unwrap();
    let spelled = graph.spell(&facts.atoms).join(" ");
    assert!(
        spelled.contains("81") && !spelled.contains("80"),
        "{spelled}"
    );
}

#[test]
fn policies_of_a_tier_that_is_not_there_come_last_and_the_tier_denies() {
    let of = |name: &str, tier: &str, order: f64| {
        json!({"kind": "GlobalNetworkPolicy", "metadata": {"name": name}, "spec": {"tier": tier, "order": order, "selector": "all()",
            "types": ["Ingress"], "ingress": [{"action": "Pass", "protocol": "UDP"}]}})
    };
    let tier = |name: &str, order: f64| json!({"kind": "Tier", "metadata": {"name": name}, "spec": {"order": order, "defaultAction": "Pass"}});
    let web = endpoint("a", "e1", "here", json!({}), &["10.0.0.1/32"], &[]);
    let policies = [
        of("n", "nowhere", 1.0),
        of("l", "late", 2.0),
        of("d", "default", 3.0),
    ];
    let with =
        |tiers: &[Value]| state(&[&policies[..], std::slice::from_ref(&web), tiers].concat());
    let states = [
        with(&[tier("late", 2e6)]),
        with(&[tier("late", 2e6), tier("nowhere", 1.0)]),
        with(&[]),
    ];
    expand(&states);
    let lines = |place: usize| -> Vec<String> {
        let graph = fresh(&states[place]);
        let list = &graph.plan().lists[&graph.plan().interfaces["calie1"].ingress];
        list.lines
            .iter()
            .map(|line| format!("{} {:?}", line.rule, line.action))
            .collect()
    };
    let rule =
        |tier: &str, name: &str| format!("{tier}/GlobalNetworkPolicy({name}) ingress[0] Pass");
    let order = |place: usize| -> Vec<String> {
        let tiers = lines(place).into_iter();
        tiers.filter(|line| line.contains("Policy(")).collect()
    };
    assert_eq!(
        order(0),
        [
            rule("default", "d"),
            rule("late", "l"),
            rule("nowhere", "n")
        ]
    );
    assert_eq!(
        order(1),
        [
            rule("nowhere", "n"),
            rule("default", "d"),
            rule("late", "l")
        ]
    );
    assert_eq!(
        order(2),
        [
            rule("default", "d"),
            rule("late", "l"),
            rule("nowhere", "n")
        ]
    );
    assert!(
        lines(0).contains(&"nowhere end of tier, ingress Deny".to_owned()),
        "{:?}",
        lines(0)
    );
    assert!(
        !lines(1).contains(&"nowhere end of tier, ingress Deny".to_owned()),
        "{:?}",
        lines(1)
    );
    assert_eq!(
        problems(&states[0]),
        [
            "GlobalNetworkPolicy(n): spec.tier: there is no tier nowhere: the policy comes last and the tier denies at its end"
        ]
    );
}
