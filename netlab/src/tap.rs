//! Taps: the hypervisor's side of a virtual machine's interface, played by a thread that carries frames between a tap on
//! the host and a tap in the machine's namespace.

use std::{
    fs::File,
    io::{ErrorKind, Read as _, Write as _},
    os::{fd::AsRawFd as _, unix::fs::OpenOptionsExt as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::Namespace;

/// Two taps with a thread between them; the taps vanish when it is dropped.
#[derive(Debug)]
pub(crate) struct Wire {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Wire {
    /// Makes a tap in each namespace and connects them.
    pub(crate) fn start(a: &Namespace, a_name: &str, b: &Namespace, b_name: &str) -> Result<Self> {
        let ends = [
            a.enter(|| open_tap(a_name))??,
            b.enter(|| open_tap(b_name))??,
        ];
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || carry(&ends, &stopped));
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A wire that panicked has said so.
            let _ = thread.join();
        }
    }
}

fn carry(ends: &[File; 2], stop: &AtomicBool) {
    let tick = Timespec {
        tv_sec: 0,
        tv_nsec: 100_000_000,
    };
    let mut frame = vec![0; 65_536];
    while !stop.load(Ordering::Relaxed) {
        let mut ready = [
            PollFd::new(&ends[0], PollFlags::IN),
            PollFd::new(&ends[1], PollFlags::IN),
        ];
        // Interrupted or timed out: look at `stop` and wait again.
        let _ = poll(&mut ready, Some(&tick));
        let mut broken = false;
        for (from, to) in [(0, 1), (1, 0)] {
            loop {
                match (&ends[from]).read(&mut frame) {
                    // A tap that is down takes no frames: lost, as on a wire.
                    Ok(len) => drop((&ends[to]).write(&frame[..len])),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) if error.raw_os_error() == Some(libc::EBADFD) => {
                        broken = true;
                        break;
                    }
                    // EIO while the tap is down.
                    Err(_) => break,
                }
            }
        }
        if broken {
            return;
        }
    }
}

/// Opens a tap of this name in the namespace of the calling thread.
fn open_tap(name: &str) -> Result<File> {
    let tun = File::options()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")
        .context("open /dev/net/tun")?;
    let mut request = Request {
        name: [0; libc::IFNAMSIZ],
        flags: (libc::IFF_TAP | libc::IFF_NO_PI) as i16,
        _rest: [0; 22],
    };
    ensure!(
        name.len() < request.name.len(),
        "the interface name {name} is too long"
    );
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: TUNSETIFF reads and writes a `struct ifreq`, 40 bytes, which `Request` is laid out as; the descriptor is
    // open for the length of the call.
    let status = unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) };
    ensure!(
        status == 0,
        "make tap {name}: {}",
        std::io::Error::last_os_error()
    );
    Ok(tun)
}

/// `struct ifreq` as TUNSETIFF uses it.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    flags: i16,
    _rest: [u8; 22],
}
