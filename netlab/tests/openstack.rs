//! What networking-calico writes for a virtual machine works unchanged.
#![cfg(feature = "lab")]

use netlab::{
    Expect::{Reaches, Silent},
    Matrix, Nic,
    Proto::{Ping, Tcp},
    Single, Workload,
    probe::{check, rows},
    secs,
};

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
