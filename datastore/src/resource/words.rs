//! Enumerations that are written as one word each.

/// Defines them, with the word of each value if it is not the value's name.
macro_rules! words {
    ($(
        $(#[$meta:meta])*
        pub enum $name:ident {
            $($(#[$doc:meta])* $value:ident $(= $word:literal)?,)*
        }
    )*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$doc])* $value,)*
        }

        impl $name {
            /// Every value.
            pub const ALL: [$name; [$(stringify!($value)),*].len()] = [$($name::$value),*];

            /// The word it is written as.
            pub fn word(self) -> &'static str {
                match self {
                    $($name::$value => [$($word,)? stringify!($value)][0],)*
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.word())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::value::ValueError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $name::ALL.into_iter().find(|value| value.word() == text).ok_or_else(|| {
                    let known = $name::ALL.map($name::word).join(", ");
                    $crate::value::ValueError(format!("{text:?} is none of {known}"))
                })
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.word())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
pub(crate) use words;

words! {
    /// Whether something is done, where that is written as a word.
    pub enum Enabled {
        /// It is.
        Enabled,
        /// It is not.
        Disabled,
    }
}
