//! Maps, clock and route lookup as the decision sees them.

use core::{arch::asm, ffi::c_void};

use aya_ebpf::{
    EbpfContext as _,
    bindings::{bpf_fib_lookup as FibLookup, bpf_redir_neigh as NextHop},
    helpers::generated as helper,
    programs::TcContext,
};
use cleat_bpf::{
    Config, Counted, Facts, Flow, FlowKey, Hook, Iface, Macs, NetKey, Way,
    packet::{Opaque, Wire},
    policy::{Query, Rows, Words, evaluate_packed, first_match},
    verdict::{Fib, Node, Room, Scratch, Tables},
};

use crate::maps::{self, Maps};

pub struct Kernel<'a>(pub &'a TcContext);

impl Node for Kernel<'_> {
    #[inline(always)]
    fn now(&self) -> u64 {
        if maps::COARSE_CLOCK.load() != 0 {
            // SAFETY: a helper without arguments.
            unsafe { helper::bpf_ktime_get_coarse_ns() }
        } else {
            // SAFETY: a helper without arguments.
            unsafe { helper::bpf_ktime_get_ns() }
        }
    }

    #[inline(always)]
    fn mark(&self) -> u32 {
        maps::MARK.load()
    }

    #[inline(always)]
    fn config(&self) -> Option<&Config> {
        maps::config()
    }

    #[inline(always)]
    fn iface(&self, ifindex: u32) -> Option<&Iface> {
        maps::iface(ifindex)
    }

    #[inline(always)]
    fn evaluate(&self, base: u32, query: &Query) -> u64 {
        cleat_evaluate(
            base,
            query.src_class,
            query.dst_class,
            (query.protocol as u64) << 32 | (query.l4 as u64) << 16 | query.sport as u64,
        )
    }

    #[inline(always)]
    fn count(&self, hook: Hook, counted: Counted) {
        if let Some(counter) = maps::counter(counted.slot(hook)) {
            // SAFETY: this processor's own slot.
            unsafe { *counter += 1 };
        }
    }
}

/// A global function: the verifier walks it once by itself, not once for every state a caller can be in.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn cleat_evaluate(base: u32, src_class: u32, dst_class: u32, l4: u64) -> u64 {
    let query = Query {
        src_class,
        dst_class,
        protocol: (l4 >> 32) as u8,
        l4: (l4 >> 16) as u16,
        sport: l4 as u16,
    };
    evaluate_packed(&Arena, base, &query)
}

/// Global for the same reason.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn cleat_first_match(first: u64, second: u64, width: u32, from: u32) -> u32 {
    let pair = |word: u64| [word as u32, (word >> 32) as u32];
    first_match(
        &Arena,
        Rows {
            first: pair(first),
            second: pair(second),
        },
        width,
        from,
    )
}

struct Arena;

impl Words for Arena {
    #[inline(always)]
    fn word(&self, index: u32) -> Option<u64> {
        // SAFETY: a word of the arena; it may be old or new while user space writes, never torn.
        maps::word(index).map(|word| unsafe { *word })
    }

    #[inline(always)]
    fn first_match(&self, rows: Rows, width: u32, from: u32) -> u32 {
        let pair = |[a, b]: [u32; 2]| a as u64 | (b as u64) << 32;
        cleat_first_match(pair(rows.first), pair(rows.second), width, from)
    }

    #[inline(always)]
    fn hit(&self, index: u32) {
        if let Some(word) = maps::word(index) {
            // SAFETY: adds to a word of the arena.
            unsafe {
                asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) word, in(reg) 1u64, options(nostack));
            }
        }
    }
}

impl Opaque for Kernel<'_> {
    #[inline(always)]
    fn opaque(mut value: u64, salt: u64) -> u64 {
        // SAFETY: the second instruction takes back what the first does.
        unsafe {
            asm!("{0} ^= {1}", "{0} ^= {1}", inout(reg) value, in(reg) salt,
                options(pure, nomem, nostack, preserves_flags));
        }
        value
    }
}

impl<F: Wire + Maps> Tables<F> for Kernel<'_> {
    #[inline(always)]
    fn facts(&self, addr: &F::Addr) -> Option<&Facts> {
        // SAFETY: the map's key is an address and its value Facts; entries are replaced, never changed in place.
        unsafe {
            helper::bpf_map_lookup_elem(F::facts(), (&raw const *addr).cast())
                .cast::<Facts>()
                .as_ref()
        }
    }

    #[inline(always)]
    fn net(&self, key: &NetKey<F>) -> Option<&Facts> {
        // SAFETY: the map's key is a NetKey and its value Facts; entries are replaced, never changed in place.
        unsafe {
            helper::bpf_map_lookup_elem(F::nets(), (&raw const *key).cast())
                .cast::<Facts>()
                .as_ref()
        }
    }

    #[inline(always)]
    fn flow(&mut self, key: &FlowKey<F>) -> Option<&mut Flow> {
        // SAFETY: the map's key is a FlowKey and its value a Flow. Other processors may write it at the same time: counts
        // get lost, as `Flow` says, and a way out is valid whichever of two writers wins, but for its generation, which
        // makes it stale at worst.
        unsafe {
            helper::bpf_map_lookup_elem(F::flows(), (&raw const *key).cast())
                .cast::<Flow>()
                .as_mut()
        }
    }

    #[inline(always)]
    fn put_flow(&mut self, key: &FlowKey<F>, flow: &Flow) -> bool {
        // SAFETY: the map's key is a FlowKey and its value a Flow.
        unsafe {
            helper::bpf_map_update_elem(
                F::flows(),
                (&raw const *key).cast(),
                (&raw const *flow).cast(),
                0,
            ) == 0
        }
    }

    #[inline(always)]
    fn next_hop(&self, key: &FlowKey<F>, ifindex: u32, way: &mut Way) -> Fib {
        match next_hop(self.0.as_ptr(), key, ifindex, way) {
            FIB_SUCCESS => Fib::Found,
            // Kernels before 5.12 do not say which interface it would be.
            FIB_NO_NEIGHBOUR if way.ifindex != ifindex => Fib::NoNeighbour,
            _ => Fib::Other,
        }
    }
}

const FIB_SUCCESS: i64 = 0;
const FIB_NO_NEIGHBOUR: i64 = 7;

/// A function of its own for the sake of its stack.
#[inline(never)]
fn next_hop<F: Maps>(ctx: *mut c_void, key: &FlowKey<F>, ifindex: u32, way: &mut Way) -> i64 {
    // SAFETY: all zero is a value of every field.
    let mut lookup: FibLookup = unsafe { core::mem::zeroed() };
    lookup.family = F::AF;
    lookup.l4_protocol = key.protocol;
    // The ports choose among equal paths where the host hashes them.
    lookup.sport = u16::from_ne_bytes(key.sport.to_bytes());
    lookup.dport = u16::from_ne_bytes(key.dport.to_bytes());
    lookup.ifindex = ifindex;
    F::set_addresses(&mut lookup, key);
    // A packet of one byte fits every route, so that the answer is the route's MTU and not an opinion on this packet.
    lookup.__bindgen_anon_1.tot_len = 1;
    // SAFETY: the context and the parameters outlive the call. The size is what the oldest kernel knows as well.
    let answer =
        unsafe { helper::bpf_fib_lookup(ctx, &raw mut lookup, size_of::<FibLookup>() as i32, 0) };
    if answer == FIB_NO_NEIGHBOUR {
        // Among equal paths the kernel would choose again, without the ports, and might ask this interface for the
        // neighbour of another: it is told the next hop here. The helper only notes it; `Verdict::Neigh` makes it so.
        let mut next_hop: NextHop = unsafe { core::mem::zeroed() };
        next_hop.nh_family = u32::from(lookup.family);
        // SAFETY: the lookup wrote the next hop of its family over the destination; four words hold either.
        next_hop.__bindgen_anon_1.ipv6_nh = unsafe { lookup.__bindgen_anon_4.ipv6_dst };
        // SAFETY: the parameters outlive the call, which copies them.
        unsafe {
            helper::bpf_redirect_neigh(
                lookup.ifindex,
                &raw mut next_hop,
                size_of::<NextHop>() as i32,
                0,
            )
        };
    }
    way.ifindex = lookup.ifindex;
    way.macs = Macs::new(lookup.dmac, lookup.smac);
    // SAFETY: a number whichever field was written.
    let mtu = unsafe { lookup.__bindgen_anon_1.mtu_result };
    // Kernels before 5.12 leave what was asked.
    way.mtu = if mtu == 1 { 0 } else { mtu };
    answer
}

/// Each family's scratch, this processor's.
pub struct Scratches;

impl<F: Maps> Room<F> for Scratches {
    #[inline(always)]
    fn scratch(&mut self) -> Option<&mut Scratch<F>> {
        // SAFETY: programs on one processor do not interrupt each other, and each asks for one reference at a time.
        F::scratch().map(|scratch| unsafe { &mut *scratch })
    }
}
