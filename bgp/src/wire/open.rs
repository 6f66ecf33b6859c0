//! OPEN and its capabilities (RFC 4271 §4.2, RFC 5492, RFC 9072).

use std::net::Ipv4Addr;

use super::{AS_TRANS, MessageType, Notification, code, message};
use crate::Family;

/// An OPEN message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// The AS in its four-octet form, whether it came in the capability or in the two-octet field.
    pub my_as: u32,
    /// The proposed hold time in seconds.
    pub hold_time: u16,
    /// The BGP identifier.
    pub router_id: Ipv4Addr,
    /// The capabilities in their order, repetitions included.
    pub capabilities: Vec<Capability>,
}

/// A capability. One of a known code with a wrong length is kept as unknown, and so ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Code 1: an address family (RFC 4760 §8).
    Multiprotocol {
        /// The address family.
        afi: u16,
        /// The subsequent address family.
        safi: u8,
    },
    /// Code 2 (RFC 2918).
    RouteRefresh,
    /// Code 5: NLRI AFI, NLRI SAFI, next hop AFI (RFC 8950 §4).
    ExtendedNextHop(Vec<(u16, u16, u16)>),
    /// Code 6 (RFC 8654).
    ExtendedMessage,
    /// Code 64 (RFC 4724 §3).
    GracefulRestart(GracefulRestartCapability),
    /// Code 65: the AS number (RFC 6793).
    FourOctetAs(u32),
    /// Code 73: host and domain name (draft-walton-bgp-hostname-capability).
    Fqdn {
        /// The host name, as sent.
        host: Vec<u8>,
        /// The domain name, as sent.
        domain: Vec<u8>,
    },
    /// Any other.
    Unknown {
        /// Its code.
        code: u8,
        /// Its value.
        value: Vec<u8>,
    },
}

/// The value of the graceful restart capability.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GracefulRestartCapability {
    /// R: the speaker has restarted.
    pub restarting: bool,
    /// N: a NOTIFICATION keeps routes as well (RFC 8538 §2).
    pub notification: bool,
    /// The restart time in seconds, 12 bits.
    pub restart_time: u16,
    /// AFI, SAFI, and F: forwarding state was preserved.
    pub families: Vec<(u16, u8, bool)>,
}

impl Capability {
    /// The capability that offers a family.
    pub fn family(family: Family) -> Self {
        Self::Multiprotocol {
            afi: family.afi(),
            safi: 1,
        }
    }

    fn decode(code: u8, value: &[u8]) -> Self {
        let u16_at = |at: usize| u16::from_be_bytes([value[at], value[at + 1]]);
        let unknown = || Self::Unknown {
            code,
            value: value.to_vec(),
        };
        match (code, value.len()) {
            // The reserved octet must be ignored (RFC 4760 §8).
            (1, 4) => Self::Multiprotocol {
                afi: u16_at(0),
                safi: value[3],
            },
            (2, 0) => Self::RouteRefresh,
            (5, len) if len % 6 == 0 => {
                let entry = |at: usize| (u16_at(at), u16_at(at + 2), u16_at(at + 4));
                Self::ExtendedNextHop((0..len).step_by(6).map(entry).collect())
            }
            (6, 0) => Self::ExtendedMessage,
            (64, len) if len % 4 == 2 => Self::GracefulRestart(GracefulRestartCapability {
                restarting: value[0] & 0x80 != 0,
                notification: value[0] & 0x40 != 0,
                restart_time: u16_at(0) & 0x0fff,
                families: (2..len)
                    .step_by(4)
                    .map(|at| (u16_at(at), value[at + 2], value[at + 3] & 0x80 != 0))
                    .collect(),
            }),
            (65, 4) => {
                Self::FourOctetAs(u32::from_be_bytes([value[0], value[1], value[2], value[3]]))
            }
            (73, _) => {
                let name = |bytes: &[u8]| {
                    let (&len, rest) = bytes.split_first()?;
                    let (name, rest) = rest.split_at_checked(usize::from(len))?;
                    Some((name.to_vec(), rest.to_vec()))
                };
                let names = || {
                    let (host, rest) = name(value)?;
                    let (domain, _) = name(&rest)?;
                    Some(Self::Fqdn { host, domain })
                };
                names().unwrap_or_else(unknown)
            }
            _ => unknown(),
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let mut value = Vec::new();
        let code = match self {
            Self::Multiprotocol { afi, safi } => {
                value.extend(afi.to_be_bytes());
                value.extend([0, *safi]);
                1
            }
            Self::RouteRefresh => 2,
            Self::ExtendedNextHop(entries) => {
                for &(afi, safi, next_hop) in entries {
                    value.extend([afi, safi, next_hop].into_iter().flat_map(u16::to_be_bytes));
                }
                5
            }
            Self::ExtendedMessage => 6,
            Self::GracefulRestart(restart) => {
                let [high, low] = (restart.restart_time & 0x0fff).to_be_bytes();
                let flags = u8::from(restart.restarting) << 7 | u8::from(restart.notification) << 6;
                value.extend([flags | high, low]);
                for &(afi, safi, forwarding) in &restart.families {
                    value.extend(afi.to_be_bytes());
                    value.extend([safi, u8::from(forwarding) << 7]);
                }
                64
            }
            Self::FourOctetAs(number) => {
                value.extend(number.to_be_bytes());
                65
            }
            Self::Fqdn { host, domain } => {
                for name in [host, domain] {
                    value.push(name.len() as u8);
                    value.extend_from_slice(name);
                }
                73
            }
            Self::Unknown { code, value: bytes } => {
                value.extend_from_slice(bytes);
                *code
            }
        };
        out.extend([code, value.len() as u8]);
        out.append(&mut value);
    }
}

impl Open {
    /// Reads the body. Only the shape is judged here; the session judges the values.
    pub fn decode(body: &[u8]) -> Result<Self, Notification> {
        let malformed = || Notification::new(code::OPEN, 0);
        let Some((fixed, rest)) = body.split_at_checked(9) else {
            return Err(malformed());
        };
        if fixed[0] != VERSION {
            return Err(Notification::with_data(code::OPEN, 1, &[0, VERSION]));
        }
        let mut open = Self {
            my_as: u32::from(u16::from_be_bytes([fixed[1], fixed[2]])),
            hold_time: u16::from_be_bytes([fixed[3], fixed[4]]),
            router_id: Ipv4Addr::new(fixed[5], fixed[6], fixed[7], fixed[8]),
            capabilities: Vec::new(),
        };
        let (parameters, length_octets) = parameters(rest).ok_or_else(malformed)?;
        let mut rest = parameters;
        while let Some((&kind, after)) = rest.split_first() {
            let (value, after) = take_long(after, length_octets).ok_or_else(malformed)?;
            if kind != CAPABILITIES {
                return Err(Notification::new(code::OPEN, 4));
            }
            open.read_capabilities(value).ok_or_else(malformed)?;
            rest = after;
        }
        if let Some(number) = open.four_octet_as() {
            open.my_as = number;
        }
        Ok(open)
    }

    /// The AS number of the four-octet capability.
    pub fn four_octet_as(&self) -> Option<u32> {
        self.capabilities
            .iter()
            .find_map(|capability| match capability {
                Capability::FourOctetAs(number) => Some(*number),
                Capability::Multiprotocol { .. }
                | Capability::RouteRefresh
                | Capability::ExtendedNextHop(_)
                | Capability::ExtendedMessage
                | Capability::GracefulRestart(_)
                | Capability::Fqdn { .. }
                | Capability::Unknown { .. } => None,
            })
    }

    /// The whole message. Capabilities share one parameter; beyond 255 octets it takes the form of RFC 9072.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = vec![VERSION];
        let two_octets = u16::try_from(self.my_as).unwrap_or(AS_TRANS);
        body.extend(two_octets.to_be_bytes());
        body.extend(self.hold_time.to_be_bytes());
        body.extend(self.router_id.octets());
        let mut capabilities = Vec::new();
        for capability in &self.capabilities {
            capability.encode(&mut capabilities);
        }
        let len = capabilities.len();
        match len {
            0 => body.push(0),
            1..=253 => body.extend([len as u8 + 2, CAPABILITIES, len as u8]),
            _ => {
                body.extend([EXTENDED, EXTENDED]);
                body.extend((len as u16 + 3).to_be_bytes());
                body.push(CAPABILITIES);
                body.extend((len as u16).to_be_bytes());
            }
        }
        body.append(&mut capabilities);
        message(MessageType::Open, &body)
    }

    fn read_capabilities(&mut self, mut rest: &[u8]) -> Option<()> {
        while let Some((&code, after)) = rest.split_first() {
            let (value, after) = take_long(after, 1)?;
            self.capabilities.push(Capability::decode(code, value));
            rest = after;
        }
        Some(())
    }
}

/// The optional parameters and how many octets their lengths have (RFC 9072 §2).
fn parameters(rest: &[u8]) -> Option<(&[u8], usize)> {
    let (parameters, after, length_octets) = match rest {
        // A non-extended first parameter of the reserved type 255 does not exist, so this is unambiguous.
        &[len, EXTENDED, ref after @ ..] if len != 0 => {
            let (parameters, after) = take_long(after, 2)?;
            (parameters, after, 2)
        }
        _ => {
            let (parameters, after) = take_long(rest, 1)?;
            (parameters, after, 1)
        }
    };
    after.is_empty().then_some((parameters, length_octets))
}

/// Splits off a value that is preceded by its length.
fn take_long(bytes: &[u8], length_octets: usize) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_at_checked(length_octets)?;
    let length = length
        .iter()
        .fold(0, |sum, &octet| sum << 8 | usize::from(octet));
    rest.split_at_checked(length)
}

const VERSION: u8 = 4;
const CAPABILITIES: u8 = 2;
const EXTENDED: u8 = 255;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::HEADER_LEN;

    #[test]
    fn every_capability_survives_the_wire() {
        let open = Open {
            my_as: 4_200_000_001,
            hold_time: 90,
            router_id: Ipv4Addr::new(192, 0, 2, 1),
            capabilities: vec![
                Capability::family(Family::Ipv4Unicast),
                Capability::family(Family::Ipv6Unicast),
                Capability::RouteRefresh,
                Capability::ExtendedNextHop(vec![(1, 1, 2)]),
                Capability::ExtendedMessage,
                Capability::GracefulRestart(GracefulRestartCapability {
                    restarting: true,
                    notification: true,
                    restart_time: 4095,
                    families: vec![(1, 1, true), (2, 1, false)],
                }),
                Capability::FourOctetAs(4_200_000_001),
                Capability::Fqdn {
                    host: b"tor1".to_vec(),
                    domain: b"lan".to_vec(),
                },
                Capability::Unknown {
                    code: 75,
                    value: b"v1".to_vec(),
                },
            ],
        };
        assert_eq!(Open::decode(&open.encode()[HEADER_LEN..]).unwrap(), open);
        assert_eq!(open.encode()[HEADER_LEN + 1..][..2], AS_TRANS.to_be_bytes());
        let mut long = open;
        for _ in 0..5 {
            long.capabilities.push(Capability::Unknown {
                code: 200,
                value: vec![7; 100],
            });
        }
        let bytes = long.encode();
        assert_eq!(bytes[HEADER_LEN + 9..][..2], [255, 255], "RFC 9072 form");
        assert_eq!(Open::decode(&bytes[HEADER_LEN..]).unwrap(), long);
    }

    #[test]
    fn the_extended_form_is_read_even_when_it_is_short() {
        // RFC 9072 §2: a sender may use it for any length.
        let body = [
            4, 0xfd, 0xe9, 0, 90, 1, 1, 1, 1, 255, 255, 0, 5, 2, 0, 2, 2, 0,
        ];
        assert_eq!(
            Open::decode(&body).unwrap().capabilities,
            [Capability::RouteRefresh]
        );
    }

    #[test]
    fn an_open_from_frr_with_its_domain_name_is_accepted() {
        // Sent by FRR 8.4.4 with `domainname lan`: every parameter of its own, FQDN last.
        let body = [
            4, 0xfd, 0xea, 0, 180, 10, 0, 0, 2, 51, 2, 6, 1, 4, 0, 1, 0, 1, 2, 2, 128, 0, 2, 2, 2,
            0, 2, 6, 65, 4, 0, 0, 0xfd, 0xea, 2, 2, 6, 0, 2, 11, 73, 9, 4, b't', b'o', b'r', b'1',
            3, b'l', b'a', b'n', 2, 4, 64, 2, 0x40, 120,
        ];
        let mut body = body.to_vec();
        body[9] = (body.len() - 10) as u8;
        let open = Open::decode(&body).unwrap();
        assert_eq!(open.my_as, 65002);
        assert!(open.capabilities.contains(&Capability::Fqdn {
            host: b"tor1".to_vec(),
            domain: b"lan".to_vec()
        }));
    }

    #[test]
    fn malformed_opens_are_refused_and_odd_capabilities_are_not() {
        let with = |parameters: &[u8]| {
            let mut body = vec![4, 0xfd, 0xe9, 0, 90, 1, 1, 1, 1, parameters.len() as u8];
            body.extend_from_slice(parameters);
            Open::decode(&body)
        };
        let subcode = |result: Result<Open, Notification>| {
            result.map_err(|error| (error.code, error.subcode))
        };
        let refused: &[(&str, &[u8], u8)] = &[
            ("authentication", &[1, 0], 4),
            ("a parameter beyond the end", &[2, 5, 2, 0], 0),
            ("a capability beyond its parameter", &[2, 2, 65, 4], 0),
            ("half a parameter header", &[2], 0),
        ];
        for (name, parameters, expected) in refused {
            assert_eq!(subcode(with(parameters)), Err((2, *expected)), "{name}");
        }
        let tolerated: &[(&str, &[u8])] = &[
            ("MP with five octets", &[2, 7, 1, 5, 0, 1, 0, 1, 0]),
            ("GR with three octets", &[2, 5, 64, 3, 0, 0, 0]),
            ("FQDN beyond its end", &[2, 4, 73, 2, 9, 0]),
        ];
        for (name, parameters) in tolerated {
            let open = with(parameters).unwrap();
            assert!(
                matches!(open.capabilities[..], [Capability::Unknown { .. }]),
                "{name}"
            );
        }
        assert_eq!(
            with(&[2, 6, 1, 4, 0, 2, 0xff, 1]).unwrap().capabilities,
            [Capability::family(Family::Ipv6Unicast)],
            "a reserved octet is ignored"
        );
        let mut version = Open::decode(&[3, 0, 1, 0, 90, 1, 1, 1, 1, 0]).unwrap_err();
        assert_eq!(
            (version.subcode, std::mem::take(&mut version.data)),
            (1, vec![0, 4])
        );
    }
}
