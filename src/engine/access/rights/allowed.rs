//! Who may use an administrative command: a column of the table of commands, so that each has to state it.

use crate::engine::access::rights::Rights;
use crate::protocol::{Refusal, Words};

/// Who may use a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// Every user: it shows the user's own items, or what is no secret.
    Everyone,
    /// Users who may write: it drops the user's own items.
    Writers,
    /// Users without a prefix: it shows items or clients of others.
    Overseers,
    /// Users without a prefix who may write: it changes the server for all.
    Operators,
    /// It depends on the next word: `""` stands for none, and words that are not listed are for operators only.
    ByWord(&'static [(&'static str, Allowed)]),
}

impl Allowed {
    /// The uses that it distinguishes: for each the words behind the command's name, and who may make it, which is
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

    /// Who may use the command with these `words`; never [`Allowed::ByWord`].
    pub(in crate::engine) fn with(self, mut words: Words<'_>) -> Allowed {
        let mut allowed = self;
        while let Allowed::ByWord(rows) = allowed {
            let word = words.next().unwrap_or_default();
            let row = rows.iter().find(|(known, _)| known.as_bytes() == word);
            allowed = row.map_or(Allowed::Operators, |&(_, allowed)| allowed);
        }
        allowed
    }

    /// The refusal for a user with `rights`; `None` if the command is allowed. [`Allowed::ByWord`] counts as an unknown
    /// word.
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
