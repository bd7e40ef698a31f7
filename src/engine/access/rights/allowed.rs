//! Who may use an administrative command: a column of their table, so that a new one has to say it.

use crate::engine::access::rights::Rights;
use crate::protocol::{Refusal, Words};

/// Whom a command is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// Every user: it shows what is the user's own, or what is everybody's business.
    Everyone,
    /// Those who may write: it drops what is the user's own.
    Writers,
    /// Those without a prefix: it shows what belongs to others.
    Overseers,
    /// Those without a prefix who may write: it changes the server for all.
    Operators,
    /// It depends on the next word: these are known, `""` is none at all, and any other is for operators only.
    ByWord(&'static [(&'static str, Allowed)]),
}

impl Allowed {
    /// The kinds of use that it tells apart: for each the words behind the command's name, and whom it is for, which is
    /// never [`Allowed::ByWord`].
    pub fn kinds(self) -> Vec<(String, Allowed)> {
        let Allowed::ByWord(rows) = self else { return vec![(String::new(), self)] };
        let mut all = Vec::new();
        for (word, allowed) in rows {
            let kinds = allowed.kinds().into_iter();
            all.extend(
                kinds.map(|(words, allowed)| (format!("{word} {words}").trim_end().to_owned(), allowed)),
            );
        }
        all
    }

    /// Whom a command is for that is used with `words`; never [`Allowed::ByWord`].
    pub(in crate::engine) fn with(self, mut words: Words<'_>) -> Allowed {
        let mut allowed = self;
        while let Allowed::ByWord(rows) = allowed {
            let word = words.next().unwrap_or_default();
            let row = rows.iter().find(|(known, _)| known.as_bytes() == word);
            allowed = row.map_or(Allowed::Operators, |&(_, allowed)| allowed);
        }
        allowed
    }

    /// What a user with `rights` is told who may not; `None` if it may. [`Allowed::ByWord`] is taken for what its
    /// unknown words are.
    pub fn refusal(self, rights: &Rights) -> Option<Refusal> {
        let (writes, oversees) = match self {
            Allowed::Everyone => (false, false),
            Allowed::Writers => (true, false),
            Allowed::Overseers => (false, true),
            Allowed::Operators | Allowed::ByWord(_) => (true, true),
        };
        if oversees && !rights.prefix().is_empty() {
            Some(Refusal::NotByPrefix)
        } else if writes && !rights.may_write() {
            Some(Refusal::ReadOnly)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_decide_and_unknown_ones_are_for_operators() {
        let inner: &[(&str, Allowed)] = &[("dump", Allowed::Overseers)];
        let inner = Box::leak(Box::new(inner));
        let rows =
            vec![("", Allowed::Everyone), ("reset", Allowed::Writers), ("detail", Allowed::ByWord(inner))];
        let allowed = Allowed::ByWord(rows.leak());
        for (words, expected) in [
            ("", Allowed::Everyone),
            ("  ", Allowed::Everyone),
            (" reset now", Allowed::Writers),
            ("detail dump", Allowed::Overseers),
            ("detail", Allowed::Operators),
            ("detail dum", Allowed::Operators),
            ("rese", Allowed::Operators),
            ("RESET", Allowed::Operators),
        ] {
            assert_eq!(allowed.with(Words::new(words.as_bytes())), expected, "{words:?}");
        }
        assert_eq!(Allowed::Writers.with(Words::new(b"reset")), Allowed::Writers);
    }
}
