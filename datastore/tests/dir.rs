//! The store in a directory when people and programs change its files.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    clippy::needless_pass_by_value,
    reason = "tests panic, and take what they are given"
)]

mod common;

use std::{fs, path::Path};

use cleat_datastore::{
    Key, Kind, Store,
    store::{Dir, Filter, StoreError},
};
use common::{Mirror, tier, tier_json, tier_key};

const HEAD: &str = "apiVersion: projectcalico.org/v3\nkind: ";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_of_a_file_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    fs::write(
        root.join("tiers.yaml"),
        format!("{}---\n{}", yaml("a", 1), yaml("b", 1)),
    )
    .unwrap();
    fs::write(root.join("notes.txt"), "no object").unwrap();
    fs::write(root.join(".hidden.yaml"), yaml("hidden", 1)).unwrap();
    let store = Dir::new(root);
    let mut mirror = Mirror::new(&store);
    mirror.until("in sync", |mirror| mirror.in_sync > 0).await;
    assert_eq!(mirror.objects.len(), 3);

    // In place, by renaming over it, in a new directory, as JSON, and by removing it.
    fs::write(
        root.join("tiers.yaml"),
        format!("{}---\n{}", yaml("a", 2), yaml("b", 1)),
    )
    .unwrap();
    mirror
        .until("a changed", |mirror| mirror.order_of("a") == Some(2.0))
        .await;
    fs::write(
        root.join("new"),
        format!("{}---\n{}", yaml("a", 3), yaml("b", 1)),
    )
    .unwrap();
    fs::rename(root.join("new"), root.join("tiers.yaml")).unwrap();
    mirror
        .until("a replaced", |mirror| mirror.order_of("a") == Some(3.0))
        .await;
    fs::create_dir(root.join("more")).unwrap();
    let json = tier_json("c", 4).to_string();
    fs::write(root.join("more/c.json"), json).unwrap();
    mirror
        .until("with c", |mirror| mirror.order_of("c") == Some(4.0))
        .await;
    fs::write(root.join("tiers.yaml"), yaml("b", 1)).unwrap();
    mirror
        .until("without a", |mirror| mirror.order_of("a").is_none())
        .await;
    fs::remove_file(root.join("tiers.yaml")).unwrap();
    mirror
        .until("without b", |mirror| mirror.order_of("b").is_none())
        .await;
    assert_eq!(mirror.deleted, [tier_key("a"), tier_key("b")]);
    mirror.until_same_as(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_file_is_named_and_disturbs_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    fs::write(root.join("good.yaml"), yaml("good", 1)).unwrap();
    fs::write(
        root.join("mixed.yaml"),
        format!("{}---\n{}", yaml("a", 1), yaml("b", 1)),
    )
    .unwrap();
    let store = Dir::new(root);
    let mut mirror = Mirror::new(&store);
    mirror.until("in sync", |mirror| mirror.in_sync > 0).await;

    // One document cannot be read: what the file held stays, the rest is followed.
    fs::write(
        root.join("mixed.yaml"),
        format!("{}---\nkind: [", yaml("a", 2)),
    )
    .unwrap();
    mirror
        .until("followed as far as it goes", |mirror| {
            mirror.order_of("a") == Some(2.0) && mirror.unreadable.len() == 1
        })
        .await;
    assert_eq!(mirror.order_of("b"), Some(1.0));
    assert_eq!(mirror.order_of("good"), Some(1.0));
    let said = mirror.unreadable[0].to_string();
    assert!(
        said.starts_with("mixed.yaml, document 2: is no YAML"),
        "{said}"
    );

    // An object can be told but is not valid: it is gone, with its problem.
    let invalid = format!("{HEAD}Tier\nmetadata: {{name: b}}\nspec: {{order: first}}\n");
    fs::write(
        root.join("mixed.yaml"),
        format!("{}---\n{invalid}", yaml("a", 2)),
    )
    .unwrap();
    mirror
        .until("with a problem", |mirror| {
            mirror
                .objects
                .get(&tier_key("b"))
                .is_some_and(|update| update.problem.is_some())
                && mirror.unreadable.is_empty()
        })
        .await;
    let update = &mirror.objects[&tier_key("b")];
    assert_eq!(update.value, None);
    let problem = update.problem.as_ref().unwrap();
    let origin = problem.origin.as_ref().unwrap();
    assert_eq!((origin.file.as_str(), origin.document), ("mixed.yaml", 2));
    assert_eq!(problem.field, "spec.order");

    // The same object in two files: the first counts, the second is reported.
    fs::write(root.join("zz.yaml"), yaml("a", 9)).unwrap();
    mirror
        .until("reported", |mirror| mirror.unreadable.len() == 1)
        .await;
    let said = mirror.unreadable[0].to_string();
    assert_eq!(
        said,
        "zz.yaml, document 1: Tier(a): is already in mixed.yaml, document 1"
    );
    assert_eq!(mirror.order_of("a"), Some(2.0));
    fs::remove_file(root.join("mixed.yaml")).unwrap();
    mirror
        .until("the other one", |mirror| mirror.order_of("a") == Some(9.0))
        .await;
    let listing = store.list(&Filter::kind(Kind::Tier)).await.unwrap();
    assert_eq!(listing.unreadable, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_vanishes_is_trouble_and_not_emptiness() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("objects");
    let store = Dir::new(&root);
    let mut mirror = Mirror::new(&store);
    mirror
        .until("in trouble", |mirror| !mirror.troubles.is_empty())
        .await;
    fs::create_dir(&root).unwrap();
    fs::write(root.join("a.yaml"), yaml("a", 1)).unwrap();
    mirror
        .until("in sync", |mirror| {
            mirror.in_sync > 0 && mirror.order_of("a").is_some()
        })
        .await;
    fs::rename(&root, directory.path().join("away")).unwrap();
    mirror
        .until("in trouble again", |mirror| mirror.troubles.len() > 1)
        .await;
    assert_eq!(mirror.order_of("a"), Some(1.0));
    fs::rename(directory.path().join("away"), &root).unwrap();
    fs::write(root.join("b.yaml"), yaml("b", 2)).unwrap();
    mirror
        .until("back", |mirror| mirror.order_of("b") == Some(2.0))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writing_makes_files_that_people_can_read() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let comment = "# ours\n";
    fs::write(
        root.join("mine.yaml"),
        format!("{comment}{}---\n{comment}{}", yaml("a", 1), yaml("b", 1)),
    )
    .unwrap();
    let store = Dir::new(root);
    store.apply(&tier("a", 5)).await.unwrap();
    store.create(&tier("c", 6)).await.unwrap();
    let policy = common::object("NetworkPolicy", Some("prod"), "web", serde_json::json!({}));
    store.create(&policy).await.unwrap();
    assert_eq!(
        names(root),
        ["mine.yaml", "networkpolicies_prod_web.yaml", "tiers_c.yaml"]
    );
    let text = fs::read_to_string(root.join("mine.yaml")).unwrap();
    assert!(
        text.contains("order: 5") && text.contains(&format!("{comment}{}", yaml("b", 1))),
        "{text}"
    );
    store.delete(&tier_key("a"), None).await.unwrap();
    store.delete(&tier_key("b"), None).await.unwrap();
    store.delete(&tier_key("c"), None).await.unwrap();
    assert_eq!(names(root), ["networkpolicies_prod_web.yaml"]);
    // Another process sees the same.
    let other = Dir::new(root);
    let key = Key::namespaced(Kind::NetworkPolicy, "prod", "web");
    assert!(other.get(&key).await.unwrap().is_some());
}

fn names(root: &Path) -> Vec<String> {
    let entries = fs::read_dir(root).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn yaml(name: &str, order: i64) -> String {
    format!("{HEAD}Tier\nmetadata:\n  name: {name}\nspec:\n  order: {order}\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revisions_mean_the_same_to_the_next_process() {
    let directory = tempfile::tempdir().unwrap();
    // Each of these knows of the others what the files say.
    let process = || Dir::new(directory.path());
    let first = process().create(&tier("a", 1)).await.unwrap();
    let found = process().get(&tier_key("a")).await.unwrap().unwrap();
    assert_eq!(found.revision, first.revision);
    let long_running = process();
    assert_eq!(
        long_running
            .get(&tier_key("a"))
            .await
            .unwrap()
            .unwrap()
            .revision,
        first.revision
    );
    let second = process()
        .update(&tier("a", 2), first.revision)
        .await
        .unwrap();
    assert!(second.revision > first.revision);
    for stale in [
        process().update(&tier("a", 3), first.revision).await,
        long_running.update(&tier("a", 3), first.revision).await,
    ] {
        assert!(
            matches!(stale, Err(StoreError::Conflict { actual, .. }) if actual == second.revision),
            "{stale:?}"
        );
    }
    // As a whole, too, revisions do not go back.
    process().create(&tier("b", 1)).await.unwrap();
    let before = process().list(&Filter::All).await.unwrap().revision;
    process().create(&tier("c", 1)).await.unwrap();
    assert!(process().list(&Filter::All).await.unwrap().revision > before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_file_that_is_removed_takes_all_it_held_along() {
    let directory = tempfile::tempdir().unwrap();
    let store = Dir::new(directory.path().join("objects"));
    fs::create_dir(store.path()).unwrap();
    let file = store.path().join("all.yaml");
    let documents: Vec<String> = (0..12)
        .map(|index| tier_json(&format!("t{index}"), 1).to_string())
        .collect();
    fs::write(&file, documents.join("\n---\n")).unwrap();
    let mut mirror = Mirror::new(&store);
    mirror
        .until("told", |mirror| mirror.objects.len() == 13)
        .await;
    fs::remove_file(&file).unwrap();
    mirror
        .until("gone", |mirror| mirror.objects.len() == 1)
        .await;
    mirror.until_same_as(&store).await;

    // The same file in a directory that is no longer the same, as when a disk is not mounted.
    fs::write(&file, documents.join("\n---\n")).unwrap();
    mirror
        .until("told again", |mirror| mirror.objects.len() == 13)
        .await;
    fs::rename(store.path(), directory.path().join("elsewhere")).unwrap();
    fs::create_dir(store.path()).unwrap();
    mirror.until("held", Mirror::is_held).await;
    assert_eq!(mirror.objects.len(), 13);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_vanish_together_are_held_until_they_are_back() {
    let directory = tempfile::tempdir().unwrap();
    let store = Dir::new(directory.path().join("objects"));
    for index in 0..12 {
        store.create(&tier(&format!("t{index}"), 1)).await.unwrap();
    }
    let mut mirror = Mirror::new(&store);
    mirror.until_same_as(&store).await;
    // As when the file system that held them is not mounted.
    let elsewhere = directory.path().join("elsewhere");
    fs::rename(store.path(), &elsewhere).unwrap();
    fs::create_dir(store.path()).unwrap();
    mirror.until("held", Mirror::is_held).await;
    assert_eq!(mirror.objects.len(), 13);
    fs::remove_dir(store.path()).unwrap();
    fs::rename(&elsewhere, store.path()).unwrap();
    let in_sync = mirror.in_sync;
    mirror
        .until("in sync again", |mirror| {
            mirror.in_sync > in_sync && mirror.hold().held().is_none()
        })
        .await;
    mirror.until_same_as(&store).await;
    assert_eq!(mirror.deleted, []);
}
