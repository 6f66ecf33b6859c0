//! The rules that kube-proxy and Calico's iptables data plane write, in the shape and number in which they write them.
//!
//! Names and comments are theirs in form only; what matters is how many rules a packet meets and what each must look at.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::topology::{Family, Topology};

/// Input of `iptables-restore` for kube-proxy's service rules: `services` of them, none of which the tests use, so that a
/// packet walks past all.
pub(super) fn kube_proxy(services: usize, family: Family) -> String {
    let pods = family.pod_network();
    let mut chains = String::new();
    let mut rules = String::new();
    let mut dispatch = String::new();
    for index in 0..services {
        let service = family.service(index);
        let name = format!("default/filler-{index}");
        let chain = format!("KUBE-SVC-{index:016X}");
        let _ = writeln!(chains, ":{chain} - [0:0]");
        let width = family.host_bits();
        let _ = writeln!(
            dispatch,
            "-A KUBE-SERVICES -d {service}/{width} -p tcp -m comment --comment \"{name} cluster IP\" -m tcp --dport 80 -j {chain}"
        );
        let _ = writeln!(
            rules,
            "-A {chain} ! -s {pods} -d {service}/{width} -p tcp -m comment --comment \"{name} cluster IP\" -m tcp --dport 80 -j KUBE-MARK-MASQ"
        );
        let endpoints = 1 + index % 3;
        for endpoint in 0..endpoints {
            let address = family.filler_endpoint(index * 3 + endpoint);
            let leaf = format!("KUBE-SEP-{index:014X}{endpoint:02X}");
            let _ = writeln!(chains, ":{leaf} - [0:0]");
            let chance = if endpoint + 1 == endpoints {
                String::new()
            } else {
                format!(
                    "-m statistic --mode random --probability {:.10} ",
                    1.0 / (endpoints - endpoint) as f64
                )
            };
            let _ = writeln!(
                rules,
                "-A {chain} -m comment --comment \"{name} -> {address}\" {chance}-j {leaf}"
            );
            let _ = writeln!(
                rules,
                "-A {leaf} -s {address}/{width} -m comment --comment {name} -j KUBE-MARK-MASQ"
            );
            let target = match address {
                IpAddr::V4(address) => format!("{address}:8080"),
                IpAddr::V6(address) => format!("[{address}]:8080"),
            };
            let _ = writeln!(
                rules,
                "-A {leaf} -p tcp -m comment --comment {name} -m tcp -j DNAT --to-destination {target}"
            );
        }
    }
    format!(
        "*filter\n\
         :KUBE-FORWARD - [0:0]\n:KUBE-PROXY-FIREWALL - [0:0]\n:KUBE-EXTERNAL-SERVICES - [0:0]\n:KUBE-SERVICES - [0:0]\n\
         -A INPUT -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL\n\
         -A INPUT -m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES\n\
         -A FORWARD -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL\n\
         -A FORWARD -j KUBE-FORWARD\n\
         -A FORWARD -m conntrack --ctstate NEW -j KUBE-SERVICES\n\
         -A FORWARD -m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES\n\
         -A OUTPUT -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL\n\
         -A OUTPUT -m conntrack --ctstate NEW -j KUBE-SERVICES\n\
         -A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP\n\
         -A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT\n\
         -A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
         COMMIT\n\
         *nat\n\
         :KUBE-SERVICES - [0:0]\n:KUBE-NODEPORTS - [0:0]\n:KUBE-POSTROUTING - [0:0]\n:KUBE-MARK-MASQ - [0:0]\n{chains}\
         -A PREROUTING -j KUBE-SERVICES\n\
         -A OUTPUT -j KUBE-SERVICES\n\
         -A POSTROUTING -j KUBE-POSTROUTING\n\
         -A KUBE-MARK-MASQ -j MARK --or-mark 0x4000\n\
         -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN\n\
         -A KUBE-POSTROUTING -j MARK --xor-mark 0x4000\n\
         -A KUBE-POSTROUTING -j MASQUERADE --random-fully\n\
         {dispatch}\
         -A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\n\
         {rules}COMMIT\n"
    )
}

/// Input of `ipset restore` for the sets that [`calico`]'s rules look into.
pub(super) fn calico_sets(rules: usize, family: Family) -> String {
    let mut sets = String::new();
    let name = family.ipset_name();
    for set in 0..rules.min(MAX_SETS) {
        let _ = writeln!(
            sets,
            "create cali{}0s:f{set:06} hash:net family {name} maxelem 1048576 -exist",
            family.digit()
        );
        for member in 0..20 {
            let address = family.set_member(set, member);
            let _ = writeln!(
                sets,
                "add cali{}0s:f{set:06} {address} -exist",
                family.digit()
            );
        }
    }
    let peers = format!("cali{}0s:peers", family.digit());
    let _ = writeln!(
        sets,
        "create {peers} hash:net family {name} maxelem 1048576 -exist"
    );
    for peer in [family.pod_network(), &family.client().to_string()] {
        let _ = writeln!(sets, "add {peers} {peer} -exist");
    }
    sets
}

/// Input of `iptables-restore` for Calico's policy chains on one host: `rules` rules per workload and direction, the last of
/// which lets the tests' packets through.
pub(super) fn calico(topology: &Topology, node: usize, rules: usize, family: Family) -> String {
    let digit = family.digit();
    let mut chains: Vec<String> = [
        "cali-FORWARD",
        "cali-from-wl-dispatch",
        "cali-to-wl-dispatch",
        "cali-cidr-block",
        "cali-pi-bench",
        "cali-po-bench",
    ]
    .map(String::from)
    .to_vec();
    let mut body = String::from(
        "-A FORWARD -m comment --comment \"cali:forward\" -j cali-FORWARD\n\
         -A FORWARD -m comment --comment \"cali:accepted\" -m mark --mark 0x10000/0x10000 -j ACCEPT\n\
         -A cali-FORWARD -m comment --comment \"cali:clear\" -j MARK --set-xmark 0x0/0xe0000\n\
         -A cali-FORWARD -i cali+ -m comment --comment \"cali:from\" -j cali-from-wl-dispatch\n\
         -A cali-FORWARD -o cali+ -m comment --comment \"cali:to\" -j cali-to-wl-dispatch\n\
         -A cali-FORWARD -m comment --comment \"cali:block\" -j cali-cidr-block\n",
    );
    for interface in topology.workload_interfaces(node) {
        for (direction, flag, policy, dispatch) in
            [("fw", "-i", "po", "from"), ("tw", "-o", "pi", "to")]
        {
            let chain = format!("cali-{direction}-{interface}");
            let _ = write!(
                body,
                "-A cali-{dispatch}-wl-dispatch {flag} {interface} -m comment --comment \"cali:{chain}\" -g {chain}\n\
                 -A {chain} -m comment --comment \"cali:1\" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
                 -A {chain} -m comment --comment \"cali:2\" -m conntrack --ctstate INVALID -j DROP\n\
                 -A {chain} -m comment --comment \"cali:3\" -j MARK --set-xmark 0x0/0x30000\n\
                 -A {chain} -m comment --comment \"cali:4\" -j MARK --set-xmark 0x0/0x20000\n\
                 -A {chain} -m comment --comment \"cali:5\" -m mark --mark 0x0/0x20000 -j cali-{policy}-bench\n\
                 -A {chain} -m comment --comment \"cali:6\" -m mark --mark 0x10000/0x10000 -j RETURN\n\
                 -A {chain} -m comment --comment \"cali:7\" -m mark --mark 0x0/0x20000 -j DROP\n\
                 -A {chain} -m comment --comment \"cali:8\" -j DROP\n"
            );
            chains.push(chain);
        }
    }
    for dispatch in ["from", "to"] {
        let _ = writeln!(
            body,
            "-A cali-{dispatch}-wl-dispatch -m comment --comment \"cali:unknown\" -j DROP"
        );
    }
    for (chain, side) in [("cali-pi-bench", "src"), ("cali-po-bench", "dst")] {
        for rule in 0..rules {
            let last = rule + 1 == rules;
            let set = if last {
                format!("cali{digit}0s:peers")
            } else {
                format!("cali{digit}0s:f{:06}", rule % MAX_SETS)
            };
            let ports = if last {
                String::from("8080:9999")
            } else {
                format!("{},{}", 2000 + rule % 6000, 12000 + rule)
            };
            let protocols: &[&str] = if last { &["tcp", "udp"] } else { &["tcp"] };
            for protocol in protocols {
                let _ = write!(
                    body,
                    "-A {chain} -p {protocol} -m comment --comment \"cali:r{rule}{protocol}\" -m set --match-set {set} {side} -m multiport --dports {ports} -j MARK --set-xmark 0x10000/0x10000\n\
                     -A {chain} -m comment --comment \"cali:t{rule}{protocol}\" -m mark --mark 0x10000/0x10000 -j RETURN\n"
                );
            }
        }
    }
    let mut text = String::from("*filter\n");
    for chain in chains {
        let _ = writeln!(text, ":{chain} - [0:0]");
    }
    text + &body + "COMMIT\n"
}

/// Rules share their sets from this number on, as they do in a cluster where selectors repeat.
const MAX_SETS: usize = 200;
