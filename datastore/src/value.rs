//! The small types of fields: what is written as a number or as text, and what is kept as written.
//!
//! Each one reads the JSON that Calico accepts and writes it back in Calico's own form.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    str::FromStr,
    time::Duration,
};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Why a text is not a value of the wanted type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ValueError(pub(crate) String);

/// A CIDR, or a bare address that stands for itself alone. Host bits are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    net: IpNet,
    bare: bool,
}

impl Cidr {
    /// The prefix, without host bits.
    pub fn net(&self) -> IpNet {
        self.net.trunc()
    }

    /// The address as written, with host bits.
    pub fn addr(&self) -> IpAddr {
        self.net.addr()
    }

    /// The length of the prefix.
    pub fn prefix_len(&self) -> u8 {
        self.net.prefix_len()
    }

    /// Whether it holds one address only.
    pub fn is_host(&self) -> bool {
        self.net.prefix_len() == self.net.max_prefix_len()
    }

    /// Whether it is of IPv4.
    pub fn is_v4(&self) -> bool {
        matches!(self.net, IpNet::V4(_))
    }
}

impl From<IpNet> for Cidr {
    fn from(net: IpNet) -> Self {
        Self { net, bare: false }
    }
}

impl From<IpAddr> for Cidr {
    fn from(addr: IpAddr) -> Self {
        Self {
            net: addr.into(),
            bare: true,
        }
    }
}

impl FromStr for Cidr {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if let Ok(net) = text.parse::<IpNet>() {
            Ok(net.into())
        } else if let Ok(addr) = text.parse::<IpAddr>() {
            Ok(addr.into())
        } else {
            Err(ValueError(format!("{text:?} is no CIDR")))
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.bare {
            self.net.addr().fmt(f)
        } else {
            self.net.fmt(f)
        }
    }
}

/// What a rule does with a packet it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Action {
    /// Let it through.
    Allow,
    /// Drop it.
    Deny,
    /// Note it and go on to the next rule.
    Log,
    /// Leave this tier for the next one.
    Pass,
}

/// The version of IP, written as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "there is nothing to add")]
pub enum IpVersion {
    V4,
    V6,
}

impl Serialize for IpVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(match self {
            IpVersion::V4 => 4,
            IpVersion::V6 => 6,
        })
    }
}

impl<'de> Deserialize<'de> for IpVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match i64::deserialize(deserializer)? {
            4 => Ok(IpVersion::V4),
            6 => Ok(IpVersion::V6),
            other => Err(de::Error::custom(format!("{other} is neither 4 nor 6"))),
        }
    }
}

/// An IP protocol. Text that is no known name is kept, for validation to refuse.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// By number.
    Number(u8),
    /// By name, in the case it was written.
    Name(String),
}

/// The names a rule may use, and their numbers.
const PROTOCOLS: [(&str, u8); 6] = [
    ("ICMP", 1),
    ("TCP", 6),
    ("UDP", 17),
    ("ICMPv6", 58),
    ("SCTP", 132),
    ("UDPLite", 136),
];

impl Protocol {
    /// A name in the spelling of the API, whatever its case; an unknown one as it is.
    pub fn from_name(name: &str) -> Self {
        let known = PROTOCOLS
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        Protocol::Name(known.map_or(name, |(known, _)| known).to_owned())
    }

    /// The protocol's number, unless its name is unknown.
    pub fn number(&self) -> Option<u8> {
        match self {
            Protocol::Number(number) => Some(*number),
            Protocol::Name(name) => PROTOCOLS
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, number)| *number),
        }
    }

    /// Whether its packets have ports that a rule can match.
    pub fn supports_ports(&self) -> bool {
        matches!(self.number(), Some(6 | 17 | 132))
    }
}

impl FromStr for Protocol {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        Ok(text
            .parse()
            .map_or_else(|_| Protocol::Name(text.to_owned()), Protocol::Number))
    }
}

impl TryFrom<u64> for Protocol {
    type Error = ValueError;

    fn try_from(number: u64) -> Result<Self, ValueError> {
        u8::try_from(number)
            .map(Protocol::Number)
            .map_err(|_| ValueError(format!("{number} is no protocol")))
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Protocol::Number(number) => number.fmt(f),
            Protocol::Name(name) => f.write_str(name),
        }
    }
}

/// Ports of a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Port {
    /// One port.
    Number(u16),
    /// A range of ports, both ends included, the first below the last.
    Range(u16, u16),
    /// The ports of this name at the endpoints in question.
    Name(String),
}

impl Port {
    /// A port's name, even if it looks like a number.
    pub fn named(name: &str) -> Result<Self, ValueError> {
        let fits = (1..=128).contains(&name.len())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
        if fits {
            Ok(Port::Name(name.to_owned()))
        } else {
            Err(ValueError(format!(
                "{name:?} is no port number, range or name"
            )))
        }
    }

    /// The numbers, unless it is a name.
    pub fn range(&self) -> Option<RangeInclusive<u16>> {
        match self {
            Port::Number(port) => Some(*port..=*port),
            Port::Range(first, last) => Some(*first..=*last),
            Port::Name(_) => None,
        }
    }
}

impl FromStr for Port {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let digits =
            |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let number = |part: &str| {
            part.parse::<u16>()
                .map_err(|_| ValueError(format!("{part} is no port, of which 65535 is the last")))
        };
        if digits(text) {
            return Ok(Port::Number(number(text)?));
        }
        if let Some((first, last)) = text.split_once(':')
            && digits(first)
            && digits(last)
        {
            return match (number(first)?, number(last)?) {
                (first, last) if first == last => Ok(Port::Number(first)),
                (first, last) if first < last => Ok(Port::Range(first, last)),
                _ => Err(ValueError(format!("{text} ends before it begins"))),
            };
        }
        Port::named(text)
    }
}

impl TryFrom<u64> for Port {
    type Error = ValueError;

    fn try_from(number: u64) -> Result<Self, ValueError> {
        u16::try_from(number)
            .map(Port::Number)
            .map_err(|_| ValueError(format!("{number} is no port, of which 65535 is the last")))
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Port::Number(port) => port.fmt(f),
            Port::Range(first, last) => write!(f, "{first}:{last}"),
            Port::Name(name) => f.write_str(name),
        }
    }
}

/// A BGP autonomous system's number; also read from dotted text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AsNumber(pub u32);

impl FromStr for AsNumber {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wrong = || ValueError(format!("{text:?} is no AS number"));
        if text
            .bytes()
            .any(|byte| !byte.is_ascii_digit() && byte != b'.')
        {
            return Err(wrong());
        }
        match text.split_once('.') {
            None => text.parse().map(AsNumber).map_err(|_| wrong()),
            Some((high, low)) => {
                let high: u16 = high.parse().map_err(|_| wrong())?;
                let low: u16 = low.parse().map_err(|_| wrong())?;
                Ok(AsNumber(u32::from(high) << 16 | u32::from(low)))
            }
        }
    }
}

impl TryFrom<u64> for AsNumber {
    type Error = ValueError;

    fn try_from(number: u64) -> Result<Self, ValueError> {
        u32::try_from(number)
            .map(AsNumber)
            .map_err(|_| ValueError(format!("{number} is no AS number")))
    }
}

impl fmt::Display for AsNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The mark in a packet's traffic class: a number or one of the RFC's names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dscp {
    /// By value.
    Number(u8),
    /// By name, in the RFCs' spelling if it is one of theirs.
    Name(String),
}

/// RFC 2474 §4.2.2, RFC 2597 §6, RFC 3246 §2.7, RFC 5865; `DF` is the default.
const DSCP_NAMES: [(&str, u8); 23] = [
    ("AF11", 10),
    ("AF12", 12),
    ("AF13", 14),
    ("AF21", 18),
    ("AF22", 20),
    ("AF23", 22),
    ("AF31", 26),
    ("AF32", 28),
    ("AF33", 30),
    ("AF41", 34),
    ("AF42", 36),
    ("AF43", 38),
    ("CS0", 0),
    ("CS1", 8),
    ("CS2", 16),
    ("CS3", 24),
    ("CS4", 32),
    ("CS5", 40),
    ("CS6", 48),
    ("CS7", 56),
    ("DF", 0),
    ("EF", 46),
    ("VA", 44),
];

impl Dscp {
    /// The six bits, unless the name is unknown or the number too large.
    pub fn value(&self) -> Option<u8> {
        match self {
            Dscp::Number(number) => Some(*number).filter(|number| *number < 64),
            Dscp::Name(name) => DSCP_NAMES
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, value)| *value),
        }
    }
}

impl FromStr for Dscp {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if let Ok(number) = text.parse() {
            return Ok(Dscp::Number(number));
        }
        let known = DSCP_NAMES
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(text));
        Ok(Dscp::Name(
            known.map_or(text, |(known, _)| known).to_owned(),
        ))
    }
}

impl TryFrom<u64> for Dscp {
    type Error = ValueError;

    fn try_from(number: u64) -> Result<Self, ValueError> {
        u8::try_from(number)
            .map(Dscp::Number)
            .map_err(|_| ValueError(format!("{number} is no DSCP")))
    }
}

impl fmt::Display for Dscp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dscp::Number(number) => number.fmt(f),
            Dscp::Name(name) => f.write_str(name),
        }
    }
}

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr(pub [u8; 6]);

impl FromStr for MacAddr {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let mut octets = [0; 6];
        let mut parts = text.split([':', '-']);
        for octet in &mut octets {
            *octet = parts
                .next()
                .filter(|part| part.len() == 2)
                .and_then(|part| u8::from_str_radix(part, 16).ok())
                .ok_or_else(|| ValueError(format!("{text:?} is no MAC address")))?;
        }
        if parts.next().is_some() {
            return Err(ValueError(format!("{text:?} is no MAC address")));
        }
        Ok(MacAddr(octets))
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, octet) in self.0.iter().enumerate() {
            let before = if index == 0 { "" } else { ":" };
            write!(f, "{before}{octet:02x}")?;
        }
        Ok(())
    }
}

/// A span of time as Go writes it, such as `3m20s`; the text is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoDuration {
    text: String,
    value: Duration,
}

impl GoDuration {
    /// The longest span that Go has: 292 years, which can be added to any time.
    pub const MAX: Duration = Duration::from_nanos(i64::MAX as u64);

    /// The span.
    pub fn value(&self) -> Duration {
        self.value
    }
}

impl FromStr for GoDuration {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wrong = || ValueError(format!("{text:?} is no duration such as 90s or 1m30s"));
        let mut seconds = 0.0;
        let mut rest = text.strip_prefix('+').unwrap_or(text);
        if rest.is_empty() {
            return Err(wrong());
        }
        while !rest.is_empty() && rest != "0" {
            let digits = rest
                .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
                .ok_or_else(wrong)?;
            let count: f64 = rest[..digits].parse().map_err(|_| wrong())?;
            rest = &rest[digits..];
            let unit = rest
                .find(|letter: char| letter.is_ascii_digit() || letter == '.')
                .unwrap_or(rest.len());
            seconds += count
                * match &rest[..unit] {
                    "h" => 3600.0,
                    "m" => 60.0,
                    "s" => 1.0,
                    "ms" => 1e-3,
                    "us" | "µs" | "μs" => 1e-6,
                    "ns" => 1e-9,
                    _ => return Err(wrong()),
                };
            rest = &rest[unit..];
        }
        Ok(Self {
            text: text.to_owned(),
            value: Duration::try_from_secs_f64(seconds)
                .ok()
                .filter(|value| *value <= Self::MAX)
                .ok_or_else(wrong)?,
        })
    }
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The address of a BGP peer, with its port if it is not the usual one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerAddress {
    /// The address.
    pub addr: IpAddr,
    /// The TCP port, when given.
    pub port: Option<u16>,
}

impl FromStr for PeerAddress {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if let Ok(addr) = text.parse() {
            return Ok(Self { addr, port: None });
        }
        match text.parse::<SocketAddr>() {
            Ok(socket) if socket.port() > 0 => Ok(Self {
                addr: socket.ip(),
                port: Some(socket.port()),
            }),
            _ => Err(ValueError(format!(
                "{text:?} is no address, nor an address with a port"
            ))),
        }
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.addr, port).fmt(f),
            None => self.addr.fmt(f),
        }
    }
}

/// A value that a community attribute carries: standard `aa:nn` or large `aa:nn:mm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Community {
    /// RFC 1997.
    Standard(u16, u16),
    /// RFC 8092.
    Large(u32, u32, u32),
}

impl FromStr for Community {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wrong = || ValueError(format!("{text:?} is no community, aa:nn or aa:nn:mm"));
        let parts: Vec<&str> = text.split(':').collect();
        if parts
            .iter()
            .any(|part| part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_digit()))
        {
            return Err(wrong());
        }
        match parts[..] {
            [a, b] => Ok(Community::Standard(
                a.parse().map_err(|_| wrong())?,
                b.parse().map_err(|_| wrong())?,
            )),
            [a, b, c] => Ok(Community::Large(
                a.parse().map_err(|_| wrong())?,
                b.parse().map_err(|_| wrong())?,
                c.parse().map_err(|_| wrong())?,
            )),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Community::Standard(a, b) => write!(f, "{a}:{b}"),
            Community::Large(a, b, c) => write!(f, "{a}:{b}:{c}"),
        }
    }
}

/// Text on both sides.
macro_rules! text_serde {
    ($($name:ty),*) => {$(
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
pub(crate) use text_serde;

/// A number or text when read; a number when written, if it is one.
macro_rules! number_or_text_serde {
    ($($name:ty: $number:pat => $as_number:expr),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self {
                    $number => serializer.serialize_u64(u64::from(*$as_number)),
                    #[allow(unreachable_patterns, reason = "some types are numbers always")]
                    _ => serializer.collect_str(self),
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl de::Visitor<'_> for Visitor {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a number or a string")
                    }

                    fn visit_u64<E: de::Error>(self, number: u64) -> Result<$name, E> {
                        number.try_into().map_err(E::custom)
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_any(Visitor)
            }
        }
    )*};
}

text_serde!(Cidr, Community, GoDuration, MacAddr, PeerAddress);
number_or_text_serde!(
    AsNumber: AsNumber(number) => number,
    Dscp: Dscp::Number(number) => number,
    Port: Port::Number(number) => number,
    Protocol: Protocol::Number(number) => number
);

/// An empty text is an absent field, as Go's writers leave it.
pub(crate) fn absent_if_empty<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: FromStr<Err: fmt::Display>,
    D: Deserializer<'de>,
{
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(de::Error::custom)
}

/// An address of IPv4, to be told apart from other text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub Ipv4Addr);

impl FromStr for ClusterId {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        text.parse()
            .map(ClusterId)
            .map_err(|_| ValueError(format!("{text:?} is not of the form of an IPv4 address")))
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

text_serde!(ClusterId);

/// An order of policies or tiers; a whole number is written without a fraction, as Go does.
#[expect(clippy::ref_option, reason = "serde hands the field over so")]
pub(crate) fn write_order<S: Serializer>(
    order: &Option<f64>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match order {
        None => serializer.serialize_none(),
        Some(order) if order.fract() == 0.0 && order.abs() < 1e15 => {
            serializer.serialize_i64(*order as i64)
        }
        Some(order) => serializer.serialize_f64(*order),
    }
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;
    use serde_json::Value;

    use super::*;

    #[test]
    fn numbers_and_texts_are_read_as_in_calico() {
        for case in vectors("parse") {
            let input = case["input"].as_str().unwrap();
            let read = match case["type"].as_str().unwrap() {
                "asNumber" => read::<AsNumber>(input, |number| number.0.into()),
                "dscp" => read::<Dscp>(input, |dscp| serde_json::to_value(dscp).unwrap()),
                "port" => read::<Port>(input, port_value),
                "protocol" => {
                    read::<Protocol>(input, |protocol| serde_json::to_value(protocol).unwrap())
                }
                other => panic!("{other}"),
            };
            assert_eq!(read.as_ref(), case.get("value"), "{case}");
        }
    }

    #[test]
    fn numbers_and_texts_are_written_as_in_calico() {
        for case in vectors("toJSON") {
            assert_eq!(of_case(&case).1, case["output"].as_str().unwrap(), "{case}");
        }
        for case in vectors("toString") {
            assert_eq!(of_case(&case).0, case["output"].as_str().unwrap(), "{case}");
        }
    }

    #[test]
    fn names_of_protocols_ports_and_marks_are_those_of_calico() {
        for case in vectors("supportsPorts") {
            let protocol: Protocol = serde_json::from_value(case["protocol"].clone()).unwrap();
            assert_eq!(
                protocol.supports_ports(),
                case["supportsPorts"] == true,
                "{case}"
            );
        }
        for case in vectors("protocolFromString") {
            let protocol = Protocol::from_name(case["input"].as_str().unwrap());
            assert_eq!(protocol.to_string(), case["value"].as_str().unwrap());
        }
        for case in vectors("namedPort") {
            let port = Port::named(case["input"].as_str().unwrap());
            assert_eq!(
                port.ok().map(port_value).as_ref(),
                case.get("value"),
                "{case}"
            );
        }
        for case in vectors("dscpFromString") {
            let dscp: Dscp = case["input"].as_str().unwrap().parse().unwrap();
            assert_eq!(dscp.to_string(), case["value"].as_str().unwrap());
        }
        for case in vectors("dscpValid") {
            let dscp: Dscp = serde_json::from_value(case["input"].clone()).unwrap();
            assert_eq!(dscp.value().is_some(), case["valid"] == true, "{case}");
        }
        // Left out: `protocolFromStringV1`, a form that is stored nowhere.
    }

    #[test]
    fn other_values_are_read_and_written() {
        for (text, written) in [
            ("10.0.0.1", "10.0.0.1"),
            ("10.0.0.1/24", "10.0.0.1/24"),
            ("fd00::1", "fd00::1"),
            ("fd00:0:0::/64", "fd00::/64"),
        ] {
            assert_eq!(text.parse::<Cidr>().unwrap().to_string(), written);
        }
        let cidr: Cidr = "10.0.0.1/24".parse().unwrap();
        assert_eq!(cidr.net().to_string(), "10.0.0.0/24");
        assert_eq!(cidr.addr().to_string(), "10.0.0.1");
        for text in [
            "",
            "10.0.0",
            "10.0.0.0/33",
            "10.0.0.0/",
            "fd00::/129",
            "fe80::1%eth0",
            "01.2.3.4",
        ] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
        for (text, seconds) in [
            ("120s", 120.0),
            ("3m20s", 200.0),
            ("1.5h", 5400.0),
            ("0", 0.0),
            ("100ms", 0.1),
        ] {
            let value = text.parse::<GoDuration>().unwrap().value();
            assert!((value.as_secs_f64() - seconds).abs() < 1e-9, "{text}");
        }
        for text in [
            "",
            "5",
            "s",
            "-1s",
            "1x",
            "1e400s",
            "99999999999999999999999h",
        ] {
            assert!(text.parse::<GoDuration>().is_err(), "{text}");
        }
        assert_eq!(
            "EE-ee:ee:EE:ee:01".parse::<MacAddr>().unwrap().to_string(),
            "ee:ee:ee:ee:ee:01"
        );
        for text in [
            "",
            "1:2:3:4:5:6",
            "ee:ee:ee:ee:ee",
            "ee:ee:ee:ee:ee:ee:ee",
            "eeg:ee:ee:ee:ee:ee",
        ] {
            assert!(text.parse::<MacAddr>().is_err(), "{text}");
        }
        for (text, port) in [
            ("10.0.0.1", None),
            ("10.0.0.1:1790", Some(1790)),
            ("[fd00::1]:179", Some(179)),
        ] {
            let peer: PeerAddress = text.parse().unwrap();
            assert_eq!((peer.port, peer.to_string().as_str()), (port, text));
        }
    }

    fn read<T: DeserializeOwned>(input: &str, value: impl Fn(T) -> Value) -> Option<Value> {
        serde_json::from_str(input).ok().map(value)
    }

    fn port_value(port: Port) -> Value {
        match port {
            Port::Name(name) => serde_json::json!({ "name": name }),
            Port::Number(port) => serde_json::json!({"min": port, "max": port}),
            Port::Range(first, last) => serde_json::json!({"min": first, "max": last}),
        }
    }

    /// The text and the JSON of a case's value.
    fn of_case(case: &Value) -> (String, String) {
        fn both<T: fmt::Display + Serialize>(value: &T) -> (String, String) {
            (value.to_string(), serde_json::to_string(value).unwrap())
        }
        let value = case["value"].clone();
        match case["type"].as_str().unwrap() {
            "asNumber" => both(&serde_json::from_value::<AsNumber>(value).unwrap()),
            "dscp" => both(&serde_json::from_value::<Dscp>(value).unwrap()),
            "protocol" => both(&serde_json::from_value::<Protocol>(value).unwrap()),
            "port" => match (value["name"].as_str(), &value["min"], &value["max"]) {
                (Some(name), ..) => both(&Port::named(name).unwrap()),
                (None, min, max) => both(&format!("{min}:{max}").parse::<Port>().unwrap()),
            },
            other => panic!("{other}"),
        }
    }

    fn vectors(list: &str) -> Vec<Value> {
        let text = include_str!("../tests/vectors/ports.json");
        let file: Value = serde_json::from_str(text).unwrap();
        file[list].as_array().unwrap().clone()
    }
}
