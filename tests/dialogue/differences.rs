//! Where memcached 1.6.18 answers differently, on purpose: `tests/dialogues/differences.txt`.

use std::collections::{BTreeMap, HashMap};

use super::text::{Dialogue, Exchange, parse};

/// What is different in one dialogue.
#[derive(Debug)]
pub(crate) enum Difference {
    /// Something, in a way that cannot be written down.
    Somewhere,
    /// Other answers, by index of exchange.
    Answers(BTreeMap<usize, Exchange>),
}

/// Parses the list and finds the place of each entry in `dialogues`, which are those that memcached can be held to. A line
/// in it that follows none of them, or that gives no reason, is an error.
pub(crate) fn find(text: &str, dialogues: &[Dialogue]) -> Result<HashMap<String, Difference>, String> {
    let mut differences = HashMap::new();
    for listed in parse("differences.txt", text)? {
        let told = |error: &str| format!("{} ({}): {error}", listed.place, listed.name);
        if listed.because.is_none() {
            return Err(told("no reason is given"));
        }
        let dialogue = dialogues.iter().find(|dialogue| dialogue.name == listed.name);
        let dialogue = dialogue.ok_or_else(|| told("there is no such dialogue"))?;
        let difference = if listed.exchanges.is_empty() {
            Difference::Somewhere
        } else {
            Difference::Answers(answers(&listed, dialogue).map_err(|error| told(&error))?)
        };
        if differences.insert(listed.name.clone(), difference).is_some() {
            return Err(told("listed twice"));
        }
    }
    Ok(differences)
}

/// Each listed exchange is the next one of the dialogue that begins with the same lines.
fn answers(listed: &Dialogue, dialogue: &Dialogue) -> Result<BTreeMap<usize, Exchange>, String> {
    let mut answers = BTreeMap::new();
    let mut from = 0;
    for exchange in &listed.exchanges {
        let begins_so = |other: &Exchange| {
            let mut pairs = exchange.sent.iter().zip(&other.sent);
            other.sent.len() >= exchange.sent.len()
                && pairs.all(|(one, other)| one.text == other.text && one.connection == other.connection)
        };
        let sent = || exchange.sent.first().map_or("", |sent| &sent.text);
        let found = dialogue.exchanges[from..].iter().position(begins_so);
        let index = from + found.ok_or_else(|| format!("nowhere is \"{}\" sent", sent()))?;
        answers.insert(index, exchange.clone());
        from = index + 1;
    }
    Ok(answers)
}
