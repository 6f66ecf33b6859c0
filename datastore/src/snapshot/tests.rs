use std::{io::Cursor, sync::Arc};

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{Kind, resource::from_manifest};

fn objects() -> Vec<(Key, u64, Arc<Resource>)> {
    let manifests = [
        json!({"kind": "Tier", "metadata": {"name": "sec"}, "spec": {"order": 1.5, "unread": {"a": [1]}}}),
        json!({"kind": "GlobalNetworkSet", "metadata": {"name": "nets", "uid": "u"}, "spec": {"nets": ["10.0.0.0/8"]}}),
    ];
    let objects = manifests
        .into_iter()
        .zip(7..)
        .map(|(mut manifest, revision)| {
            manifest["apiVersion"] = json!("projectcalico.org/v3");
            let (key, resource) = from_manifest(manifest).unwrap();
            (key, revision, Arc::new(resource))
        });
    objects.collect()
}

fn origin() -> Origin {
    Origin {
        source: "etcd".to_owned(),
        guid: "0123".to_owned(),
        revision: 9,
    }
}

fn when() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_790_000_000)
}

fn bytes() -> Vec<u8> {
    let objects = objects();
    let entries = objects
        .iter()
        .map(|(key, revision, resource)| (key, *revision, &**resource));
    write_to(Vec::new(), &origin(), when(), entries).unwrap()
}

fn parse(bytes: &[u8]) -> Result<Snapshot, Refused> {
    read_from(Cursor::new(bytes), bytes.len() as u64, "etcd")
}

/// The bytes with a checksum that is right, as one who means harm would make it.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let digest = Sha256::digest(&bytes);
    bytes.extend(digest);
    bytes
}

#[test]
fn a_state_is_read_as_it_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    assert!(read(&path, "etcd").unwrap().is_none());
    let objects = objects();
    let entries = || {
        objects
            .iter()
            .map(|(key, revision, resource)| (key, *revision, &**resource))
    };
    let len = write(&path, &origin(), when(), entries()).unwrap();
    assert_eq!(len, bytes().len() as u64);
    let snapshot = read(&path, "etcd").unwrap().unwrap();
    assert_eq!(
        (snapshot.origin.clone(), snapshot.written, snapshot.unknown),
        (origin(), when(), 0)
    );
    for ((key, revision, resource), entry) in objects.iter().zip(&snapshot.entries) {
        assert_eq!((key, *revision), (&entry.key, entry.revision));
        let read = entry.resource.as_ref().unwrap();
        assert_eq!(read.encode(), resource.encode());
        let version = read.metadata().unwrap().resource_version.clone();
        assert_eq!(version, Some(revision.to_string()));
    }
    assert_eq!(snapshot.entries.len(), objects.len());
    // Another state takes its place, and nothing is left beside it.
    write(&path, &origin(), when(), entries().take(1)).unwrap();
    assert_eq!(read(&path, "etcd").unwrap().unwrap().entries.len(), 1);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn a_state_that_cannot_be_written_leaves_the_old_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    write(&path, &origin(), when(), [].into_iter()).unwrap();
    // What is written beside it is in the way, and cannot be written over.
    fs::create_dir(directory.path().join("state.new")).unwrap();
    let objects = objects();
    let entries = objects
        .iter()
        .map(|(key, revision, resource)| (key, *revision, &**resource));
    assert!(write(&path, &origin(), when(), entries).is_err());
    assert!(read(&path, "etcd").unwrap().unwrap().entries.is_empty());
}

#[test]
fn the_time_at_which_a_state_still_held_is_noted_without_changing_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    write(&path, &origin(), when(), [].into_iter()).unwrap();
    let later = when() + Duration::from_hours(1);
    confirm(&path, later).unwrap();
    assert_eq!(confirmed(&path).unwrap(), later);
    assert_eq!(read(&path, "etcd").unwrap().unwrap().written, when());
}

#[test]
fn every_flipped_bit_and_every_cut_is_refused() {
    let good = bytes();
    assert!(parse(&good).is_ok());
    for index in 0..good.len() {
        assert!(parse(&good[..index]).is_err(), "cut at {index}");
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[index] ^= 1 << bit;
            assert!(parse(&bad).is_err(), "byte {index}, bit {bit}");
        }
    }
    let mut longer = good.clone();
    longer.push(0);
    assert!(parse(&longer).is_err());
}

#[test]
fn what_is_no_state_of_ours_is_refused_with_its_reason() {
    let mut newer = bytes();
    newer[8] = 2;
    let mut other = bytes();
    other[0] = b'x';
    let cases: [(&str, Result<Snapshot, Refused>, &str); 6] = [
        ("empty", parse(&[]), "is no snapshot"),
        ("other", parse(&other), "is no snapshot"),
        (
            "newer",
            parse(&newer),
            "has layout 2, of a later version; this one knows 1",
        ),
        ("cut", parse(&bytes()[..20]), "is damaged: it is cut off"),
        (
            "foreign",
            read_from(Cursor::new(bytes()), bytes().len() as u64, "dir"),
            "is the state of a store of kind \"etcd\", not \"dir\"",
        ),
        (
            "huge",
            read_from(Cursor::new(bytes()), MAX_LEN + 1, "etcd"),
            "has 4294967297 bytes, more than 4294967296",
        ),
    ];
    for (case, read, reason) in cases {
        assert_eq!(read.unwrap_err().to_string(), reason, "{case}");
    }
    // A directory or a pipe in the file's place neither panics nor blocks.
    let directory = tempfile::tempdir().unwrap();
    assert!(read(directory.path(), "etcd").is_err());
    let pipe = directory.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    assert!(matches!(read(&pipe, "etcd"), Err(Refused::NoSnapshot)));
}

#[test]
fn lengths_that_lie_are_not_believed() {
    let whole = bytes();
    let body = &whole[..whole.len() - DIGEST_LEN as usize];
    // magic, layout, "etcd", "0123", revision, written
    let count = 8 + 4 + 6 + 6 + 8 + 8;
    for (at, number) in [(count, u32::MAX), (count, 3), (count, 1)] {
        let mut lying = body.to_vec();
        lying[at..at + 4].copy_from_slice(&number.to_le_bytes());
        assert!(
            matches!(parse(&sealed(lying)), Err(Refused::Damaged(_))),
            "{number}"
        );
    }
    let path = Key::global(Kind::Tier, "sec").path();
    let value = count + 4 + 2 + path.len() + 8;
    for number in [u32::MAX, MAX_VALUE_LEN as u32, 1_000_000] {
        let mut lying = body.to_vec();
        lying[value..value + 4].copy_from_slice(&number.to_le_bytes());
        assert!(
            matches!(parse(&sealed(lying)), Err(Refused::Damaged(_))),
            "{number}"
        );
    }
    assert!(parse(&sealed(body.to_vec())).is_ok());
}

#[test]
fn an_object_without_a_key_here_is_left_out_and_an_invalid_one_is_told() {
    let (known, unknown) = (
        "/calico/resources/v3/projectcalico.org/tiers/a",
        "/calico/other",
    );
    let mut body = bytes()[..8 + 4 + 6 + 6 + 8 + 8].to_vec();
    body.extend(2_u32.to_le_bytes());
    for path in [known, unknown] {
        text(&mut body, path).unwrap();
        body.extend(3_u64.to_le_bytes());
        body.extend(2_u32.to_le_bytes());
        body.extend(b"[]");
    }
    let snapshot = parse(&sealed(body)).unwrap();
    assert_eq!((snapshot.entries.len(), snapshot.unknown), (1, 1));
    assert!(snapshot.entries[0].resource.is_err());
}

proptest! {
    #[test]
    fn nothing_that_a_file_may_hold_makes_the_reader_panic(
        body in prop::collection::vec(any::<u8>(), 0..400),
        head in any::<bool>(),
    ) {
        let mut bytes = if head { bytes()[..12].to_vec() } else { Vec::new() };
        bytes.extend(body);
        let _ = parse(&bytes);
        let _ = parse(&sealed(bytes));
    }

    #[test]
    fn a_sealed_state_with_altered_bytes_makes_no_reader_panic(
        at in 12_usize..bytes().len() - DIGEST_LEN as usize,
        with in prop::collection::vec(any::<u8>(), 1..12),
    ) {
        let whole = bytes();
        let mut body = whole[..whole.len() - DIGEST_LEN as usize].to_vec();
        for (index, byte) in (at..body.len()).zip(with) {
            body[index] = byte;
        }
        let _ = parse(&sealed(body));
    }
}
