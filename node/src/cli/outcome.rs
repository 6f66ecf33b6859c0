//! What became of resources that were to be written or deleted, told as calicoctl tells it.
//!
//! Everything is tried, whatever fails; the answer is a sentence with the number done, and every failure. A store that does not
//! answer ends the work, since each further resource would wait for it as long.

use std::fmt::Write as _;

use cleat_datastore::{Key, Kind, Problem, store::StoreError};

use super::{Code, Failure};

/// What is done to resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Apply,
    Create,
    Delete,
    Patch,
    Replace,
    Validate,
}

impl Verb {
    /// The word for it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Verb::Apply => "apply",
            Verb::Create => "create",
            Verb::Delete => "delete",
            Verb::Patch => "patch",
            Verb::Replace => "replace",
            Verb::Validate => "validate",
        }
    }

    fn done(self) -> &'static str {
        match self {
            Verb::Apply => "applied",
            Verb::Create => "created",
            Verb::Delete => "deleted",
            Verb::Patch => "patched",
            Verb::Replace => "replaced",
            Verb::Validate => "validated",
        }
    }
}

/// What became of some resources.
#[derive(Debug)]
pub(super) struct Outcome {
    verb: Verb,
    /// Their kind, if all are of one.
    kind: Option<Kind>,
    wanted: usize,
    done: usize,
    /// The place of each that failed among all, and why.
    failed: Vec<(usize, Failure)>,
}

impl Outcome {
    /// Nothing done yet with these.
    pub(super) fn new<'a>(verb: Verb, keys: impl IntoIterator<Item = &'a Key>) -> Self {
        let kinds: Vec<Option<Kind>> = keys.into_iter().map(Key::kind).collect();
        Self::of_kinds(verb, &kinds)
    }

    /// Nothing done yet with things of these kinds.
    pub(super) fn of_kinds(verb: Verb, kinds: &[Option<Kind>]) -> Self {
        let first = kinds.first().copied().flatten();
        Self {
            verb,
            kind: first.filter(|_| kinds.iter().all(|kind| *kind == first)),
            wanted: kinds.len(),
            done: 0,
            failed: Vec::new(),
        }
    }

    /// Notes what became of the next one. False if there is no use in going on.
    pub(super) fn note(&mut self, result: Result<(), Failure>) -> bool {
        match result {
            Ok(()) => self.done += 1,
            Err(failure) => {
                let over = failure.code == Code::NoStore;
                self.failed.push((self.done + self.failed.len(), failure));
                return !over;
            }
        }
        true
    }

    /// Refuses everything, because of what is wrong with some of it.
    pub(super) fn refuse(&self, problems: &[Problem]) -> Failure {
        let plural = if problems.len() == 1 { "" } else { "s" };
        let nothing = match self.verb {
            Verb::Validate => "",
            Verb::Delete => ", nothing was deleted",
            Verb::Apply | Verb::Create | Verb::Patch | Verb::Replace => ", nothing was written",
        };
        let mut message = format!(
            "{}: {} problem{plural}{nothing}",
            self.failure(),
            problems.len()
        );
        for problem in problems {
            let _ = write!(message, "\n  {problem}");
        }
        Failure::told(Code::Failed, message)
    }

    /// The sentence for what was done, unless nothing was, and the failure if something failed.
    pub(super) fn finish(mut self) -> (String, Result<(), Failure>) {
        let (verb, done, wanted) = (self.verb.done(), self.done, self.wanted);
        let quoted = self
            .kind
            .map(|kind| format!(" '{kind}'"))
            .unwrap_or_default();
        if self.failed.is_empty() {
            let noun = if self.verb == Verb::Patch {
                "resource"
            } else {
                "resource(s)"
            };
            return (
                format!("Successfully {verb} {done}{quoted} {noun}\n"),
                Ok(()),
            );
        }
        if self.failed.len() == 1
            && let Some((_, failure)) = self.failed.pop_if(|_| wanted == 1)
        {
            let reason = if failure.message.contains('\n') {
                format!("\n  {}", failure.message.replace('\n', "\n  "))
            } else {
                format!(" {}", failure.message)
            };
            let message = format!("{}:{reason}", self.failure());
            return (String::new(), Err(Failure::told(failure.code, message)));
        }
        let code = self.code();
        let mut reasons = String::new();
        for (_, failure) in &self.failed {
            let _ = write!(reasons, "\n  {}", failure.message.replace('\n', "\n  "));
        }
        if done == 0 {
            let message = format!("{}:{reasons}", self.failure());
            return (String::new(), Err(Failure::told(code, message)));
        }
        // What failed need not come last; then it is not the first that were done.
        let first = if self.failed.iter().all(|(place, _)| *place >= done) {
            "the first "
        } else {
            ""
        };
        let said =
            format!("Partial success: {verb} {first}{done} out of {wanted}{quoted} resources:\n");
        let message = format!("Hit error(s):{reasons}");
        (said, Err(Failure::told(Code::Failed, message)))
    }

    /// The code of a failure that all share, if nothing was done.
    fn code(&self) -> Code {
        let mut codes = self.failed.iter().map(|(_, failure)| failure.code);
        match codes.next() {
            Some(first) if codes.all(|code| code == first) => first,
            _ => Code::Failed,
        }
    }

    fn failure(&self) -> String {
        let verb = self.verb.word();
        match (self.kind, self.wanted) {
            (Some(kind), 1) => format!("Failed to {verb} '{kind}' resource"),
            (None, 1) => format!("Failed to {verb} resource"),
            (Some(kind), _) => format!("Failed to {verb} any '{kind}' resources"),
            (None, _) => format!("Failed to {verb} any resources"),
        }
    }
}

/// A store's refusal in the words of calicoctl, and what to do about it.
pub(super) fn explain(verb: Verb, error: &StoreError) -> Failure {
    let hint = "get it again, make the change there, and use that";
    let (code, message) = match error {
        StoreError::Exists(key) => (Code::Conflict, format!("resource already exists: {key}")),
        StoreError::NotFound(key) => (Code::Failed, format!("resource does not exist: {key}")),
        StoreError::Conflict {
            key,
            expected,
            actual,
        } => (
            Code::Conflict,
            format!(
                "update conflict: {key}: it is at resourceVersion {actual}, not {expected}; {hint}"
            ),
        ),
        StoreError::Fixed(key) => return unsupported(verb, key, fixed(key)),
        StoreError::Invalid(problem) => (Code::Failed, problem.to_string()),
        StoreError::Unavailable(_) => (
            Code::NoStore,
            format!(
                "{error}; `cleat config show` tells which store is used, ETCD_ENDPOINTS names another"
            ),
        ),
    };
    Failure::told(code, message)
}

/// What may not be done to a resource.
pub(super) fn unsupported(verb: Verb, key: &Key, reason: &str) -> Failure {
    let verb = verb.word();
    Failure::told(
        Code::Refused,
        format!("operation {verb} is not supported on {key}: {reason}"),
    )
}

fn fixed(key: &Key) -> &'static str {
    match key.kind() {
        Some(Kind::Profile) => "it is in every store, allows everything, and cannot be changed",
        Some(Kind::Tier) => "every store has this tier, and policies count on it",
        _ => "it cannot be changed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its name, what is done to what, what becomes of each, what is said, and how it fails.
    type Case = (
        &'static str,
        Verb,
        Vec<Key>,
        Vec<Result<(), Failure>>,
        &'static str,
        Option<(Code, &'static str)>,
    );

    #[test]
    fn what_was_done_is_told_as_calicoctl_tells_it() {
        let tier = |name: &str| Key::global(Kind::Tier, name);
        let node = || Key::global(Kind::Node, "n");
        let ok = || Ok(());
        let bad = |code| Err(Failure::told(code, "why"));
        let cases: Vec<Case> = vec![
            (
                "one",
                Verb::Apply,
                vec![tier("a")],
                vec![ok()],
                "Successfully applied 1 'Tier' resource(s)\n",
                None,
            ),
            (
                "two kinds",
                Verb::Create,
                vec![tier("a"), node()],
                vec![ok(), ok()],
                "Successfully created 2 resource(s)\n",
                None,
            ),
            (
                "patched",
                Verb::Patch,
                vec![node()],
                vec![ok()],
                "Successfully patched 1 'Node' resource\n",
                None,
            ),
            (
                "the only one",
                Verb::Create,
                vec![tier("a")],
                vec![bad(Code::Conflict)],
                "",
                Some((Code::Conflict, "Failed to create 'Tier' resource: why")),
            ),
            (
                "all",
                Verb::Replace,
                vec![tier("a"), tier("b")],
                vec![bad(Code::Conflict), bad(Code::Conflict)],
                "",
                Some((
                    Code::Conflict,
                    "Failed to replace any 'Tier' resources:\n  why\n  why",
                )),
            ),
            (
                "all, for several reasons",
                Verb::Apply,
                vec![tier("a"), node()],
                vec![bad(Code::Conflict), bad(Code::Failed)],
                "",
                Some((Code::Failed, "Failed to apply any resources:\n  why\n  why")),
            ),
            (
                "the last",
                Verb::Apply,
                vec![tier("a"), tier("b"), tier("c")],
                vec![ok(), ok(), bad(Code::Conflict)],
                "Partial success: applied the first 2 out of 3 'Tier' resources:\n",
                Some((Code::Failed, "Hit error(s):\n  why")),
            ),
            (
                "the first",
                Verb::Apply,
                vec![tier("a"), node()],
                vec![bad(Code::Conflict), ok()],
                "Partial success: applied 1 out of 2 resources:\n",
                Some((Code::Failed, "Hit error(s):\n  why")),
            ),
        ];
        for (case, verb, keys, results, said, failure) in cases {
            let mut outcome = Outcome::new(verb, &keys);
            for result in results {
                assert!(outcome.note(result), "{case}");
            }
            let (text, result) = outcome.finish();
            assert_eq!(text, said, "{case}");
            let result = result.err().map(|failure| (failure.code, failure.message));
            let expected = failure.map(|(code, message)| (code, message.to_owned()));
            assert_eq!(result, expected, "{case}");
        }
    }

    #[test]
    fn a_store_that_is_away_is_not_asked_for_each_resource() {
        let keys = [Key::global(Kind::Tier, "a"), Key::global(Kind::Tier, "b")];
        let mut outcome = Outcome::new(Verb::Apply, &keys);
        let away = StoreError::Unavailable("x".to_owned());
        assert!(!outcome.note(Err(explain(Verb::Apply, &away))));
        let (_, result) = outcome.finish();
        assert_eq!(result.unwrap_err().code, Code::NoStore);
    }
}
