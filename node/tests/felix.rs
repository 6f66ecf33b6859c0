//! FelixConfigurations that somebody else writes into the daemon's etcd, and what they change on the host.

#![cfg(feature = "host")]
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    dead_code,
    reason = "a test says what went wrong by panicking"
)]

mod common;

use common::eventually;
use common::host::{ENDPOINT, Host, NODE, PATIENCE, POLICY, Store};
use serde_json::{Value, json};

/// Writes an object as any client of etcd would.
fn put(host: &mut Host, name: &str, spec: &Value) {
    let object = json!({"kind": "FelixConfiguration", "apiVersion": "projectcalico.org/v3",
        "metadata": {"name": name, "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": spec});
    let (done, said) = host
        .etcd()
        .etcdctl(&["put", &path(name), &object.to_string()]);
    assert!(done, "{said}");
}

fn delete(host: &mut Host, name: &str) {
    let (done, said) = host.etcd().etcdctl(&["del", &path(name)]);
    assert!(done, "{said}");
}

fn path(name: &str) -> String {
    format!("/calico/resources/v3/projectcalico.org/felixconfigurations/{name}")
}

fn routes(host: &Host, protocol: &str) -> String {
    let space = host.space("host");
    Host::run("ip", &["-n", &space, "route", "show", "proto", protocol])
}

/// Value and source of a parameter, as the daemon has it.
fn parameter(host: &Host, name: &str) -> (String, String) {
    let (code, text) = host.cleat_there(&["config", "show", "-o", "json"]);
    assert_eq!(code, 0, "{text}");
    let shown: Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let all = shown["felix"].as_array().unwrap();
    let found = all.iter().find(|known| known["name"] == name).unwrap();
    let text = |key: &str| found[key].as_str().unwrap().to_owned();
    (text("value"), text("source"))
}

#[test]
fn a_felix_configuration_takes_effect_at_once_and_goes_with_its_object() {
    let mut host = Host::new("felix", Store::Etcd);
    host.put("node", NODE);
    host.put("endpoint", ENDPOINT);
    host.put("policy", POLICY);
    host.start();
    host.ready();
    eventually("the fabric reaches the workload", PATIENCE, || {
        host.ping("fabric", "10.65.0.2")
    });
    assert!(host.ping("work", "192.0.2.11").is_err(), "the host is open");

    put(
        &mut host,
        "default",
        &json!({"defaultEndpointToHostAction": "Accept", "deviceRouteProtocol": 90, "deviceRouteSourceAddress": "192.0.2.11",
            "prometheusMetricsEnabled": true, "prometheusMetricsPort": 9191, "healthPort": 70_000, "wireguardEnabled": true}),
    );
    eventually("the workload reaches its host", PATIENCE, || {
        host.ping("work", "192.0.2.11")
    });
    eventually("routes have the new protocol and source", PATIENCE, || {
        let (new, old) = (routes(&host, "90"), routes(&host, "80"));
        let moved = new.contains("10.65.0.2 dev cali0") && new.contains("src 192.0.2.11");
        (moved && old.is_empty()).then_some(()).ok_or((new, old))
    });
    let space = format!("--net=/run/netns/{}", host.space("host"));
    eventually(
        "metrics are served where Felix serves them",
        PATIENCE,
        || {
            let curl = ["curl", "-s", "-m1", "http://192.0.2.11:9191/metrics"];
            let output = std::process::Command::new("nsenter")
                .arg(&space)
                .args(curl)
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            text.contains("cleat_build_info").then_some(()).ok_or(text)
        },
    );
    host.ping("fabric", "10.65.0.2")
        .expect("the way to the workload was lost");
    let problems = host.status()["problems"].to_string();
    assert!(
        problems.contains("FelixConfiguration(default)") && problems.contains("spec.healthPort"),
        "{problems}"
    );
    assert!(
        host.log().contains("WireguardEnabled is set by"),
        "{}",
        host.log()
    );

    // A level above it, then one by the node's labels, which come and go.
    put(&mut host, "node.h1", &json!({"deviceRouteProtocol": 91}));
    eventually("the node's own level counts", PATIENCE, || {
        let routes = routes(&host, "91");
        routes.contains("10.65.0.2").then_some(()).ok_or(routes)
    });
    delete(&mut host, "node.h1");
    put(
        &mut host,
        "rack-a",
        &json!({"nodeSelector": "rack == 'a'", "deviceRouteProtocol": 92}),
    );
    let is = |host: &Host, value: &str, source: &str| {
        let found = parameter(host, "DeviceRouteProtocol");
        let wanted = (value.to_owned(), source.to_owned());
        (found == wanted).then_some(()).ok_or(found)
    };
    eventually("the level of all nodes counts again", PATIENCE, || {
        is(&host, "90", "FelixConfiguration(default)")
    });
    host.put(
        "node",
        &NODE.replace("{name: h1}", "{name: h1, labels: {rack: a}}"),
    );
    eventually("the selector has the node", PATIENCE, || {
        is(&host, "92", "FelixConfiguration(rack-a)")
    });
    delete(&mut host, "rack-a");
    delete(&mut host, "default");
    eventually("all is as before", PATIENCE, || {
        let routes = routes(&host, "80");
        let back = routes.contains("10.65.0.2 dev cali0") && !routes.contains("src");
        back.then_some(()).ok_or(routes)
    });
    eventually("the host is closed again", PATIENCE, || {
        host.ping("work", "192.0.2.11")
            .err()
            .map(drop)
            .ok_or("open")
    });
    is(&host, "80", "default").unwrap();
}

#[test]
fn a_daemon_that_starts_with_another_protocol_in_the_store_takes_its_own_routes_over() {
    let mut host = Host::new("felix-start", Store::Etcd);
    host.put("node", NODE);
    host.put("endpoint", ENDPOINT);
    host.put("policy", POLICY);
    put(&mut host, "default", &json!({"deviceRouteProtocol": 90}));
    host.start();
    host.ready();
    eventually("routes have the protocol of the store", PATIENCE, || {
        let routes = routes(&host, "90");
        routes
            .contains("10.65.0.2 dev cali0")
            .then_some(())
            .ok_or(routes)
    });
    host.kill();
    host.start();
    host.ready();
    assert!(routes(&host, "90").contains("10.65.0.2 dev cali0"));
    assert_eq!(routes(&host, "80"), "");
    assert_eq!(host.status()["writes"], 0, "{}", host.log());
}

#[test]
fn a_configuration_read_again_takes_effect_as_far_as_it_can_and_says_what_cannot() {
    let mut host = Host::new("reload", Store::Directory);
    host.put("node", NODE);
    host.put("endpoint", ENDPOINT);
    host.put("policy", POLICY);
    host.start();
    host.ready();
    assert!(host.ping("work", "192.0.2.11").is_err(), "the host is open");
    let text = std::fs::read_to_string(host.config()).unwrap();
    let more = "defaultEndpointToHostAction: Accept\nrouteProtocol: 91\nadminAddress: 127.0.0.1:9098\nlog: {level: debug, format: json}\n";
    std::fs::write(host.config(), format!("{text}{more}")).unwrap();
    host.reload();
    eventually("the workload reaches its host", PATIENCE, || {
        host.ping("work", "192.0.2.11")
    });
    eventually("routes have the new protocol", PATIENCE, || {
        let (new, old) = (routes(&host, "91"), routes(&host, "80"));
        let moved = new.contains("10.65.0.2 dev cali0") && old.is_empty();
        moved.then_some(()).ok_or((new, old))
    });
    eventually(
        "what waits for a start is named, and debug is logged",
        PATIENCE,
        || {
            let log = host.log();
            let waits = ["adminAddress", "log.format"].iter().all(|field| {
                log.contains(&format!("takes effect at the next start field=\"{field}\""))
            });
            (waits && log.contains("DEBUG")).then_some(()).ok_or(log)
        },
    );
    assert!(
        !host.log().contains("field=\"routeProtocol\""),
        "{}",
        host.log()
    );
    // What is wrong leaves all as it is.
    std::fs::write(host.config(), format!("{text}routeProtocol: 2\n")).unwrap();
    host.reload();
    eventually("the refusal is told", PATIENCE, || {
        let log = host.log();
        log.contains("the configuration is refused")
            .then_some(())
            .ok_or(log)
    });
    assert!(routes(&host, "91").contains("10.65.0.2 dev cali0"));
}
