//! Arithmetic on addresses, alike for both families: a place in a net is a number.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::value::IpVersion;

/// The version of a net's addresses.
pub fn version(net: IpNet) -> IpVersion {
    match net {
        IpNet::V4(_) => IpVersion::V4,
        IpNet::V6(_) => IpVersion::V6,
    }
}

/// The version of an address.
pub fn address_version(address: IpAddr) -> IpVersion {
    version(address.into())
}

/// The net of this length around an address; `None` if there is no such length.
pub fn net_around(address: IpAddr, len: u8) -> Option<IpNet> {
    IpNet::new(address, len).ok().map(|net| net.trunc())
}

/// The address at a place in a net, counted from its first; `None` past its end.
pub fn address_at(net: IpNet, place: u128) -> Option<IpAddr> {
    if place > last_place(net) {
        return None;
    }
    Some(match net.network() {
        IpAddr::V4(first) => IpAddr::V4((u32::from(first) | place as u32).into()),
        IpAddr::V6(first) => IpAddr::V6((u128::from(first) | place).into()),
    })
}

/// The place of an address in a net that holds it.
pub fn place_of(net: IpNet, address: IpAddr) -> Option<u128> {
    net.contains(&address).then(|| match address {
        IpAddr::V4(address) => u128::from(u32::from(address)) & last_place(net),
        IpAddr::V6(address) => u128::from(address) & last_place(net),
    })
}

/// The nets of one length within a net, by number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subnets {
    net: IpNet,
    len: u8,
}

impl Subnets {
    /// `None` if nets of this length do not fit into the net.
    pub(super) fn new(net: IpNet, len: u8) -> Option<Self> {
        let net = net.trunc();
        (net.prefix_len()..=net.max_prefix_len())
            .contains(&len)
            .then_some(Self { net, len })
    }

    /// The number of the last one.
    pub(super) fn last(&self) -> u128 {
        match self.len - self.net.prefix_len() {
            0 => 0,
            bits => u128::MAX >> (128 - u32::from(bits)),
        }
    }

    /// The one of this number.
    pub(super) fn at(&self, number: u128) -> Option<IpNet> {
        if number > self.last() {
            return None;
        }
        let host_bits = u32::from(self.net.max_prefix_len() - self.len);
        // A shift by all bits is only asked for of number zero.
        let place = number.checked_shl(host_bits).unwrap_or(0);
        IpNet::new(address_at(self.net, place)?, self.len).ok()
    }

    /// The number of the one that holds this address.
    pub(super) fn number_of(&self, address: IpAddr) -> Option<u128> {
        let host_bits = u32::from(self.net.max_prefix_len() - self.len);
        Some(
            place_of(self.net, address)?
                .checked_shr(host_bits)
                .unwrap_or(0),
        )
    }
}

/// The place of a net's last address.
fn last_place(net: IpNet) -> u128 {
    match net.max_prefix_len() - net.prefix_len() {
        0 => 0,
        bits => u128::MAX >> (128 - u32::from(bits)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_and_its_address_are_two_names_of_one_thing() {
        for (net, place, address) in [
            ("10.0.0.64/26", 0, "10.0.0.64"),
            ("10.0.0.64/26", 63, "10.0.0.127"),
            ("0.0.0.0/0", u128::from(u32::MAX), "255.255.255.255"),
            ("10.0.0.1/32", 0, "10.0.0.1"),
            ("fd00::/122", 63, "fd00::3f"),
            ("::/0", u128::MAX, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("fd00::1/128", 0, "fd00::1"),
        ] {
            let (net, address): (IpNet, IpAddr) = (net.parse().unwrap(), address.parse().unwrap());
            assert_eq!(address_at(net, place), Some(address), "{net}");
            assert_eq!(place_of(net, address), Some(place), "{net}");
        }
        assert_eq!(address_at("10.0.0.64/26".parse().unwrap(), 64), None);
        assert_eq!(
            place_of("fd00::/122".parse().unwrap(), "10.0.0.1".parse().unwrap()),
            None
        );
    }

    #[test]
    fn subnets_are_counted_from_the_first() {
        for (net, len, number, subnet) in [
            ("10.0.0.0/16", 26, 1023, "10.0.255.192/26"),
            ("10.0.0.0/26", 26, 0, "10.0.0.0/26"),
            ("10.0.0.0/30", 32, 3, "10.0.0.3/32"),
            ("fd00::/48", 122, 1 << 70, "fd00:0:0:1000::/122"),
            ("::/0", 0, 0, "::/0"),
        ] {
            let subnets = Subnets::new(net.parse().unwrap(), len).unwrap();
            let subnet: IpNet = subnet.parse().unwrap();
            assert_eq!(subnets.at(number), Some(subnet), "{net}");
            assert_eq!(subnets.number_of(subnet.addr()), Some(number), "{net}");
        }
        let blocks = Subnets::new("10.0.0.0/16".parse().unwrap(), 26).unwrap();
        assert_eq!((blocks.last(), blocks.at(1024)), (1023, None));
        assert!(Subnets::new("10.0.0.0/28".parse().unwrap(), 26).is_none());
    }
}
