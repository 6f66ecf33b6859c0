//! Bodies of the fuzz targets. `cargo test` replays the committed corpora through them, and libFuzzer
//! drives them from `fuzz/`.

use crate::{
    Key, Kind,
    manifest::parse_documents,
    resource::{decode, decode_value},
    selector::Selector,
};

/// Bytes under a key, as a store may hold them: the first byte chooses the kind.
///
/// # Panics
/// If what was read is not read again after it was written.
pub fn stored_value(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else {
        return;
    };
    let key = stored_key(*kind);
    let decoded = decode(&key, bytes);
    if let Ok(value) = serde_json::from_slice(bytes) {
        // However the bytes are read, they mean the same.
        assert_eq!(decode_value(&key, value), decoded);
    }
    if let Ok(resource) = decoded {
        assert_eq!(decode(&key, &resource.encode()), Ok(resource));
    }
}

/// A key of some sort: each kind, and what else has a path.
fn stored_key(number: u8) -> Key {
    let block = ipnet::Ipv4Net::new_assert([10, 0, 0, 0].into(), 26).into();
    let text = str::to_owned;
    let others = [
        Key::BlockAffinity {
            host: text("h"),
            block,
        },
        Key::IpamBlock { block },
        Key::IpamConfig,
        Key::IpamHandle { id: text("x") },
        Key::IpamHost { host: text("h") },
        Key::Subnet {
            region: text("no-region"),
            id: text("x"),
        },
    ];
    let number = usize::from(number) % (Kind::ALL.len() + others.len());
    match Kind::ALL.get(number) {
        Some(kind) if kind.namespaced() => Key::namespaced(*kind, "ns", "x"),
        Some(kind) => Key::global(*kind, "x"),
        None => others[number - Kind::ALL.len()].clone(),
    }
}

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
        }

        #[test]
        fn near_json_passes(kind: u8, text in "[\\[\\]{}:,\"a-c0-2. ]{0,60}") {
            let mut data = vec![kind];
            data.extend(text.as_bytes());
            super::stored_value(&data);
            super::manifests(&data[1..]);
        }
    }
}
