//! Workloads: what a CNI plugin or a hypervisor leaves behind for the daemon to find.

use std::{net::IpAddr, ops::Deref, sync::Arc};

use anyhow::Result;

use crate::{Lab, Namespace, echo::Servers, matrix::Proto, tap::Wire};

/// A place in the network that asks and answers: a workload or a client.
#[derive(Clone, Debug)]
pub struct Station {
    /// Its name in matrices.
    pub name: String,
    /// Where it lives.
    pub namespace: Arc<Namespace>,
    /// Its addresses, at most one for a family.
    pub addresses: Vec<IpAddr>,
}

impl Station {
    /// Its IPv4 or IPv6 address.
    pub fn address(&self, v4: bool) -> Option<IpAddr> {
        self.addresses
            .iter()
            .copied()
            .find(|address| address.is_ipv4() == v4)
    }
}

/// A virtual machine's interface. Its subnets are on-link, as a hypervisor with Neutron networks has it.
#[derive(Clone, Debug)]
pub struct Nic {
    /// The tap on the host.
    pub tap: String,
    /// Its MAC address in the machine.
    pub mac: String,
    /// Its addresses, with the length of their subnet's prefix.
    pub addresses: Vec<(IpAddr, u8)>,
    /// The gateways that lead out, at most one for a family.
    pub gateways: Vec<IpAddr>,
}

/// A workload behind a host's interface, with its servers.
#[derive(Debug)]
pub struct Workload {
    /// Its place in the network.
    pub station: Station,
    /// The interface on the host's side.
    pub interface: String,
    /// The MAC address on the workload's side.
    pub mac: String,
    /// The servers in it.
    _servers: Servers,
    /// The hypervisor's part of a tap.
    _wire: Option<Wire>,
}

impl Deref for Workload {
    type Target = Station;

    fn deref(&self) -> &Station {
        &self.station
    }
}

impl Workload {
    /// A container: a veth pair made the way the Calico CNI plugin makes it. Inside, everything is behind a gateway that
    /// has no subnet: 169.254.1.1, answered by proxy ARP, and the link-local address of the host's end.
    pub fn container(
        lab: &Lab,
        host: &Namespace,
        name: &str,
        interface: &str,
        addresses: &[IpAddr],
        serves: &[Proto],
    ) -> Result<Self> {
        let namespace = lab.namespace(name)?;
        plug(host, &namespace, interface, addresses)?;
        let servers = Servers::start(&namespace, serves)?;
        let station = Station {
            name: name.to_owned(),
            namespace,
            addresses: addresses.to_vec(),
        };
        Ok(Self {
            station,
            interface: interface.to_owned(),
            mac: mac_for(addresses),
            _servers: servers,
            _wire: None,
        })
    }

    /// Takes a container's interface away, as when its host ends.
    pub fn unplug(&self, host: &Namespace) -> Result<()> {
        host.ip(&format!("link del {}", self.interface))
    }

    /// Gives a container its interface again, as when its host has started.
    pub fn plug(&self, host: &Namespace) -> Result<()> {
        let station = &self.station;
        plug(
            host,
            &station.namespace,
            &self.interface,
            &station.addresses,
        )
    }

    /// A virtual machine: a tap on the host, its other side a stack of its own.
    pub fn machine(
        lab: &Lab,
        host: &Namespace,
        name: &str,
        nic: &Nic,
        serves: &[Proto],
    ) -> Result<Self> {
        let namespace = lab.namespace(name)?;
        let interface = &nic.tap;
        let wire = Wire::start(host, interface, &namespace, "eth0")?;
        host.ip(&format!("link set {interface} up"))?;
        answer_for_gateway(host, interface)?;
        namespace.ip(&format!("link set eth0 address {} up", nic.mac))?;
        for (address, len) in &nic.addresses {
            namespace.address("eth0", &format!("{address}/{len}"))?;
        }
        for gateway in &nic.gateways {
            let (family, gateway) = (
                if gateway.is_ipv4() { "-4" } else { "-6" },
                gateway.to_string(),
            );
            namespace.run(
                "ip",
                &[
                    family, "route", "add", "default", "via", &gateway, "dev", "eth0",
                ],
            )?;
        }
        let servers = Servers::start(&namespace, serves)?;
        let addresses = nic.addresses.iter().map(|&(address, _)| address).collect();
        let station = Station {
            name: name.to_owned(),
            namespace,
            addresses,
        };
        Ok(Self {
            station,
            interface: interface.to_owned(),
            mac: nic.mac.clone(),
            _servers: servers,
            _wire: Some(wire),
        })
    }
}

/// The veth pair of a container, and what is in it.
fn plug(
    host: &Namespace,
    namespace: &Namespace,
    interface: &str,
    addresses: &[IpAddr],
) -> Result<()> {
    host.veth(interface, namespace, "eth0")?;
    host.ip(&format!("link set {interface} address {HOST_MAC}\naddr replace {HOST_LINK_LOCAL}/64 dev {interface} nodad"))?;
    answer_for_gateway(host, interface)?;
    let mac = mac_for(addresses);
    namespace.ip(&format!("link set eth0 address {mac}"))?;
    for address in addresses {
        let (len, nodad, family) = if address.is_ipv4() {
            (32, "", "-4")
        } else {
            (128, " nodad", "-6")
        };
        namespace.ip(&format!("addr add {address}/{len} dev eth0{nodad}"))?;
        let gateway = if address.is_ipv4() {
            GATEWAY
        } else {
            HOST_LINK_LOCAL
        };
        if address.is_ipv4() {
            namespace.ip(&format!("route add {gateway} dev eth0 scope link"))?;
        }
        // `ip -batch` takes no family flag on its lines.
        namespace.run(
            "ip",
            &[
                family, "route", "add", "default", "via", gateway, "dev", "eth0",
            ],
        )?;
    }
    Ok(())
}

/// What the CNI plugin sets on the host's end: the host answers ARP for whatever the workload asks, without delay.
fn answer_for_gateway(host: &Namespace, interface: &str) -> Result<()> {
    for (key, value) in [
        (format!("net/ipv4/conf/{interface}/proxy_arp"), "1"),
        (format!("net/ipv4/neigh/{interface}/proxy_delay"), "0"),
        (format!("net/ipv4/conf/{interface}/forwarding"), "1"),
        (format!("net/ipv6/conf/{interface}/forwarding"), "1"),
        (format!("net/ipv6/conf/{interface}/proxy_ndp"), "1"),
    ] {
        host.sysctl(&key, value)?;
    }
    Ok(())
}

/// A locally administered MAC that shows the last bytes of the first address.
fn mac_for(addresses: &[IpAddr]) -> String {
    let bytes: Vec<u8> = match addresses.first() {
        Some(IpAddr::V4(address)) => address.octets().to_vec(),
        Some(IpAddr::V6(address)) => address.octets()[12..].to_vec(),
        None => vec![0; 4],
    };
    let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("02:00:{}", hex.join(":"))
}

/// The gateway of containers under Calico's CNI plugin; no interface has it.
const GATEWAY: &str = "169.254.1.1";
/// The MAC address Calico's CNI plugin gives the host's end.
const HOST_MAC: &str = "ee:ee:ee:ee:ee:ee";
/// The link-local address that follows from [`HOST_MAC`].
const HOST_LINK_LOCAL: &str = "fe80::ecee:eeff:feee:eeee";
