//! Entries of the flow tables for people.

use std::net::IpAddr;

use cleat_bpf::{Family, Flow, FlowKey};

use crate::output::answers;

/// One direction of a flow, at `now` nanoseconds since boot.
pub(super) fn describe<F: Family>(key: &FlowKey<F>, flow: &Flow, now: u64) -> answers::Flow {
    answers::Flow {
        protocol: protocol(key.protocol),
        source: address(key.src.as_ref()),
        source_port: key.sport.get(),
        destination: address(key.dst.as_ref()),
        destination_port: key.dport.get(),
        state: state(key.protocol, flow),
        packets: flow.packets,
        bytes: flow.bytes,
        idle_seconds: now.saturating_sub(flow.last_seen) / 1_000_000_000,
    }
}

fn address(bytes: &[u8]) -> IpAddr {
    match (<[u8; 4]>::try_from(bytes), <[u8; 16]>::try_from(bytes)) {
        (Ok(v4), _) => IpAddr::from(v4),
        (Err(_), Ok(v6)) => IpAddr::from(v6),
        (Err(_), Err(_)) => unreachable!("a family's addresses have 4 or 16 bytes"),
    }
}

/// The names of the IANA registry in lower case, as `ip_proto` names in `/etc/protocols`.
fn protocol(number: u8) -> String {
    match number {
        1 => "icmp",
        6 => "tcp",
        17 => "udp",
        58 => "icmpv6",
        132 => "sctp",
        other => return other.to_string(),
    }
    .to_owned()
}

fn state(protocol: u8, flow: &Flow) -> String {
    let direction = if flow.flags & Flow::ORIGINAL == 0 {
        "reply"
    } else {
        "original"
    };
    if protocol != TCP {
        return direction.to_owned();
    }
    let seen = [(FIN, "fin"), (SYN, "syn"), (RST, "rst"), (ACK, "ack")];
    let flags: Vec<&str> = seen
        .iter()
        .filter(|(bit, _)| flow.tcp_flags & bit != 0)
        .map(|(_, name)| *name)
        .collect();
    format!(
        "{direction} {}",
        if flags.is_empty() {
            "-".to_owned()
        } else {
            flags.join(",")
        }
    )
}

const TCP: u8 = 6;
// RFC 9293 §3.1.
const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

#[cfg(test)]
mod tests {
    use cleat_bpf::{V4, V6};

    use super::*;

    #[test]
    fn a_flow_reads_as_its_packets_do() {
        let flow = Flow {
            last_seen: 1_000_000_000,
            packets: 3,
            tcp_flags: SYN | ACK,
            flags: Flow::ORIGINAL,
            ..Flow::default()
        };
        let key = FlowKey::<V4> {
            src: [10, 0, 0, 1],
            dst: [10, 0, 0, 2],
            sport: 40_000.into(),
            dport: 80.into(),
            protocol: TCP,
            pad: [0; 3],
        };
        let told = describe(&key, &flow, 3_500_000_000);
        assert_eq!(
            (told.source.to_string().as_str(), told.source_port),
            ("10.0.0.1", 40_000)
        );
        assert_eq!(
            (told.destination.to_string().as_str(), told.destination_port),
            ("10.0.0.2", 80)
        );
        assert_eq!(
            (told.state.as_str(), told.idle_seconds),
            ("original syn,ack", 2)
        );
        let key = FlowKey::<V6> {
            dst: std::net::Ipv6Addr::LOCALHOST.octets(),
            protocol: 58,
            ..FlowKey::default()
        };
        let told = describe(&key, &Flow::default(), 0);
        assert_eq!(
            (
                told.protocol.as_str(),
                told.destination.to_string().as_str(),
                told.state.as_str()
            ),
            ("icmpv6", "::1", "reply")
        );
    }
}
