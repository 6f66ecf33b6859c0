//! What networking-calico writes for a virtual machine works unchanged.
#![cfg(feature = "lab")]

use std::path::Path;

use netlab::{
    Expect::{Reaches, Silent},
    House, Matrix, Nic,
    Proto::{Ping, Tcp},
    Single, Workload, eventually,
    probe::{check, rows},
    secs,
};
use serde_json::{Value, json};

const ENDPOINT: (&str, &str) = (
    "/calico/resources/v3/projectcalico.org/workloadendpoints/openstack/node1-openstack-vm--1-port--1",
    r#"{"kind": "WorkloadEndpoint", "apiVersion": "projectcalico.org/v3", "metadata": {"name": "node1-openstack-vm--1-port--1", "namespace": "openstack", "creationTimestamp": "2026-11-22T01:17:52Z", "uid": "0e4a3060-738a-47a6-8a08-696d4169d349", "annotations": {"openstack.projectcalico.org/network-id": "net-1"}, "labels": {"sg.projectcalico.org/openstack-3ab1": "default", "projectcalico.org/namespace": "openstack", "projectcalico.org/orchestrator": "openstack"}}, "spec": {"orchestrator": "openstack", "workload": "vm-1", "node": "node1", "endpoint": "port-1", "interfaceName": "tapport-1", "mac": "00:11:22:33:44:55", "ipNetworks": ["10.65.0.2/32"], "allowedIps": [], "ipv4Gateway": "10.65.0.1", "qosControls": {"ingressBandwidth": 1000000, "ingressBurst": 4294967296}}}"#,
);

const POLICY: (&str, &str) = (
    "/calico/resources/v3/projectcalico.org/networkpolicies/openstack/ossg.default.3ab1",
    r#"{"kind": "NetworkPolicy", "apiVersion": "projectcalico.org/v3", "metadata": {"name": "ossg.default.3ab1", "namespace": "openstack", "creationTimestamp": "2026-11-22T01:17:52Z", "uid": "536689ad-28fe-4291-9e40-ae67b6c0d580"}, "spec": {"ingress": [{"action": "Allow", "ipVersion": 4, "protocol": "TCP", "source": {"nets": ["0.0.0.0/0"]}, "destination": {"ports": [22]}}], "egress": [{"action": "Allow", "ipVersion": 4}, {"action": "Allow", "ipVersion": 6}], "selector": "has(sg.projectcalico.org/openstack-3ab1)"}}"#,
);

#[test]
fn a_machine_and_its_security_group_as_networking_calico_writes_them() {
    let single = Single::with_etcd("openstack", "node1").unwrap();
    let (lab, host, world) = (&single.lab, &single.host, &single.world);
    let etcd = single.etcd.as_ref().unwrap();
    let nic = Nic {
        tap: "tapport-1".into(),
        mac: "00:11:22:33:44:55".into(),
        addresses: vec![("10.65.0.2".parse().unwrap(), 24)],
        gateways: vec!["10.65.0.1".parse().unwrap()],
    };
    let machine =
        Workload::machine(lab, &host.namespace, "vm-1", &nic, &[Tcp(22), Tcp(80)]).unwrap();

    for (key, value) in [ENDPOINT, POLICY] {
        etcd.put(key, value).unwrap();
    }
    host.start(lab).unwrap();
    host.wait_ready(secs(20)).unwrap();

    let mut matrix = Matrix::default();
    for (from, to, proto, expected) in [
        (world, &machine.station, Tcp(22), Reaches),
        (world, &machine.station, Tcp(80), Silent),
        (world, &machine.station, Ping, Silent),
        (&machine.station, world, Tcp(443), Reaches),
        (&machine.station, world, Ping, Reaches),
    ] {
        matrix.rows.extend(rows(from, to, proto, expected));
    }
    check(&mut matrix, &[world, &machine.station], secs(10)).unwrap();

    // Bytes that cleat reads it leaves as they are.
    for (key, value) in [ENDPOINT, POLICY] {
        assert_eq!(etcd.get(key).unwrap().trim_end(), value);
    }
}

/// Neutron's Calico driver, from its package, writes; two hosts obey.
#[test]
fn what_neutrons_driver_writes_is_obeyed_while_it_changes() {
    let house = House::new("neutron").unwrap();
    house.populate().unwrap();
    // What Neutron knows: two subnets, three groups, a server here and a client and an idler there.
    let mut neutron = json!({
        "security_groups": [
            {"id": "5e21", "name": "web servers"},
            {"id": "5e22", "name": "clients"},
            {"id": "5e23", "name": "idle"},
        ],
        "rules": [
            rule("5e21", "ingress", "tcp", Some(80), &json!({"remote_group_id": "5e22"})),
            rule("5e21", "ingress", "icmp", None, &json!({"remote_ip_prefix": "10.99.0.0/16"})),
            any("5e21"), any("5e22"), any("5e23"),
        ],
        "subnets": [
            {"id": "a4", "network_id": "net-1", "cidr": "10.65.100.0/24", "gateway_ip": "10.65.100.254",
                "host_routes": [{"destination": "198.51.100.0/24", "nexthop": "10.65.100.253"}],
                "dns_nameservers": ["10.99.0.2"], "enable_dhcp": true},
            {"id": "b4", "network_id": "net-2", "cidr": "10.65.101.0/24", "gateway_ip": "10.65.101.254",
                "host_routes": [], "dns_nameservers": [], "enable_dhcp": true},
        ],
        "ports": [
            port("1", "alpha", "net-1", "5e21"),
            port("2", "beta", "net-2", "5e22"),
            port("3", "beta", "net-2", "5e23"),
        ],
        "allocations": [
            {"port_id": port_id("1"), "subnet_id": "a4", "ip_address": "10.65.100.1"},
            {"port_id": port_id("2"), "subnet_id": "b4", "ip_address": "10.65.101.2"},
            {"port_id": port_id("3"), "subnet_id": "b4", "ip_address": "10.65.101.3"},
        ],
        "floating_ips": [],
    });
    let machines = [
        (
            "1",
            &house.alpha,
            "10.65.100.1",
            "10.65.100.254",
            [Tcp(80), Tcp(81)].as_slice(),
        ),
        ("2", &house.beta, "10.65.101.2", "10.65.101.254", &[Tcp(22)]),
        ("3", &house.beta, "10.65.101.3", "10.65.101.254", &[Tcp(22)]),
    ]
    .map(|(number, host, address, gateway, serves)| {
        let nic = Nic {
            // Neutron names an interface after the first eleven characters of its port.
            tap: format!("tap{}", &port_id(number)[..11]),
            mac: format!("fa:16:3e:00:00:0{number}"),
            addresses: vec![(address.parse().unwrap(), 24)],
            gateways: vec![gateway.parse().unwrap()],
        };
        let name = format!("vm{number}");
        Workload::machine(&house.lab, &host.namespace, &name, &nic, serves).unwrap()
    });
    let [server, client, idler] = &machines;

    driver(
        &house,
        &neutron,
        &json!([
            ["configure"], ["profile", "neutron", {"labelsToApply": {"cloud": "east"}}],
            ["subnet", "a4"], ["subnet", "b4"],
            ["port", port_id("1")], ["port", port_id("2")], ["port", port_id("3")],
        ]),
    );
    house.start().unwrap();
    let world = house.station("client").unwrap();
    let expect = |questions: &[(
        &netlab::Station,
        &netlab::Station,
        netlab::Proto,
        netlab::Expect,
    )]| {
        let mut matrix = Matrix::default();
        for (from, to, proto, expected) in questions {
            matrix.rows.extend(rows(from, to, *proto, *expected));
        }
        check(&mut matrix, &[world, server, client, idler], secs(15)).unwrap();
    };
    expect(&[
        (client, server, Tcp(80), Reaches),
        (client, server, Tcp(81), Silent),
        (idler, server, Tcp(80), Silent),
        (world, server, Ping, Reaches),
        (client, server, Ping, Silent),
        (server, client, Tcp(22), Silent),
    ]);

    // The subnets are for the DHCP agents: read, and left as they were written.
    let subnet = house
        .etcd
        .get("/calico/dhcp/v2/no-region/subnet/a4")
        .unwrap();
    let subnet: Value = serde_json::from_str(&subnet).unwrap();
    assert_eq!(subnet["host_routes"][0]["destination"], "198.51.100.0/24");
    // The driver finds its endpoints' states where it looks for them.
    eventually("the endpoints' states for Neutron", secs(20), || {
        let states = driver(&house, &neutron, &json!([["statuses"]]));
        let states: Value = serde_json::from_str(&states).map_err(|error| error.to_string())?;
        let ups = ["1", "2", "3"].map(|number| states[port_id(number)][1]["status"] == "up");
        if ups == [true; 3] && states[port_id("1")][0] == "alpha" {
            Ok(())
        } else {
            Err(states.to_string())
        }
    })
    .unwrap();

    // A rule more, a machine moved to another group, the store compacted as the driver does every hour.
    let rules = neutron["rules"].as_array_mut().unwrap();
    rules.push(rule(
        "5e21",
        "ingress",
        "tcp",
        Some(81),
        &json!({"remote_group_id": "5e23"}),
    ));
    neutron["ports"][1]["security_groups"] = json!(["5e23"]);
    driver(
        &house,
        &neutron,
        &json!([["groups", "5e21"], ["port", port_id("2")], ["compact"]]),
    );
    expect(&[
        (client, server, Tcp(80), Silent),
        (client, server, Tcp(81), Reaches),
        (idler, server, Tcp(81), Reaches),
        (world, server, Ping, Reaches),
    ]);

    // A group without rules, and at last a machine gone: nothing reaches it, and its route goes.
    driver(
        &house,
        &neutron,
        &json!([["group_gone", "5e21"], ["subnet_gone", "b4"]]),
    );
    expect(&[
        (idler, server, Tcp(81), Silent),
        (world, server, Ping, Silent),
    ]);
    driver(&house, &neutron, &json!([["port_gone", port_id("1")]]));
    eventually("the machine's route to go", secs(15), || {
        let routes = house
            .beta
            .namespace
            .run("ip", &["route", "show", "10.65.100.1"]);
        let own = house
            .alpha
            .namespace
            .run("ip", &["route", "show", "10.65.100.1"]);
        match (routes, own) {
            (Ok(routes), Ok(own)) if routes.is_empty() && own.is_empty() => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .unwrap();
}

/// Runs operations of the driver on what Neutron knows, and returns what they print.
fn driver(house: &House, neutron: &Value, operations: &Value) -> String {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let python = root.join(".tools/neutron/bin/python");
    assert!(python.exists(), "scripts/setup test installs the driver");
    let script = root.join("netlab/tests/calico_driver.py");
    let request = json!({"neutron": neutron, "do": operations}).to_string();
    let arguments = [&script.to_string_lossy(), "172.31.0.1", "2379", &request];
    house
        .alpha
        .namespace
        .run(&python.to_string_lossy(), &arguments)
        .expect("the driver does what it is told")
}

fn port_id(number: &str) -> String {
    format!("{number}0c0ffee-9a35-41c4-b5f1-000000000000")
}

fn port(number: &str, host: &str, network: &str, group: &str) -> Value {
    json!({"id": port_id(number), "device_id": format!("vm-{number}"), "device_owner": "compute:nova",
        "binding:host_id": host, "mac_address": format!("fa:16:3e:00:00:0{number}"), "network_id": network,
        "security_groups": [group], "project_id": "4ffe"})
}

fn rule(group: &str, direction: &str, protocol: &str, port: Option<u16>, remote: &Value) -> Value {
    json!({"security_group_id": group, "direction": direction, "ethertype": "IPv4", "protocol": protocol,
        "port_range_min": port, "port_range_max": port, "remote_group_id": remote["remote_group_id"],
        "remote_ip_prefix": remote["remote_ip_prefix"]})
}

/// The rule that Neutron gives each new group: out to anywhere.
fn any(group: &str) -> Value {
    json!({"security_group_id": group, "direction": "egress", "ethertype": "IPv4", "protocol": null,
        "port_range_min": null, "port_range_max": null, "remote_group_id": null, "remote_ip_prefix": null})
}
