//! The stanza format of Debian's control files: `Field: value` lines, stanzas separated by an empty line.

/// The stanzas of a file.
pub(crate) fn stanzas(text: &str) -> impl Iterator<Item = &str> {
    text.split("\n\n").filter(|stanza| !stanza.trim().is_empty())
}

/// The first line of a field's value. Field names are case-insensitive.
pub(crate) fn field<'a>(stanza: &'a str, name: &str) -> Option<&'a str> {
    stanza.lines().find_map(|line| value(line, name))
}

/// All words of a field's value, continuation lines included.
pub(crate) fn words(stanza: &str, name: &str) -> Vec<String> {
    let mut lines = stanza.lines().skip_while(|line| value(line, name).is_none());
    let first = lines.next().and_then(|line| value(line, name)).unwrap_or_default();
    let continued = lines.take_while(|line| line.starts_with([' ', '\t']));
    std::iter::once(first).chain(continued).flat_map(str::split_whitespace).map(String::from).collect()
}

fn value<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (field, value) = line.split_once(':')?;
    field.eq_ignore_ascii_case(name).then(|| value.trim())
}
