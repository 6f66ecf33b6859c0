//! How long flows may be silent, as Felix's parameters say.

use std::time::Duration;

use crate::dataplane::Timeouts;
use crate::felix::FlowTimeout;

/// The data path's own times, but for those that are chosen.
pub(super) fn of(chosen: &[(String, FlowTimeout)]) -> Timeouts {
    let mut timeouts = Timeouts::default();
    for (state, time) in chosen {
        let (field, kernels) = match state.as_str() {
            "tcpsynsent" => (&mut timeouts.tcp_syn_sent, "tcp_timeout_syn_sent"),
            "tcpestablished" => (&mut timeouts.tcp_established, "tcp_timeout_established"),
            "tcpfinsseen" => (&mut timeouts.tcp_closed, "tcp_timeout_time_wait"),
            "tcpresetseen" => (&mut timeouts.tcp_reset, "tcp_timeout_close"),
            "udptimeout" => (&mut timeouts.udp, "udp_timeout"),
            "icmptimeout" => (&mut timeouts.icmp, "icmp_timeout"),
            "generictimeout" => (&mut timeouts.other, "generic_timeout"),
            // New flows have no grace of their own here: a first packet counts like any other.
            _ => continue,
        };
        match time {
            FlowTimeout::After(time) => *field = *time,
            // Without connection tracking in the kernel there is nothing to take over.
            FlowTimeout::Auto => *field = of_kernel(kernels).unwrap_or(*field),
        }
    }
    timeouts
}

fn of_kernel(name: &str) -> Option<Duration> {
    let text = std::fs::read_to_string(format!("/proc/sys/net/netfilter/nf_conntrack_{name}"));
    text.ok()?.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_chosen_holds_and_the_rest_stays() {
        let seconds = |seconds| FlowTimeout::After(Duration::from_secs(seconds));
        let chosen = [
            ("udptimeout".to_owned(), seconds(7)),
            ("tcpestablished".to_owned(), seconds(8)),
            ("creationgraceperiod".to_owned(), seconds(9)),
        ];
        let expected = Timeouts {
            udp: Duration::from_secs(7),
            tcp_established: Duration::from_secs(8),
            ..Timeouts::default()
        };
        assert_eq!(of(&chosen), expected);
    }
}
