//! Prefixes on the wire.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use zettabgp::afi::{BgpAddrV4, BgpAddrV6, BgpAddrs, decode_bgpitems_from};

use crate::Family;

/// Reads a run of prefixes. Bits beyond a prefix's length are cleared (RFC 4271 §4.3: their value is irrelevant).
/// `None`: a length is out of range or reaches beyond the end.
pub(super) fn decode(family: Family, bytes: &[u8]) -> Option<Vec<IpNet>> {
    measure(family, bytes)?;
    Some(match family {
        Family::Ipv4Unicast => {
            let (items, _) = decode_bgpitems_from::<BgpAddrV4>(bytes).ok()?;
            let net = |item: BgpAddrV4| Ipv4Net::new(item.addr, item.prefixlen).ok();
            items
                .into_iter()
                .filter_map(net)
                .map(|net| net.trunc().into())
                .collect()
        }
        Family::Ipv6Unicast => {
            let (items, _) = decode_bgpitems_from::<BgpAddrV6>(bytes).ok()?;
            let net = |item: BgpAddrV6| Ipv6Net::new(item.addr, item.prefixlen).ok();
            items
                .into_iter()
                .filter_map(net)
                .map(|net| net.trunc().into())
                .collect()
        }
    })
}

/// The prefixes as zettabgp encodes them. All must be of one family; others are left out.
pub(super) fn items(family: Family, prefixes: &[IpNet]) -> BgpAddrs {
    match family {
        Family::Ipv4Unicast => BgpAddrs::IPV4U(
            prefixes
                .iter()
                .filter_map(|prefix| match prefix {
                    IpNet::V4(net) => Some(BgpAddrV4::new(net.network(), net.prefix_len())),
                    IpNet::V6(_) => None,
                })
                .collect(),
        ),
        Family::Ipv6Unicast => BgpAddrs::IPV6U(
            prefixes
                .iter()
                .filter_map(|prefix| match prefix {
                    IpNet::V6(net) => Some(BgpAddrV6::new(net.network(), net.prefix_len())),
                    IpNet::V4(_) => None,
                })
                .collect(),
        ),
    }
}

/// The octets of a prefix on the wire.
pub(super) fn encoded_len(prefix: &IpNet) -> usize {
    1 + usize::from(prefix.prefix_len()).div_ceil(8)
}

/// Walks the prefixes without reading them, so that the codec behind cannot leave the buffer.
fn measure(family: Family, mut bytes: &[u8]) -> Option<()> {
    while let Some((&len, rest)) = bytes.split_first() {
        if len > family.max_prefix_len() {
            return None;
        }
        bytes = rest.get(usize::from(len).div_ceil(8)..)?;
    }
    Some(())
}
