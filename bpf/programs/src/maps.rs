//! The maps. Sizes here are placeholders: the loader sets them (`Sizes` in the node's dataplane).

use core::ffi::c_void;

use aya_ebpf::{
    Global,
    bindings::bpf_fib_lookup,
    btf_maps::{Array, HashMap, LpmTrie, PerCpuArray},
    macros::btf_map,
};
use cleat_bpf::{Config, Counted, Facts, Family, Flow, FlowKey, Iface, V4, V6, verdict::Scratch};

const NO_PREALLOC: usize = 1;
const MMAPABLE: usize = 1 << 10;

#[btf_map(name = "iface")]
static IFACE: HashMap<u32, Iface, 4096, NO_PREALLOC> = HashMap::new();
#[btf_map(name = "facts4")]
static FACTS4: HashMap<[u8; 4], Facts, 65536, NO_PREALLOC> = HashMap::new();
#[btf_map(name = "facts6")]
static FACTS6: HashMap<[u8; 16], Facts, 65536, NO_PREALLOC> = HashMap::new();
#[btf_map(name = "nets4")]
static NETS4: LpmTrie<[u32; 1], Facts, 65536> = LpmTrie::new();
#[btf_map(name = "nets6")]
static NETS6: LpmTrie<[u32; 4], Facts, 65536> = LpmTrie::new();
#[btf_map(name = "words")]
static WORDS: Array<u64, 65536, MMAPABLE> = Array::new();
#[btf_map(name = "ct4")]
static CT4: HashMap<FlowKey<V4>, Flow, 65536> = HashMap::new();
#[btf_map(name = "ct6")]
static CT6: HashMap<FlowKey<V6>, Flow, 65536> = HashMap::new();
#[btf_map(name = "counters")]
static COUNTERS: PerCpuArray<u64, { Counted::SLOTS as usize }> = PerCpuArray::new();
#[btf_map(name = "config")]
static CONFIG: Array<Config, 1> = Array::new();
#[btf_map(name = "scratch4")]
static SCRATCH4: PerCpuArray<Scratch<V4>, 1> = PerCpuArray::new();
#[btf_map(name = "scratch6")]
static SCRATCH6: PerCpuArray<Scratch<V6>, 1> = PerCpuArray::new();

/// Whether the kernel has `bpf_ktime_get_coarse_ns` (5.11); the verifier drops the branch that is not taken.
#[unsafe(no_mangle)]
pub static COARSE_CLOCK: Global<u32> = Global::new(0);
/// The bits of a packet's mark that say "judged".
#[unsafe(no_mangle)]
pub static MARK: Global<u32> = Global::new(cleat_bpf::verdict::DEFAULT_MARK);

#[inline(always)]
pub fn iface(ifindex: u32) -> Option<&'static Iface> {
    // SAFETY: entries are replaced, never changed in place; a reader may see the old one to the end of its run.
    unsafe { IFACE.get(&ifindex) }
}

#[inline(always)]
pub fn config() -> Option<&'static Config> {
    CONFIG.get(0)
}

#[inline(always)]
pub fn word(index: u32) -> Option<*mut u64> {
    WORDS.get_ptr_mut(index)
}

#[inline(always)]
pub fn counter(index: u32) -> Option<*mut u64> {
    COUNTERS.get_ptr_mut(index)
}

/// A family's maps.
pub trait Maps: Family {
    fn facts() -> *mut c_void;
    fn nets() -> *mut c_void;
    fn flows() -> *mut c_void;
    fn scratch() -> Option<*mut Scratch<Self>>;
    fn set_addresses(lookup: &mut bpf_fib_lookup, key: &FlowKey<Self>);
}

macro_rules! maps {
    ($family:ty, $facts:ident, $nets:ident, $flows:ident, $scratch:ident, $fib_src:ident, $fib_dst:ident) => {
        impl Maps for $family {
            #[inline(always)]
            fn facts() -> *mut c_void {
                (&raw const $facts).cast_mut().cast()
            }
            #[inline(always)]
            fn nets() -> *mut c_void {
                (&raw const $nets).cast_mut().cast()
            }
            #[inline(always)]
            fn flows() -> *mut c_void {
                (&raw const $flows).cast_mut().cast()
            }
            #[inline(always)]
            fn scratch() -> Option<*mut Scratch<Self>> {
                $scratch.get_ptr_mut(0)
            }
            #[inline(always)]
            fn set_addresses(lookup: &mut bpf_fib_lookup, key: &FlowKey<Self>) {
                lookup.__bindgen_anon_3.$fib_src = zerocopy::transmute!(key.src);
                lookup.__bindgen_anon_4.$fib_dst = zerocopy::transmute!(key.dst);
            }
        }
    };
}

maps!(V4, FACTS4, NETS4, CT4, SCRATCH4, ipv4_src, ipv4_dst);
maps!(V6, FACTS6, NETS6, CT6, SCRATCH6, ipv6_src, ipv6_dst);
