//! The nearest valid name, for error messages.

use std::fmt;

/// The nearest valid name, or all valid names if none is near. Displays as the end of a message: empty, or `; ...`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hint {
    nearest: Option<String>,
    others: Vec<String>,
}

impl Hint {
    /// The nearest valid name, if one is near.
    #[must_use]
    pub fn nearest(&self) -> Option<&str> {
        self.nearest.as_deref()
    }

    /// Only the nearest name, as the end of a message: `; did you mean "test_groups"?`, or empty.
    #[must_use]
    pub fn question(&self) -> String {
        self.nearest.as_ref().map(|name| format!("; did you mean {name:?}?")).unwrap_or_default()
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.nearest, self.others.as_slice()) {
            (Some(name), _) => write!(f, "; did you mean {name:?}?"),
            (None, []) => Ok(()),
            (None, others) if others.len() <= 8 => write!(f, "; valid: {}", others.join(", ")),
            (None, others) => write!(f, "; valid: {}, ...", others[..8].join(", ")),
        }
    }
}

/// The entry of `names` that is nearest to `text`. At most a third of the letters may differ.
#[must_use]
pub fn nearest<'a>(text: &str, names: impl IntoIterator<Item = &'a str>) -> Hint {
    let mut others: Vec<String> = names.into_iter().map(str::to_owned).collect();
    others.sort();
    others.dedup();
    let folded = fold(text);
    let nearest = others
        .iter()
        .map(|name| (strsim::damerau_levenshtein(&folded, &fold(name)), name))
        .min()
        .filter(|(distance, name)| *distance * 3 <= folded.len().max(name.len()))
        .map(|(_, name)| name.clone());
    Hint { nearest, others }
}

/// Ignores case and the difference between `-` and `_`. Limits the length, because the comparison takes quadratic time.
fn fold(text: &str) -> String {
    text.chars().take(100).map(|c| if c == '-' { '_' } else { c.to_ascii_lowercase() }).collect()
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
        assert_eq!(nearest("ref", []).to_string(), "");
    }
}
