//! NOTIFICATION: the last word of a session, and the error type of everything that ends one.

use std::fmt;

use super::{MessageType, message};

/// Error codes (RFC 4271 §4.5, RFC 7313 §5).
pub mod code {
    /// The header is wrong.
    pub const MESSAGE_HEADER: u8 = 1;
    /// The OPEN is wrong.
    pub const OPEN: u8 = 2;
    /// The UPDATE is wrong.
    pub const UPDATE: u8 = 3;
    /// Nothing was heard for the hold time.
    pub const HOLD_TIMER_EXPIRED: u8 = 4;
    /// A message at a time when it has no place (RFC 6608).
    pub const FSM: u8 = 5;
    /// The session ends for another reason.
    pub const CEASE: u8 = 6;
    /// The ROUTE-REFRESH is wrong.
    pub const ROUTE_REFRESH: u8 = 7;
}

/// Subcodes of Cease (RFC 4486, RFC 8538).
pub mod cease {
    /// The operator wants it down.
    pub const ADMINISTRATIVE_SHUTDOWN: u8 = 2;
    /// The peer is no longer configured.
    pub const PEER_DECONFIGURED: u8 = 3;
    /// Down and up again.
    pub const ADMINISTRATIVE_RESET: u8 = 4;
    /// We do not want this connection.
    pub const CONNECTION_REJECTED: u8 = 5;
    /// The configuration changed.
    pub const OTHER_CONFIGURATION_CHANGE: u8 = 6;
    /// Two connections, and the other one stays.
    pub const CONNECTION_COLLISION_RESOLUTION: u8 = 7;
    /// Graceful restart must not be used (RFC 8538 §3.1).
    pub const HARD_RESET: u8 = 9;
}

/// A NOTIFICATION message.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", describe(*code, *subcode))]
pub struct Notification {
    /// The error code.
    pub code: u8,
    /// The error subcode; 0: unspecific.
    pub subcode: u8,
    /// What the RFC wants with this code.
    pub data: Vec<u8>,
}

impl Notification {
    /// Without data.
    pub fn new(code: u8, subcode: u8) -> Self {
        Self::with_data(code, subcode, &[])
    }

    /// With data, cut to what fits into a message.
    pub fn with_data(code: u8, subcode: u8, data: &[u8]) -> Self {
        let data = &data[..data.len().min(MAX_DATA)];
        Self {
            code,
            subcode,
            data: data.to_vec(),
        }
    }

    /// Cease with a shutdown communication (RFC 9003), cut at a character to 255 octets.
    pub fn cease(subcode: u8, communication: &str) -> Self {
        if communication.is_empty() {
            return Self::new(code::CEASE, subcode);
        }
        let mut len = communication.len().min(255);
        while !communication.is_char_boundary(len) {
            len -= 1;
        }
        let mut data = vec![len as u8];
        data.extend_from_slice(&communication.as_bytes()[..len]);
        Self {
            code: code::CEASE,
            subcode,
            data,
        }
    }

    /// The same as a Hard Reset (RFC 8538 §3.1): the peer shall not keep our routes.
    #[must_use]
    pub fn hard(self) -> Self {
        let mut data = vec![self.code, self.subcode];
        data.extend_from_slice(&self.data);
        Self::with_data(code::CEASE, cease::HARD_RESET, &data)
    }

    /// It is a Hard Reset.
    pub fn is_hard(&self) -> bool {
        self.code == code::CEASE && self.subcode == cease::HARD_RESET
    }

    /// What a Hard Reset carries, or the NOTIFICATION itself.
    #[must_use]
    pub fn inner(&self) -> Self {
        match (self.is_hard(), &self.data[..]) {
            (true, &[code, subcode, ref data @ ..]) => Self::with_data(code, subcode, data),
            _ => self.clone(),
        }
    }

    /// The peer's text for the operator (RFC 9003), with control characters replaced so that it may go to a terminal.
    pub fn communication(&self) -> Option<String> {
        if self.code != code::CEASE
            || ![cease::ADMINISTRATIVE_SHUTDOWN, cease::ADMINISTRATIVE_RESET]
                .contains(&self.subcode)
        {
            return None;
        }
        let (&len, text) = self.data.split_first()?;
        let text = text
            .get(..usize::from(len))
            .filter(|text| !text.is_empty())?;
        let printable = |c: char| {
            if c.is_control() {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        };
        Some(
            String::from_utf8_lossy(text)
                .chars()
                .map(printable)
                .collect(),
        )
    }

    /// Reads the body, which the framer made at least two octets long.
    pub fn decode(body: &[u8]) -> Self {
        match body {
            &[code, subcode, ref data @ ..] => Self::with_data(code, subcode, data),
            _ => Self::new(0, 0),
        }
    }

    /// The whole message.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = vec![self.code, self.subcode];
        body.extend_from_slice(&self.data);
        message(MessageType::Notification, &body)
    }
}

impl fmt::Debug for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            code,
            subcode,
            data,
        } = self;
        write!(f, "Notification({code}/{subcode} {self}, {data:02x?})")
    }
}

/// A code and subcode in the RFCs' words.
pub fn describe(code: u8, subcode: u8) -> &'static str {
    match (code, subcode) {
        (1, 1) => "Connection Not Synchronized",
        (1, 2) => "Bad Message Length",
        (1, 3) => "Bad Message Type",
        (1, _) => "Message Header Error",
        (2, 1) => "Unsupported Version Number",
        (2, 2) => "Bad Peer AS",
        (2, 3) => "Bad BGP Identifier",
        (2, 4) => "Unsupported Optional Parameter",
        (2, 6) => "Unacceptable Hold Time",
        (2, 7) => "Unsupported Capability",
        (2, 11) => "Role Mismatch",
        (2, _) => "OPEN Message Error",
        (3, 1) => "Malformed Attribute List",
        (3, 2) => "Unrecognized Well-known Attribute",
        (3, 3) => "Missing Well-known Attribute",
        (3, 4) => "Attribute Flags Error",
        (3, 5) => "Attribute Length Error",
        (3, 6) => "Invalid ORIGIN Attribute",
        (3, 8) => "Invalid NEXT_HOP Attribute",
        (3, 9) => "Optional Attribute Error",
        (3, 10) => "Invalid Network Field",
        (3, 11) => "Malformed AS_PATH",
        (3, _) => "UPDATE Message Error",
        (4, _) => "Hold Timer Expired",
        (5, 1) => "Receive Unexpected Message in OpenSent State",
        (5, 2) => "Receive Unexpected Message in OpenConfirm State",
        (5, 3) => "Receive Unexpected Message in Established State",
        (5, _) => "Finite State Machine Error",
        (6, 1) => "Maximum Number of Prefixes Reached",
        (6, 2) => "Administrative Shutdown",
        (6, 3) => "Peer De-configured",
        (6, 4) => "Administrative Reset",
        (6, 5) => "Connection Rejected",
        (6, 6) => "Other Configuration Change",
        (6, 7) => "Connection Collision Resolution",
        (6, 8) => "Out of Resources",
        (6, 9) => "Hard Reset",
        (6, 10) => "BFD Down",
        (6, _) => "Cease",
        (7, 1) => "Invalid Message Length",
        (7, _) => "ROUTE-REFRESH Message Error",
        _ => "Unknown Error",
    }
}

const MAX_DATA: usize = super::MAX_LEN - super::HEADER_LEN - 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shutdown_text_survives_the_wire_and_the_hard_reset() {
        let plain = Notification::cease(cease::ADMINISTRATIVE_SHUTDOWN, "Grüße, wartung");
        for sent in [plain.clone(), plain.clone().hard()] {
            let received = Notification::decode(&sent.encode()[super::super::HEADER_LEN..]);
            assert_eq!(received, sent);
            assert_eq!(received.inner(), plain);
            assert_eq!(received.inner().communication().unwrap(), "Grüße, wartung");
        }
        assert_eq!(plain.to_string(), "Administrative Shutdown");
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        let sent = Notification::cease(cease::ADMINISTRATIVE_RESET, &"ü".repeat(200));
        assert_eq!(sent.data[0], 254);
        assert_eq!(sent.communication().unwrap(), "ü".repeat(127));
    }

    #[test]
    fn a_hostile_text_is_made_harmless() {
        let text = |data: &[u8]| Notification::with_data(6, 2, data).communication();
        assert_eq!(text(&[3, b'a', 0x1b, 0xff]).unwrap(), "a\u{fffd}\u{fffd}");
        assert_eq!(text(&[]), None);
        assert_eq!(text(&[0]), None);
        assert_eq!(text(&[200, b'a']), None, "shorter than it says");
    }
}
