//! Interfaces of workloads and hosts, and hosts.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::{
    Check, CheckObject, Fault, Faults,
    names::{check_name, check_profile_name, is_word},
};
use crate::{
    resource::{
        BgpNode, EndpointPort, HostEndpointPort, HostEndpointSpec, IpNat, NodeSpec, NodeStatus,
        Object, QosControls, WorkloadEndpointSpec, codec::typed,
    },
    value::{Cidr, Port, Protocol},
    wep_name,
};

/// The length of an interface's name, without the zero behind it.
const MAX_INTERFACE: usize = 15;

impl CheckObject for WorkloadEndpointSpec {
    fn check_object(object: &Object<Self>, faults: &mut Faults) {
        let name = &object.metadata.name;
        if faults.is_strict() {
            faults.at("metadata.name", |faults| check_name(name, faults));
        }
        match wep_name::construct(&wep_name::Fields::of(&object.spec), false) {
            Ok(wanted) => faults.require(*name == wanted, "metadata.name", || {
                format!("does not agree with the fields, which make {wanted:?}")
            }),
            Err(fault) => faults.add(&format!("spec.{}", fault.field), fault.reason),
        }
    }
}

impl Check for WorkloadEndpointSpec {
    fn check(&self, faults: &mut Faults) {
        check_interface(&self.interface_name, faults);
        faults.each("ipNetworks", &self.ip_networks, |net, faults| {
            faults.require(net.is_host(), "", || {
                format!("{net} is more than one address")
            });
        });
        faults.each("profiles", &self.profiles, |profile, faults| {
            check_profile_name(profile, faults);
        });
        faults.each("ports", &self.ports, Check::check);
        if !faults.is_strict() {
            return;
        }
        if let Some(id) = &self.container_id {
            let alphanumeric = |byte: u8| byte.is_ascii_alphanumeric();
            let fits = is_word(id, 253, alphanumeric, |byte| {
                alphanumeric(byte) || byte == b'-'
            });
            faults.require(fits, "containerID", || {
                format!("{id:?} is no name of letters, digits and `-`")
            });
        }
        faults.each("ipNATs", &self.ip_nats, |nat, faults| {
            nat.check(faults);
            let own = |net: &Cidr| net.addr() == nat.internal_ip;
            faults.require(self.ip_networks.iter().any(own), "internalIP", || {
                format!("{} is not among the ipNetworks", nat.internal_ip)
            });
        });
        if let Some(controls) = &self.qos_controls {
            faults.at("qosControls", |faults| controls.check(faults));
        }
    }
}

fn check_interface(name: &str, faults: &mut Faults) {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    faults.require(
        is_word(name, MAX_INTERFACE, letter, letter),
        "interfaceName",
        || {
            format!(
                "{name:?} is no name of at most {MAX_INTERFACE} letters, digits, `_`, `.` and `-`"
            )
        },
    );
}

impl Check for IpNat {
    fn check(&self, faults: &mut Faults) {
        let same = self.internal_ip.is_ipv4() == self.external_ip.is_ipv4();
        faults.require(
            same,
            "externalIP",
            || "is of another IP version than internalIP",
        );
    }
}

impl Check for EndpointPort {
    fn check(&self, faults: &mut Faults) {
        // A port without a name is the host's alone, and nothing that a rule could use.
        if self.name.is_empty() && !faults.is_strict() {
            return;
        }
        let only_host = self.name.is_empty() && self.host_port > 0;
        faults.require(
            only_host || Port::named(&self.name).is_ok(),
            "name",
            || "is required, but for ports of the host; letters, digits, `_`, `.` and `-`",
        );
        check_port(&self.protocol.0, self.port, faults);
    }
}

fn check_port(protocol: &Protocol, port: u16, faults: &mut Faults) {
    faults.require(protocol.supports_ports(), "protocol", || {
        format!("{protocol} is none of TCP, UDP and SCTP")
    });
    faults.require(port > 0, "port", || "0 is no port");
}

impl Check for QosControls {
    fn check(&self, faults: &mut Faults) {
        for (name, value, low, high) in [
            (
                "ingressBandwidth",
                self.ingress_bandwidth,
                1_000,
                1_000_000_000_000_000,
            ),
            (
                "egressBandwidth",
                self.egress_bandwidth,
                1_000,
                1_000_000_000_000_000,
            ),
            ("ingressBurst", self.ingress_burst, 1_000, 34_359_738_360),
            ("egressBurst", self.egress_burst, 1_000, 34_359_738_360),
            (
                "ingressPeakrate",
                self.ingress_peakrate,
                1_010,
                1_010_000_000_000_000,
            ),
            (
                "egressPeakrate",
                self.egress_peakrate,
                1_010,
                1_010_000_000_000_000,
            ),
            ("ingressMinburst", self.ingress_minburst, 1_000, 100_000_000),
            ("egressMinburst", self.egress_minburst, 1_000, 100_000_000),
            ("ingressPacketRate", self.ingress_packet_rate, 1, 10_000),
            ("egressPacketRate", self.egress_packet_rate, 1, 10_000),
            ("ingressPacketBurst", self.ingress_packet_burst, 1, 10_000),
            ("egressPacketBurst", self.egress_packet_burst, 1, 10_000),
            (
                "ingressMaxConnections",
                self.ingress_max_connections,
                1,
                u64::from(u32::MAX),
            ),
            (
                "egressMaxConnections",
                self.egress_max_connections,
                1,
                u64::from(u32::MAX),
            ),
        ] {
            // Zero is what Go's writers leave for "not set".
            faults.within(name, value.filter(|value| *value != 0), low, high);
        }
        let known = self.dscp.as_ref().is_none_or(|dscp| dscp.value().is_some());
        faults.require(
            known,
            "dscp",
            || "is neither a number up to 63 nor one of the names",
        );
    }
}

impl CheckObject for HostEndpointSpec {}

impl Check for HostEndpointSpec {
    fn check(&self, faults: &mut Faults) {
        // The key of an interface begins with its node.
        faults.require(!self.node.is_empty(), "node", || "is required");
        match self.interface_name.as_deref() {
            None => faults.require(
                !faults.is_strict() || !self.expected_ips.is_empty(),
                "interfaceName",
                || "is required, or expectedIPs",
            ),
            Some("*") => {}
            Some(name) => check_interface(name, faults),
        }
        faults.each("profiles", &self.profiles, |profile, faults| {
            check_profile_name(profile, faults);
        });
        faults.each("ports", &self.ports, Check::check);
    }
}

impl Check for HostEndpointPort {
    fn check(&self, faults: &mut Faults) {
        faults.require(
            Port::named(&self.name).is_ok(),
            "name",
            || "is required: letters, digits, `_`, `.` and `-`",
        );
        check_port(&self.protocol.0, self.port, faults);
    }
}

impl CheckObject for NodeSpec {
    fn check_status(status: &Value, faults: &mut Faults) {
        match typed::<NodeStatus>("status", status.clone()) {
            Ok(status) => faults.at("status", |faults| status.check(faults)),
            Err(Fault { field, reason }) => faults.add(&field, reason),
        }
    }
}

impl Check for NodeSpec {
    fn check(&self, faults: &mut Faults) {
        if let Some(bgp) = &self.bgp {
            faults.at("bgp", |faults| bgp.check(faults));
        }
    }
}

impl Check for BgpNode {
    fn check(&self, faults: &mut Faults) {
        if faults.is_strict() {
            faults.require(*self != Self::default(), "", || "says nothing");
        }
        for (name, address, v4) in [
            ("ipv4Address", self.ipv4_address, true),
            ("ipv6Address", self.ipv6_address, false),
        ] {
            faults.require(
                address.is_none_or(|address| address.is_v4() == v4),
                name,
                || "is of the other IP version",
            );
        }
    }
}

impl Check for NodeStatus {
    fn check(&self, faults: &mut Faults) {
        if !faults.is_strict() {
            return;
        }
        for (name, key) in [
            ("wireguardPublicKey", &self.wireguard_public_key),
            ("wireguardPublicKeyV6", &self.wireguard_public_key_v6),
        ] {
            let fits = |key: &String| STANDARD.decode(key).is_ok_and(|key| key.len() == 32);
            faults.require(
                key.as_ref().is_none_or(fits),
                name,
                || "is no public key of WireGuard, 32 bytes in base64",
            );
        }
    }
}
