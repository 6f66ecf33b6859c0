//! What the command line and the admin server tell of a running daemon.
#![cfg(feature = "lab")]

use netlab::{
    Expect::Reaches, House, Proto::Tcp, eventually, house::EXAMPLE_MATRIX, secs, steady::finish,
};
use serde_json::Value;

#[test]
fn the_commands_tell_what_is_so() {
    let house = House::running("commands").unwrap();
    house.expect(EXAMPLE_MATRIX, secs(15)).unwrap();

    let status: Value = house.alpha.json(&["status"]).unwrap();
    assert_eq!(
        (&status["ready"], &status["nodename"]),
        (&Value::Bool(true), &"alpha".into()),
        "{status:#}"
    );
    assert_eq!(
        (&status["endpoints"]["good"], &status["endpoints"]["all"]),
        (&2.into(), &2.into()),
        "{status:#}"
    );
    assert_eq!(
        (&status["peers"]["good"], &status["peers"]["all"]),
        (&2.into(), &2.into()),
        "{status:#}"
    );
    assert_eq!(status["problems"], Value::Array(Vec::new()), "{status:#}");

    let endpoints: Vec<Value> = house.alpha.json(&["endpoint", "list"]).unwrap();
    let mut states: Vec<String> = endpoints
        .iter()
        .map(|one| format!("{} {}", one["interface"], one["state"]))
        .collect();
    states.sort();
    assert_eq!(states, [r#""cali0db" "up""#, r#""cali0web" "up""#]);

    let peers: Vec<Value> = house.alpha.json(&["bgp", "peers"]).unwrap();
    for peer in &peers {
        assert_eq!(peer["state"], "Established", "{peer:#}");
        let families = peer["families"].as_array().unwrap();
        assert_eq!(families.len(), 2, "{peer:#}");
        for family in families {
            // The other host's block and the core's network; our own block.
            assert!(
                family["accepted"].as_u64() >= Some(2) && family["advertised"].as_u64() >= Some(1),
                "{peer:#}"
            );
        }
    }
    assert_eq!(peers.len(), 2);

    let routes: Vec<Value> = house.alpha.json(&["bgp", "routes"]).unwrap();
    let best = routes
        .iter()
        .filter(|route| route["prefix"] == "10.65.2.0/26" && route["used"] == true)
        .count();
    assert_eq!(best, 2, "both ways to beta are in use: {routes:#?}");

    // A connection that stands is a flow; one that was judged is in agreement with the tables.
    let streams = house.streams().unwrap();
    let flows: Vec<Value> = house.alpha.json(&["conntrack", "list"]).unwrap();
    let standing = |flow: &&Value| {
        flow["source"] == "10.99.0.2"
            && flow["destination"] == "10.65.1.1"
            && flow["destinationPort"] == 80
    };
    assert!(flows.iter().any(|flow| standing(&flow)), "{flows:#?}");
    let drift: Vec<Value> = house.alpha.json(&["show", "drift"]).unwrap();
    assert!(drift.is_empty(), "{drift:#?}");
    assert_eq!(finish(streams).unwrap().lost(), 0);

    for path in ["/live", "/ready"] {
        assert_eq!(house.alpha.http(path).unwrap().0, 200, "{path}");
    }
    let (code, metrics) = house.alpha.http("/metrics").unwrap();
    assert_eq!(code, 200);
    assert!(
        metrics.lines().any(|line| line.starts_with("cleat_")),
        "{metrics}"
    );
}

#[test]
fn a_question_to_a_daemon_that_is_not_there_has_its_own_exit_code() {
    let house = House::running("commands-gone").unwrap();
    house.alpha.process().unwrap().kill();
    assert_eq!(
        house.alpha.command(&["status"], "").unwrap().status.code(),
        Some(3)
    );
    // The store answers without it.
    house.alpha.cleat(&["get", "wep", "-A"]).unwrap();
    house.etcd.process().kill();
    assert_eq!(
        house
            .alpha
            .command(&["get", "nodes"], "")
            .unwrap()
            .status
            .code(),
        Some(4)
    );
}

#[test]
fn what_a_second_start_finds_it_leaves_as_it_is() {
    let house = House::running("commands-again").unwrap();
    house.expect(EXAMPLE_MATRIX, secs(15)).unwrap();
    // Everything that the kernel holds for the daemon, less what packets count.
    let programs = || {
        let text = house
            .alpha
            .namespace
            .run("bpftool", &["-j", "net", "show"])
            .unwrap();
        let ids: Value = serde_json::from_str(&text).unwrap();
        ids.to_string()
    };
    let routes = || {
        house
            .alpha
            .namespace
            .run("ip", &["route", "show", "proto", "80"])
            .unwrap()
    };
    let before = (programs(), routes());
    house.alpha.process().unwrap().kill();
    house.alpha.start(&house.lab).unwrap();
    house.alpha.wait_ready(secs(20)).unwrap();
    house.wait_sessions(secs(20)).unwrap();
    eventually("the routes to be as before", secs(10), || {
        if routes() == before.1 {
            Ok(())
        } else {
            Err(routes())
        }
    })
    .unwrap();
    assert_eq!(programs(), before.0, "programs were attached anew");
    house
        .expect(&[("client", "web", Tcp(80), Reaches)], secs(5))
        .unwrap();
}
