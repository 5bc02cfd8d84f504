//! One line of KTAP: its element and its indent.

/// A directive after the `#` of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Directive {
    Skip,
    Todo,
    Xfail,
    /// `TIMEOUT`, `ERROR` and the kselftest runner's `exit=N`: the cause of a failure.
    Fault,
}

/// What a line is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Element<'a> {
    /// `KTAP version 1`, `TAP version 13`.
    Version,
    /// `1..N`, and the reason of `# SKIP`.
    Plan { count: u64, skip: Option<&'a str> },
    /// `ok` or `not ok`.
    Result { ok: bool, number: Option<u64>, name: &'a str, directive: Option<(Directive, &'a str)> },
    /// `# Subtest: NAME`.
    Subtest(&'a str),
    /// `Bail out!`.
    Bail(&'a str),
    /// `# text`.
    Diagnostic(&'a str),
    /// Anything else.
    Other(&'a str),
}

/// A line and its indent in columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    pub indent: usize,
    pub element: Element<'a>,
}

/// The width of a tab. Indents are only compared with each other.
const TAB: usize = 4;
/// The width of the `# ` that the kselftest runner prints before each line of a nested test.
const HASH: usize = 2;

/// Parses a line without stamps. Lines of a nested kselftest start with `# ` instead of an indent. `# ` counts as
/// indent only before an element of KTAP, because diagnostics start with it too.
pub(crate) fn read(raw: &str) -> Line<'_> {
    let raw = raw.trim_end_matches(['\r', '\n']);
    let (mut indent, mut rest) = blanks(raw, 0);
    let (own_indent, own) = (indent, rest);
    loop {
        if let Some(element) = ktap(rest) {
            return Line { indent, element };
        }
        let Some(inner) = rest.strip_prefix("# ") else { break };
        (indent, rest) = blanks(inner, indent + HASH);
    }
    let element = match own.strip_prefix('#') {
        Some(text) => Element::Diagnostic(text.strip_prefix(' ').unwrap_or(text)),
        None => Element::Other(own),
    };
    Line { indent: own_indent, element }
}

fn blanks(text: &str, mut column: usize) -> (usize, &str) {
    let rest = text.trim_start_matches([' ', '\t']);
    for blank in text[..text.len() - rest.len()].bytes() {
        column += if blank == b'\t' { TAB } else { 1 };
    }
    (column, rest)
}

/// The KTAP element in a line; `None` for a plain diagnostic.
fn ktap(text: &str) -> Option<Element<'_>> {
    if let Some(version) = text.strip_prefix("KTAP version ").or_else(|| text.strip_prefix("TAP version ")) {
        return version.trim().parse::<u32>().ok().map(|_| Element::Version);
    }
    if let Some(name) = text.strip_prefix("# Subtest:") {
        return Some(Element::Subtest(name.trim()));
    }
    if let Some(reason) = text.strip_prefix("Bail out!") {
        return Some(Element::Bail(reason.trim()));
    }
    plan(text).or_else(|| result(text))
}

fn plan(text: &str) -> Option<Element<'_>> {
    let (count, rest) = number(text.strip_prefix("1..")?)?;
    let rest = rest.trim();
    if rest.is_empty() {
        return Some(Element::Plan { count, skip: None });
    }
    let words = rest.strip_prefix('#')?.trim();
    let skip = skip_word(words, "skip").map(str::trim);
    Some(Element::Plan { count, skip })
}

fn result(text: &str) -> Option<Element<'_>> {
    let (ok, rest) = match text.strip_prefix("not ok") {
        Some(rest) => (false, rest),
        None => (true, text.strip_prefix("ok")?),
    };
    if !(rest.is_empty() || rest.starts_with(' ')) {
        return None;
    }
    let rest = rest.trim_start();
    let (number, rest) = match number(rest) {
        Some((number, after)) if after.is_empty() || after.starts_with(' ') => (Some(number), after),
        // Ordinary text can start with `ok` too: without a number, only a dash or a directive may follow.
        _ if rest.is_empty() || rest.starts_with("- ") || rest.starts_with("# ") => (None, rest),
        _ => return None,
    };
    let rest = rest.trim_start();
    let (name, words) = match split_directive(rest) {
        Some((name, words)) => (name, Some(words)),
        None => (rest, None),
    };
    let name = name.strip_prefix("- ").unwrap_or(if name == "-" { "" } else { name });
    Some(Element::Result { ok, number, name: name.trim(), directive: words.and_then(directive) })
}

/// The text before the last `#` that starts a word and a directive, and the directive.
fn split_directive(text: &str) -> Option<(&str, &str)> {
    let mut found = None;
    for (at, _) in text.match_indices('#') {
        let begins_word = at == 0 || text.as_bytes()[at - 1] == b' ';
        let words = text[at + 1..].trim();
        if begins_word && directive(words).is_some() {
            found = Some((text[..at].trim_end(), words));
        }
    }
    found
}

fn directive(words: &str) -> Option<(Directive, &str)> {
    for (word, directive) in
        [("skip", Directive::Skip), ("todo", Directive::Todo), ("xfail", Directive::Xfail)]
    {
        if let Some(rest) = skip_word(words, word) {
            return Some((directive, rest.trim()));
        }
    }
    let fault = ["TIMEOUT", "ERROR", "exit="].iter().any(|word| words.starts_with(word));
    fault.then_some((Directive::Fault, words))
}

/// The text after `word` in any case; `SKIPPED` and `skip:` are accepted too.
fn skip_word<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let head = text.get(..word.len())?;
    if !head.eq_ignore_ascii_case(word) {
        return None;
    }
    let rest = &text[word.len()..];
    let rest = rest.strip_prefix("ped").or_else(|| rest.strip_prefix("PED")).unwrap_or(rest);
    let rest = rest.strip_prefix(':').unwrap_or(rest);
    (rest.is_empty() || rest.starts_with([' ', '\t'])).then_some(rest)
}

fn number(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number = text[..digits].parse().ok()?;
    Some((number, &text[digits..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result_of(text: &str) -> (bool, Option<u64>, &str, Option<(Directive, &str)>) {
        match read(text).element {
            Element::Result { ok, number, name, directive } => (ok, number, name, directive),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn results() {
        for (line, wanted) in [
            ("ok 1 name", (true, Some(1), "name", None)),
            ("ok 1 - name", (true, Some(1), "name", None)),
            ("not ok 12 - a b", (false, Some(12), "a b", None)),
            ("ok 3 x # SKIP no such device", (true, Some(3), "x", Some((Directive::Skip, "no such device")))),
            ("ok 3 x # skip", (true, Some(3), "x", Some((Directive::Skip, "")))),
            ("ok 3 # SKIP why", (true, Some(3), "", Some((Directive::Skip, "why")))),
            ("not ok 3 x # TODO later", (false, Some(3), "x", Some((Directive::Todo, "later")))),
            ("not ok 3 x # XFAIL known", (false, Some(3), "x", Some((Directive::Xfail, "known")))),
            (
                "not ok 1 selftests: a: b # exit=1",
                (false, Some(1), "selftests: a: b", Some((Directive::Fault, "exit=1"))),
            ),
            (
                "not ok 1 x # TIMEOUT 45 seconds",
                (false, Some(1), "x", Some((Directive::Fault, "TIMEOUT 45 seconds"))),
            ),
            ("ok 1 - C#sharp # SKIP #2", (true, Some(1), "C#sharp", Some((Directive::Skip, "#2")))),
            ("ok 1 issue # 12", (true, Some(1), "issue # 12", None)),
            ("ok 7", (true, Some(7), "", None)),
            ("ok - unnumbered", (true, None, "unnumbered", None)),
        ] {
            assert_eq!(result_of(line), wanted, "{line}");
        }
    }

    #[test]
    fn lines_that_are_not_results() {
        for line in ["okay", "ok then, go on", "not okay", "ok1", "# all ok", "notok 1 x", "ok 12x"] {
            assert!(!matches!(read(line).element, Element::Result { .. }), "{line}");
        }
    }

    #[test]
    fn indents() {
        for (line, indent) in [
            ("ok 1 a", 0),
            ("  ok 1 a", 2),
            ("\tok 1 a", 4),
            ("# ok 1 a", 2),
            ("# # ok 1 a", 4),
            ("    # ok 1 - a", 6),
        ] {
            assert_eq!(read(line).indent, indent, "{line}");
            assert!(matches!(read(line).element, Element::Result { .. }), "{line}");
        }
        assert_eq!(read("  # Subtest: x"), Line { indent: 2, element: Element::Subtest("x") });
        assert_eq!(read("# # plain"), Line { indent: 0, element: Element::Diagnostic("# plain") });
        assert_eq!(
            read("1..0 # SKIP none here").element,
            Element::Plan { count: 0, skip: Some("none here") }
        );
        assert_eq!(read("1..3").element, Element::Plan { count: 3, skip: None });
        assert_eq!(read("1..99999999999999999999999").element, Element::Other("1..99999999999999999999999"));
    }
}
