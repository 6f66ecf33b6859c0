//! Filters of the `clsact` qdisc, for kernels without tcx (before 6.6), by rtnetlink.
//!
//! Ours are known by priority, handle and name. Replacing one is atomic: no packet meets neither program.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// A filter of ours on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) name: String,
    pub(super) program: u32,
}

/// Puts a program on one side of an interface, in place of the one of ours that may be there.
pub(super) fn attach(
    ifindex: u32,
    ingress: bool,
    name: &str,
    program: BorrowedFd<'_>,
) -> io::Result<()> {
    let mut qdisc = Message::new(
        RTM_NEWQDISC,
        NLM_F_CREATE | NLM_F_EXCL,
        ifindex,
        0xffff_0000,
        TC_H_CLSACT,
        0,
    );
    qdisc.text(TCA_KIND, "clsact");
    match request(qdisc) {
        // Ours from before, or somebody else's: both serve.
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
        other => drop(other?),
    }
    let mut filter = filter(
        RTM_NEWTFILTER,
        NLM_F_CREATE | NLM_F_REPLACE,
        ifindex,
        ingress,
    );
    filter.text(TCA_KIND, "bpf");
    let options = filter.begin(TCA_OPTIONS);
    filter.number(TCA_BPF_FD, program.as_raw_fd() as u32);
    filter.text(TCA_BPF_NAME, name);
    filter.number(TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT);
    filter.end(options);
    request(filter).map(drop)
}

/// Takes our program off one side of an interface; nothing there is fine.
pub(super) fn detach(ifindex: u32, ingress: bool) -> io::Result<()> {
    let mut filter = filter(RTM_DELTFILTER, 0, ifindex, ingress);
    filter.text(TCA_KIND, "bpf");
    match request(filter) {
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::ENOENT | libc::ENODEV | libc::EINVAL)
            ) =>
        {
            Ok(())
        }
        other => other.map(drop),
    }
}

/// Our program on one side of an interface.
pub(super) fn find(ifindex: u32, ingress: bool) -> io::Result<Option<Filter>> {
    let mut message = filter(RTM_GETTFILTER, NLM_F_DUMP, ifindex, ingress);
    message.set_info(0);
    message.set_handle(0);
    let answers = match request(message) {
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::ENOENT | libc::ENODEV | libc::EINVAL)
            ) =>
        {
            return Ok(None);
        }
        other => other?,
    };
    Ok(answers.iter().find_map(|answer| ours(answer)))
}

/// Every interface of this network namespace.
pub(super) fn interfaces() -> io::Result<Vec<u32>> {
    let mut message = Message::new(RTM_GETLINK, NLM_F_DUMP, 0, 0, 0, 0);
    // An ifinfomsg, which is four bytes shorter than a tcmsg; all zero, both say "every".
    message.0.truncate(NLMSG + 16);
    Ok(request(message)?
        .iter()
        .filter_map(|answer| word(answer, 4))
        .collect())
}

/// Reads one answer of a dump: a `tcmsg` with its attributes.
fn ours(answer: &[u8]) -> Option<Filter> {
    if word(answer, 8)? != HANDLE || word(answer, 16)? >> 16 != PRIORITY {
        return None;
    }
    let options = attributes(answer.get(TCMSG..)?)
        .find(|(kind, _)| *kind == TCA_OPTIONS)?
        .1;
    let (mut name, mut program) = (None, None);
    for (kind, value) in attributes(options) {
        match kind {
            TCA_BPF_NAME => {
                name = std::str::from_utf8(value)
                    .ok()
                    .map(|name| name.trim_end_matches('\0').to_owned());
            }
            TCA_BPF_ID => program = word(value, 0),
            _ => {}
        }
    }
    let name = name.filter(|name| name.starts_with(NAME_PREFIX))?;
    Some(Filter {
        name,
        program: program?,
    })
}

fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = u16::from_ne_bytes([*bytes.first()?, *bytes.get(1)?]) as usize;
        let kind = u16::from_ne_bytes([*bytes.get(2)?, *bytes.get(3)?]) & 0x3fff;
        let value = bytes.get(4..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..at + 4)?
        .try_into()
        .ok()
        .map(u32::from_ne_bytes)
}

/// Sends a request and collects what comes back up to its end.
fn request(message: Message) -> io::Result<Vec<Vec<u8>>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.send_to(&message.finish(), &SocketAddr::new(0, 0), 0)?;
    let mut answers = Vec::new();
    loop {
        let (bytes, _) = socket.recv_from_full()?;
        let mut rest = bytes.as_slice();
        while let Some(len) = word(rest, 0).map(|len| len as usize) {
            if len < NLMSG || len > rest.len() {
                break;
            }
            let kind = u16::from_ne_bytes([rest[4], rest[5]]);
            match kind {
                NLMSG_ERROR => {
                    let code = word(rest, NLMSG).unwrap_or(0).cast_signed();
                    return if code == 0 {
                        Ok(answers)
                    } else {
                        Err(io::Error::from_raw_os_error(-code))
                    };
                }
                NLMSG_DONE => return Ok(answers),
                _ => answers.push(rest[NLMSG..len].to_vec()),
            }
            rest = &rest[len.next_multiple_of(4).min(rest.len())..];
        }
    }
}

fn filter(kind: u16, flags: u16, ifindex: u32, ingress: bool) -> Message {
    let parent = if ingress { 0xffff_fff2 } else { 0xffff_fff3 };
    let every_protocol = u32::from(3u16.to_be());
    Message::new(
        kind,
        flags,
        ifindex,
        HANDLE,
        parent,
        PRIORITY << 16 | every_protocol,
    )
}

/// An rtnetlink request under construction.
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16, ifindex: u32, handle: u32, parent: u32, info: u32) -> Self {
        let mut bytes = vec![0; NLMSG];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
        for part in [0, ifindex, handle, parent, info] {
            bytes.extend(part.to_ne_bytes());
        }
        Self(bytes)
    }

    fn set_handle(&mut self, handle: u32) {
        self.0[NLMSG + 8..NLMSG + 12].copy_from_slice(&handle.to_ne_bytes());
    }

    fn set_info(&mut self, info: u32) {
        self.0[NLMSG + 16..NLMSG + 20].copy_from_slice(&info.to_ne_bytes());
    }

    fn begin(&mut self, kind: u16) -> usize {
        let at = self.0.len();
        self.0.extend(0u16.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        at
    }

    fn end(&mut self, at: usize) {
        let len = (self.0.len() - at) as u16;
        self.0[at..at + 2].copy_from_slice(&len.to_ne_bytes());
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn number(&mut self, kind: u16, value: u32) {
        let at = self.begin(kind);
        self.0.extend(value.to_ne_bytes());
        self.end(at);
    }

    fn text(&mut self, kind: u16, value: &str) {
        let at = self.begin(kind);
        self.0.extend(value.bytes());
        self.0.push(0);
        self.end(at);
    }

    fn finish(mut self) -> Vec<u8> {
        let len = self.0.len() as u32;
        self.0[..4].copy_from_slice(&len.to_ne_bytes());
        self.0
    }
}

/// What the names of our filters begin with.
pub(super) const NAME_PREFIX: &str = "cleat/";
const PRIORITY: u32 = 10;
const HANDLE: u32 = 0xc1ea;

const NLMSG: usize = 16;
const TCMSG: usize = 20;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_CREATE: u16 = 0x400;
const RTM_GETLINK: u16 = 18;
const RTM_NEWQDISC: u16 = 36;
const RTM_NEWTFILTER: u16 = 44;
const RTM_DELTFILTER: u16 = 45;
const RTM_GETTFILTER: u16 = 46;
const TC_H_CLSACT: u32 = 0xffff_fff1;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_ID: u16 = 11;
const TCA_BPF_FLAG_ACT_DIRECT: u32 = 1;
