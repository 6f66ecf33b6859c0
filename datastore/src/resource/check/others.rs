//! Addresses, statuses, the cluster, migrations and services.

use serde_json::Value;

use super::{Check, CheckObject, Faults, names::is_dns_subdomain, typed_status};
use crate::resource::{
    CalicoNodeStatusSpec, CalicoNodeStatusStatus, ClusterInformationSpec, Endpoint,
    EndpointSliceSpec, IpReservationSpec, IpamConfigurationSpec, LiveMigrationSpec, Object,
    ServicePort, ServiceSpec, ServiceStatus, ServiceType, SessionAffinity, SliceAddressType,
    TargetPort,
};

/// The longest that a node may be asked to wait between two statuses, in seconds.
const MAX_PERIOD: u32 = 86_400;
/// The longest that a client may stay with a backend, in seconds.
const MAX_AFFINITY: u32 = 86_400;

impl CheckObject for IpReservationSpec {}

impl Check for IpReservationSpec {
    fn check(&self, _: &mut Faults) {}
}

impl CheckObject for IpamConfigurationSpec {}

impl Check for IpamConfigurationSpec {
    fn check(&self, faults: &mut Faults) {
        if faults.is_strict() {
            faults.require(
                self.strict_affinity || self.claims_blocks(),
                "autoAllocateBlocks",
                || "can be off with strictAffinity only",
            );
        }
    }
}

impl CheckObject for CalicoNodeStatusSpec {
    fn check_status(status: &Value, faults: &mut Faults) {
        typed_status::<CalicoNodeStatusStatus>(status, faults);
    }
}

impl Check for CalicoNodeStatusSpec {
    fn check(&self, faults: &mut Faults) {
        if faults.is_strict() {
            faults.distinct("classes", &self.classes);
            faults.within(
                "updatePeriodSeconds",
                self.update_period_seconds,
                0,
                MAX_PERIOD,
            );
        }
    }
}

impl CheckObject for ClusterInformationSpec {}

impl Check for ClusterInformationSpec {
    fn check(&self, _: &mut Faults) {}
}

impl CheckObject for LiveMigrationSpec {}

impl Check for LiveMigrationSpec {
    fn check(&self, faults: &mut Faults) {
        if !faults.is_strict() {
            return;
        }
        match &self.source {
            None => faults.add("source", "is required"),
            Some(source) => faults.require(
                source.workload.is_some() != source.workload_endpoint.is_some(),
                "source",
                || "needs either workload or workloadEndpoint",
            ),
        }
        match &self.target {
            None => faults.add("target", "is required"),
            Some(target) => faults.require(
                target.selector.is_some() != target.workload_endpoint.is_some(),
                "target",
                || "needs either selector or workloadEndpoint",
            ),
        }
    }
}

impl CheckObject for ServiceSpec {
    fn check_object(object: &Object<Self>, faults: &mut Faults) {
        check_dns_name(&object.metadata.name, faults);
    }

    fn check_status(status: &Value, faults: &mut Faults) {
        typed_status::<ServiceStatus>(status, faults);
    }
}

fn check_dns_name(name: &str, faults: &mut Faults) {
    if faults.is_strict() {
        faults.require(is_dns_subdomain(name), "metadata.name", || {
            format!("{name:?} is no name of lower-case letters, digits, `-` and `.`")
        });
    }
}

impl Check for ServiceSpec {
    fn check(&self, faults: &mut Faults) {
        faults.each("ports", &self.ports, Check::check);
        if !faults.is_strict() {
            return;
        }
        let kind = self.kind.unwrap_or(ServiceType::ClusterIp);
        faults.require(
            !self.ports.is_empty() || kind == ServiceType::ExternalName || self.is_headless(),
            "ports",
            || "is required",
        );
        for (index, port) in self.ports.iter().enumerate() {
            let before = &self.ports[..index];
            faults.require(
                self.ports.len() == 1 || port.name.is_some(),
                &format!("ports[{index}].name"),
                || "is required with more than one port",
            );
            let same_name = |other: &ServicePort| other.name.is_some() && other.name == port.name;
            faults.require(
                !before.iter().any(same_name),
                &format!("ports[{index}].name"),
                || "is there twice",
            );
            let same = |other: &ServicePort| {
                (other.protocol(), other.port) == (port.protocol(), port.port)
            };
            faults.require(
                !before.iter().any(same),
                &format!("ports[{index}].port"),
                || "is there twice with its protocol",
            );
        }
        faults.within("clusterIPs", Some(self.cluster_ips.len()), 0, 2);
        if let (Some(one), Some(first)) = (&self.cluster_ip, self.cluster_ips.first()) {
            faults.require(one == first, "clusterIPs[0]", || "is not clusterIP");
        }
        faults.distinct("ipFamilies", &self.ip_families);
        let timeout = self
            .session_affinity_config
            .as_ref()
            .and_then(|config| config.client_ip.as_ref()?.timeout_seconds);
        faults.within(
            "sessionAffinityConfig.clientIP.timeoutSeconds",
            timeout,
            1,
            MAX_AFFINITY,
        );
        faults.require(
            timeout.is_none() || self.session_affinity == Some(SessionAffinity::ClientIp),
            "sessionAffinityConfig",
            || "needs sessionAffinity ClientIP",
        );
        let outside = matches!(kind, ServiceType::NodePort | ServiceType::LoadBalancer)
            || !self.external_ips.is_empty();
        faults.require(
            self.external_traffic_policy.is_none() || outside,
            "externalTrafficPolicy",
            || "is for services that are reached from outside",
        );
        for (name, there) in [
            ("loadBalancerClass", self.load_balancer_class.is_some()),
            (
                "loadBalancerSourceRanges",
                !self.load_balancer_source_ranges.is_empty(),
            ),
            (
                "allocateLoadBalancerNodePorts",
                self.allocate_load_balancer_node_ports.is_some(),
            ),
        ] {
            faults.require(
                !there || kind == ServiceType::LoadBalancer,
                name,
                || "is for type LoadBalancer only",
            );
        }
        faults.require(
            (kind == ServiceType::ExternalName) == self.external_name.is_some(),
            "externalName",
            || "goes together with type ExternalName",
        );
    }
}

impl Check for ServicePort {
    fn check(&self, faults: &mut Faults) {
        faults.require(self.port > 0, "port", || "0 is no port");
        if let Some(TargetPort::Name(name)) = &self.target_port
            && faults.is_strict()
        {
            let fits = (1..=15).contains(&name.len())
                && name.bytes().any(|byte| byte.is_ascii_lowercase())
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
            faults.require(fits, "targetPort", || {
                format!("{name:?} is neither a port nor the name of one")
            });
        }
    }
}

impl CheckObject for EndpointSliceSpec {
    fn check_object(object: &Object<Self>, faults: &mut Faults) {
        check_dns_name(&object.metadata.name, faults);
    }
}

impl Check for EndpointSliceSpec {
    fn check(&self, faults: &mut Faults) {
        if !faults.is_strict() {
            return;
        }
        faults.each("endpoints", &self.endpoints, |endpoint, faults| {
            endpoint.check_addresses(self.address_type, faults);
        });
        for (index, port) in self.ports.iter().enumerate() {
            let twice = self.ports[..index].iter().any(|other| {
                other.name.as_deref().unwrap_or_default()
                    == port.name.as_deref().unwrap_or_default()
            });
            faults.require(!twice, &format!("ports[{index}].name"), || "is there twice");
            faults.require(
                port.port != Some(0),
                &format!("ports[{index}].port"),
                || "0 is no port",
            );
        }
    }
}

impl Endpoint {
    fn check_addresses(&self, of: SliceAddressType, faults: &mut Faults) {
        faults.within("addresses", Some(self.addresses.len()), 1, 100);
        faults.each("addresses", &self.addresses, |address, faults| {
            let fits = match of {
                SliceAddressType::V4 => address.parse::<std::net::Ipv4Addr>().is_ok(),
                SliceAddressType::V6 => address.parse::<std::net::Ipv6Addr>().is_ok(),
                SliceAddressType::Fqdn => is_dns_subdomain(address),
            };
            faults.require(fits, "", || format!("{address:?} is not of type {of}"));
        });
    }
}
