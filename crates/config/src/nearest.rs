//! The nearest of many names, for error messages.

use std::fmt;

/// The maximum number of names in a message.
const CHOICES_MAX: usize = 10;

/// A few of many names, for a message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Choices(Vec<String>);

impl Choices {
    /// The choices in their order.
    pub fn new<T: ToString>(choices: impl IntoIterator<Item = T>) -> Self {
        Self(choices.into_iter().map(|choice| choice.to_string()).collect())
    }
}

impl fmt::Display for Choices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.len().min(CHOICES_MAX);
        // A name with a comma looks like several.
        let quoted = |name: &String| if name.contains(',') { format!("{name:?}") } else { name.clone() };
        f.write_str(&self.0[..shown].iter().map(quoted).collect::<Vec<_>>().join(", "))?;
        if self.0.len() > shown {
            write!(f, " and {} more", self.0.len() - shown)?;
        }
        Ok(())
    }
}

/// The end of a message about a name that does not exist: the nearest names, or all existing names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// The names that were most likely meant.
    Similar(Choices),
    /// All names, most similar ones first if there are many. The text is a heading: `branches`.
    All(&'static str, Choices),
}

/// The heading of names without one.
const VALID: &str = "valid";

impl Hint {
    /// The names nearest to the given one. At most a third of its letters may differ.
    pub fn new<T: ToString>(heading: &'static str, name: &str, choices: impl IntoIterator<Item = T>) -> Self {
        let choices = Choices::new(choices).0.into_iter();
        let mut choices: Vec<(usize, String)> =
            choices.map(|choice| (distance(name, &choice), choice)).collect();
        let least = choices.iter().map(|(distance, _)| *distance).min();
        if let Some(least) = least.filter(|least| *least <= name.chars().count().min(9) / 3) {
            choices.retain(|(distance, _)| *distance == least);
            return Self::Similar(Choices::new(choices.into_iter().map(|(_, choice)| choice)));
        }
        if choices.len() > CHOICES_MAX {
            choices.sort_by_key(|(distance, _)| *distance);
        }
        Self::all(heading, choices.into_iter().map(|(_, choice)| choice))
    }

    /// All names, in their order.
    pub fn all<T: ToString>(heading: &'static str, choices: impl IntoIterator<Item = T>) -> Self {
        Self::All(heading, Choices::new(choices))
    }

    /// The nearest valid name, if one is near.
    #[must_use]
    pub fn nearest(&self) -> Option<&str> {
        match self {
            Self::Similar(Choices(names)) => names.first().map(String::as_str),
            Self::All(..) => None,
        }
    }

    /// Only the nearest names, as the end of a message: `; did you mean "test_groups"?`, or empty.
    #[must_use]
    pub fn question(&self) -> String {
        if self.nearest().is_some() { self.to_string() } else { String::new() }
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Similar(Choices(names)) if names.len() == 1 => write!(f, "; did you mean {:?}?", names[0]),
            Self::Similar(choices) => write!(f, "; did you mean one of: {choices}?"),
            Self::All(VALID, Choices(names)) if names.is_empty() => Ok(()),
            Self::All(heading, Choices(names)) if names.is_empty() => {
                write!(f, "; there are no {heading} yet")
            }
            Self::All(heading, choices) => write!(f, "; {heading}: {choices}"),
        }
    }
}

/// The entries of `names` that are nearest to `text`, or all of them, sorted.
#[must_use]
pub fn nearest<'a>(text: &str, names: impl IntoIterator<Item = &'a str>) -> Hint {
    let mut names: Vec<&str> = names.into_iter().collect();
    names.sort_unstable();
    names.dedup();
    Hint::new(VALID, text, names)
}

/// The edit distance between a given name and a choice, or the last part of the choice if that is smaller. Ignores case and the
/// difference between `-` and `_`.
fn distance(name: &str, choice: &str) -> usize {
    // The computation takes quadratic time, and names have no length limit.
    let fold = |c: char| if c == '-' { '_' } else { c };
    let cut = |text: &str| text.chars().take(100).flat_map(char::to_lowercase).map(fold).collect::<String>();
    let (name, choice) = (cut(name), cut(choice));
    let last = choice.rsplit(['/', '.']).next().unwrap_or(&choice);
    let whole = strsim::damerau_levenshtein(&name, &choice);
    if last.len() == choice.len() { whole } else { whole.min(strsim::damerau_levenshtein(&name, last)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_similar_names_are_suggested() {
        let names = ["tests", "test_groups", "max_commits"];
        assert_eq!(nearest("test_gruops", names).nearest(), Some("test_groups"));
        assert_eq!(nearest("Max-Commits", names).nearest(), Some("max_commits"));
        assert_eq!(nearest("ref", names).to_string(), "; valid: max_commits, test_groups, tests");
        assert_eq!(nearest("ref", names).question(), "");
        assert_eq!(nearest("ref", []).to_string(), "");
    }

    #[test]
    fn a_misspelt_name_gets_the_nearest_one() {
        let text = |name: &str, choices: &[&str]| Hint::new("branches", name, choices).to_string();
        assert_eq!(text("dmeo", &["demo/demo", "kmo/next"]), "; did you mean \"demo/demo\"?");
        assert_eq!(text("nxt", &["amy/next", "kmo/old"]), "; did you mean \"amy/next\"?");
        assert_eq!(text("nxt", &["amy/next", "kmo/next"]), "; did you mean one of: amy/next, kmo/next?");
        assert_eq!(text("ext4", &["amy/next", "kmo/old"]), "; branches: amy/next, kmo/old");
        assert_eq!(text("x", &["arm64", "arm64, kasan"]), "; branches: arm64, \"arm64, kasan\"");
        assert_eq!(text("ext4", &[]), "; there are no branches yet");
    }

    #[test]
    fn only_the_nearest_of_many_choices_are_shown() {
        let names = (0..100).map(|at| format!("kmo/branch-{at:02}")).chain(["amy/ext4-testing".into()]);
        let shown = Hint::new("branches", "ext4-next", names).to_string();
        assert!(
            shown.starts_with("; branches: amy/ext4-testing, ") && shown.ends_with(" and 91 more"),
            "{shown}"
        );
        let tests = (0..100)
            .map(|at| format!("fs.xfs.fstests.generic.{at:03}"))
            .chain(["fs.ext4.basic.punch".into()]);
        assert_eq!(Hint::new("tests", "Pumch", tests).to_string(), "; did you mean \"fs.ext4.basic.punch\"?");
    }
}
