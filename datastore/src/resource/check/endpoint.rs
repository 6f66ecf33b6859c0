//! Workloads' interfaces and hosts.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{
    Check, CheckObject, Checked, Fault, each, field,
    names::{check_name, is_word},
    optional, require, within,
};
use crate::{
    resource::{
        BgpNode, EndpointPort, IpNat, NodeSpec, NodeStatus, Object, QosControls,
        WorkloadEndpointSpec, codec::typed,
    },
    wep_name,
};

/// The length of an interface's name, without the zero behind it.
const MAX_INTERFACE: usize = 15;

impl CheckObject for WorkloadEndpointSpec {
    fn check_object(object: &Object<Self>) -> Checked {
        let name = &object.metadata.name;
        check_name(name).map_err(|fault| fault.inside("metadata.name"))?;
        let wanted = wep_name::construct(&wep_name::Fields::of(&object.spec), false)
            .map_err(|fault| Fault::new(fault.field, fault.reason).inside("spec"))?;
        require(*name == wanted, "metadata.name", || {
            format!("does not agree with the fields, which make {wanted:?}")
        })
    }
}

impl Check for WorkloadEndpointSpec {
    fn check(&self) -> Checked {
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        let name = &self.interface_name;
        require(
            is_word(name, MAX_INTERFACE, letter, letter),
            "interfaceName",
            || {
                format!(
                    "{name:?} is no name of at most {MAX_INTERFACE} letters, digits, `_`, `.` and `-`"
                )
            },
        )?;
        if let Some(id) = &self.container_id {
            let alphanumeric = |byte: u8| byte.is_ascii_alphanumeric();
            let fits = is_word(id, 253, alphanumeric, |byte| {
                alphanumeric(byte) || byte == b'-'
            });
            require(fits, "containerID", || {
                format!("{id:?} is no name of letters, digits and `-`")
            })?;
        }
        each("ipNetworks", &self.ip_networks, |net| {
            require(net.is_host(), "", || {
                format!("{net} is more than one address")
            })
        })?;
        each("ipNATs", &self.ip_nats, |nat| {
            nat.check()?;
            let own = |net: &crate::value::Cidr| net.addr() == nat.internal_ip;
            require(self.ip_networks.iter().any(own), "internalIP", || {
                format!("{} is not among the ipNetworks", nat.internal_ip)
            })
        })?;
        each("profiles", &self.profiles, |profile| check_name(profile))?;
        each("ports", &self.ports, Check::check)?;
        optional("qosControls", self.qos_controls.as_ref())
    }
}

impl Check for IpNat {
    fn check(&self) -> Checked {
        let same = self.internal_ip.is_ipv4() == self.external_ip.is_ipv4();
        require(
            same,
            "externalIP",
            || "is of another IP version than internalIP",
        )
    }
}

impl Check for EndpointPort {
    fn check(&self) -> Checked {
        let named = crate::value::Port::named(&self.name).is_ok();
        let only_host = self.name.is_empty() && self.host_port > 0;
        require(
            named || only_host,
            "name",
            || "is required, but for ports of the host; letters, digits, `_`, `.` and `-`",
        )?;
        require(self.protocol.0.supports_ports(), "protocol", || {
            format!("{} is none of TCP, UDP and SCTP", self.protocol.0)
        })?;
        require(self.port > 0, "port", || "0 is no port")
    }
}

impl Check for QosControls {
    fn check(&self) -> Checked {
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
            within(name, value.filter(|value| *value != 0), low, high)?;
        }
        let known = self.dscp.as_ref().is_none_or(|dscp| dscp.value().is_some());
        require(
            known,
            "dscp",
            || "is neither a number up to 63 nor one of the names",
        )
    }
}

impl CheckObject for NodeSpec {
    fn check_object(object: &Object<Self>) -> Checked {
        check_name(&object.metadata.name).map_err(|fault| fault.inside("metadata.name"))?;
        match object.extra.get("status") {
            Some(status) => field("status", &typed::<NodeStatus>("status", status.clone())?),
            None => Ok(()),
        }
    }
}

impl Check for NodeSpec {
    fn check(&self) -> Checked {
        optional("bgp", self.bgp.as_ref())
    }
}

impl Check for BgpNode {
    fn check(&self) -> Checked {
        require(*self != Self::default(), "", || "says nothing")?;
        for (name, address, v4) in [
            ("ipv4Address", self.ipv4_address, true),
            ("ipv6Address", self.ipv6_address, false),
        ] {
            require(
                address.is_none_or(|address| address.is_v4() == v4),
                name,
                || "is of the other IP version",
            )?;
        }
        Ok(())
    }
}

impl Check for NodeStatus {
    fn check(&self) -> Checked {
        for (name, key) in [
            ("wireguardPublicKey", &self.wireguard_public_key),
            ("wireguardPublicKeyV6", &self.wireguard_public_key_v6),
        ] {
            let fits = |key: &String| STANDARD.decode(key).is_ok_and(|key| key.len() == 32);
            require(
                key.as_ref().is_none_or(fits),
                name,
                || "is no public key of WireGuard, 32 bytes in base64",
            )?;
        }
        Ok(())
    }
}
