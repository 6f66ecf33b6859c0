//! Requests to the kernel and their answers, one at a time: rtnetlink's connection, driven by the thread that asks.

use std::io;
use std::time::Duration;

use futures::StreamExt as _;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::Handle;
use rtnetlink::sys::AsyncSocket as _;
use tokio::runtime::{Builder, Runtime};

/// A socket of requests.
pub(crate) struct Socket {
    runtime: Runtime,
    handle: Handle,
    port: u32,
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace. The caller must not be inside an asynchronous runtime.
    pub(crate) fn open() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let (mut connection, handle, _) = rtnetlink::new_connection_with_strict_check()?;
        let socket = connection.socket_mut().socket_mut();
        let port = socket.bind_auto()?.port_number();
        socket.set_rx_buf_sz(RECEIVE_BUFFER)?;
        runtime.spawn(connection);
        drop(entered);
        Ok(Self {
            runtime,
            handle,
            port,
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
            let (messages, interrupted) = self.ask(message.clone(), NLM_F_REQUEST | NLM_F_DUMP)?;
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
        self.ask(message, NLM_F_REQUEST | NLM_F_ACK | flags)
            .map(|_| ())
    }

    /// The objects of an answer, and whether they changed while they were read.
    fn ask(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<(Vec<RouteNetlinkMessage>, bool)> {
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        let message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        // A connection ends with its socket's first error; what is asked next needs a new one.
        let mut answers = if let Ok(answers) = self.handle.request(message.clone()) {
            answers
        } else {
            *self = Self::open()?;
            self.handle.request(message).map_err(io::Error::other)?
        };
        let read = async {
            let mut messages = Vec::new();
            let mut interrupted = false;
            while let Some(message) = answers.next().await {
                interrupted |= message.header.flags & NLM_F_DUMP_INTR != 0;
                match message.payload {
                    NetlinkPayload::InnerMessage(message) => messages.push(message),
                    NetlinkPayload::Error(error) if error.code.is_some() => {
                        return Err(error.to_io());
                    }
                    _ => {}
                }
            }
            Ok((messages, interrupted))
        };
        // A kernel that does not answer is an error, not a stop.
        self.runtime
            .block_on(async { tokio::time::timeout(ANSWER, read).await })
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
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
