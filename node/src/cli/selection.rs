//! Which resources the words of a command line mean.

use std::collections::BTreeMap;

use cleat_datastore::store::Filter;
use cleat_datastore::{Key, Kind};

use super::args::kinds_help;
use super::{Code, Failure};

/// The namespace of those who do not think in namespaces.
pub(super) const DEFAULT_NAMESPACE: &str = "default";

/// Resources that are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// One, by name.
    One(Key),
    /// All of a kind that have a name, in whichever namespace.
    Named(Kind, String),
    /// All that pass.
    All(Kind, Filter),
}

/// In which namespaces to look.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope<'a> {
    /// The one that was named.
    pub(super) namespace: Option<&'a str>,
    /// All.
    pub(super) all: bool,
}

impl Scope<'_> {
    /// Whether it is worth saying in which namespace something is.
    pub(super) fn told(&self) -> bool {
        self.all || self.namespace.is_some()
    }
}

/// What `KIND`, `KIND,KIND`, `KIND NAME...`, `KIND/NAME...` and `all` mean.
pub(super) fn select(words: &[String], scope: Scope<'_>) -> Result<Vec<Wanted>, Failure> {
    if words.iter().any(String::is_empty) {
        return Err(Failure::new(Code::Usage, "resource name may not be empty"));
    }
    if words.iter().all(|word| word.contains('/')) {
        let pairs = words.iter().filter_map(|word| word.split_once('/'));
        return pairs
            .map(|(word, name)| named(kind(word)?, name, scope))
            .collect();
    }
    let Some((first, names)) = words.split_first() else {
        return Ok(Vec::new());
    };
    if names.is_empty() && first == "all" {
        return Ok(Kind::ALL
            .into_iter()
            .filter(|kind| scope.namespace.is_none() || kind.namespaced())
            .map(|kind| all(kind, scope))
            .collect());
    }
    if names.is_empty() {
        let kinds = first.split(',').map(kind);
        return kinds
            .map(|kind| {
                let kind = kind?;
                fits(kind, scope)?;
                Ok(all(kind, scope))
            })
            .collect();
    }
    let kind = kind(first)?;
    names.iter().map(|name| named(kind, name, scope)).collect()
}

/// The keys that words mean; each must say its name.
pub(super) fn keys(words: &[String], scope: Scope<'_>, verb: &str) -> Result<Vec<Key>, Failure> {
    select(words, scope)?
        .into_iter()
        .map(|wanted| match wanted {
            Wanted::One(key) => Ok(key),
            Wanted::Named(kind, _) | Wanted::All(kind, _) => Err(Failure::new(
                Code::Usage,
                format!(
                    "{verb} what? name the {kind}, as in `cleat {verb} {} NAME`",
                    word(kind)
                ),
            )),
        })
        .collect()
}

/// The kind that a word means.
pub(super) fn kind(word: &str) -> Result<Kind, Failure> {
    Kind::from_word(word).ok_or_else(|| {
        let message = format!(
            "resource type '{word}' is not supported; known: {}",
            kinds_help()
        );
        Failure::new(Code::Usage, message)
    })
}

/// The word for a kind on the command line.
pub(super) fn word(kind: Kind) -> String {
    kind.name().to_lowercase()
}

/// `kind/name`, as it can be given back to a command.
pub(super) fn short(key: &Key) -> String {
    format!("{}/{}", key.sort().to_lowercase(), key.name())
}

/// The key of a kind's object, in the namespace that is meant.
pub(super) fn key(kind: Kind, name: &str, scope: Scope<'_>) -> Result<Key, Failure> {
    fits(kind, scope)?;
    Ok(if kind.namespaced() {
        Key::namespaced(kind, scope.namespace.unwrap_or(DEFAULT_NAMESPACE), name)
    } else {
        Key::global(kind, name)
    })
}

fn named(kind: Kind, name: &str, scope: Scope<'_>) -> Result<Wanted, Failure> {
    if name.is_empty() {
        return Err(Failure::new(Code::Usage, "resource name may not be empty"));
    }
    if scope.all && kind.namespaced() {
        return Ok(Wanted::Named(kind, name.to_owned()));
    }
    Ok(Wanted::One(key(kind, name, scope)?))
}

fn all(kind: Kind, scope: Scope<'_>) -> Wanted {
    let filter = if kind.namespaced() && !scope.all {
        let namespace = scope.namespace.unwrap_or(DEFAULT_NAMESPACE);
        Filter::Namespace(kind, namespace.to_owned())
    } else {
        Filter::kind(kind)
    };
    Wanted::All(kind, filter)
}

fn fits(kind: Kind, scope: Scope<'_>) -> Result<(), Failure> {
    if scope.namespace.is_some() && !kind.namespaced() {
        return Err(Failure::new(
            Code::Usage,
            format!("{kind} is not namespaced"),
        ));
    }
    Ok(())
}

/// Groups things by the kind of their key, kinds in the order in which they come first.
pub(super) fn by_kind<T>(things: Vec<(Kind, T)>) -> Vec<(Kind, Vec<T>)> {
    let mut places: BTreeMap<Kind, usize> = BTreeMap::new();
    let mut groups: Vec<(Kind, Vec<T>)> = Vec::new();
    for (kind, thing) in things {
        let place = *places.entry(kind).or_insert_with(|| {
            groups.push((kind, Vec::new()));
            groups.len() - 1
        });
        groups[place].1.push(thing);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_mean_resources() {
        let scope = |namespace, all| Scope { namespace, all };
        let np = |namespace: &str, name: &str| {
            Wanted::One(Key::namespaced(Kind::NetworkPolicy, namespace, name))
        };
        for (words, scope, expected) in [
            (
                vec!["np", "a", "b"],
                scope(None, false),
                vec![np("default", "a"), np("default", "b")],
            ),
            (vec!["np", "a"], scope(Some("x"), false), vec![np("x", "a")]),
            (
                vec!["policies", "a"],
                scope(None, true),
                vec![Wanted::Named(Kind::NetworkPolicy, "a".to_owned())],
            ),
            (
                vec!["np/a", "tier/b"],
                scope(None, false),
                vec![
                    np("default", "a"),
                    Wanted::One(Key::global(Kind::Tier, "b")),
                ],
            ),
            (
                vec!["Tiers"],
                scope(None, false),
                vec![Wanted::All(Kind::Tier, Filter::kind(Kind::Tier))],
            ),
            (
                vec!["tier,wep"],
                scope(None, true),
                vec![
                    Wanted::All(Kind::Tier, Filter::kind(Kind::Tier)),
                    Wanted::All(Kind::WorkloadEndpoint, Filter::kind(Kind::WorkloadEndpoint)),
                ],
            ),
        ] {
            let words: Vec<String> = words.into_iter().map(str::to_owned).collect();
            assert_eq!(select(&words, scope).unwrap(), expected, "{words:?}");
        }
        let everything = select(&["all".to_owned()], scope(None, true)).unwrap();
        assert_eq!(everything.len(), Kind::ALL.len());
    }

    #[test]
    fn words_that_mean_nothing_are_refused() {
        for (words, namespace, said) in [
            (
                vec!["somekind"],
                None,
                "resource type 'somekind' is not supported",
            ),
            (vec!["tier", ""], None, "name may not be empty"),
            (vec!["tier/"], None, "name may not be empty"),
            (vec!["tier", "a"], Some("x"), "Tier is not namespaced"),
            (vec!["tier"], Some("x"), "Tier is not namespaced"),
        ] {
            let words: Vec<String> = words.into_iter().map(str::to_owned).collect();
            let scope = Scope {
                namespace,
                all: false,
            };
            let failure = select(&words, scope).unwrap_err();
            assert_eq!(failure.code, Code::Usage, "{words:?}");
            assert!(
                failure.message.contains(said),
                "{words:?}: {}",
                failure.message
            );
        }
    }
}
