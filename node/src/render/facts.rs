//! Facts by prefix as one table over the four maps that hold them.

use std::cmp::{Ordering, Reverse};

use cleat_bpf::family::{V4, V6};
use cleat_bpf::maps::{Facts, NetKey};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::reconcile::Table;

/// A prefix. Longer ones sort first: while a prefix and one inside it change together, an address of the inner one is never
/// answered by the outer one's new entry before its own is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FactsKey(pub IpNet);

impl Ord for FactsKey {
    fn cmp(&self, other: &Self) -> Ordering {
        let rank = |key: &Self| (Reverse(key.0.prefix_len()), key.0);
        rank(self).cmp(&rank(other))
    }
}

impl PartialOrd for FactsKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The four maps: addresses in hashes, prefixes in tries.
pub struct FactsTables<A4, P4, A6, P6> {
    /// IPv4 addresses.
    pub facts4: A4,
    /// IPv4 prefixes.
    pub nets4: P4,
    /// IPv6 addresses.
    pub facts6: A6,
    /// IPv6 prefixes.
    pub nets6: P6,
}

/// A prefix as a key of the map that holds it.
enum Home {
    Facts4([u8; 4]),
    Nets4(NetKey<V4>),
    Facts6([u8; 16]),
    Nets6(NetKey<V6>),
}

impl Home {
    fn of(net: IpNet) -> Self {
        let len = u32::from(net.prefix_len());
        match net {
            IpNet::V4(net) if len == 32 => Self::Facts4(net.addr().octets()),
            IpNet::V4(net) => Self::Nets4(NetKey::new(net.network().octets(), len)),
            IpNet::V6(net) if len == 128 => Self::Facts6(net.addr().octets()),
            IpNet::V6(net) => Self::Nets6(NetKey::new(net.network().octets(), len)),
        }
    }
}

impl<A4, P4, A6, P6> Table<FactsKey, Facts> for FactsTables<A4, P4, A6, P6>
where
    A4: Table<[u8; 4], Facts>,
    P4: Table<NetKey<V4>, Facts>,
    A6: Table<[u8; 16], Facts>,
    P6: Table<NetKey<V6>, Facts>,
{
    type Error = String;

    fn dump(&mut self) -> Result<Vec<(FactsKey, Facts)>, String> {
        let mut all = Vec::new();
        for (address, facts) in self.facts4.dump().map_err(text)? {
            all.push((
                FactsKey(Ipv4Net::from(std::net::Ipv4Addr::from(address)).into()),
                facts,
            ));
        }
        for (key, facts) in self.nets4.dump().map_err(text)? {
            let net = Ipv4Net::new(key.addr.into(), key.prefix_len.get() as u8).map_err(text)?;
            all.push((FactsKey(net.into()), facts));
        }
        for (address, facts) in self.facts6.dump().map_err(text)? {
            all.push((
                FactsKey(Ipv6Net::from(std::net::Ipv6Addr::from(address)).into()),
                facts,
            ));
        }
        for (key, facts) in self.nets6.dump().map_err(text)? {
            let net = Ipv6Net::new(key.addr.into(), key.prefix_len.get() as u8).map_err(text)?;
            all.push((FactsKey(net.into()), facts));
        }
        Ok(all)
    }

    fn put(&mut self, key: &FactsKey, value: &Facts) -> Result<(), String> {
        match Home::of(key.0) {
            Home::Facts4(key) => self.facts4.put(&key, value).map_err(text),
            Home::Nets4(key) => self.nets4.put(&key, value).map_err(text),
            Home::Facts6(key) => self.facts6.put(&key, value).map_err(text),
            Home::Nets6(key) => self.nets6.put(&key, value).map_err(text),
        }
    }

    fn delete(&mut self, key: &FactsKey) -> Result<(), String> {
        match Home::of(key.0) {
            Home::Facts4(key) => self.facts4.delete(&key).map_err(text),
            Home::Nets4(key) => self.nets4.delete(&key).map_err(text),
            Home::Facts6(key) => self.facts6.delete(&key).map_err(text),
            Home::Nets6(key) => self.nets6.delete(&key).map_err(text),
        }
    }

    fn put_all(&mut self, entries: &[(&FactsKey, &Facts)], failed: &mut dyn FnMut(usize, String)) {
        let (mut facts4, mut nets4, mut facts6, mut nets6) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (place, (key, value)) in entries.iter().enumerate() {
            match Home::of(key.0) {
                Home::Facts4(key) => facts4.push((place, key, **value)),
                Home::Nets4(key) => nets4.push((place, key, **value)),
                Home::Facts6(key) => facts6.push((place, key, **value)),
                Home::Nets6(key) => nets6.push((place, key, **value)),
            }
        }
        put_batch(&mut self.facts4, &facts4, failed);
        put_batch(&mut self.nets4, &nets4, failed);
        put_batch(&mut self.facts6, &facts6, failed);
        put_batch(&mut self.nets6, &nets6, failed);
    }
}

fn put_batch<K>(
    table: &mut impl Table<K, Facts>,
    entries: &[(usize, K, Facts)],
    failed: &mut dyn FnMut(usize, String),
) {
    let batch: Vec<(&K, &Facts)> = entries.iter().map(|(_, key, value)| (key, value)).collect();
    table.put_all(&batch, &mut |place, error| {
        failed(entries[place].0, text(error));
    });
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_inside_a_prefix_is_written_before_it_and_removed_after_it() {
        let mut keys = [
            "10.0.0.0/8",
            "10.0.0.1/32",
            "::/0",
            "10.0.0.0/24",
            "fd00::1/128",
            "0.0.0.0/0",
        ]
        .map(|net| FactsKey(net.parse().unwrap()));
        keys.sort();
        for (place, key) in keys.iter().enumerate() {
            for later in &keys[place + 1..] {
                assert!(!key.0.contains(&later.0), "{} before {}", key.0, later.0);
            }
        }
    }
}
