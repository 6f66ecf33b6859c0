//! The wire format: bytes to messages and back, without sockets.
//!
//! ```text
//! bytes -> Framer (marker, length, type) -> Frame -> Open | Update | Notification | RouteRefresh
//! ```
//! An error that must end the session is the [`Notification`] to send. Errors inside an UPDATE which must not
//! (RFC 7606) are part of the decoded [`Update`]. `zettabgp` codes NLRI and simple attributes, behind checks of ours:
//! it panics on short input, so nothing reaches it that was not measured first.
//!
//! RFC 4271 §4 and §6, 2918, 4760, 5492, 6793, 7606, 8092, 8654, 8950, 9003, 9072, 9234 §5 (OTC carried, no roles).
//! Left out: every family but unicast, add-path, enhanced route refresh (its markers are ignored).

mod as_path;
mod attributes;
mod encode;
mod nlri;
mod notification;
mod open;
mod update;

pub use as_path::{AsPath, Segment, SegmentKind};
pub use attributes::{Aggregator, Attributes, NextHop, OriginCode, RawAttribute};
pub(crate) use attributes::{NO_ADVERTISE, NO_EXPORT, NO_EXPORT_SUBCONFED};
pub use encode::{Announcement, TooLong, end_of_rib, withdraw};
pub use notification::{Notification, cease, code, describe};
pub use open::{Capability, GracefulRestartCapability, Open};
pub use update::{AttributeError, ErrorClass, Update};

use std::collections::BTreeSet;

use crate::Family;

/// What both sides agreed on that changes how UPDATE is read and written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// The families agreed on; all others are ignored.
    pub families: BTreeSet<Family>,
    /// AS numbers have four octets (RFC 6793).
    pub four_octet_as: bool,
    /// IPv4 prefixes may have IPv6 next hops (RFC 8950).
    pub extended_next_hop: bool,
    /// The peer is in our own AS.
    pub ibgp: bool,
    /// The longest message the peer accepts.
    pub max_len: usize,
}

/// The types of messages (RFC 4271 §4.1, RFC 2918 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageType {
    /// Type 1.
    Open = 1,
    /// Type 2.
    Update = 2,
    /// Type 3.
    Notification = 3,
    /// Type 4.
    Keepalive = 4,
    /// Type 5.
    RouteRefresh = 5,
}

impl MessageType {
    fn from_wire(value: u8) -> Option<Self> {
        Some(match value {
            1 => Self::Open,
            2 => Self::Update,
            3 => Self::Notification,
            4 => Self::Keepalive,
            5 => Self::RouteRefresh,
            _ => return None,
        })
    }

    /// The shortest message of this type, header included (RFC 4271 §6.1). ROUTE-REFRESH has an error code of its own
    /// for bad lengths (RFC 7313 §5), so it passes here.
    fn min_len(self) -> usize {
        HEADER_LEN
            + match self {
                Self::Open => 10,
                Self::Update => 4,
                Self::Notification => 2,
                Self::Keepalive | Self::RouteRefresh => 0,
            }
    }

    fn accepts(self, len: usize) -> bool {
        len >= self.min_len()
            && match self {
                Self::Keepalive => len == HEADER_LEN,
                Self::Open => len <= MAX_LEN, // RFC 8654 §4
                Self::Update | Self::Notification | Self::RouteRefresh => true,
            }
    }
}

/// A message whose header is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Its type.
    pub kind: MessageType,
    /// What follows the header.
    pub body: &'a [u8],
}

/// Cuts a stream of bytes into messages. It holds less than one message beyond what was pushed last.
#[derive(Debug)]
pub struct Framer {
    buffer: Vec<u8>,
    start: usize,
    max_len: usize,
}

impl Default for Framer {
    fn default() -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
            max_len: MAX_LEN,
        }
    }
}

impl Framer {
    /// Adds bytes from the peer. Take every frame out before the next call.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Accepts messages up to 65,535 octets from now on (RFC 8654).
    pub fn allow_extended(&mut self) {
        self.max_len = EXTENDED_MAX_LEN;
    }

    /// The next complete message.
    ///
    /// # Errors
    /// The stream is lost: there is no way to find the next message.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, Notification> {
        let pending = &self.buffer[self.start..];
        let Some((header, _)) = pending.split_at_checked(HEADER_LEN) else {
            return Ok(None);
        };
        if header[..16] != MARKER {
            return Err(Notification::new(code::MESSAGE_HEADER, 1));
        }
        let length = [header[16], header[17]];
        let len = usize::from(u16::from_be_bytes(length));
        if !(HEADER_LEN..=self.max_len).contains(&len) {
            return Err(Notification::with_data(code::MESSAGE_HEADER, 2, &length));
        }
        let Some(kind) = MessageType::from_wire(header[18]) else {
            return Err(Notification::with_data(
                code::MESSAGE_HEADER,
                3,
                &header[18..],
            ));
        };
        if !kind.accepts(len) {
            return Err(Notification::with_data(code::MESSAGE_HEADER, 2, &length));
        }
        if pending.len() < len {
            return Ok(None);
        }
        let body = self.start + HEADER_LEN..self.start + len;
        self.start += len;
        Ok(Some(Frame {
            kind,
            body: &self.buffer[body],
        }))
    }
}

/// A request for, or the brackets of, a family's routes (RFC 2918, RFC 7313).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteRefresh {
    /// The address family.
    pub afi: u16,
    /// The subsequent address family.
    pub safi: u8,
    /// 0: a request. 1 and 2: begin and end (RFC 7313).
    pub subtype: u8,
}

impl RouteRefresh {
    /// Reads the body.
    pub fn decode(body: &[u8]) -> Result<Self, Notification> {
        let &[afi_high, afi_low, subtype, safi] = body else {
            return Err(Notification::with_data(code::ROUTE_REFRESH, 1, body)); // RFC 7313 §5
        };
        Ok(Self {
            afi: u16::from_be_bytes([afi_high, afi_low]),
            safi,
            subtype,
        })
    }

    /// The whole message.
    pub fn encode(self) -> Vec<u8> {
        let [high, low] = self.afi.to_be_bytes();
        message(
            MessageType::RouteRefresh,
            &[high, low, self.subtype, self.safi],
        )
    }
}

/// The whole KEEPALIVE message.
pub fn keepalive() -> Vec<u8> {
    message(MessageType::Keepalive, &[])
}

/// A whole message around a body which its encoder keeps within the length limit.
fn message(kind: MessageType, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_LEN + body.len());
    push_header(&mut out, kind, HEADER_LEN + body.len());
    out.extend_from_slice(body);
    out
}

fn push_header(out: &mut Vec<u8>, kind: MessageType, len: usize) {
    out.extend_from_slice(&MARKER);
    out.extend_from_slice(&(len as u16).to_be_bytes());
    out.push(kind as u8);
}

/// The length of the message header.
pub const HEADER_LEN: usize = 19;
/// The longest message without RFC 8654.
pub const MAX_LEN: usize = 4096;
/// The longest message with RFC 8654.
pub const EXTENDED_MAX_LEN: usize = 65_535;
/// Stands for an AS number that does not fit into two octets (RFC 6793 §9).
pub const AS_TRANS: u16 = 23_456;
const MARKER: [u8; 16] = [0xff; 16];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_cut_at_message_boundaries_however_it_arrives() {
        let mut stream = keepalive();
        stream.extend(
            RouteRefresh {
                afi: 2,
                safi: 1,
                subtype: 0,
            }
            .encode(),
        );
        stream.extend(keepalive());
        for chunk in 1..stream.len() {
            let mut framer = Framer::default();
            let mut kinds = Vec::new();
            for bytes in stream.chunks(chunk) {
                framer.push(bytes);
                while let Some(frame) = framer.next_frame().unwrap() {
                    kinds.push(frame.kind);
                }
            }
            assert_eq!(
                kinds,
                [
                    MessageType::Keepalive,
                    MessageType::RouteRefresh,
                    MessageType::Keepalive
                ],
                "chunks of {chunk}"
            );
        }
    }

    #[test]
    fn bad_headers_are_told_in_the_words_of_the_rfc() {
        let with = |at: usize, value: u8| {
            let mut bytes = keepalive();
            bytes[at] = value;
            bytes
        };
        let long = |len: u16, kind: u8| {
            let mut bytes = vec![0xff; 16];
            bytes.extend(len.to_be_bytes());
            bytes.push(kind);
            bytes
        };
        let cases: &[(&str, Vec<u8>, u8, &[u8])] = &[
            ("marker", with(3, 0), 1, &[]),
            ("shorter than the header", with(17, 18), 2, &[0, 18]),
            ("length zero", with(17, 0), 2, &[0, 0]),
            ("type zero", with(18, 0), 3, &[0]),
            ("type unknown", with(18, 6), 3, &[6]),
            ("longer than 4096", long(4097, 2), 2, &[0x10, 0x01]),
            ("KEEPALIVE with a body", long(20, 4), 2, &[0, 20]),
            ("OPEN too short", long(28, 1), 2, &[0, 28]),
            ("UPDATE too short", long(22, 2), 2, &[0, 22]),
            ("NOTIFICATION too short", long(20, 3), 2, &[0, 20]),
        ];
        for (name, bytes, subcode, data) in cases {
            let mut framer = Framer::default();
            framer.push(bytes);
            let error = framer.next_frame().unwrap_err();
            assert_eq!(
                (error.code, error.subcode, &error.data[..]),
                (1, *subcode, *data),
                "{name}"
            );
        }
    }

    #[test]
    fn long_messages_pass_only_once_they_are_agreed_on() {
        let mut framer = Framer::default();
        framer.allow_extended();
        let mut bytes = vec![0xff; 16];
        bytes.extend(5000u16.to_be_bytes());
        bytes.push(2);
        bytes.resize(5000, 0);
        framer.push(&bytes);
        assert_eq!(framer.next_frame().unwrap().unwrap().body.len(), 4981);
        bytes[18] = 1;
        framer.push(&bytes);
        assert_eq!(
            framer.next_frame().unwrap_err().subcode,
            2,
            "an OPEN stays below 4096"
        );
    }
}
