//! Names of objects, labels and annotations.

use std::collections::BTreeMap;

use super::Faults;

const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;
const MAX_ANNOTATIONS: usize = 256 << 10;

/// A name of most objects.
pub(crate) fn check_name(name: &str, faults: &mut Faults) {
    let alphanumeric = |byte: u8| byte.is_ascii_alphanumeric();
    faults.require(is_word(name, MAX_NAME, alphanumeric, is_inner), "", || {
        format!("{name:?} is no name of letters, digits, `-`, `_` and `.`")
    });
}

/// A name of a profile, as readers of endpoints have it.
pub(super) fn check_profile_name(name: &str, faults: &mut Faults) {
    if faults.is_strict() {
        return check_name(name, faults);
    }
    let inner = |byte: u8| is_inner(byte) || byte == b'/';
    faults.require(is_word(name, MAX_NAME, inner, inner), "", || {
        format!("{name:?} is no name of a profile")
    });
}

/// A DNS label, RFC 1123 §2.1.
pub(super) fn check_dns_label(name: &str, faults: &mut Faults) {
    faults.require(is_dns_label(name), "", || {
        format!("{name:?} is no name of lower-case letters, digits and `-`")
    });
}

/// A policy's name: one label, or a tier's name and a label; what orchestrators write may have more.
pub(super) fn check_policy_name(name: &str, orchestrators: &[&str], faults: &mut Faults) {
    let written_by_one = orchestrators.iter().any(|prefix| name.starts_with(prefix));
    let fits = is_dns_subdomain(name) && (written_by_one || name.matches('.').count() <= 1);
    faults.require(fits, "", || {
        format!(
            "{name:?} is no name of lower-case letters, digits and `-`, with a tier's before it or without"
        )
    });
}

pub(super) fn check_labels(labels: &BTreeMap<String, String>, faults: &mut Faults) {
    let alphanumeric = |byte: u8| byte.is_ascii_alphanumeric();
    for (key, value) in labels {
        check_key(key, false, faults);
        let fits = value.is_empty() || is_word(value, MAX_LABEL, alphanumeric, is_inner);
        faults.require(fits, &format!("[{key:?}]"), || {
            format!(
                "{value:?} is no value of at most {MAX_LABEL} letters, digits, `-`, `_` and `.`"
            )
        });
    }
}

pub(super) fn check_annotations(annotations: &BTreeMap<String, String>, faults: &mut Faults) {
    for key in annotations.keys() {
        check_key(key, true, faults);
    }
    let size: usize = annotations
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    faults.require(size <= MAX_ANNOTATIONS, "", || {
        format!("take {size} bytes, more than {MAX_ANNOTATIONS}")
    });
}

pub(super) fn is_dns_subdomain(name: &str) -> bool {
    name.len() <= MAX_NAME && name.split('.').all(|label| is_lower(label, MAX_NAME))
}

fn is_dns_label(name: &str) -> bool {
    is_lower(name, MAX_LABEL)
}

fn is_lower(label: &str, max: usize) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    is_word(label, max, alphanumeric, |byte| {
        alphanumeric(byte) || byte == b'-'
    })
}

/// A key of a label or annotation: a name, with a domain and a slash before it or without.
fn check_key(key: &str, any_case: bool, faults: &mut Faults) {
    let lowered = if any_case {
        key.to_ascii_lowercase()
    } else {
        key.to_owned()
    };
    let (domain, name) = match lowered.split_once('/') {
        Some((domain, name)) => (Some(domain), name),
        None => (None, lowered.as_str()),
    };
    let alphanumeric = |byte: u8| byte.is_ascii_alphanumeric();
    let fits =
        is_word(name, MAX_LABEL, alphanumeric, is_inner) && domain.is_none_or(is_dns_subdomain);
    faults.require(
        fits,
        &format!("[{key:?}]"),
        || "is no key of letters, digits, `-`, `_` and `.`, with a domain and `/` before it or without",
    );
}

fn is_inner(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)
}

/// Whether a text begins and ends with outer bytes and has inner ones between.
pub(super) fn is_word(
    text: &str,
    max: usize,
    outer: impl Fn(u8) -> bool,
    inner: impl Fn(u8) -> bool,
) -> bool {
    let bytes = text.as_bytes();
    match bytes {
        [] => false,
        [first, .., last] => {
            bytes.len() <= max
                && outer(*first)
                && outer(*last)
                && bytes.iter().all(|byte| inner(*byte))
        }
        [only] => outer(*only),
    }
}
