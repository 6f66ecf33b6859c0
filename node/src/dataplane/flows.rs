//! The flow tables seen from user space: listing, expiry, forgetting what a gone address left behind.
//!
//! Both directions of a flow expire together, by the later one's last packet: a download whose acknowledgements take another way
//! would lose its answers otherwise. The directions are told whole by one scan, so nothing is looked up in between. Timeouts
//! are Calico's; above four fifths of the table they shrink, down to a twentieth when it is full, so that a flood of new flows
//! costs old idle ones first and never locks anybody out.

use std::{collections::HashMap, hash::Hash, io, time::Duration};

use cleat_bpf::{
    Family, Flow, FlowKey,
    packet::{FIN, RST, SYN, TCP, UDP},
};

use super::sys::{self, Map};

/// How long a flow may be silent.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP before both sides have answered.
    pub tcp_syn_sent: Duration,
    /// TCP in use.
    pub tcp_established: Duration,
    /// TCP with a FIN from both sides.
    pub tcp_closed: Duration,
    /// TCP with an RST.
    pub tcp_reset: Duration,
    /// UDP.
    pub udp: Duration,
    /// ICMP and ICMPv6.
    pub icmp: Duration,
    /// All else.
    pub other: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tcp_syn_sent: Duration::from_secs(20),
            tcp_established: Duration::from_hours(1),
            tcp_closed: Duration::from_secs(30),
            tcp_reset: Duration::from_secs(40),
            udp: Duration::from_mins(1),
            icmp: Duration::from_secs(5),
            other: Duration::from_mins(10),
        }
    }
}

impl Timeouts {
    /// The timeout of a flow, given the flags seen in its two directions.
    pub fn of(&self, protocol: u8, is_icmp: bool, flags: u8, back: u8) -> Duration {
        match protocol {
            TCP if (flags | back) & RST != 0 => self.tcp_reset,
            TCP if flags & back & FIN != 0 => self.tcp_closed,
            // A flow taken over in its middle has no SYN; it counts as established once both sides were seen.
            TCP if flags == 0 || back == 0 || (flags | back) == SYN => self.tcp_syn_sent,
            TCP => self.tcp_established,
            UDP => self.udp,
            _ if is_icmp => self.icmp,
            _ => self.other,
        }
    }
}

/// What one expiry did.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// Entries there were.
    pub entries: usize,
    /// Entries removed.
    pub removed: usize,
    /// Entries there is room for.
    pub room: usize,
}

/// One family's flow table.
#[derive(Debug)]
pub struct Flows<F: Family> {
    pub(super) map: Map<FlowKey<F>, Flow>,
}

impl<F: Family> Flows<F> {
    /// Every direction of every flow.
    pub fn list(&self) -> io::Result<Vec<(FlowKey<F>, Flow)>> {
        let mut all = Vec::new();
        self.map.scan(&mut |keys, flows| {
            all.extend(keys.iter().copied().zip(flows.iter().copied()));
        })?;
        Ok(all)
    }

    /// Removes flows that were silent too long; `now`: nanoseconds since boot.
    pub fn expire(&self, timeouts: &Timeouts, now: u64) -> io::Result<Expired> {
        let all = self.list()?;
        let room = sys::shape(self.map.fd())?.entries as usize;
        let old = overdue(&all, room, timeouts, now);
        let mut removed = 0;
        for key in &old {
            removed += usize::from(self.map.delete(key)?);
        }
        Ok(Expired {
            entries: all.len(),
            removed,
            room,
        })
    }

    /// Removes the flows of an address, whose next owner must not inherit them.
    pub fn forget(&self, addr: &F::Addr) -> io::Result<usize> {
        let mut removed = 0;
        for (key, _) in self.list()? {
            if key.src == *addr || key.dst == *addr {
                removed += usize::from(self.map.delete(&key)?);
            }
        }
        Ok(removed)
    }

    /// Records or replaces one direction.
    pub fn put(&self, key: &FlowKey<F>, flow: &Flow) -> io::Result<()> {
        self.map.put(key, flow)
    }

    /// One direction.
    pub fn get(&self, key: &FlowKey<F>) -> io::Result<Option<Flow>> {
        self.map.get(key)
    }
}

/// The keys of the entries that are due.
pub fn overdue<F: Family>(
    all: &[(FlowKey<F>, Flow)],
    room: usize,
    timeouts: &Timeouts,
    now: u64,
) -> Vec<FlowKey<F>>
where
    FlowKey<F>: Hash,
{
    let by_key: HashMap<&FlowKey<F>, &Flow> = all.iter().map(|(key, flow)| (key, flow)).collect();
    let twentieths = patience(all.len(), room);
    let due = |(key, flow): &&(FlowKey<F>, Flow)| {
        let back = by_key.get(&key.reversed());
        let last_seen = back.map_or(0, |back| back.last_seen).max(flow.last_seen);
        let flags = back.map_or(0, |back| back.tcp_flags);
        let timeout = timeouts.of(key.protocol, key.protocol == F::ICMP, flow.tcp_flags, flags);
        let timeout = timeout.as_nanos() as u64 / 20 * twentieths;
        now.saturating_sub(last_seen) > timeout
    };
    all.iter().filter(due).map(|(key, _)| *key).collect()
}

/// How much of a timeout counts, in twentieths: all up to four fifths of the table, one when it is full.
fn patience(entries: usize, room: usize) -> u64 {
    let fifth = (room / 5).max(1);
    let over = entries
        .saturating_sub(room.saturating_sub(fifth))
        .min(fifth);
    20 - (over * 19 / fifth) as u64
}

#[cfg(test)]
mod tests {
    use cleat_bpf::{V4, V6, packet::ACK};

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn pair<F: Family>(protocol: u8, seen: [u64; 2], flags: [u8; 2]) -> Vec<(FlowKey<F>, Flow)> {
        let mut key = FlowKey::<F> {
            protocol,
            ..FlowKey::default()
        };
        key.sport = 40_000.into();
        key.dport = 80.into();
        let flow = |i: usize| Flow {
            last_seen: seen[i] * SECOND,
            tcp_flags: flags[i],
            ..Flow::default()
        };
        vec![(key, flow(0)), (key.reversed(), flow(1))]
    }

    fn each_family<F: Family>() {
        let cases = [
            ("a SYN without an answer", TCP, [100, 0], [SYN, 0], 121, 119),
            (
                "an established connection",
                TCP,
                [100, 90],
                [SYN | ACK, SYN | ACK],
                3701,
                3699,
            ),
            (
                "its other direction keeps it",
                TCP,
                [1, 100],
                [SYN | ACK, SYN | ACK],
                3701,
                3699,
            ),
            (
                "closed from both sides",
                TCP,
                [100, 100],
                [FIN | ACK, FIN | ACK],
                131,
                129,
            ),
            (
                "closed from one side",
                TCP,
                [100, 100],
                [FIN | ACK, ACK],
                3701,
                3699,
            ),
            ("reset", TCP, [100, 100], [ACK, RST], 141, 139),
            ("UDP", UDP, [100, 100], [0, 0], 161, 159),
            ("echo", F::ICMP, [100, 100], [0, 0], 106, 104),
            ("another protocol", 47, [100, 100], [0, 0], 701, 699),
        ];
        for (name, protocol, seen, flags, due, not_yet) in cases {
            let all = pair::<F>(protocol, seen, flags);
            let overdue = |now| overdue(&all, 1000, &Timeouts::default(), now * SECOND).len();
            assert_eq!(overdue(due), 2, "{name}: both directions are due");
            assert_eq!(overdue(not_yet), 0, "{name}: neither direction is due");
        }
    }

    #[test]
    fn a_flow_expires_when_both_directions_were_silent() {
        each_family::<V4>();
        each_family::<V6>();
    }

    #[test]
    fn a_full_table_is_impatient() {
        assert_eq!(patience(0, 100), 20);
        assert_eq!(patience(80, 100), 20);
        assert_eq!(patience(100, 100), 1);
        assert!(patience(90, 100) < 12);
        assert_eq!(patience(2, 2), 1);
    }
}
