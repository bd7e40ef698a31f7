//! What an option is: a row in a table.

use super::Config;
use super::fault::Fault;
use super::given::Given;

/// How an option is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does what memcached's does.
    Implemented,
    /// It is checked, reported by `stats settings` where that has a line for it, and has no effect.
    Accepted,
    /// The server does not start with it: ignoring it would silently drop something that the operator relies on.
    Refused,
}

impl Verdict {
    /// The verdict as the manual says it.
    pub fn words(self) -> &'static str {
        match self {
            Verdict::Implemented => "implemented",
            Verdict::Accepted => "accepted without effect",
            Verdict::Refused => "refused",
        }
    }
}

/// What an option is about; the help text is ordered by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Where to listen.
    Listening,
    /// Memory and items.
    Memory,
    /// Connections and the threads that serve them.
    Connections,
    /// What clients may do.
    Permissions,
    /// The process.
    Process,
    /// Log, help, settings.
    Information,
    /// A sub-option of `-o`.
    Extended,
}

impl Group {
    /// The groups of options, in the order of the help text.
    pub const OF_OPTIONS: [Group; 6] = [
        Group::Listening,
        Group::Memory,
        Group::Connections,
        Group::Permissions,
        Group::Process,
        Group::Information,
    ];

    /// The heading over the group.
    pub fn title(self) -> &'static str {
        match self {
            Group::Listening => "Listening",
            Group::Memory => "Memory and items",
            Group::Connections => "Connections and threads",
            Group::Permissions => "What clients may do",
            Group::Process => "Process",
            Group::Information => "Settings and information",
            Group::Extended => "Sub-options of -o",
        }
    }
}

/// An option, or a sub-option of `-o`.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its letter; `None` for sub-options and the few options that have only a name.
    pub letter: Option<char>,
    /// Its long name, without dashes.
    pub name: &'static str,
    /// What stands for its value in the help text; `None` when it takes none.
    pub value: Option<&'static str>,
    /// Whether it may also stand without its value.
    pub value_is_optional: bool,
    /// The value that is in force when it is not given, written as it would be given.
    pub default: Option<&'static str>,
    /// A value worth showing where there is no default.
    pub sample: Option<&'static str>,
    /// What it is about.
    pub group: Group,
    /// How it is treated.
    pub verdict: Verdict,
    /// What it means, in a sentence; of a refused one: why, and what to do instead.
    pub remark: &'static str,
    /// What is logged in place of a note if it is accepted without effect and somebody may rely on it.
    pub(super) warning: Option<&'static str>,
    /// Abbreviations that are its own although another name begins like them.
    pub(super) abbreviations: &'static [&'static str],
    effect: Effect,
}

/// What giving an option changes.
#[derive(Clone, Copy, Debug)]
enum Effect {
    Nothing,
    Switch(fn(&mut Config)),
    Value(fn(&mut Config, &Given<'_>) -> Result<(), Fault>),
}

/// An option with a letter.
pub(super) const fn option(letter: char, name: &'static str, group: Group) -> Row {
    Row { letter: Some(letter), ..named(name, group) }
}

/// An option, or sub-option, without a letter.
pub(super) const fn named(name: &'static str, group: Group) -> Row {
    Row {
        letter: None,
        name,
        value: None,
        value_is_optional: false,
        default: None,
        sample: None,
        group,
        verdict: Verdict::Implemented,
        remark: "",
        warning: None,
        abbreviations: &[],
        effect: Effect::Nothing,
    }
}

impl Row {
    pub(super) const fn takes(self, value: &'static str) -> Row {
        Row { value: Some(value), ..self }
    }

    pub(super) const fn or_stands_alone(self) -> Row {
        Row { value_is_optional: true, ..self }
    }

    pub(super) const fn default(self, default: &'static str) -> Row {
        Row { default: Some(default), ..self }
    }

    pub(super) const fn sample(self, sample: &'static str) -> Row {
        Row { sample: Some(sample), ..self }
    }

    pub(super) const fn abbreviated(self, abbreviations: &'static [&'static str]) -> Row {
        Row { abbreviations, ..self }
    }

    pub(super) const fn says(self, remark: &'static str) -> Row {
        Row { remark, ..self }
    }

    pub(super) const fn accepted(self, remark: &'static str) -> Row {
        Row { verdict: Verdict::Accepted, remark, ..self }
    }

    pub(super) const fn warns(self, warning: &'static str) -> Row {
        Row { warning: Some(warning), ..self }
    }

    pub(super) const fn refused(self, remark: &'static str) -> Row {
        Row { verdict: Verdict::Refused, remark, ..self }
    }

    pub(super) const fn switches(self, change: fn(&mut Config)) -> Row {
        Row { effect: Effect::Switch(change), ..self }
    }

    pub(super) const fn sets(self, change: fn(&mut Config, &Given<'_>) -> Result<(), Fault>) -> Row {
        Row { effect: Effect::Value(change), ..self }
    }

    /// How errors and notes call it: `-c (--conn-limit)`, `--config`, `-o hashpower`.
    pub fn flag(&self) -> String {
        match (self.group, self.letter) {
            (Group::Extended, _) => format!("-o {}", self.name),
            (_, Some(letter)) => format!("-{letter} (--{})", self.name),
            (_, None) => format!("--{}", self.name),
        }
    }

    /// How it is written: `-c, --conn-limit=NUM`, `--config=FILE`, `hashpower=N`.
    pub fn usage(&self) -> String {
        let value = match self.value {
            Some(value) if self.value_is_optional => format!("[={value}]"),
            Some(value) => format!("={value}"),
            None => String::new(),
        };
        match (self.group, self.letter) {
            (Group::Extended, _) => format!("{}{value}", self.name),
            (_, Some(letter)) => format!("-{letter}, --{}{value}", self.name),
            (_, None) => format!("--{}{value}", self.name),
        }
    }

    /// The remark with the default in it.
    pub fn explanation(&self) -> String {
        match self.default {
            Some(default) => format!("{} (default {default}).", self.remark.trim_end_matches('.')),
            None => self.remark.to_owned(),
        }
    }

    pub(super) fn apply(&self, config: &mut Config, given: &Given<'_>) -> Result<(), Fault> {
        if self.verdict == Verdict::Refused {
            return Err(Fault::Refused { flag: self.flag(), remark: self.remark.to_owned() });
        }
        match self.effect {
            Effect::Nothing => {}
            Effect::Switch(change) => change(config),
            Effect::Value(change) => change(config, given)?,
        }
        if self.verdict == Verdict::Accepted {
            let (said, line) = match self.warning {
                Some(warning) => (&mut config.warnings, warning.to_owned()),
                None => (
                    &mut config.notes,
                    format!("{} is accepted without effect: {}", self.flag(), self.remark),
                ),
            };
            if !said.contains(&line) {
                said.push(line);
            }
        }
        Ok(())
    }
}
