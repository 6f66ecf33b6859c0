//! The label index: what a change costs among 100,000 endpoints and 10,000 selectors, in clusters as they are and in
//! the worst ones.

use std::{collections::BTreeMap, time::Duration};

use cleat_datastore::{label_index::LabelIndex, selector::Selector};

use crate::{
    cluster::{self, ENDPOINTS, NAMESPACES, SELECTORS, hash},
    measure::{Report, Times, resident, section},
};

type Index = LabelIndex<u32, u32>;
type Labels = BTreeMap<String, String>;

/// What a change of one endpoint's labels may take.
const CHANGE: Duration = Duration::from_millis(1);

pub(crate) fn run(report: &mut Report) {
    usual(report);
    worst(report);
}

fn usual(report: &mut Report) {
    section("label index, 100,000 endpoints of 500 namespaces and 10,000 selectors of policies");
    let before = resident();
    let mut index = Index::new();
    for namespace in 0..NAMESPACES {
        index.set_parent(
            &cluster::profile(namespace),
            cluster::profile_labels(namespace),
        );
    }
    for endpoint in 0..ENDPOINTS {
        set(&mut index, endpoint, endpoint);
    }
    let endpoints = resident().saturating_sub(before);
    for number in 0..SELECTORS {
        index.set_selector(number as u32, &selector(number));
    }
    let all = resident().saturating_sub(before);
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    report.judge(
        "memory",
        &format!(
            "{:.0} MB, {:.0} MB without selectors",
            megabytes(all),
            megabytes(endpoints)
        ),
        megabytes(all),
        200.0,
        "MB",
    );

    let name = "another application's labels on an endpoint";
    changes(report, name, &mut index, CHANGE, |number| {
        let endpoint = hash(number) as usize % ENDPOINTS;
        let labels = cluster::endpoint_labels(endpoint, endpoint + number + 1);
        move |index: &mut Index| put(index, endpoint, labels)
    });
    let name = "a label that no selector mentions";
    changes(report, name, &mut index, CHANGE, |number| {
        let mut labels = cluster::endpoint_labels(7, 7);
        labels.insert("restarted".to_owned(), number.to_string());
        move |index: &mut Index| put(index, 7, labels)
    });
    let name = "an endpoint more";
    changes(report, name, &mut index, CHANGE, |number| {
        let labels = cluster::endpoint_labels(ENDPOINTS + number, number);
        move |index: &mut Index| put(index, ENDPOINTS + number, labels)
    });
    let name = "that endpoint gone";
    changes(report, name, &mut index, CHANGE, |number| {
        move |index: &mut Index| drop(index.remove_item(&((ENDPOINTS + number) as u32)))
    });
    let name = "a selector more";
    changes(report, name, &mut index, 20 * CHANGE, |number| {
        let selector = selector(SELECTORS + number);
        move |index: &mut Index| {
            index.set_selector((SELECTORS + number) as u32, &selector);
        }
    });
    let name = "that selector gone";
    changes(report, name, &mut index, 20 * CHANGE, |number| {
        move |index: &mut Index| drop(index.remove_selector(&((SELECTORS + number) as u32)))
    });
    let name = "a label of a namespace with 10,000 endpoints, which selectors mention";
    parent_changes(
        report,
        name,
        &mut index,
        "pcns.team",
        Duration::from_millis(100),
    );
    let name = "the same, a label that none mentions";
    parent_changes(report, name, &mut index, "pcns.owner", CHANGE);
}

/// Selectors of one form, `@` being a number, and a change of labels. What it may look at is small each time.
fn worst(report: &mut Report) {
    section("label index, a label change with 10,000 selectors of one form");
    for (form, before, after) in [
        ("all()", "app=1", "app=2"),
        ("!has(x@)", "app=1", "app=2"),
        ("!has(x)", "app=1", "app=2"),
        ("app == '@'", "app=1", "app=2"),
        ("app != '@'", "app=1", "app=2"),
        (
            "app not in {'@', 'x@', 'y@'} && has(space)",
            "app=1",
            "app=2",
        ),
        ("space == 's' && app == '@'", "app=1", "app=2"),
        ("space == 's' && app == '@'", "space=s", "space=t"),
        ("space == 's' && !(app == '@' || has(x@))", "app=1", "app=2"),
        ("app starts with '@.' && has(space)", "app=1.a", "app=2.b"),
        ("app contains '.@.'", "app=a.1.b", "app=a.2.b"),
        ("app == '@' || name == '@'", "app=1", "name=1"),
    ] {
        let mut index = Index::new();
        for number in 0..SELECTORS {
            let text = form.replace('@', &number.to_string());
            index.set_selector(number as u32, &Selector::parse(&text).expect("it parses"));
        }
        let mut base = pairs("space=s,role=r,zone=z");
        base.insert("app".to_owned(), "7".to_owned());
        let versions = [before, after].map(|change| {
            let mut labels = base.clone();
            labels.extend(pairs(change));
            labels
        });
        // Few endpoints will do: how many others there are is nothing to a change of one.
        for endpoint in 0..1_000 {
            index.set_item(endpoint, base.clone(), Vec::new());
        }
        let name = format!("{form}, {before} to {after}");
        changes(report, &name, &mut index, CHANGE, |number| {
            let labels = versions[number % 2].clone();
            move |index: &mut Index| {
                index.set_item(hash(number / 2) % 1_000, labels, Vec::new());
            }
        });
    }
}

/// Times changes, each of which is made before.
fn changes<C: FnOnce(&mut Index)>(
    report: &mut Report,
    name: &str,
    index: &mut Index,
    goal: Duration,
    make: impl FnMut(usize) -> C,
) {
    let evaluations = index.evaluations();
    let count = 5_000;
    let times = Times::of(count, make, |change| change(index));
    let evaluations = (index.evaluations() - evaluations) as f64 / (count + count / 10) as f64;
    let more = format!(", {evaluations:.1} evaluations each");
    report.times(name, &times, &more, goal);
}

fn parent_changes(report: &mut Report, name: &str, index: &mut Index, label: &str, goal: Duration) {
    let evaluations = index.evaluations();
    let make = |number| {
        let mut labels = cluster::profile_labels(0);
        labels.insert(label.to_owned(), format!("team{}", 1 + number % 2));
        labels
    };
    let times = Times::of(50, make, |labels| {
        index.set_parent(&cluster::profile(0), labels);
    });
    let evaluations = (index.evaluations() - evaluations) / 55;
    let more = format!(", {evaluations} evaluations each");
    report.times(name, &times, &more, goal);
}

fn set(index: &mut Index, endpoint: usize, application: usize) {
    put(
        index,
        endpoint,
        cluster::endpoint_labels(endpoint, application),
    );
}

fn put(index: &mut Index, endpoint: usize, labels: Labels) {
    let profile = cluster::profile(cluster::namespace(endpoint));
    index.set_item(endpoint as u32, labels, vec![profile]);
}

fn selector(number: usize) -> Selector {
    Selector::parse(&cluster::selector(number)).expect("it parses")
}

fn pairs(text: &str) -> Labels {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(label, value)| (label.to_owned(), value.to_owned()))
        .collect()
}
