//! The tc programs: what `cleat-bpf` decides, done with helpers.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod maps;
mod packet;
mod tables;

use aya_ebpf::{
    EbpfContext as _, helpers::generated as helper, macros::classifier, programs::TcContext,
};
use cleat_bpf::{Hook, Way, verdict};

use crate::{
    packet::Skb,
    tables::{Kernel, Scratches},
    verdict::Verdict,
};

/// `TCX_NEXT`, and "no opinion" to a clsact filter: other people's programs run after ours.
const NEXT: i32 = -1;
/// `TC_ACT_REDIRECT`.
const REDIRECT: i32 = 7;
/// `TC_ACT_SHOT`.
const DROP: i32 = 2;

/// Ingress of a workload's host-side interface.
#[classifier]
pub fn from_workload(ctx: TcContext) -> i32 {
    run(Hook::FromWorkload, &ctx)
}

/// Egress of a workload's host-side interface.
#[classifier]
pub fn to_workload(ctx: TcContext) -> i32 {
    run(Hook::ToWorkload, &ctx)
}

/// Ingress of a host interface.
#[classifier]
pub fn from_host(ctx: TcContext) -> i32 {
    run(Hook::FromHost, &ctx)
}

/// Egress of a host interface.
#[classifier]
pub fn to_host(ctx: TcContext) -> i32 {
    run(Hook::ToHost, &ctx)
}

#[inline(always)]
fn run(hook: Hook, ctx: &TcContext) -> i32 {
    let mut way = Way::default();
    let mut packet = Skb(ctx);
    match verdict::judge(
        hook,
        &mut packet,
        &mut Kernel(ctx),
        &mut Scratches,
        &mut way,
    ) {
        Verdict::Pass => {
            mark(ctx, false);
            NEXT
        }
        Verdict::Stack => {
            mark(ctx, true);
            NEXT
        }
        Verdict::Peer => {
            // SAFETY: a helper without pointers.
            unsafe { helper::bpf_redirect_peer(way.ifindex, 0) as i32 }
        }
        Verdict::Redirect => {
            mark(ctx, true);
            // SAFETY: a helper without pointers.
            unsafe { helper::bpf_redirect(way.ifindex, 0) as i32 }
        }
        Verdict::Neigh => {
            mark(ctx, true);
            // Where to was noted with the lookup that found no neighbour.
            REDIRECT
        }
        Verdict::Drop(_) => DROP,
    }
}

/// Says on the packet whether it was judged, for the programs further along its way.
#[inline(always)]
fn mark(ctx: &TcContext, judged: bool) {
    let bits = maps::MARK.load();
    let skb = ctx.as_ptr().cast::<aya_ebpf::bindings::__sk_buff>();
    // SAFETY: the context is valid while the program runs, and the mark may be written.
    unsafe {
        let old = (*skb).mark;
        let new = if judged { old | bits } else { old & !bits };
        if old != new {
            (*skb).mark = new;
        }
    }
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // A check that can fail in here makes the verifier refuse the program: no panic is ever reached.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
