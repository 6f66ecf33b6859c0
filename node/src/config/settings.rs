//! The macro that writes a group of settings once: the struct, its defaults, and the documentation of each field.

/// A documented field of the configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Path of the key in the file, `datastore.caFile`.
    pub key: String,
    /// What the field does.
    pub doc: String,
    /// Unit or set of values.
    pub unit: &'static str,
    /// The default in words, where the value alone does not tell it.
    pub shown_default: Option<&'static str>,
    /// Why the default is what it is.
    pub reason: &'static str,
    /// Environment variables that set the field, the strongest first.
    pub env: &'static [&'static str],
    /// True for a value that must not be printed.
    pub secret: bool,
}

/// Defines a struct of settings with serde's attributes, `Default`, and `fields(prefix)`.
macro_rules! settings {
    (
        $(#[doc = $about:literal])+
        $name:ident {
            $(
                $(#[doc = $doc:literal])+
                $field:ident as $key:literal : $ty:ty = $default:expr,
                unit $unit:literal, because $reason:literal
                $(, shown $shown:literal)?
                $(, env [$($env:literal),*])?
                $(, secret $secret:literal)?
                ;
            )*
            $(groups { $(
                $(#[doc = $group_doc:literal])+
                $group:ident as $group_key:literal : $group_ty:ident;
            )* })?
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $(
                $(#[doc = $doc])+
                #[serde(rename = $key)]
                pub $field: $ty,
            )*
            $($(
                $(#[doc = $group_doc])+
                #[serde(rename = $group_key)]
                pub $group: $group_ty,
            )*)?
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* $($($group: $group_ty::default(),)*)? }
            }
        }

        impl $name {
            fn fields(prefix: &str, into: &mut Vec<$crate::config::Field>) {
                $(
                    into.push($crate::config::Field {
                        key: format!("{prefix}{}", $key),
                        doc: [$($doc),+].map(str::trim).join(" "),
                        unit: $unit,
                        shown_default: None $(.or(Some($shown)))?,
                        reason: $reason,
                        env: settings!(@list $([$($env),*])?),
                        secret: false $(|| $secret)?,
                    });
                )*
                $($($group_ty::fields(concat!($group_key, "."), into);)*)?
            }
        }
    };
    (@list) => { &[] };
    (@list [$($env:literal),*]) => { &[$($env),*] };
}
pub(super) use settings;
