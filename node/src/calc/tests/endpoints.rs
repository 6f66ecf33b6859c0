//! Endpoints, their addresses and their policy.

use super::super::policy::DEFAULT_ALLOW;
use super::super::*;
use super::*;

#[test]
fn an_endpoint_without_policy_and_profiles_drops_and_an_unknown_profile_denies() {
    let resources = state(&[
        endpoint("a", "e1", "here", json!({}), &["10.0.0.1/32"], &[]),
        endpoint(
            "a",
            "e2",
            "here",
            json!({}),
            &["10.0.0.2/32"],
            &["missing", DEFAULT_ALLOW],
        ),
    ]);
    let graph = fresh(&resources);
    let lines = |name: &str| -> Vec<String> {
        let interface = &graph.plan().interfaces[name];
        graph.plan().lists[&interface.ingress]
            .lines
            .iter()
            .map(|line| line.rule.to_string())
            .collect()
    };
    assert_eq!(lines("calie1"), ["nothing matched, ingress"]);
    assert_eq!(lines("calie2")[0], "Profile(missing) missing, ingress");
    let problems: Vec<String> = graph.problems().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        ["WorkloadEndpoint(a/e2): spec.profiles[0]: there is no profile missing: it denies"]
    );
}

#[test]
fn the_first_by_key_has_a_contested_address_and_the_other_is_reported() {
    for address in ["10.0.0.1/32", "fd00::1/128"] {
        let first = endpoint("a", "e1", "there", json!({}), &[address], &[]);
        let second = endpoint("b", "e2", "here", json!({}), &[address], &[]);
        for order in [[&first, &second], [&second, &first]] {
            let mut graph = Graph::new("here");
            for value in order {
                let (key, value) = resource(value);
                graph.update(&update(&key, Some(&value)));
                graph.flush();
            }
            assert_eq!(
                graph.facts(net(address)).unwrap().place,
                Place::RemoteWorkload
            );
            assert!(graph.plan().routes.is_empty());
            let problems: Vec<String> = graph.problems().map(ToString::to_string).collect();
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(
                problems[0].starts_with("WorkloadEndpoint(b/e2): spec.ipNetworks"),
                "{problems:?}"
            );
            graph.update(&update(&resource(&first).0, None));
            graph.flush();
            assert_eq!(
                graph.facts(net(address)).unwrap().place,
                Place::LocalWorkload("calie2".into())
            );
            assert_eq!(
                graph.plan().routes,
                [(net(address), Route::Dev("calie2".into()))].into()
            );
            assert_eq!(graph.problems().count(), 0);
        }
    }
}

#[test]
fn an_invalid_object_is_a_missing_one_and_is_reported() {
    let good = endpoint(
        "a",
        "e1",
        "here",
        json!({}),
        &["10.0.0.1/32"],
        &[DEFAULT_ALLOW],
    );
    let mut graph = fresh(&state(std::slice::from_ref(&good)));
    let key = resource(&good).0;
    let problem = cleat_datastore::Problem::new(&key, "spec.ipNetworks[0]", "is no CIDR");
    graph.update(&Update {
        key: key.clone(),
        value: None,
        revision: 2,
        problem: Some(problem.clone()),
    });
    let changes = graph.flush();
    assert!(changes.interfaces.contains("calie1") && graph.plan().interfaces.is_empty());
    assert_eq!(graph.problems().collect::<Vec<_>>(), [&problem]);
    graph.update(&update(&key, Some(&resource(&good).1)));
    graph.flush();
    assert_eq!(graph.problems().count(), 0);
}

#[test]
fn nothing_new_changes_nothing() {
    let resources = world((0..=255).cycle().take(500).collect());
    let mut graph = fresh(&resources);
    for (key, value) in &resources {
        graph.update(&update(key, Some(&Arc::new(value.as_ref().clone()))));
    }
    assert!(graph.flush().is_empty());
}

#[test]
fn an_address_of_the_host_is_no_endpoints() {
    for address in ["10.0.0.1", "fd00::1"] {
        let mut graph = fresh(&state(&[endpoint(
            "a",
            "e1",
            "here",
            json!({}),
            &[address],
            &[],
        )]));
        let place = |graph: &Graph| {
            graph
                .lookup(address.parse().unwrap())
                .unwrap()
                .place
                .clone()
        };
        assert_eq!(graph.plan().routes.len(), 1);
        graph.set_host_addresses([address.parse().unwrap()]);
        graph.flush();
        assert_eq!(place(&graph), Place::ThisHost);
        assert!(graph.plan().routes.is_empty());
        let problems: Vec<String> = graph.problems().map(ToString::to_string).collect();
        assert_eq!(
            problems,
            [format!(
                "WorkloadEndpoint(a/e1): spec.ipNetworks: {address} is an address of this host"
            )]
        );
        graph.set_host_addresses([]);
        graph.flush();
        assert_eq!(place(&graph), Place::LocalWorkload("calie1".into()));
        assert_eq!(
            (graph.plan().routes.len(), graph.problems().count()),
            (1, 0)
        );
    }
}
