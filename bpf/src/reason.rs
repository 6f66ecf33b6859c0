//! Why a packet was dropped, and what else is counted: one list for programs, metrics, command line and documents.

macro_rules! counted {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $value:literal $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[$vdoc])* $variant = $value,)* }

        impl $name {
            /// All of them, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name in metrics and output.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

counted! {
    /// Where a packet is judged.
    Hook {
        /// Ingress of a workload's host-side interface: what the workload sends.
        FromWorkload = 0 "from_workload",
        /// Egress of a workload's host-side interface: what the stack sends there.
        ToWorkload = 1 "to_workload",
        /// Ingress of a host interface.
        FromHost = 2 "from_host",
        /// Egress of a host interface.
        ToHost = 3 "to_host",
    }
}

counted! {
    /// Why a packet was dropped.
    Reason {
        /// A header is cut short or contradicts itself.
        Malformed = 1 "malformed",
        /// Neither IP nor ARP.
        NotIp = 2 "not_ip",
        /// A workload's frame carries a VLAN tag.
        Vlan = 3 "vlan",
        /// A fragment other than the first: its ports are unknown.
        Fragment = 4 "fragment",
        /// More IPv6 extension headers than are followed.
        ExtensionHeaders = 5 "extension_headers",
        /// The interface has no entry.
        NoInterface = 6 "no_interface",
        /// Nothing is known about the source or destination.
        NoFacts = 7 "no_facts",
        /// The source address does not belong where the packet came from.
        Spoofed = 8 "spoofed",
        /// The endpoint has no policy list.
        NoPolicy = 9 "no_policy",
        /// The policy list does not know the class of an address yet.
        UnknownClass = 10 "unknown_class",
        /// A rule denied the packet.
        Denied = 11 "denied",
        /// No rule matched.
        NoRule = 12 "no_rule",
        /// The policy list in memory is damaged.
        BrokenPolicy = 13 "broken_policy",
        /// From a workload to its own host, which the configuration forbids.
        EndpointToHost = 14 "endpoint_to_host",
        /// A workload's packet leaves the host though no hook judged it.
        Unseen = 15 "unseen",
        /// The packet could not be rewritten on its way out.
        Rewrite = 16 "rewrite",
        /// The maps lack their configuration.
        NoConfig = 17 "no_config",
    }
}

counted! {
    /// What is counted beside drops.
    Note {
        /// A flow was allowed and recorded.
        NewFlow = 0 "new_flow",
        /// A flow was allowed, but the table had no room: its packets are judged one by one.
        FlowTableFull = 1 "flow_table_full",
        /// An ICMP error was let through for the flow it is about.
        Related = 2 "related",
        /// A judged packet took the stack's slow path.
        SlowPath = 3 "slow_path",
        /// Host traffic, not judged.
        Host = 4 "host",
        /// ARP, neighbour discovery or DHCP between a workload and its host.
        Control = 5 "control",
    }
}

impl Reason {
    /// The reason of this number; one that has no name would be a damaged policy's.
    #[inline(always)]
    pub const fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Malformed,
            2 => Self::NotIp,
            3 => Self::Vlan,
            4 => Self::Fragment,
            5 => Self::ExtensionHeaders,
            6 => Self::NoInterface,
            7 => Self::NoFacts,
            8 => Self::Spoofed,
            9 => Self::NoPolicy,
            10 => Self::UnknownClass,
            11 => Self::Denied,
            12 => Self::NoRule,
            14 => Self::EndpointToHost,
            15 => Self::Unseen,
            16 => Self::Rewrite,
            17 => Self::NoConfig,
            _ => Self::BrokenPolicy,
        }
    }
}

/// What one slot of the map `counters` counts.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Counted {
    /// Dropped packets.
    Drop(Reason),
    /// Packets that were not dropped.
    Note(Note),
}

impl Counted {
    /// Slots of the map `counters`.
    pub const SLOTS: u32 = Hook::ALL.len() as u32 * Self::PER_HOOK;
    const PER_HOOK: u32 = 64;
    const NOTES: u32 = 48;

    /// The slot for `hook`.
    #[inline(always)]
    pub const fn slot(self, hook: Hook) -> u32 {
        let within = match self {
            Self::Drop(reason) => reason as u32,
            Self::Note(note) => Self::NOTES + note as u32,
        };
        hook as u32 * Self::PER_HOOK + within
    }

    /// Every slot in use with its meaning.
    pub fn all() -> impl Iterator<Item = (Hook, Self)> {
        Hook::ALL.iter().flat_map(|&hook| {
            let drops = Reason::ALL.iter().map(|&reason| Self::Drop(reason));
            let notes = Note::ALL.iter().map(|&note| Self::Note(note));
            drops.chain(notes).map(move |counted| (hook, counted))
        })
    }

    /// The name in metrics and output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Drop(reason) => reason.as_str(),
            Self::Note(note) => note.as_str(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_counter_has_a_slot_of_its_own() {
        let slots: Vec<u32> = Counted::all()
            .map(|(hook, counted)| counted.slot(hook))
            .collect();
        assert_eq!(slots.iter().collect::<BTreeSet<_>>().len(), slots.len());
        assert!(slots.iter().all(|&slot| slot < Counted::SLOTS));
    }
}
