//! Requests to the kernel and their answers, one at a time.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket as RawSocket, SocketAddr};
use rustix::net::sockopt::{Timeout, set_socket_timeout};

/// A socket of requests.
pub(crate) struct Socket {
    raw: RawSocket,
    port: u32,
    sequence: u32,
}

impl Socket {
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = RawSocket::new(NETLINK_ROUTE)?;
        let port = socket.bind_auto()?.port_number();
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_netlink_get_strict_chk(true)?;
        socket.set_rx_buf_sz(RECEIVE_BUFFER)?;
        // A kernel that does not answer is an error, not a stop.
        set_socket_timeout(socket.as_fd(), Timeout::Recv, Some(ANSWER))?;
        Ok(Self {
            raw: socket,
            port,
            sequence: 0,
        })
    }

    pub(crate) fn port(&self) -> u32 {
        self.port
    }

    /// Asks for all objects. A dump that changes interrupted is repeated.
    pub(crate) fn dump(
        &mut self,
        message: &RouteNetlinkMessage,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        for _ in 0..ATTEMPTS {
            self.send(message.clone(), NLM_F_REQUEST | NLM_F_DUMP)?;
            let (messages, interrupted) = self.answer()?;
            if !interrupted {
                return Ok(messages);
            }
        }
        Err(io::Error::new(
            io::ErrorKind::Interrupted,
            "the kernel's tables change too fast to be read",
        ))
    }

    /// Asks for a change and waits until it is done.
    pub(crate) fn change(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.send(message, NLM_F_REQUEST | NLM_F_ACK | flags)?;
        self.answer().map(|_| ())
    }

    fn send(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.raw.send(&bytes, 0).map(|_| ())
    }

    fn answer(&mut self) -> io::Result<(Vec<RouteNetlinkMessage>, bool)> {
        let mut messages = Vec::new();
        let mut interrupted = false;
        loop {
            let (bytes, _) = self.raw.recv_from_full()?;
            for message in split(&bytes) {
                // The rest of an answer that was given up earlier.
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                interrupted |= message.header.flags & NLM_F_DUMP_INTR != 0;
                match message.payload {
                    NetlinkPayload::InnerMessage(message) => messages.push(message),
                    NetlinkPayload::Done(_) => return Ok((messages, interrupted)),
                    NetlinkPayload::Error(error) if error.code.is_none() => {
                        return Ok((messages, interrupted));
                    }
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    _ => {}
                }
            }
        }
    }
}

/// The messages of a datagram. One that cannot be read is left out.
pub(super) fn split(mut bytes: &[u8]) -> Vec<NetlinkMessage<RouteNetlinkMessage>> {
    let mut messages = Vec::new();
    while let Some(head) = bytes.first_chunk::<4>() {
        let len = u32::from_ne_bytes(*head) as usize;
        if len < HEADER || len > bytes.len() {
            break;
        }
        match NetlinkMessage::deserialize(&bytes[..len]) {
            Ok(message) => messages.push(message),
            Err(error) => tracing::debug!(%error, "netlink message not understood"),
        }
        bytes = &bytes[len.next_multiple_of(4).min(bytes.len())..];
    }
    messages
}

/// A netlink header's length.
const HEADER: usize = 16;
const RECEIVE_BUFFER: usize = 1 << 20;
const ANSWER: Duration = Duration::from_secs(5);
const ATTEMPTS: usize = 10;
