//! Patterns in which `*` stands for any text.

/// Whether a text matches a pattern in which `*` stands for any text, also an empty one. All other characters stand for
/// themselves.
#[must_use]
pub fn matches_wildcard(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        // The first match leaves the most for the other parts.
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_asterisk_stands_for_any_text() {
        for (pattern, text) in [("a.*", "a.b"), ("*", ""), ("*.b*d", "a.b.c.d"), ("a*", "a"), ("a", "a")] {
            assert!(matches_wildcard(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("a.*", "ab"), ("a*b", "a"), ("a", "ab"), ("ab*b", "ab"), ("*x*", "a.b")] {
            assert!(!matches_wildcard(pattern, text), "{pattern} {text}");
        }
    }
}
