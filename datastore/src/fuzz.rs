//! Bodies of the fuzz targets. `cargo test` replays the committed corpora through them, and libFuzzer
//! drives them from `fuzz/`.

use crate::{
    Key, Kind,
    manifest::parse_documents,
    resource::{decode, decode_value},
    selector::Selector,
    snapshot,
};

/// Bytes under a key, as a store may hold them: a first line says under which, by the plural of a kind or one of
/// [`OTHERS`].
///
/// # Panics
/// If what was read is not read again after it was written.
pub fn stored_value(data: &[u8]) {
    let Some(end) = data.iter().position(|byte| *byte == b'\n') else {
        return;
    };
    let Some(key) = std::str::from_utf8(&data[..end]).ok().and_then(stored_key) else {
        return;
    };
    let bytes = &data[end + 1..];
    let decoded = decode(&key, bytes);
    if let Ok(value) = serde_json::from_slice(bytes) {
        // However the bytes are read, they mean the same.
        assert_eq!(decode_value(&key, value), decoded);
    }
    if let Ok(resource) = decoded {
        assert_eq!(decode(&key, &resource.encode()), Ok(resource));
    }
}

fn stored_key(sort: &str) -> Option<Key> {
    if let Some(kind) = Kind::from_plural(sort) {
        return Some(if kind.namespaced() {
            Key::namespaced(kind, "ns", "x")
        } else {
            Key::global(kind, "x")
        });
    }
    let path = OTHERS.iter().find(|(name, _)| *name == sort)?.1;
    Key::parse(path)
}

/// What has a path and is no resource.
const OTHERS: [(&str, &str); 6] = [
    ("affinity", "/calico/ipam/v2/host/h/ipv4/block/10.0.0.0-26"),
    ("block", "/calico/ipam/v2/assignment/ipv4/block/10.0.0.0-26"),
    ("config", "/calico/ipam/v2/config"),
    ("handle", "/calico/ipam/v2/handle/x"),
    ("host", "/calico/ipam/v2/host/h"),
    ("subnet", "/calico/dhcp/v2/no-region/subnet/x"),
];

/// A path of a store.
///
/// # Panics
/// If a key is not written back as it was read.
pub fn key_path(data: &[u8]) {
    let Ok(path) = std::str::from_utf8(data) else {
        return;
    };
    if let Some(key) = Key::parse(path) {
        assert_eq!(key.path(), path);
    }
}

/// A selector.
///
/// # Panics
/// If the canonical form of a selector is not its own.
pub fn selector(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(selector) = Selector::parse(text) else {
        return;
    };
    let labels = std::collections::BTreeMap::from([("a".to_owned(), "b".to_owned())]);
    let matches = selector.matches(&labels);
    // Parentheses make the canonical form longer; past the bounds it need not be read.
    if let Ok(again) = Selector::parse(selector.canonical()) {
        assert_eq!(again.canonical(), selector.canonical());
        assert_eq!(again.matches(&labels), matches);
    }
}

/// The content of a snapshot, under a head and a checksum that are right.
///
/// # Panics
/// If what was read is not read again after it was written.
pub fn snapshot(data: &[u8]) {
    let Ok(read) = snapshot::read_content(data) else {
        return;
    };
    let entries: Vec<_> = read
        .entries
        .iter()
        .filter_map(|entry| Some((&entry.key, entry.revision, &**entry.resource.as_ref().ok()?)))
        .collect();
    let written = snapshot::write_to(
        Vec::new(),
        &read.origin,
        read.written,
        entries.iter().copied(),
    );
    let again = snapshot::read_from(
        std::io::Cursor::new(written.as_ref().expect("memory takes it")),
        written.as_ref().map_or(0, Vec::len) as u64,
        &read.origin.source,
    );
    let again = again.expect("what was written is whole");
    assert_eq!(again.origin, read.origin);
    assert_eq!(again.entries.len(), entries.len());
}

/// A file of manifests.
pub fn manifests(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        for document in parse_documents("fuzz", text) {
            let _ = document.decode();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use proptest::prelude::*;

    #[test]
    fn the_corpora_pass() {
        for (name, body) in [
            ("stored_value", super::stored_value as fn(&[u8])),
            ("key_path", super::key_path),
            ("selector", super::selector),
            ("manifests", super::manifests),
            ("snapshot", super::snapshot),
        ] {
            let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("fuzz/corpus")
                .join(name);
            let mut cases = 0;
            for entry in fs::read_dir(&directory).unwrap() {
                body(&fs::read(entry.unwrap().path()).unwrap());
                cases += 1;
            }
            assert!(cases > 0, "{name} has a corpus");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_pass(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            super::stored_value(&data);
            super::key_path(&data);
            super::selector(&data);
            super::manifests(&data);
            super::snapshot(&data);
        }

        #[test]
        fn near_json_passes(
            kind in proptest::sample::select(crate::Kind::ALL.to_vec()),
            text in "[\\[\\]{}:,\"a-c0-2. ]{0,60}",
        ) {
            super::stored_value(format!("{}\n{text}", kind.plural()).as_bytes());
            super::manifests(text.as_bytes());
        }
    }
}
