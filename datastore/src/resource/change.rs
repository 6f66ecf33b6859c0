//! What must not change in an object that is there, and what must not stand beside another.

use super::{AllowedUse, IpPool, IpPoolSpec, Resource};
use crate::{Key, Problem};

/// What keeps an object from taking the place of the one that is there: fields that must stay as they are, since
/// addresses would lose what keeps track of them.
pub fn change(key: &Key, old: &Resource, new: &Resource) -> Vec<Problem> {
    let (Resource::IpPool(old), Resource::IpPool(new)) = (old, new) else {
        return Vec::new();
    };
    let (old, new) = (&old.spec, &new.spec);
    let mut problems = Vec::new();
    let mut refuse = |field: &str, reason: String| problems.push(Problem::new(key, field, reason));
    let (was, is) = (old.cidr.net(), new.cidr.net());
    if was != is {
        refuse(
            "spec.cidr",
            format!(
                "cannot be changed from {was} to {is}; create another pool, disable this one, and delete it when its addresses are gone"
            ),
        );
    }
    let same_family = was.addr().is_ipv4() == is.addr().is_ipv4();
    let (was, is) = (old.block_len(), new.block_len());
    // The default of another family is no change that anyone made.
    if same_family && was != is {
        refuse(
            "spec.blockSize",
            format!(
                "cannot be changed from {was} to {is}: addresses are assigned in blocks of that size"
            ),
        );
    }
    let balancer = |spec: &IpPoolSpec| spec.allowed_uses.contains(&AllowedUse::LoadBalancer);
    if balancer(old) && !balancer(new) {
        let reason = "cannot be changed from LoadBalancer to Workload or Tunnel";
        refuse("spec.allowedUses", reason.to_owned());
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

    #[expect(
        clippy::needless_pass_by_value,
        reason = "every caller has just made it"
    )]
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
            (
                json!({"cidr": "10.0.0.0/17", "blockSize": 27}),
                vec!["spec.cidr", "spec.blockSize"],
            ),
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
    fn a_pool_for_load_balancers_stays_one() {
        let services = json!({"cidr": "10.0.0.0/16", "allowedUses": ["LoadBalancer"]});
        let (key, old) = pool("p", services);
        let (_, new) = pool("p", json!({"cidr": "10.0.0.0/16"}));
        let (old, new) = (Resource::IpPool(old), Resource::IpPool(new));
        assert_eq!(change(&key, &old, &new)[0].field, "spec.allowedUses");
        assert_eq!(change(&key, &new, &old), []);
        assert_eq!(change(&key, &old, &old), []);
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
