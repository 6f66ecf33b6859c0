//! The examples are what the lab runs and what `cleat validate` accepts.
#![cfg(feature = "lab")]

use std::collections::BTreeSet;

use netlab::{Datastore, Host, Lab, house::example_resources};
use serde_yaml::Value;

#[test]
fn every_example_validates() {
    let lab = Lab::new("examples").unwrap();
    let host = Host::new(
        &lab,
        "reader",
        &Datastore::Dir(lab.dir("resources").unwrap()),
    )
    .unwrap();
    let files = example_resources().unwrap();
    assert!(files.len() >= 8, "{files:?}");
    for file in files {
        host.cleat(&["validate", "-f", &file.to_string_lossy()])
            .unwrap();
    }
}

#[test]
fn the_examples_show_every_kind_of_the_slice() {
    let mut kinds = BTreeSet::new();
    for file in example_resources().unwrap() {
        let text = std::fs::read_to_string(&file).unwrap();
        for document in text.split("\n---\n") {
            let document: Value = serde_yaml::from_str(document)
                .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            kinds.insert(document["kind"].as_str().unwrap().to_owned());
        }
    }
    let expected = [
        "BGPConfiguration",
        "BGPPeer",
        "GlobalNetworkPolicy",
        "GlobalNetworkSet",
        "IPPool",
        "NetworkPolicy",
        "NetworkSet",
        "Node",
        "Profile",
        "Tier",
        "WorkloadEndpoint",
    ];
    assert_eq!(kinds, expected.map(str::to_owned).into());
}
