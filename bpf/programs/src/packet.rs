//! A socket buffer as the decision sees it.

use core::arch::asm;

use aya_ebpf::{
    EbpfContext as _, bindings::__sk_buff, helpers::generated as helper, programs::TcContext,
};
use cleat_bpf::packet::{MAX_OFFSET, Packet};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// `PACKET_OTHERHOST`.
const OTHER_HOST: u32 = 3;

pub struct Skb<'a>(pub &'a TcContext);

impl Skb<'_> {
    #[inline(always)]
    fn raw(&self) -> *mut __sk_buff {
        self.0.as_ptr().cast()
    }

    /// Where the packet begins. Volatile, so that the 32-bit load and its widening stay together: apart, the verifier takes
    /// the address for a number.
    #[inline(always)]
    fn data(&self) -> usize {
        // SAFETY: the context is valid while the program runs.
        unsafe { (&raw const (*self.raw()).data).read_volatile() as usize }
    }

    /// Where what can be read of it ends.
    #[inline(always)]
    fn data_end(&self) -> usize {
        // SAFETY: the context is valid while the program runs.
        unsafe { (&raw const (*self.raw()).data_end).read_volatile() as usize }
    }

    /// The address of `T` at `offset`, if it is all there.
    #[inline(always)]
    fn at<T>(&self, offset: usize) -> Option<*mut T> {
        let start = self.data() + offset;
        if start + size_of::<T>() > self.data_end() {
            return None;
        }
        Some(start as *mut T)
    }
}

impl Packet for Skb<'_> {
    #[inline(always)]
    fn read<T: FromBytes + Copy>(&self, offset: u32) -> Option<T> {
        // SAFETY: within the packet, and any bytes are a T. The kernel's machines load from any address, which
        // `read_unaligned` would be told as single bytes.
        self.at::<T>(offset as usize).map(|at| unsafe { *at })
    }

    #[inline(always)]
    fn read_at<T: FromBytes + Copy>(&self, offset: u32) -> Option<T> {
        if offset > MAX_OFFSET {
            return None;
        }
        let mut offset = offset as usize;
        // The verifier must see the bound on the very register that is added to the packet's address, and LLVM would
        // drop a mask that it can prove useless.
        // SAFETY: changes nothing but the register, and not even that: the offset was checked.
        unsafe {
            asm!("{0} &= 511", inout(reg) offset, options(nomem, nostack, preserves_flags));
        }
        // SAFETY: as in `read`.
        self.at::<T>(offset).map(|at| unsafe { *at })
    }

    #[inline(always)]
    fn write<T: IntoBytes + Immutable>(&mut self, offset: u32, value: T) -> Option<()> {
        let at = self.at::<T>(offset as usize)?;
        // SAFETY: within the packet, which the kernel has made writable for programs that write.
        unsafe { *at = value };
        Some(())
    }

    #[inline(always)]
    fn pull(&mut self, len: u32) {
        let all = self.len();
        let want = if all < len { all } else { len };
        if self.data_end() - self.data() < want as usize {
            // SAFETY: a failure leaves the packet as it was, and then reading finds it too short.
            unsafe { helper::bpf_skb_pull_data(self.raw(), want) };
        }
    }

    #[inline(always)]
    fn checksum_changed(&mut self, difference: u32) {
        // SAFETY: touches the buffer's own checksum field, if it is in use.
        unsafe { helper::bpf_csum_update(self.raw(), difference) };
    }

    #[inline(always)]
    fn len(&self) -> u32 {
        self.0.len()
    }

    #[inline(always)]
    fn segment_size(&self) -> u32 {
        // SAFETY: the context is valid while the program runs.
        unsafe { (*self.raw()).gso_size }
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        // SAFETY: the context is valid while the program runs.
        unsafe { (*self.raw()).ifindex }
    }

    #[inline(always)]
    fn mark(&self) -> u32 {
        // SAFETY: the context is valid while the program runs.
        unsafe { (*self.raw()).mark }
    }

    #[inline(always)]
    fn is_for_another_host(&self) -> bool {
        // SAFETY: the context is valid while the program runs.
        unsafe { (*self.raw()).pkt_type == OTHER_HOST }
    }

    #[inline(always)]
    fn has_vlan_tag(&self) -> bool {
        // SAFETY: the context is valid while the program runs.
        unsafe { (*self.raw()).vlan_present != 0 }
    }
}
