//! What happens to a packet at each hook.
//!
//! ```text
//! frame -> ethertype -> parse -> flow known? -> cached way out -> depart
//!                                    | no
//!                                    v
//!              control? -> facts of both addresses -> spoofed? -> ICMP error of a flow?
//!                       -> policies of the ends that live here -> record the flow -> way out -> depart
//! ```
//!
//! [`judge`] is the whole of it; the programs only turn its [`Verdict`] into a helper call. An established packet costs
//! one lookup of the flow table. The last arm of every decision is a drop with a reason.

use crate::{
    family::{Family, V4, V6},
    maps::{Config, Facts, Flow, FlowKey, Iface, IfaceKind, NetKey, Way, WayKind},
    packet::{ACK, ETHERNET, L4Kind, Opaque, PULL, Packet, Parsed, SYN, UDP, Wire, ethertype},
    policy::Query,
    reason::{Counted, Hook, Note, Reason},
};

/// What to do with a packet. One byte, so that no half-filled enum travels through a program.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Let it go on; nobody vouches for it, so the mark is taken off.
    Pass,
    /// Let it go on, marked as judged.
    Stack,
    /// `bpf_redirect_peer` to [`Way::ifindex`].
    Peer,
    /// `bpf_redirect` to [`Way::ifindex`], marked as judged.
    Redirect,
    /// `bpf_redirect_neigh` to [`Way::ifindex`], marked as judged.
    Neigh,
    /// Drop.
    Drop(Reason),
}

/// The kernel's answer to a route lookup.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Fib {
    /// [`Way::ifindex`] and [`Way::macs`] are the next hop's, [`Way::mtu`] the route's if the kernel tells it.
    Found,
    /// [`Way::ifindex`] is the next hop's, whose MAC is not known.
    NoNeighbour,
    /// Not to be forwarded, or not that simply.
    Other,
}

/// The maps that do not depend on the family, and the kernel's clock.
pub trait Node: Opaque {
    /// Nanoseconds since boot; a few milliseconds of coarseness do no harm.
    fn now(&self) -> u64;
    /// The bits of a packet's mark that say "judged".
    fn mark(&self) -> u32;
    /// The configuration.
    fn config(&self) -> Option<&Config>;
    /// An interface of ours.
    fn iface(&self, ifindex: u32) -> Option<&Iface>;
    /// Asks the policy list at `base`; the answer as [`Decision::pack`](crate::policy::Decision::pack) makes it.
    fn evaluate(&self, base: u32, query: &Query) -> u64;
    /// Counts one packet.
    fn count(&self, hook: Hook, counted: Counted);
}

/// The maps of one family.
pub trait Tables<F: Wire>: Node {
    /// Facts about exactly this address.
    fn facts(&self, addr: &F::Addr) -> Option<&Facts>;
    /// Facts of the longest prefix.
    fn net(&self, key: &NetKey<F>) -> Option<&Facts>;
    /// A direction of a flow.
    fn flow(&mut self, key: &FlowKey<F>) -> Option<&mut Flow>;
    /// Records or replaces a direction of a flow; false: no room.
    fn put_flow(&mut self, key: &FlowKey<F>, flow: &Flow) -> bool;
    /// Looks up the next hop for a packet that came in on `ifindex`; fills `way`.
    fn next_hop(&self, key: &FlowKey<F>, ifindex: u32, way: &mut Way) -> Fib;
}

/// Room for what only a flow's first packet and ICMP errors need: a program's stack is too small for it.
#[derive(Copy, Clone, Debug, Default)]
#[repr(C)]
pub struct Scratch<F: Family> {
    inner: Parsed<F>,
    key: FlowKey<F>,
    flow: Flow,
}

/// Where the scratch of a family is.
pub trait Room<F: Family> {
    /// The scratch, with whatever was left in it.
    fn scratch(&mut self) -> Option<&mut Scratch<F>>;
}

/// The mark used unless configured otherwise.
pub const DEFAULT_MARK: u32 = 0x0100_0000;

/// How long a way out is trusted, so that a dead next hop is noticed though nobody raised the generation: 1 s.
pub const WAY_LIFETIME: u64 = 1_000_000_000;

/// Judges a frame at a hook. `way` comes in zeroed and says where [`Verdict::Peer`], [`Verdict::Redirect`] and
/// [`Verdict::Neigh`] lead.
#[inline(always)]
pub fn judge<P: Packet, T: Tables<V4> + Tables<V6>, R: Room<V4> + Room<V6>>(
    hook: Hook,
    packet: &mut P,
    tables: &mut T,
    room: &mut R,
    way: &mut Way,
) -> Verdict {
    let verdict = judge_frame(hook, packet, tables, room, way);
    if let Verdict::Drop(reason) = verdict {
        tables.count(hook, Counted::Drop(reason));
    }
    verdict
}

#[inline(always)]
fn judge_frame<P: Packet, T: Tables<V4> + Tables<V6>, R: Room<V4> + Room<V6>>(
    hook: Hook,
    packet: &mut P,
    tables: &mut T,
    room: &mut R,
    way: &mut Way,
) -> Verdict {
    let Some(&config) = tables.config() else {
        return Verdict::Drop(Reason::NoConfig);
    };
    let incoming = matches!(hook, Hook::FromWorkload | Hook::FromHost);
    if !incoming && packet.mark() & tables.mark() != 0 {
        return Verdict::Stack;
    }
    // The stack drops what is not for us; forwarding it would duplicate packets when a switch floods.
    if incoming && packet.is_for_another_host() {
        return Verdict::Pass;
    }
    let Some(kind) = packet.read::<u16>(ETHERNET - 2) else {
        return Verdict::Drop(Reason::Malformed);
    };
    let workload = matches!(hook, Hook::FromWorkload | Hook::ToWorkload);
    let kind = u16::from_be(kind);
    if packet.has_vlan_tag() || kind == ethertype::VLAN || kind == ethertype::SERVICE_VLAN {
        // On a host interface: the VLAN's own interface judges it.
        return if workload {
            Verdict::Drop(Reason::Vlan)
        } else {
            Verdict::Pass
        };
    }
    match kind {
        V4::ETHERTYPE => judge_ip::<V4, P, T, R>(hook, packet, tables, room, &config, way),
        V6::ETHERTYPE => judge_ip::<V6, P, T, R>(hook, packet, tables, room, &config, way),
        ethertype::ARP if workload => {
            tables.count(hook, Counted::Note(Note::Control));
            Verdict::Pass
        }
        _ if workload => Verdict::Drop(Reason::NotIp),
        _ => Verdict::Pass,
    }
}

#[inline(always)]
fn judge_ip<F: Wire, P: Packet, T: Tables<F>, R: Room<F>>(
    hook: Hook,
    packet: &mut P,
    tables: &mut T,
    room: &mut R,
    config: &Config,
    way: &mut Way,
) -> Verdict {
    let mut parsed = Parsed::<F>::default();
    packet.pull(F::ORDINARY);
    F::parse::<P, false>(packet, ETHERNET, &mut parsed);
    let mut call = Call {
        hook,
        packet,
        tables,
        room,
        config,
        way,
        parsed: &mut parsed,
        now: 0,
    };
    match hook {
        Hook::FromWorkload => call.from_workload(),
        Hook::ToWorkload => call.to_workload(),
        Hook::FromHost => call.from_host(),
        Hook::ToHost => call.to_host(),
    }
}

/// One packet's decision under way.
struct Call<'a, F: Wire, P, T, R> {
    hook: Hook,
    packet: &'a mut P,
    tables: &'a mut T,
    room: &'a mut R,
    config: &'a Config,
    way: &'a mut Way,
    parsed: &'a mut Parsed<F>,
    now: u64,
}

/// What the flow table says about a packet.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Known {
    /// Nothing, or nothing that counts for this packet.
    No,
    /// Its flow is known, and so is the way out.
    Way,
    /// Its flow is known, the way out must be looked up.
    Stale,
}

/// The rules that let a packet pass.
#[derive(Copy, Clone)]
struct Rules {
    egress: u32,
    ingress: u32,
}

#[allow(clippy::wrong_self_convention, reason = "named after their hooks")]
impl<F: Wire, P: Packet, T: Tables<F>, R: Room<F>> Call<'_, F, P, T, R> {
    /// What a workload sends.
    #[inline(always)]
    fn from_workload(&mut self) -> Verdict {
        if self.parsed.problem != 0 {
            return Verdict::Drop(Reason::from_code(self.parsed.problem));
        }
        self.now = self.tables.now();
        let ifindex = self.packet.ifindex();
        match self.known(ifindex, ifindex) {
            Known::Way => return self.depart(),
            Known::Stale => {
                let Some(dst) = self.facts(&self.parsed.key.dst) else {
                    return Verdict::Drop(Reason::NoFacts);
                };
                self.route(dst);
                self.remember_way();
                return self.depart();
            }
            Known::No => {}
        }

        self.parsed.forget::<T>(self.packet.len() as u64);
        let Some(&iface) = self.tables.iface(ifindex) else {
            return Verdict::Drop(Reason::NoInterface);
        };
        if self.parsed.kind == L4Kind::Control as u8 {
            return self.control();
        }
        let Some(dst) = self.facts(&self.parsed.key.dst) else {
            return Verdict::Drop(Reason::NoFacts);
        };
        let here = dst.is_this_host()
            || F::is_link_local(&self.parsed.key.dst)
            || F::is_multicast(&self.parsed.key.dst);
        if here && iface.flags & Iface::ALLOW_DHCP != 0 && self.is_dhcp_request() {
            return self.control();
        }
        let Some(src) = self.facts(&self.parsed.key.src) else {
            return Verdict::Drop(Reason::NoFacts);
        };
        // A link-local source stays on its link, which ends at this host.
        let genuine = if F::is_link_local(&self.parsed.key.src) {
            here
        } else {
            src.is_local() && src.ifindex == ifindex && !F::is_multicast(&self.parsed.key.src)
        };
        if !genuine {
            return Verdict::Drop(Reason::Spoofed);
        }
        if self.parsed.kind == L4Kind::Error as u8 && self.is_related(ifindex, ifindex) {
            self.route(dst);
            return self.depart();
        }
        let mut rules = Rules {
            egress: Flow::NO_RULE,
            ingress: Flow::NO_RULE,
        };
        let answer = self.ask(iface.egress, src.class, dst.class);
        if answer >> 32 != 0 {
            return Verdict::Drop(Reason::from_code((answer >> 32) as u8));
        }
        rules.egress = answer as u32;
        // Where the answers come in.
        let mut back = Flow::FROM_FABRIC;
        if here {
            if self.config.flags & Config::ENDPOINT_TO_HOST_DROP != 0 {
                return Verdict::Drop(Reason::EndpointToHost);
            }
            back = Flow::FROM_STACK;
        } else if dst.is_local() {
            let Some(&other) = self.tables.iface(dst.ifindex) else {
                return Verdict::Drop(Reason::NoInterface);
            };
            let answer = self.ask(other.ingress, src.class, dst.class);
            if answer >> 32 != 0 {
                return Verdict::Drop(Reason::from_code((answer >> 32) as u8));
            }
            rules.ingress = answer as u32;
            back = dst.ifindex;
        }
        self.route(dst);
        self.record(ifindex, back, rules);
        self.depart()
    }

    /// What the stack sends to a workload, unless another hook judged it already.
    #[inline(always)]
    fn to_workload(&mut self) -> Verdict {
        self.now = self.tables.now();
        let ifindex = self.packet.ifindex();
        let readable = self.parsed.problem == 0;
        if readable && self.known(Flow::FROM_STACK, Flow::FROM_FABRIC) != Known::No {
            return Verdict::Pass;
        }
        self.parsed.forget::<T>(self.packet.len() as u64);
        if readable && self.parsed.kind == L4Kind::Control as u8 {
            return self.control();
        }
        let Some(&iface) = self.tables.iface(ifindex) else {
            return Verdict::Drop(Reason::NoInterface);
        };
        let Some(src) = self.facts(&self.parsed.key.src) else {
            return Verdict::Drop(Reason::NoFacts);
        };
        let from_here = src.is_this_host() || F::is_link_local(&self.parsed.key.src);
        let mut rules = Rules {
            egress: Flow::NO_RULE,
            ingress: Flow::NO_RULE,
        };
        if !from_here {
            if !readable {
                return Verdict::Drop(Reason::from_code(self.parsed.problem));
            }
            // Its own interface should have judged and marked it.
            if src.is_local() {
                return Verdict::Drop(Reason::Unseen);
            }
            if self.parsed.kind == L4Kind::Error as u8
                && self.is_related(Flow::FROM_STACK, Flow::FROM_FABRIC)
            {
                return Verdict::Pass;
            }
            let Some(dst) = self.facts(&self.parsed.key.dst) else {
                return Verdict::Drop(Reason::NoFacts);
            };
            let answer = self.ask(iface.ingress, src.class, dst.class);
            if answer >> 32 != 0 {
                return Verdict::Drop(Reason::from_code((answer >> 32) as u8));
            }
            rules.ingress = answer as u32;
        }
        if readable {
            self.record(Flow::FROM_STACK, ifindex, rules);
        }
        Verdict::Pass
    }

    /// What comes in from the fabric.
    #[inline(always)]
    fn from_host(&mut self) -> Verdict {
        let mut known = Known::No;
        if self.parsed.problem == 0 {
            self.now = self.tables.now();
            known = self.known(Flow::FROM_FABRIC, Flow::FROM_FABRIC);
            if known == Known::Way {
                return self.depart();
            }
        }
        self.parsed.forget::<T>(self.packet.len() as u64);
        let dst = self.facts(&self.parsed.key.dst);
        let Some(dst) = dst.filter(Facts::is_local) else {
            // For the host itself or in transit; or it is not known for whom, and then to_workload decides.
            self.tables.count(self.hook, Counted::Note(Note::Host));
            return Verdict::Pass;
        };
        if self.parsed.problem != 0 {
            return Verdict::Drop(Reason::from_code(self.parsed.problem));
        }
        if known == Known::Stale {
            self.route(dst);
            self.remember_way();
            return self.depart();
        }
        let Some(&iface) = self.tables.iface(dst.ifindex) else {
            return Verdict::Drop(Reason::NoInterface);
        };
        let Some(src) = self.facts(&self.parsed.key.src) else {
            return Verdict::Drop(Reason::NoFacts);
        };
        if src.is_local() || src.is_this_host() || F::is_link_local(&self.parsed.key.src) {
            return Verdict::Drop(Reason::Spoofed);
        }
        if self.parsed.kind == L4Kind::Error as u8
            && self.is_related(Flow::FROM_FABRIC, Flow::FROM_FABRIC)
        {
            self.route(dst);
            return self.depart();
        }
        let answer = self.ask(iface.ingress, src.class, dst.class);
        if answer >> 32 != 0 {
            return Verdict::Drop(Reason::from_code((answer >> 32) as u8));
        }
        self.route(dst);
        let rules = Rules {
            egress: Flow::NO_RULE,
            ingress: answer as u32,
        };
        self.record(Flow::FROM_FABRIC, dst.ifindex, rules);
        self.depart()
    }

    /// What leaves towards the fabric without having been judged.
    #[inline(always)]
    fn to_host(&mut self) -> Verdict {
        // A TTL of 0 says that not even the addresses could be read; the stack does not make such packets of a workload's.
        if self.parsed.ttl != 0
            && self
                .facts(&self.parsed.key.src)
                .is_some_and(|src| src.is_local())
        {
            return Verdict::Drop(Reason::Unseen);
        }
        self.tables.count(self.hook, Counted::Note(Note::Host));
        Verdict::Pass
    }

    /// Looks the flow up and counts the packet. The packet must have come in where the flow's packets do.
    #[inline(always)]
    fn known(&mut self, from: u32, or_from: u32) -> Known {
        // A SYN begins a new connection, whatever the old one was.
        if self.parsed.tcp_flags & (SYN | ACK) == SYN {
            return Known::No;
        }
        let Some(flow) = self.tables.flow(&self.parsed.key) else {
            return Known::No;
        };
        if flow.from != from && flow.from != or_from {
            return Known::No;
        }
        flow.last_seen = self.now;
        flow.packets = flow.packets.wrapping_add(1);
        flow.bytes = flow.bytes.wrapping_add(self.packet.len() as u64);
        if self.parsed.tcp_flags & !flow.tcp_flags != 0 {
            flow.tcp_flags |= self.parsed.tcp_flags;
        }
        *self.way = flow.way;
        if flow.way.generation == self.config.generation
            && self.now.wrapping_sub(flow.way.since) < WAY_LIFETIME
            && flow.way.kind != WayKind::Unknown as u8
        {
            Known::Way
        } else {
            Known::Stale
        }
    }

    /// Exact first: the trie costs five times as much.
    #[inline(always)]
    fn facts(&self, addr: &F::Addr) -> Option<Facts> {
        if let Some(facts) = self.tables.facts(addr) {
            return Some(*facts);
        }
        self.tables.net(&NetKey::new(*addr, F::BITS)).copied()
    }

    /// Asks a policy list about this packet.
    #[inline(always)]
    fn ask(&self, base: u32, src_class: u32, dst_class: u32) -> u64 {
        let parsed = &*self.parsed;
        // For ICMP the key's ports are identifiers, which are no source ports.
        let sport = if parsed.l4_len == 0 {
            0
        } else {
            parsed.key.sport.get()
        };
        let query = Query {
            src_class,
            dst_class,
            protocol: parsed.key.protocol,
            l4: parsed.l4,
            sport,
        };
        self.tables.evaluate(base, &query)
    }

    #[inline(always)]
    fn control(&self) -> Verdict {
        self.tables.count(self.hook, Counted::Note(Note::Control));
        Verdict::Pass
    }

    #[inline(always)]
    fn is_dhcp_request(&self) -> bool {
        let key = &self.parsed.key;
        key.protocol == UDP && key.sport.get() == F::DHCP.0 && key.dport.get() == F::DHCP.1
    }

    /// Whether the ICMP error at hand is about a packet of a flow whose other direction comes from where the error did.
    #[inline(always)]
    fn is_related(&mut self, from: u32, or_from: u32) -> bool {
        self.packet.pull(PULL);
        let Some(scratch) = self.room.scratch() else {
            return false;
        };
        let inner = &mut scratch.inner;
        inner.clear();
        F::parse::<P, true>(self.packet, self.parsed.l4_offset + 8, inner);
        // An error goes back to whoever sent the packet it quotes.
        if inner.problem != 0
            || inner.kind != L4Kind::Flow as u8
            || !F::same(&inner.key.src, &self.parsed.key.dst)
        {
            return false;
        }
        inner.key.reverse_into(&mut scratch.key);
        let Some(flow) = self.tables.flow(&scratch.key) else {
            return false;
        };
        if flow.from != from && flow.from != or_from {
            return false;
        }
        self.tables.count(self.hook, Counted::Note(Note::Related));
        true
    }

    /// Finds the way out.
    #[inline(always)]
    fn route(&mut self, dst: Facts) {
        self.way.since = self.now;
        self.way.generation = self.config.generation;
        self.way.ifindex = 0;
        self.way.mtu = 0;
        self.way.kind = WayKind::Stack as u8;
        if dst.is_local() {
            self.way.ifindex = dst.ifindex;
            let kind = self.tables.iface(dst.ifindex).map_or(0, |iface| {
                self.way.mtu = iface.mtu;
                self.way.macs = iface.macs;
                iface.kind
            });
            self.way.kind = if kind == IfaceKind::Container as u8 {
                WayKind::Peer as u8
            } else if kind == IfaceKind::Tap as u8 {
                WayKind::Redirect as u8
            } else {
                WayKind::Unknown as u8
            };
            return;
        }
        if matches!(self.hook, Hook::FromHost | Hook::ToHost)
            || dst.is_this_host()
            || F::is_link_local(&self.parsed.key.dst)
            || F::is_multicast(&self.parsed.key.dst)
        {
            return;
        }
        let fib = self
            .tables
            .next_hop(&self.parsed.key, self.packet.ifindex(), self.way);
        // Only out of interfaces we know: what leaves by a tunnel or a bridge is the stack's business.
        let mut known = false;
        if let Some(iface) = self.tables.iface(self.way.ifindex) {
            known = iface.kind == IfaceKind::Host as u8;
            if iface.mtu != 0 && (self.way.mtu == 0 || iface.mtu < self.way.mtu) {
                self.way.mtu = iface.mtu;
            }
        }
        if !known {
            // Old kernels do not tell the MTU, and the stack has its own idea of it.
            self.way.mtu = 0;
        }
        self.way.kind = match fib {
            Fib::Found if known => WayKind::Redirect as u8,
            Fib::NoNeighbour if known => WayKind::Neigh as u8,
            Fib::Found | Fib::NoNeighbour | Fib::Other => WayKind::Stack as u8,
        };
        if fib == Fib::NoNeighbour {
            // The next packet may find the neighbour.
            self.way.since = self.now.wrapping_sub(WAY_LIFETIME);
        }
    }

    #[inline(always)]
    fn remember_way(&mut self) {
        if let Some(flow) = self.tables.flow(&self.parsed.key) {
            flow.way = *self.way;
        }
    }

    /// Records both directions. The answers' entry first: without it the flow's own is worth nothing.
    #[inline(always)]
    fn record(&mut self, from: u32, back: u32, rules: Rules) {
        if self.parsed.kind != L4Kind::Flow as u8 {
            return;
        }
        let mut note = Note::FlowTableFull;
        if let Some(scratch) = self.room.scratch() {
            self.parsed.key.reverse_into(&mut scratch.key);
            // Field by field: a whole value would be put together on the stack first.
            scratch.flow.last_seen = self.now;
            scratch.flow.created = self.now;
            scratch.flow.packets = 0;
            scratch.flow.bytes = 0;
            scratch.flow.way = Way::default();
            scratch.flow.from = back;
            scratch.flow.egress_rule = rules.egress;
            scratch.flow.ingress_rule = rules.ingress;
            scratch.flow.tcp_flags = 0;
            scratch.flow.flags = 0;
            if self.tables.put_flow(&scratch.key, &scratch.flow) {
                scratch.flow.packets = 1;
                scratch.flow.bytes = self.packet.len() as u64;
                scratch.flow.way = *self.way;
                scratch.flow.from = from;
                scratch.flow.tcp_flags = self.parsed.tcp_flags;
                scratch.flow.flags = Flow::ORIGINAL;
                if self.tables.put_flow(&self.parsed.key, &scratch.flow) {
                    note = Note::NewFlow;
                }
            }
        }
        self.tables.count(self.hook, Counted::Note(note));
    }

    /// Sends the packet its way, aged by one hop; what the fast path must not do goes to the stack.
    #[inline(always)]
    fn depart(&mut self) -> Verdict {
        let kind = self.way.kind;
        if kind == WayKind::Stack as u8 {
            return Verdict::Stack;
        }
        if kind == WayKind::Unknown as u8 {
            return Verdict::Drop(Reason::NoInterface);
        }
        if self.parsed.ttl <= 1 || self.parsed.has_options != 0 || !self.fits() {
            self.tables.count(self.hook, Counted::Note(Note::SlowPath));
            return Verdict::Stack;
        }
        if F::age(self.packet, self.parsed.ttl).is_none() {
            return Verdict::Drop(Reason::Rewrite);
        }
        if kind == WayKind::Peer as u8 {
            return Verdict::Peer;
        }
        if kind == WayKind::Neigh as u8 {
            return Verdict::Neigh;
        }
        if self.packet.write(0, self.way.macs).is_none() {
            return Verdict::Drop(Reason::Rewrite);
        }
        Verdict::Redirect
    }

    /// Whether the packet, or each segment it stands for, is within the way's MTU.
    #[inline(always)]
    fn fits(&self) -> bool {
        let mtu = self.way.mtu as u32;
        if mtu == 0 || self.packet.len() <= mtu + ETHERNET {
            return true;
        }
        let segment = self.packet.segment_size();
        let headers = self.parsed.l4_offset - ETHERNET + self.parsed.l4_len as u32;
        segment != 0 && headers + segment <= mtu
    }
}

#[cfg(test)]
mod tests;
