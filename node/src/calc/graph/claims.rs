//! What only one object may have: the first by name has it, the others are told, and the next one has it when the first goes.

use cleat_datastore::resource::HostEndpoint;

use super::{Graph, IpNet, Key, Origin, PlaceOwner, Problem, routes};
use super::{Kind, Place};

/// Something that several objects may claim.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Claim {
    /// The prefix of a pool.
    Pool(IpNet),
    /// An interface of a host, by the host's name.
    HostInterface(String, String),
}

impl Claim {
    /// The interface that a host endpoint names, if it names one.
    pub(super) fn of_host_endpoint(endpoint: &HostEndpoint) -> Option<Self> {
        let spec = serde_json::to_value(&endpoint.spec).ok()?;
        let text = |name: &str| spec.get(name)?.as_str().map(ToOwned::to_owned);
        Some(Self::HostInterface(text("node")?, text("interfaceName")?))
    }
}

impl Graph {
    /// Takes over what an object claims now.
    pub(super) fn claim(&mut self, key: &Key, claim: Option<Claim>) {
        let mut touched: Vec<Claim> = self.claims.owned(key).cloned().collect();
        touched.extend(claim.clone());
        self.claims
            .replace(key, claim.map(|claim| (claim, ())), |_, _| {});
        self.report(key, Origin::Claim, Vec::new());
        for claim in touched {
            let owners: Vec<Key> = self
                .claims
                .wishes(&claim)
                .map(|(owner, ())| owner.clone())
                .collect();
            for (place, owner) in owners.iter().enumerate() {
                let lost = (place > 0).then(|| {
                    let (field, what) = match &claim {
                        Claim::Pool(cidr) => ("spec.cidr", cidr.to_string()),
                        Claim::HostInterface(node, name) => {
                            ("spec.interfaceName", format!("{name} of {node}"))
                        }
                    };
                    let reason = format!("{what} is taken by {}, the first by name", owners[0]);
                    Problem::new(owner, field, reason)
                });
                self.report(owner, Origin::Claim, lost.into_iter().collect());
            }
            if let Claim::Pool(_) = claim {
                for owner in &owners {
                    self.place_pool(owner.name());
                }
            }
        }
    }

    /// The pool is the one that counts for its prefix.
    pub(super) fn is_pool_in_force(&self, name: &str) -> bool {
        let key = Key::global(Kind::IpPool, name);
        let mut claims = self.claims.owned(&key);
        claims.any(|claim| {
            self.claims
                .winner(claim)
                .is_some_and(|(owner, ())| *owner == key)
        })
    }

    /// Says where the addresses of a pool live.
    pub(super) fn place_pool(&mut self, name: &str) {
        let counts = self.is_pool_in_force(name);
        let place = self
            .pools
            .get(name)
            .filter(|pool| counts && routes::for_workloads(pool))
            .map(|pool| (pool.spec.cidr.net(), Place::RemoteWorkload));
        self.place(&PlaceOwner::Pool(name.to_owned()), place);
    }
}
