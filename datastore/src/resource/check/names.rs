//! Names of objects, labels and annotations.

use std::collections::BTreeMap;

use super::{Checked, Fault, require};

const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;
const MAX_ANNOTATIONS: usize = 256 << 10;

/// A name of most objects.
pub(super) fn check_name(name: &str) -> Checked {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    require(
        is_word(name, MAX_NAME, |byte| byte.is_ascii_alphanumeric(), inner),
        "",
        || format!("{name:?} is no name of letters, digits, `-`, `_` and `.`"),
    )
}

/// A DNS label, RFC 1123 §2.1.
pub(super) fn check_dns_label(name: &str) -> Checked {
    require(is_dns_label(name), "", || {
        format!("{name:?} is no name of lower-case letters, digits and `-`")
    })
}

/// A policy's name: one label, or a tier's name and a label; what orchestrators write may have more.
pub(super) fn check_policy_name(name: &str, orchestrators: &[&str]) -> Checked {
    let written_by_one = orchestrators.iter().any(|prefix| name.starts_with(prefix));
    let fits = is_dns_subdomain(name) && (written_by_one || name.matches('.').count() <= 1);
    require(fits, "", || {
        format!(
            "{name:?} is no name of lower-case letters, digits and `-`, with a tier's before it or without"
        )
    })
}

pub(super) fn check_labels(labels: &BTreeMap<String, String>) -> Checked {
    for (key, value) in labels {
        check_key(key, false)?;
        let alphanumeric = |byte: u8| byte.is_ascii_alphanumeric();
        let fits = value.is_empty() || is_word(value, MAX_LABEL, alphanumeric, is_inner);
        require(fits, &format!("[{key:?}]"), || {
            format!(
                "{value:?} is no value of at most {MAX_LABEL} letters, digits, `-`, `_` and `.`"
            )
        })?;
    }
    Ok(())
}

pub(super) fn check_annotations(annotations: &BTreeMap<String, String>) -> Checked {
    for key in annotations.keys() {
        check_key(key, true)?;
    }
    let size: usize = annotations
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    require(size <= MAX_ANNOTATIONS, "", || {
        format!("take {size} bytes, more than {MAX_ANNOTATIONS}")
    })
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
fn check_key(key: &str, any_case: bool) -> Checked {
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
    if is_word(name, MAX_LABEL, alphanumeric, is_inner) && domain.is_none_or(is_dns_subdomain) {
        Ok(())
    } else {
        let reason = "is no key of letters, digits, `-`, `_` and `.`, with a domain and `/` before it or without";
        Err(Fault::new(format!("[{key:?}]"), reason))
    }
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
