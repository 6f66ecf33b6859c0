//! The two names of a policy: the one it is stored under, and the one its user gave it.
//!
//! Clients since v3.30 keep the user's name in an annotation and the tier in a label. Older ones stored
//! a policy of the default tier under its name with `default.` before it, and noted nothing.

use serde_json::Value;

use super::Metadata;

/// The annotation that holds JSON with the user's name.
const NAME_ANNOTATION: &str = "projectcalico.org/metadata";
/// The label that tells a policy's tier.
const TIER_LABEL: &str = "projectcalico.org/tier";
pub(crate) const DEFAULT_TIER: &str = "default";

/// The name that the user gave.
pub(crate) fn read<'a>(metadata: &'a Metadata, tier: Option<&str>) -> &'a str {
    let noted = metadata.annotations.get(NAME_ANNOTATION);
    let noted = noted.and_then(|text| serde_json::from_str::<Value>(text).ok());
    if let Some(name) = noted.as_ref().and_then(|noted| noted.get("name")?.as_str()) {
        // The note is good only for the policy it was written to: its name, or what older clients made of it.
        for candidate in [
            Some(metadata.name.as_str()),
            metadata.name.strip_prefix("default."),
        ] {
            if candidate == Some(name) {
                return candidate.unwrap_or_default();
            }
        }
    }
    match tier {
        None | Some(DEFAULT_TIER) => metadata
            .name
            .strip_prefix("default.")
            .unwrap_or(&metadata.name),
        Some(_) => &metadata.name,
    }
}

/// Notes the name that the user gave, and the tier.
pub(crate) fn write(metadata: &mut Metadata, user_name: &str, tier: Option<&str>) {
    let tier = tier.unwrap_or(DEFAULT_TIER).to_owned();
    metadata.labels.insert(TIER_LABEL.to_owned(), tier);
    let noted = metadata.annotations.entry(NAME_ANNOTATION.to_owned());
    let noted = noted.or_default();
    // Other clients may keep more in the note than the name.
    let mut note = match serde_json::from_str(noted) {
        Ok(Value::Object(note)) => note,
        Ok(_) | Err(_) => serde_json::Map::new(),
    };
    note.insert("name".to_owned(), user_name.into());
    *noted = Value::Object(note).to_string();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_name_is_the_noted_one_or_what_older_clients_made_it_from() {
        for (stored, noted, tier, user) in [
            ("web", None, None, "web"),
            ("default.web", None, None, "web"),
            ("default.web", None, Some("default"), "web"),
            ("default.web", None, Some("sec"), "default.web"),
            ("sec.web", None, Some("sec"), "sec.web"),
            (
                "default.web",
                Some(r#"{"name":"default.web"}"#),
                None,
                "default.web",
            ),
            ("default.web", Some(r#"{"name":"web"}"#), None, "web"),
            ("web", Some("no JSON"), None, "web"),
            ("ossg.default.3ab1", None, None, "ossg.default.3ab1"),
        ] {
            let mut metadata = Metadata {
                name: stored.to_owned(),
                ..Metadata::default()
            };
            if let Some(noted) = noted {
                metadata
                    .annotations
                    .insert(NAME_ANNOTATION.to_owned(), noted.to_owned());
            }
            assert_eq!(read(&metadata, tier), user, "{stored} {noted:?} {tier:?}");
        }
    }

    #[test]
    fn writing_keeps_what_others_noted() {
        let mut metadata = Metadata::default();
        let old = r#"{"name":"x","uid":"1"}"#.to_owned();
        metadata.annotations.insert(NAME_ANNOTATION.to_owned(), old);
        write(&mut metadata, "web", None);
        assert_eq!(
            metadata.annotations[NAME_ANNOTATION],
            r#"{"name":"web","uid":"1"}"#
        );
        assert_eq!(metadata.labels[TIER_LABEL], "default");
    }
}
