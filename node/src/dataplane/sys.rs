//! The calls of bpf(2) that the dataplane makes, with types instead of unions.
//!
//! Keys and values are zerocopy types: their bytes are what the kernel copies. All `unsafe` of the dataplane is here and in
//! the memory mapping of `words`.

use std::{
    ffi::CString,
    io,
    marker::PhantomData,
    mem,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use aya_obj::generated::{
    bpf_attach_type, bpf_attr, bpf_cmd, bpf_link_info, bpf_map_info, bpf_prog_info,
};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

/// Entries of a batch call: a longer one holds a processor for too long.
const BATCH: usize = 4096;

/// What may be a key or a value.
pub trait Plain: FromBytes + IntoBytes + Immutable + Copy {}

impl<T: FromBytes + IntoBytes + Immutable + Copy> Plain for T {}

/// A BPF map.
#[derive(Debug)]
pub struct Map<K, V> {
    fd: OwnedFd,
    types: PhantomData<fn(K) -> V>,
}

/// What the kernel says about a map.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct MapShape {
    /// `BPF_MAP_TYPE_*`.
    pub kind: u32,
    /// Bytes of a key.
    pub key: u32,
    /// Bytes of a value.
    pub value: u32,
    /// Entries there is room for.
    pub entries: u32,
    /// `BPF_F_*` given at creation.
    pub flags: u32,
}

impl<K, V> Map<K, V> {
    /// Opens a pinned map. The caller has compared its shape.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            fd: open_pin(path)?,
            types: PhantomData,
        })
    }

    /// A second handle of the same map.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            fd: self.fd.try_clone()?,
            types: PhantomData,
        })
    }

    /// The descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl<K: Plain, V: Plain> Map<K, V> {
    /// The value of a key.
    pub fn get(&self, key: &K) -> io::Result<Option<V>> {
        let mut value = V::new_zeroed();
        match element(
            bpf_cmd::BPF_MAP_LOOKUP_ELEM,
            self.fd(),
            key,
            value.as_mut_bytes_ptr(),
            0,
        ) {
            Ok(()) => Ok(Some(value)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes or replaces an entry.
    pub fn put(&self, key: &K, value: &V) -> io::Result<()> {
        let mut value = *value;
        element(
            bpf_cmd::BPF_MAP_UPDATE_ELEM,
            self.fd(),
            key,
            value.as_mut_bytes_ptr(),
            0,
        )
    }

    /// Removes an entry; false: it was not there.
    pub fn delete(&self, key: &K) -> io::Result<bool> {
        match element(bpf_cmd::BPF_MAP_DELETE_ELEM, self.fd(), key, 0, 0) {
            Ok(()) => Ok(true),
            Err(error) if is_missing(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Every entry, by key order calls: for maps without batch calls. An entry that comes or goes meanwhile may be missed.
    pub fn walk(&self) -> io::Result<Vec<(K, V)>> {
        let mut entries = Vec::new();
        let mut at: Option<K> = None;
        // A map under change may lead us in circles; nobody needs more than this.
        let limit = shape(self.fd())?.entries as usize * 2 + 16;
        while entries.len() < limit {
            let mut next = K::new_zeroed();
            match next_key(self.fd(), at.as_ref(), &mut next) {
                Ok(()) => {}
                Err(error) if is_missing(&error) => break,
                Err(error) => return Err(error),
            }
            if let Some(value) = self.get(&next)? {
                entries.push((next, value));
            }
            at = Some(next);
        }
        Ok(entries)
    }

    /// Every entry, in batches; `each` is told a batch at a time. For hash maps.
    pub fn scan(&self, each: &mut dyn FnMut(&[K], &[V])) -> io::Result<()> {
        let (mut token, mut next) = (0u64, 0u64);
        let mut first = true;
        // More than one batch per bucket's worth of entries cannot come.
        for _ in 0..shape(self.fd())?.entries as usize + 2 {
            let mut keys = vec![K::new_zeroed(); BATCH];
            let mut values = vec![V::new_zeroed(); BATCH];
            let mut attr = zeroed();
            attr.batch.map_fd = self.fd.as_raw_fd() as u32;
            attr.batch.in_batch = if first { 0 } else { &raw mut token as u64 };
            attr.batch.out_batch = &raw mut next as u64;
            attr.batch.keys = keys.as_mut_ptr() as u64;
            attr.batch.values = values.as_mut_ptr() as u64;
            attr.batch.count = BATCH as u32;
            // SAFETY: the buffers hold BATCH entries and outlive the call, the tokens are as large as any map's.
            let end = match unsafe { call(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attr) } {
                Ok(_) => false,
                Err(error) if is_missing(&error) => true,
                Err(error) => return Err(error),
            };
            // SAFETY: the kernel wrote the count, of at most BATCH.
            let count = (unsafe { attr.batch.count } as usize).min(BATCH);
            each(&keys[..count], &values[..count]);
            if end {
                return Ok(());
            }
            token = next;
            first = false;
        }
        Ok(())
    }

    /// Writes many entries; returns how many went through and why the next one did not.
    pub fn put_batch(&self, keys: &[K], values: &[V]) -> (usize, Option<io::Error>) {
        let count = keys.len().min(values.len()).min(BATCH);
        let mut attr = zeroed();
        attr.batch.map_fd = self.fd.as_raw_fd() as u32;
        attr.batch.keys = keys.as_ptr() as u64;
        attr.batch.values = values.as_ptr() as u64;
        attr.batch.count = count as u32;
        // SAFETY: the kernel reads `count` entries of each slice.
        let result = unsafe { call(bpf_cmd::BPF_MAP_UPDATE_BATCH, &mut attr) };
        match result {
            Ok(_) => (count, None),
            // SAFETY: the kernel wrote how far it came.
            Err(error) => (
                (unsafe { attr.batch.count } as usize).min(count),
                Some(error),
            ),
        }
    }

    /// This map's value on each processor, for per-CPU maps with values of 8 bytes.
    pub fn get_per_cpu(&self, key: &K, cpus: usize) -> io::Result<Vec<u64>> {
        let mut values = vec![0u64; cpus];
        element(
            bpf_cmd::BPF_MAP_LOOKUP_ELEM,
            self.fd(),
            key,
            values.as_mut_ptr() as u64,
            0,
        )?;
        Ok(values)
    }
}

/// The address of a value's bytes, as bpf(2) takes it.
trait BytesPtr {
    fn as_mut_bytes_ptr(&mut self) -> u64;
}

impl<T> BytesPtr for T {
    fn as_mut_bytes_ptr(&mut self) -> u64 {
        std::ptr::from_mut(self) as u64
    }
}

/// The shape of a map.
pub fn shape(map: BorrowedFd<'_>) -> io::Result<MapShape> {
    // SAFETY: all zero is a value of every field.
    let mut info: bpf_map_info = unsafe { mem::zeroed() };
    describe(map, &mut info)?;
    Ok(MapShape {
        kind: info.type_,
        key: info.key_size,
        value: info.value_size,
        entries: info.max_entries,
        flags: info.map_flags,
    })
}

/// Makes a map.
pub fn create(name: &str, shape: &MapShape) -> io::Result<OwnedFd> {
    let mut attr = zeroed();
    let mut map_name = [0; 16];
    for (to, from) in map_name.iter_mut().zip(name.bytes().take(15)) {
        *to = from.cast_signed();
    }
    // SAFETY: writes plain numbers into the member that this command reads.
    let create = unsafe { &mut attr.__bindgen_anon_1 };
    create.map_type = shape.kind;
    create.key_size = shape.key;
    create.value_size = shape.value;
    create.max_entries = shape.entries;
    create.map_flags = shape.flags;
    create.map_name = map_name;
    // SAFETY: no pointers in it; the descriptor that is returned is ours alone.
    unsafe {
        let fd = call(bpf_cmd::BPF_MAP_CREATE, &mut attr)?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// A program's id and the instructions the verifier walked, which kernels before 5.16 do not tell.
pub fn program(fd: BorrowedFd<'_>) -> io::Result<(u32, u32)> {
    // SAFETY: all zero is a value of every field.
    let mut info: bpf_prog_info = unsafe { mem::zeroed() };
    describe(fd, &mut info)?;
    Ok((info.id, info.verified_insns))
}

/// A link of the tcx kind.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct TcxLink {
    /// The program behind it.
    pub program: u32,
    /// The interface; 0: it is gone, or the link was detached.
    pub ifindex: u32,
    /// Which way.
    pub ingress: bool,
}

/// Attaches a program ahead of those that are there.
pub fn attach_tcx(program: BorrowedFd<'_>, ifindex: u32, ingress: bool) -> io::Result<OwnedFd> {
    let mut attr = zeroed();
    attr.link_create.__bindgen_anon_1.prog_fd = program.as_raw_fd() as u32;
    attr.link_create.__bindgen_anon_2.target_ifindex = ifindex;
    attr.link_create.attach_type = tcx_type(ingress) as u32;
    attr.link_create.flags = BPF_F_BEFORE;
    // SAFETY: no pointers in it; the descriptor that is returned is ours alone.
    unsafe {
        let fd = call(bpf_cmd::BPF_LINK_CREATE, &mut attr)?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Puts another program behind a link; no packet meets neither.
pub fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = zeroed();
    attr.link_update.link_fd = link.as_raw_fd() as u32;
    attr.link_update.__bindgen_anon_1.new_prog_fd = program.as_raw_fd() as u32;
    // SAFETY: no pointers in it.
    unsafe { call(bpf_cmd::BPF_LINK_UPDATE, &mut attr) }.map(drop)
}

/// Describes a link; `None`: it is of another kind.
pub fn tcx_link(link: BorrowedFd<'_>) -> io::Result<Option<TcxLink>> {
    // SAFETY: all zero is a value of every field.
    let mut info: bpf_link_info = unsafe { mem::zeroed() };
    describe(link, &mut info)?;
    if info.type_ != BPF_LINK_TYPE_TCX {
        return Ok(None);
    }
    // SAFETY: the kind says which member of the union the kernel wrote.
    let tcx = unsafe { info.__bindgen_anon_1.tcx };
    Ok(Some(TcxLink {
        program: info.prog_id,
        ifindex: tcx.ifindex,
        ingress: tcx.attach_type == tcx_type(true) as u32,
    }))
}

/// Opens a pinned object.
pub fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = zeroed();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    // SAFETY: the path outlives the call; the descriptor that is returned is ours alone.
    unsafe {
        let fd = call(bpf_cmd::BPF_OBJ_GET, &mut attr)?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Pins an object where nothing is.
pub fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = zeroed();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    attr.__bindgen_anon_4.bpf_fd = object.as_raw_fd() as u32;
    // SAFETY: the path outlives the call.
    unsafe { call(bpf_cmd::BPF_OBJ_PIN, &mut attr) }.map(drop)
}

/// What a test run of a program gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestRun {
    /// What the program returned.
    pub verdict: i32,
    /// The frame as it left it.
    pub frame: Vec<u8>,
    /// The packet's mark as it left it.
    pub mark: u32,
    /// Nanoseconds of one run, on average.
    pub duration: u32,
}

/// Runs a tc program on a frame, as if it had come in on `ifindex`.
pub fn test_run(
    program: BorrowedFd<'_>,
    frame: &[u8],
    ifindex: u32,
    mark: u32,
    repeat: u32,
) -> io::Result<TestRun> {
    let mut out = vec![0u8; frame.len() + 256];
    let context = Context {
        mark,
        ifindex,
        ..Context::new_zeroed()
    };
    let mut attr = zeroed();
    attr.test.prog_fd = program.as_raw_fd() as u32;
    attr.test.data_in = frame.as_ptr() as u64;
    attr.test.data_size_in = frame.len() as u32;
    attr.test.data_out = out.as_mut_ptr() as u64;
    attr.test.data_size_out = out.len() as u32;
    attr.test.repeat = repeat;
    attr.test.ctx_in = &raw const context as u64;
    attr.test.ctx_size_in = size_of::<Context>() as u32;
    let mut left = Context::new_zeroed();
    attr.test.ctx_out = &raw mut left as u64;
    attr.test.ctx_size_out = size_of::<Context>() as u32;
    // SAFETY: the buffers are as long as said and outlive the call.
    unsafe { call(bpf_cmd::BPF_PROG_TEST_RUN, &mut attr)? };
    // SAFETY: plain numbers that the kernel wrote.
    let test = unsafe { attr.test };
    out.truncate(test.data_size_out as usize);
    Ok(TestRun {
        verdict: test.retval as i32,
        frame: out,
        mark: left.mark,
        duration: test.duration,
    })
}

/// The beginning of `struct __sk_buff`, and room for the rest of it: a kernel that has more to tell calls it an error.
#[derive(Copy, Clone, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Context {
    len: u32,
    pkt_type: u32,
    mark: u32,
    queue_mapping: u32,
    protocol: u32,
    vlan: [u32; 3],
    priority: u32,
    ingress_ifindex: u32,
    ifindex: u32,
    rest: [u32; 53],
}

const BPF_F_BEFORE: u32 = 1 << 3;
const BPF_LINK_TYPE_TCX: u32 = 11;

const fn tcx_type(ingress: bool) -> bpf_attach_type {
    if ingress {
        bpf_attach_type::BPF_TCX_INGRESS
    } else {
        bpf_attach_type::BPF_TCX_EGRESS
    }
}

fn is_missing(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOENT)
}

fn element<K: Plain>(
    command: bpf_cmd,
    map: BorrowedFd<'_>,
    key: &K,
    value: u64,
    flags: u64,
) -> io::Result<()> {
    let mut attr = zeroed();
    attr.__bindgen_anon_2.map_fd = map.as_raw_fd() as u32;
    attr.__bindgen_anon_2.key = std::ptr::from_ref(key) as u64;
    attr.__bindgen_anon_2.__bindgen_anon_1.value = value;
    attr.__bindgen_anon_2.flags = flags;
    // SAFETY: key and value are as large as the map's, whose shape was compared when it was opened.
    unsafe { call(command, &mut attr) }.map(drop)
}

fn next_key<K: Plain>(map: BorrowedFd<'_>, key: Option<&K>, next: &mut K) -> io::Result<()> {
    let mut attr = zeroed();
    attr.__bindgen_anon_2.map_fd = map.as_raw_fd() as u32;
    attr.__bindgen_anon_2.key = key.map_or(0, |key| std::ptr::from_ref(key) as u64);
    attr.__bindgen_anon_2.__bindgen_anon_1.next_key = std::ptr::from_mut(next) as u64;
    // SAFETY: both keys are as large as the map's.
    unsafe { call(bpf_cmd::BPF_MAP_GET_NEXT_KEY, &mut attr) }.map(drop)
}

fn describe<T>(object: BorrowedFd<'_>, info: &mut T) -> io::Result<()> {
    let mut attr = zeroed();
    attr.info.bpf_fd = object.as_raw_fd() as u32;
    attr.info.info = std::ptr::from_mut(info) as u64;
    attr.info.info_len = size_of::<T>() as u32;
    // SAFETY: the kernel writes at most `info_len` bytes of a structure that is all numbers.
    unsafe { call(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr) }.map(drop)
}

fn zeroed() -> bpf_attr {
    // SAFETY: a union of numbers.
    unsafe { mem::zeroed() }
}

/// # Safety
///
/// What `attr` points to must be as large as the command expects, and outlive the call.
unsafe fn call(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i32> {
    // SAFETY: by the caller.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as u32,
            std::ptr::from_mut(attr),
            size_of::<bpf_attr>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result as i32)
    }
}
