//! What people and programs read: the answers of the API as typed structs, and their printed forms.
//!
//! The daemon fills the structs of [`answers`], the socket carries them as JSON, the command line prints them. `-o json` is the
//! struct as it is: its names are an interface and only ever grow.

pub mod answers;
mod table;

pub use table::{Table, duration};

/// A form of printing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// A table for people.
    #[default]
    Table,
    /// A table with more columns.
    Wide,
    /// JSON, indented.
    Json,
    /// YAML.
    Yaml,
    /// `kind/name` lines.
    Name,
}

/// Prints a value as JSON or YAML, with a line feed at its end.
pub fn structured(format: Format, value: &impl serde::Serialize) -> String {
    match format {
        Format::Yaml => serde_yaml::to_string(value).unwrap_or_else(|error| format!("# {error}\n")),
        Format::Table | Format::Wide | Format::Json | Format::Name => {
            serde_json::to_string_pretty(value).unwrap_or_else(|error| format!("\"{error}\""))
                + "\n"
        }
    }
}
