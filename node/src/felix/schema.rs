//! What values a parameter may have, and how they are written in variables and in `felix.cfg`.
//!
//! Fields of FelixConfiguration are brought to the same texts first, as Calico does, so that there is one reader.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use cleat_datastore::value::{Cidr, Dscp, GoDuration, Port};
use serde_json::Value as Json;

/// What values a parameter may have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Schema {
    /// `true`, `1`, `yes`, `y`, `t`, or their opposites.
    Bool,
    /// Addresses and nets, separated by commas.
    Cidrs,
    /// A mark of a packet's traffic class.
    Dscp,
    /// Seconds, or a duration such as `1m30s`.
    Duration,
    /// URLs of a scheme, a host and a port, separated by commas.
    Endpoints,
    /// Names of interfaces and expressions between slashes, separated by commas.
    Exclusions,
    /// A path.
    File,
    /// An address, or a host's name.
    Host,
    /// A whole number within bounds; also hexadecimal.
    Int(i64, i64),
    /// Names of interfaces, `+` for any ending, separated by commas.
    Interfaces,
    /// An address of IPv4.
    Ipv4,
    /// An address of IPv6.
    Ipv6,
    /// Text that an expression matches.
    Like(&'static str),
    /// 32 bits with at least so many set.
    Mark(u32),
    /// Milliseconds, or a duration.
    Millis,
    /// One of some words, in any case of letters.
    OneOf(&'static [&'static str]),
    /// `key=value`, separated by commas.
    Pairs,
    /// A port, or a range `first:last`.
    PortRange,
    /// Ports and ranges, separated by commas.
    PortRanges,
    /// What names of interfaces begin with, separated by commas.
    Prefixes,
    /// `protocol:port` or `protocol:net:port`, separated by commas.
    ProtoPorts,
    /// A regular expression.
    Regex,
    /// A region of OpenStack.
    Region,
    /// Routing tables `first-last`, up to 250.
    TableRange,
    /// Routing tables `first-last`, separated by commas.
    TableRanges,
    /// Any text.
    Text,
    /// `state=duration` or `state=Auto`, separated by commas.
    Timeouts,
}

/// A value of a parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing.
    Unset,
    /// A truth.
    Bool(bool),
    /// A number.
    Int(i64),
    /// A span of time.
    Duration(Duration),
    /// A text in its usual spelling.
    Text(String),
    /// Texts in their usual spelling.
    List(Vec<String>),
    /// Texts by name.
    Pairs(BTreeMap<String, String>),
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unset => Ok(()),
            Self::Bool(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
            Self::Duration(value) => write!(f, "{}s", value.as_secs_f64()),
            Self::Text(value) => f.write_str(value),
            Self::List(values) => f.write_str(&values.join(",")),
            Self::Pairs(pairs) => {
                let pairs: Vec<String> = pairs.iter().map(|(k, v)| format!("{k}={v}")).collect();
                f.write_str(&pairs.join(","))
            }
        }
    }
}

impl Schema {
    /// Reads a value. `none` in any case of letters stands for no value, and so does an empty text.
    ///
    /// # Errors
    ///
    /// Says what the text is not.
    pub fn parse(self, text: &str) -> Result<Value, String> {
        let text = text.trim();
        if text.is_empty() || (text.eq_ignore_ascii_case("none") && !self.has_none()) {
            let is_list = matches!(
                self,
                Self::ProtoPorts | Self::Cidrs | Self::Interfaces | Self::PortRanges
            );
            return Ok(if is_list {
                Value::List(Vec::new())
            } else {
                Value::Unset
            });
        }
        self.read(text)
            .ok_or_else(|| format!("{text:?} is no {}", self.what()))
    }

    /// `None` is a word of its own.
    fn has_none(self) -> bool {
        matches!(self, Self::OneOf(words) if words.iter().any(|word| word.eq_ignore_ascii_case("none")))
    }

    fn read(self, text: &str) -> Option<Value> {
        let kept = || Value::Text(text.to_owned());
        let parsed = |fits: bool| fits.then(kept);
        let list = |item: &dyn Fn(&str) -> Option<String>| {
            let items = text
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty());
            items.map(item).collect::<Option<Vec<_>>>().map(Value::List)
        };
        match self {
            Self::Bool => bool_of(text).map(Value::Bool),
            Self::Cidrs => list(&|item| Some(item.parse::<Cidr>().ok()?.to_string())),
            Self::Dscp => text.parse::<Dscp>().ok()?.value().map(|_| kept()),
            Self::Duration => duration_of(text, 1.0).map(Value::Duration),
            Self::Millis => duration_of(text, 1e-3).map(Value::Duration),
            Self::Endpoints => list(&|item| is_endpoint(item).then(|| item.to_owned())),
            Self::Exclusions => list(&|item| {
                let expression = item
                    .strip_prefix('/')
                    .and_then(|rest| rest.strip_suffix('/'));
                let fits = match expression {
                    Some(expression) => regex_lite::Regex::new(expression).is_ok(),
                    None => is_interface(item),
                };
                fits.then(|| item.to_owned())
            }),
            Self::File | Self::Text => Some(kept()),
            Self::Host => parsed(text.parse::<IpAddr>().is_ok() || is_host_name(text)),
            Self::Int(low, high) => {
                let number = int_of(text)?;
                (low..=high).contains(&number).then_some(Value::Int(number))
            }
            Self::Interfaces => list(&|item| is_interface(item).then(|| item.to_owned())),
            Self::Ipv4 => parsed(text.parse::<Ipv4Addr>().is_ok()),
            Self::Ipv6 => parsed(text.parse::<Ipv6Addr>().is_ok()),
            Self::Like(expression) => {
                parsed(regex_lite::Regex::new(expression).ok()?.is_match(text))
            }
            Self::Mark(bits) => {
                let mark = u32::try_from(int_of(text)?).ok()?;
                (mark.count_ones() >= bits).then_some(Value::Int(mark.into()))
            }
            Self::OneOf(words) => {
                let word = words.iter().find(|word| word.eq_ignore_ascii_case(text))?;
                Some(Value::Text((*word).to_owned()))
            }
            Self::Pairs => pairs_of(text).map(Value::Pairs),
            Self::PortRange => port_range(text).map(Value::Text),
            Self::PortRanges => list(&port_range),
            Self::Prefixes => list(&|item| is_interface(item).then(|| item.to_owned())),
            Self::ProtoPorts => list(&proto_port),
            Self::Regex => parsed(regex_lite::Regex::new(text).is_ok()),
            Self::Region => parsed(text.len() <= REGION && is_dns_label(text)),
            Self::TableRange => table_range(text, 250).map(Value::Text),
            Self::TableRanges => list(&|item| table_range(item, u32::MAX)),
            Self::Timeouts => {
                let pairs = pairs_of(text)?;
                let fits = pairs
                    .values()
                    .all(|time| time == "Auto" || time.parse::<GoDuration>().is_ok());
                fits.then_some(Value::Pairs(pairs))
            }
        }
    }

    fn what(self) -> String {
        match self {
            Self::Bool => "truth such as true or false".to_owned(),
            Self::Cidrs => "list of addresses and nets".to_owned(),
            Self::Dscp => "DSCP".to_owned(),
            Self::Duration => "number of seconds, and no duration such as 1m30s".to_owned(),
            Self::Millis => "number of milliseconds, and no duration such as 50ms".to_owned(),
            Self::Endpoints => "list of URLs such as http://host:port".to_owned(),
            Self::Exclusions => "list of interfaces and /expressions/".to_owned(),
            Self::File | Self::Text => "text".to_owned(),
            Self::Host => "address or host name".to_owned(),
            Self::Int(LEAST, MOST) => "whole number".to_owned(),
            Self::Int(low, MOST) => format!("whole number of {low} or more"),
            Self::Int(low, high) => format!("whole number from {low} to {high}"),
            Self::Interfaces => "list of interfaces".to_owned(),
            Self::Ipv4 => "IPv4 address".to_owned(),
            Self::Ipv6 => "IPv6 address".to_owned(),
            Self::Like(expression) => format!("text that {expression} matches"),
            Self::Mark(bits) => format!("32-bit mark with at least {bits} bits set"),
            Self::OneOf(words) => words.join(", nor "),
            Self::Pairs => "list such as key=value,other=value".to_owned(),
            Self::PortRange => "port or range such as 1024:2048".to_owned(),
            Self::PortRanges => "list of ports and ranges".to_owned(),
            Self::Prefixes => "list of beginnings of interfaces' names".to_owned(),
            Self::ProtoPorts => "list of ports such as tcp:22 or udp:10.0.0.0/8:53".to_owned(),
            Self::Regex => "regular expression".to_owned(),
            Self::Region => {
                format!("label of {REGION} lower-case letters, digits and dashes at most")
            }
            Self::TableRange => "range of routing tables such as 1-250".to_owned(),
            Self::TableRanges => "list of ranges of routing tables such as 1-250".to_owned(),
            Self::Timeouts => "list such as UDPTimeout=60s,TCPFinsSeen=Auto".to_owned(),
        }
    }
}

/// The text of a field's value as a variable would have it.
pub(super) fn text_of(value: &Json) -> String {
    let joined = |items: Vec<String>| {
        if items.is_empty() {
            // An empty list is a choice: nothing, and not the default.
            "none".to_owned()
        } else {
            items.join(",")
        }
    };
    match value {
        Json::Null => String::new(),
        Json::Bool(value) => value.to_string(),
        Json::Number(value) => value.to_string(),
        Json::String(value) => value.clone(),
        Json::Array(items) => joined(items.iter().map(item_text).collect()),
        Json::Object(map) if map.contains_key("min") => item_text(value),
        Json::Object(map) => joined(
            map.iter()
                .map(|(key, value)| format!("{key}={}", item_text(value)))
                .collect(),
        ),
    }
}

/// The text of an item of a list: a port, a range of tables, a timeout, or what is text anyway.
fn item_text(value: &Json) -> String {
    let part = |name: &str| {
        value.get(name).map(|part| match part {
            Json::String(text) => text.clone(),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::Array(_) | Json::Object(_) => {
                part.to_string()
            }
        })
    };
    if let Some(port) = part("port") {
        let protocol = part("protocol")
            .unwrap_or_else(|| "TCP".to_owned())
            .to_lowercase();
        return match part("net") {
            Some(net) if net.contains(':') => format!("{protocol}:[{net}]:{port}"),
            Some(net) if !net.is_empty() => format!("{protocol}:{net}:{port}"),
            _ => format!("{protocol}:{port}"),
        };
    }
    match (part("min"), part("max"), part("name"), part("timeout")) {
        (Some(min), Some(max), ..) => format!("{min}-{max}"),
        (_, _, Some(name), Some(timeout)) => format!("{name}={timeout}"),
        _ => text_of(value),
    }
}

fn bool_of(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "y" | "t" => Some(true),
        "false" | "0" | "no" | "n" | "f" => Some(false),
        _ => None,
    }
}

/// A number, by `0x` in hexadecimal.
fn int_of(text: &str) -> Option<i64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => i64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// A bare number counts `unit` seconds.
fn duration_of(text: &str, unit: f64) -> Option<Duration> {
    match text.parse::<f64>() {
        Ok(count) => Duration::try_from_secs_f64(count * unit)
            .ok()
            .filter(|time| *time <= GoDuration::MAX),
        Err(_) => text.parse::<GoDuration>().ok().map(|time| time.value()),
    }
}

fn pairs_of(text: &str) -> Option<BTreeMap<String, String>> {
    let items = text
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty());
    items
        .map(|item| {
            let (key, value) = item.split_once('=')?;
            (!key.is_empty()).then(|| (key.trim().to_owned(), value.trim().to_owned()))
        })
        .collect()
}

fn port_range(text: &str) -> Option<String> {
    match text.parse().ok()? {
        Port::Name(_) => None,
        port @ (Port::Number(_) | Port::Range(..)) => Some(port.to_string()),
    }
}

/// A port with its protocol, TCP without one, and perhaps a net; a net of IPv6 stands in brackets.
fn proto_port(text: &str) -> Option<String> {
    let (head, port) = text.rsplit_once(':').unwrap_or(("tcp", text));
    let (protocol, net) = match head.split_once(':') {
        Some((protocol, net)) => (protocol, Some(net)),
        None => (head, None),
    };
    let protocol = protocol.to_ascii_lowercase();
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return None;
    }
    let port: u16 = port.parse().ok()?;
    let Some(net) = net else {
        return Some(format!("{protocol}:{port}"));
    };
    let bare = net.strip_prefix('[').and_then(|net| net.strip_suffix(']'));
    let cidr: Cidr = bare.unwrap_or(net).parse().ok()?;
    (cidr.is_v4() == bare.is_none()).then(|| format!("{protocol}:{net}:{port}"))
}

fn table_range(text: &str, last: u32) -> Option<String> {
    let (min, max) = text.split_once('-')?;
    let (min, max): (u32, u32) = (min.parse().ok()?, max.parse().ok()?);
    (min >= 1 && min <= max && max <= last && max - min < TABLES).then(|| format!("{min}-{max}"))
}

fn is_endpoint(text: &str) -> bool {
    let rest = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"));
    rest.is_some_and(|rest| {
        let host = rest.strip_suffix('/').unwrap_or(rest);
        !host.is_empty() && !host.contains(['/', '@', '?', '#', ' '])
    })
}

fn is_interface(text: &str) -> bool {
    (1..=15).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b":._+-".contains(&byte))
}

fn is_dns_label(text: &str) -> bool {
    let edge = |byte: Option<u8>| {
        byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    text.len() <= 63
        && text.bytes().all(|byte| edge(Some(byte)) || byte == b'-')
        && edge(text.bytes().next())
        && edge(text.bytes().last())
}

fn is_host_name(text: &str) -> bool {
    text.len() <= 253
        && text
            .split('.')
            .all(|label| is_dns_label(&label.to_ascii_lowercase()))
}

/// No lower bound.
pub(super) const LEAST: i64 = i64::MIN;
/// No upper bound.
pub(super) const MOST: i64 = i64::MAX;
/// With its prefix, a region is the label of a namespace.
const REGION: usize = 46;
/// The most routing tables that Felix takes at once.
const TABLES: u32 = 65_535;
