//! The types of settings: numbers with bounds, texts with a form, and sets of words.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, DeserializeOwned, IntoDeserializer as _},
};
use serde_json::{Map, Value};

use crate::{
    resource::ProgramClusterRoutes,
    selector::Selector,
    value::{Cidr, Dscp, GoDuration, Port, ValueError},
};

/// What is known of a field beside its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldInfo {
    /// Its name in the object.
    pub name: &'static str,
    /// What it sets.
    pub doc: &'static str,
    /// What holds without it, as Calico's documentation writes it; empty if nothing does.
    pub default: &'static str,
}

/// Defines a struct of optional settings that keeps fields it does not know, and `FIELDS`, which tells of each.
macro_rules! settings {
    (
        $(#[doc = $about:literal])+
        $name:ident {
            $(
                $(#[doc = $doc:literal])+
                $field:ident $key:literal : $ty:ty $(= $default:literal)?;
            )*
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        pub struct $name {
            $(
                $(#[doc = $doc])+
                $(#[doc = concat!("\n\nDefault: `", $default, "`.")])?
                #[serde(
                    rename = $key,
                    default,
                    skip_serializing_if = "Option::is_none",
                    deserialize_with = "crate::resource::felix::types::Setting::read"
                )]
                pub $field: Option<$ty>,
            )*
            /// Fields that are not read here.
            #[serde(flatten)]
            pub extra: serde_json::Map<String, serde_json::Value>,
        }

        impl $name {
            /// Every field.
            pub const FIELDS: &'static [$crate::resource::felix::types::FieldInfo] = &[$(
                $crate::resource::felix::types::FieldInfo {
                    name: $key,
                    doc: concat!($($doc),+),
                    default: concat!($($default)?),
                },
            )*];
        }

        impl $crate::resource::felix::types::Setting for $name {}
    };
}
pub(in crate::resource) use settings;

/// The type of a setting.
pub(in crate::resource) trait Setting: DeserializeOwned {
    /// Reads the field. Where a text is wanted, an empty one is an absent one.
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Self>, D::Error> {
        Self::deserialize(deserializer).map(Some)
    }
}

/// Settings that are no text.
macro_rules! plain {
    ($($name:ty),*) => { $(impl Setting for $name {})* };
}
plain!(
    bool,
    i64,
    u16,
    Dscp,
    Map<String, Value>,
    BTreeMap<String, String>,
    PortRange,
    NodePorts,
    RouteTableRange
);
impl<T: DeserializeOwned> Setting for Vec<T> {}
impl<const LOW: i64, const HIGH: i64> Setting for Within<LOW, HIGH> {}

/// Reads a field whose empty text means that it is absent.
pub(in crate::resource) fn unless_empty<'de, T: DeserializeOwned, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    T::deserialize(text.into_deserializer()).map(Some)
}

/// Settings that are text.
macro_rules! text {
    ($($name:ty),* $(,)?) => {$(
        impl $crate::resource::felix::types::Setting for $name {
            fn read<'de, D: serde::Deserializer<'de>>(
                deserializer: D,
            ) -> Result<Option<Self>, D::Error> {
                $crate::resource::felix::types::unless_empty(deserializer)
            }
        }
    )*};
}
pub(in crate::resource) use text;
text!(
    String,
    Cidr,
    GoDuration,
    Ipv4Addr,
    Ipv6Addr,
    ProgramClusterRoutes,
    Selector
);

impl<E: Word> Setting for AnyCase<E> {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Self>, D::Error> {
        unless_empty(deserializer)
    }
}

/// A whole number between two bounds, both of them included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Within<const LOW: i64, const HIGH: i64>(i64);

impl<const LOW: i64, const HIGH: i64> Within<LOW, HIGH> {
    /// The number.
    pub fn value(self) -> i64 {
        self.0
    }
}

impl<'de, const LOW: i64, const HIGH: i64> Deserialize<'de> for Within<LOW, HIGH> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = i64::deserialize(deserializer)?;
        if (LOW..=HIGH).contains(&number) {
            Ok(Self(number))
        } else {
            let reason = format!("{number} is not within {LOW} to {HIGH}");
            Err(de::Error::custom(reason))
        }
    }
}

/// A set of words.
pub trait Word: Copy + 'static {
    /// The words and what they mean.
    const WORDS: &'static [(&'static str, Self)];
}

/// A word in any case of letters; the spelling is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnyCase<E> {
    text: String,
    value: E,
}

impl<E: Word> AnyCase<E> {
    /// What the word means.
    pub fn value(&self) -> E {
        self.value
    }
}

impl<E: Word> FromStr for AnyCase<E> {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let known = E::WORDS
            .iter()
            .find(|(word, _)| word.eq_ignore_ascii_case(text));
        let (_, value) = known.ok_or_else(|| {
            let words: Vec<&str> = E::WORDS.iter().map(|(word, _)| *word).collect();
            ValueError(format!("{text:?} is none of {}", words.join(", ")))
        })?;
        Ok(Self {
            text: text.to_owned(),
            value: *value,
        })
    }
}

impl<E> Serialize for AnyCase<E> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de, E: Word> Deserialize<'de> for AnyCase<E> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// Defines sets of words.
macro_rules! words {
    ($($(#[doc = $about:literal])+ $name:ident { $($variant:ident $text:literal),* $(,)? })*) => {$(
        $(#[doc = $about])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[expect(missing_docs, reason = "the words say it")]
        pub enum $name { $(#[serde(rename = $text)] $variant),* }

        impl $crate::resource::felix::types::Word for $name {
            const WORDS: &'static [(&'static str, Self)] = &[$(($text, Self::$variant)),*];
        }

        $crate::resource::felix::types::text!($name);
    )*};
}
pub(in crate::resource) use words;

words! {
    /// On or off.
    Toggle { Enabled "Enabled", Disabled "Disabled" }
    /// How severe a message is.
    LogSeverity { Trace "Trace", Debug "Debug", Info "Info", Warning "Warning", Error "Error", Fatal "Fatal" }
    /// What certificate is asked of a client.
    ClientAuth {
        RequireAndVerify "RequireAndVerifyClientCert", RequireAny "RequireAnyClientCert",
        VerifyIfGiven "VerifyClientCertIfGiven", None "NoClientCert",
    }
    /// Where rules are put among others.
    ChainInsertMode { Insert "Insert", Append "Append" }
    /// What becomes of packets to the host.
    EndpointToHostAction { Drop "Drop", Accept "Accept", Return "Return" }
    /// How allowed packets leave a table.
    AllowAction { Accept "Accept", Return "Return" }
    /// What becomes of denied packets.
    DenyAction { Drop "Drop", Reject "Reject" }
    /// Which addresses are answered for.
    L2Reachability { Disabled "Disabled", PodsAndLoadBalancers "PodsAndLoadBalancers" }
    /// Which destinations are not translated for.
    NatExclusions { IpPoolsOnly "IPPoolsOnly", IpPoolsAndHostIps "IPPoolsAndHostIPs" }
    /// Which connections are offloaded.
    FlowTableOffload { All "All", Disabled "Disabled" }
    /// Whether nftables is used.
    NftablesMode { Disabled "Disabled", Enabled "Enabled", Auto "Auto" }
    /// Which iptables is used.
    IptablesBackend { Legacy "Legacy", Nft "NFT", Auto "Auto" }
    /// What routes are made from.
    RouteSource { WorkloadIps "WorkloadIPs", CalicoIpam "CalicoIPAM" }
    /// What becomes of packets to unused addresses of services.
    ServiceLoopPrevention { Drop "Drop", Reject "Reject", Disabled "Disabled" }
    /// From which addresses a workload may send.
    SourceSpoofing { Disabled "Disabled", Any "Any" }
    /// How programs are attached.
    AttachType { Tc "TC", Tcx "TCX", Netkit "Netkit" }
    /// For which services a backend is chosen at connect time.
    ConnectTimeLoadBalancing { Tcp "TCP", Enabled "Enabled", Disabled "Disabled" }
    /// What the cleaner of connections logs.
    ConntrackLog { Off "Off", Debug "Debug" }
    /// Who cleans connections up.
    ConntrackCleaner { Auto "Auto", Userspace "Userspace", BpfProgram "BPFProgram" }
    /// How strict the check of the reverse path is.
    ReversePath { Disabled "Disabled", Strict "Strict", Loose "Loose" }
    /// How clients outside are answered.
    ExternalServiceMode { Tunnel "Tunnel", Dsr "DSR" }
    /// Whether hardening of compiled programs is kept.
    JitHardening { Auto "Auto", Strict "Strict" }
    /// What programs log.
    BpfLog { Off "Off", Info "Info", Debug "Debug" }
    /// What happens when the table of connections is full.
    ConntrackScaling { Disabled "Disabled", DoubleIfFull "DoubleIfFull" }
    /// The host's address towards overlays.
    OverlaySource { TunnelAddress "TunnelAddress", HostAddress "HostAddress" }
    /// When flows are judged again.
    FlowEvaluation { None "None", Continuous "Continuous" }
    /// What to do about Amazon's check.
    SrcDstCheck { DoNothing "DoNothing", Enable "Enable", Disable "Disable" }
}

/// Defines texts of a certain form, kept as written.
macro_rules! forms {
    ($($(#[doc = $about:literal])+ $name:ident is $what:literal if $holds:expr;)*) => {$(
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::value::ValueError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let holds: fn(&str) -> bool = $holds;
                if holds(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err($crate::value::ValueError(format!("{text:?} is no {}", $what)))
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?
                    .parse()
                    .map_err(serde::de::Error::custom)
            }
        }

        $crate::resource::felix::types::text!($name);
    )*};
}

pub(in crate::resource) use forms;

forms! {
    /// `feature=true,other=false`; an empty value leaves it to what is found.
    FeatureOverrides is "list such as feature=true,other=false" if
        |text| pairs(text).all(|(name, value)| is_feature(name) && ["true", "false", ""].contains(&value));
    /// `gate=value,other=value`.
    FeatureGates is "list such as gate=value,other=value" if
        |text| pairs(text).all(|(name, value)| is_feature(name) && !value.is_empty() && !value.contains('='));
    /// `10/second`: up to four digits, and a second, minute, hour or day.
    RateLimit is "rate such as 10/second" if |text| {
        text.split_once('/').is_some_and(|(count, unit)| {
            let count = count.as_bytes();
            (1..=4).contains(&count.len())
                && count.iter().all(u8::is_ascii_digit)
                && count[0] != b'0'
                && ["second", "minute", "hour", "day"].contains(&unit)
        })
    };
    /// What logged packets begin with.
    LogPrefix is "prefix of letters, digits, blanks and %:/_-" if
        |text| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"%: /_-".contains(&byte));
    /// A regular expression.
    Regex is "regular expression" if |text| regex_lite::Regex::new(text).is_ok();
    /// An address, or a host's name.
    HostName is "address or host name" if |text| text.parse::<IpAddr>().is_ok() || is_host_name(text);
    /// The name of an interface; `+` stands for any ending.
    InterfaceName is "name of an interface" if |text| {
        (1..=15).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":._+-".contains(&byte))
    };
    /// The name of a region of OpenStack: with its prefix it must fit into the label of a namespace.
    Region is "label of 46 lower-case letters, digits and dashes at most" if |text| text.len() <= 46 && is_dns_label(text);
    /// What in the daemon may be silent for some time.
    ComponentName is "name of letters, digits, - and _" if |text| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
    };
}

/// A span of time, or `Auto` for what the kernel's own connection tracking has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConntrackTimeout {
    /// What the kernel's own connection tracking has.
    Auto,
    /// So long.
    After(GoDuration),
}

impl Serialize for ConntrackTimeout {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("Auto"),
            Self::After(time) => time.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for ConntrackTimeout {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "Auto" {
            return Ok(Self::Auto);
        }
        text.parse().map(Self::After).map_err(de::Error::custom)
    }
}

text!(ConntrackTimeout);

/// A port or a range of ports, by number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PortRange(Port);

impl PortRange {
    /// The ports.
    pub fn ports(&self) -> std::ops::RangeInclusive<u16> {
        // Its maker lets no name in.
        self.0.range().unwrap_or(0..=0)
    }
}

impl<'de> Deserialize<'de> for PortRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Port::deserialize(deserializer)? {
            Port::Name(name) => Err(de::Error::custom(format!(
                "{name:?} is no port and no range of ports"
            ))),
            port @ (Port::Number(_) | Port::Range(..)) => Ok(Self(port)),
        }
    }
}

/// At most seven ranges of ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodePorts(Vec<PortRange>);

impl NodePorts {
    /// The ranges.
    pub fn ranges(&self) -> &[PortRange] {
        &self.0
    }
}

impl<'de> Deserialize<'de> for NodePorts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let ranges = Vec::deserialize(deserializer)?;
        if ranges.len() > MAX_NODE_PORT_RANGES {
            return Err(de::Error::custom(format!(
                "has {} items, more than {MAX_NODE_PORT_RANGES}",
                ranges.len()
            )));
        }
        Ok(Self(ranges))
    }
}

/// A port of the host, perhaps towards certain addresses only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProtoPort {
    /// The protocol; absent means TCP.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "Setting::read"
    )]
    pub protocol: Option<AnyCase<PortProtocol>>,
    /// The port.
    pub port: u16,
    /// The addresses at the other end; absent means any.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "Setting::read"
    )]
    pub net: Option<Cidr>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

words! {
    /// A protocol with ports.
    PortProtocol { Tcp "TCP", Udp "UDP", Sctp "SCTP" }
}

/// How long a part of the daemon may be silent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthTimeout {
    /// The part.
    pub name: ComponentName,
    /// How long.
    pub timeout: GoDuration,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Routing tables, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "TableRange")]
pub struct RouteTableRange {
    /// The first.
    pub min: u32,
    /// The last, 250 at most.
    pub max: u32,
}

/// Routing tables, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "TableRange")]
pub struct RouteTableIdRange {
    /// The first.
    pub min: u32,
    /// The last; there are 65535 of them at most, from the first to the last.
    pub max: u32,
}

/// A range as it is written.
#[derive(Deserialize)]
struct TableRange {
    min: u32,
    max: u32,
}

impl TryFrom<TableRange> for RouteTableRange {
    type Error = ValueError;

    fn try_from(TableRange { min, max }: TableRange) -> Result<Self, ValueError> {
        if min < 1 || max < min || max > 250 {
            let reason = format!("{min} to {max} is no range of route table indices within 1..250");
            return Err(ValueError(reason));
        }
        Ok(Self { min, max })
    }
}

impl TryFrom<TableRange> for RouteTableIdRange {
    type Error = ValueError;

    fn try_from(TableRange { min, max }: TableRange) -> Result<Self, ValueError> {
        if min < 1 || max < min || max - min >= MAX_TABLES {
            let reason =
                format!("{min} to {max} is no range of at most {MAX_TABLES} route table indices");
            return Err(ValueError(reason));
        }
        Ok(Self { min, max })
    }
}

/// The items of a list of pairs; one without `=` has no name.
fn pairs(text: &str) -> impl Iterator<Item = (&str, &str)> {
    // A comma may end the list.
    let list = text.strip_suffix(',').unwrap_or(text);
    list.split(',')
        .filter(move |_| !list.is_empty())
        .map(|item| item.split_once('=').unwrap_or(("", item)))
}

fn is_feature(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

fn is_dns_label(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=63).contains(&text.len())
        && text.bytes().all(|byte| fits(byte) || byte == b'-')
        && text.bytes().next().is_some_and(fits)
        && text.bytes().last().is_some_and(fits)
}

fn is_host_name(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text
            .split('.')
            .all(|label| is_dns_label(&label.to_ascii_lowercase()))
}

/// `maxItems` of the field in Calico's schema.
const MAX_NODE_PORT_RANGES: usize = 7;
/// What Calico's validation allows of the 2^32 tables there are.
const MAX_TABLES: u32 = 65_535;
