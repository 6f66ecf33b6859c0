//! What must not change in an object that is there, and what must not stand beside another.

use super::{IpPool, Resource};
use crate::{Key, Problem};

/// What a change does that must not be done: addresses would lose what keeps track of them.
pub fn change(key: &Key, old: &Resource, new: &Resource) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let (Resource::IpPool(old), Resource::IpPool(new)) = (old, new) {
        let (old, new) = (&old.spec, &new.spec);
        if old.cidr.net() != new.cidr.net() {
            let reason = format!(
                "cannot be changed from {} to {}; make another pool instead",
                old.cidr, new.cidr
            );
            problems.push(Problem::new(key, "spec.cidr", reason));
        } else if old.block_len() != new.block_len() {
            let reason = format!(
                "cannot be changed from {} to {}; make another pool instead",
                old.block_len(),
                new.block_len()
            );
            problems.push(Problem::new(key, "spec.blockSize", reason));
        }
    }
    problems
}

/// The overlaps of a pool with others. It does not overlap itself.
pub fn overlaps<'a>(
    key: &Key,
    pool: &IpPool,
    others: impl IntoIterator<Item = (&'a Key, &'a IpPool)>,
) -> Vec<Problem> {
    let net = pool.spec.cidr.net();
    others
        .into_iter()
        .filter(|(other, _)| *other != key)
        .map(|(other, pool)| (other, pool.spec.cidr.net()))
        .filter(|(_, other)| net.contains(other) || other.contains(&net))
        .map(|(other, theirs)| {
            Problem::new(
                key,
                "spec.cidr",
                format!("{net} overlaps {theirs} of {other}"),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::resource::from_manifest;

    fn pool(name: &str, spec: Value) -> (Key, IpPool) {
        let manifest = json!({"apiVersion": "projectcalico.org/v3", "kind": "IPPool",
            "metadata": {"name": name}, "spec": spec});
        let (key, resource) = from_manifest(manifest).unwrap();
        let Resource::IpPool(pool) = resource else {
            panic!("{resource:?}");
        };
        (key, pool)
    }

    #[test]
    fn the_addresses_and_blocks_of_a_pool_stay() {
        let (key, old) = pool("p", json!({"cidr": "10.0.0.0/16"}));
        for (new, fields) in [
            (json!({"cidr": "10.0.0.0/16", "natOutgoing": true}), vec![]),
            (json!({"cidr": "10.0.0.0/16", "blockSize": 26}), vec![]),
            (
                json!({"cidr": "10.0.0.0/16", "blockSize": 27}),
                vec!["spec.blockSize"],
            ),
            (json!({"cidr": "10.0.0.0/17"}), vec!["spec.cidr"]),
            (json!({"cidr": "fd00::/64"}), vec!["spec.cidr"]),
        ] {
            let (_, new) = pool("p", new);
            let problems = change(
                &key,
                &Resource::IpPool(old.clone()),
                &Resource::IpPool(new.clone()),
            );
            let found: Vec<&str> = problems
                .iter()
                .map(|problem| problem.field.as_str())
                .collect();
            assert_eq!(found, fields, "{new:?}");
        }
    }

    #[test]
    fn pools_do_not_overlap() {
        let (key, new) = pool("new", json!({"cidr": "10.0.0.0/16"}));
        let others = [
            pool("new", json!({"cidr": "10.0.0.0/16"})),
            pool("inside", json!({"cidr": "10.0.4.0/24"})),
            pool("around", json!({"cidr": "10.0.0.0/8"})),
            pool("beside", json!({"cidr": "10.1.0.0/16"})),
            pool("v6", json!({"cidr": "fd00::/64"})),
        ];
        let problems = overlaps(&key, &new, others.iter().map(|(key, pool)| (key, pool)));
        let reasons: Vec<&str> = problems
            .iter()
            .map(|problem| problem.reason.as_str())
            .collect();
        assert_eq!(
            reasons,
            [
                "10.0.0.0/16 overlaps 10.0.4.0/24 of IPPool(inside)",
                "10.0.0.0/16 overlaps 10.0.0.0/8 of IPPool(around)"
            ]
        );
    }
}
