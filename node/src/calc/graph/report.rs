//! What a person should mend. Every place replaces its own findings only.

use super::{Graph, IpAddr, Key, Kind, Origin, Problem, Resource};

impl Graph {
    pub(super) fn report(&mut self, key: &Key, origin: Origin, problems: Vec<Problem>) {
        if problems.is_empty() {
            self.problems.remove(&(key.clone(), origin));
        } else {
            self.problems.insert((key.clone(), origin), problems);
        }
    }

    pub(super) fn report_tier(&mut self, policy: &Key) {
        let tier = self.placements.get(policy).map(|placement| &placement.tier);
        let unknown = tier.filter(|tier| !self.tiers.exists(tier)).map(|tier| {
            Problem::new(
                policy,
                "spec.tier",
                format!(
                    "there is no tier {tier}: the policy comes last and the tier denies at its end"
                ),
            )
        });
        self.report(policy, Origin::Policy, unknown.into_iter().collect());
    }

    pub(super) fn report_policy(&mut self, key: &Key, value: Option<&Resource>) {
        let mut problems = Vec::new();
        if let Some(Resource::WorkloadEndpoint(endpoint)) = value {
            for (index, name) in endpoint.spec.profiles.iter().enumerate() {
                if !self
                    .units
                    .contains_key(&Key::global(Kind::Profile, name.clone()))
                {
                    problems.push(Problem::new(
                        key,
                        format!("spec.profiles[{index}]"),
                        format!("there is no profile {name}: it denies"),
                    ));
                }
            }
        }
        self.report(key, Origin::Policy, problems);
    }

    pub(super) fn report_interface(&mut self, name: &str) {
        let owners: Vec<Key> = self
            .wishes
            .wishes(&name.to_owned())
            .map(|(owner, _)| owner.clone())
            .collect();
        for (place, owner) in owners.iter().enumerate() {
            let lost = (place > 0).then(|| {
                Problem::new(
                    owner,
                    "spec.interfaceName",
                    format!("{name} is the interface of {}", owners[0]),
                )
            });
            self.report(owner, Origin::Interface, lost.into_iter().collect());
        }
    }

    pub(super) fn report_address(&mut self, address: IpAddr) {
        let owners: Vec<Key> = self
            .holders
            .wishes(&address)
            .map(|(owner, ())| owner.clone())
            .collect();
        for owner in owners {
            let mut problems = Vec::new();
            for own in self.holders.owned(&owner) {
                let whose = match self.user(*own) {
                    Some(user) if user == owner => continue,
                    Some(user) => format!("{own} is the address of {user}"),
                    None => format!("{own} is an address of this host"),
                };
                problems.push(Problem::new(&owner, "spec.ipNetworks", whose));
            }
            self.report(&owner, Origin::Address, problems);
        }
    }
}
