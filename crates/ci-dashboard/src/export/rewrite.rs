//! Rewrites the links of a page of this crate for a static copy, and finds its links and anchors.
//!
//! The input is the output of our templates: each value of an attribute is in double quotes, all text is escaped, and
//! there are no inline scripts or styles. Anything else is copied unchanged as text.

use std::borrow::Cow;

/// A part of a page.
enum Token<'a> {
    Text(&'a str),
    Tag(Tag<'a>),
}

struct Tag<'a> {
    /// The tag as written.
    raw: &'a str,
    name: &'a str,
    closes: bool,
    /// The text after the name.
    rest: &'a str,
}

impl<'a> Tag<'a> {
    fn parse(raw: &'a str) -> Self {
        let inner = raw.trim_start_matches('<').trim_end_matches('>');
        let (closes, inner) = inner.strip_prefix('/').map_or((false, inner), |inner| (true, inner));
        let end = inner.find(|c: char| c.is_whitespace() || c == '/').unwrap_or(inner.len());
        let (name, rest) = inner.split_at(end);
        Self { raw, name, closes, rest }
    }

    /// The names of the attributes with their values, still escaped.
    fn attributes(&self) -> Attributes<'a> {
        Attributes(self.rest)
    }

    fn attribute(&self, name: &str) -> Option<Cow<'a, str>> {
        let (_, value) = self.attributes().find(|(other, _)| *other == name)?;
        Some(unescape(value.unwrap_or("")))
    }

    /// The tag with another name and other values of attributes; an attribute without a new value is removed.
    fn with(
        &self,
        name: &str,
        value: impl Fn(&str, Option<&'a str>) -> Option<Option<Cow<'a, str>>>,
    ) -> String {
        let mut text = format!("<{name}");
        for (attribute, old) in self.attributes() {
            match value(attribute, old) {
                Some(Some(new)) => text.push_str(&format!(" {attribute}=\"{new}\"")),
                Some(None) => text.push_str(&format!(" {attribute}")),
                None => {}
            }
        }
        text.push_str(if self.rest.ends_with('/') { "/>" } else { ">" });
        text
    }
}

struct Attributes<'a>(&'a str);

impl<'a> Iterator for Attributes<'a> {
    type Item = (&'a str, Option<&'a str>);

    fn next(&mut self) -> Option<Self::Item> {
        let text = self.0.trim_start_matches(|c: char| c.is_whitespace() || c == '/');
        let end = text.find(|c: char| c.is_whitespace() || c == '=' || c == '/').unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        if name.is_empty() {
            self.0 = "";
            return None;
        }
        let Some(value) = rest.strip_prefix('=') else {
            self.0 = rest;
            return Some((name, None));
        };
        let (value, rest) = match value.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => value.split_at(value.find(char::is_whitespace).unwrap_or(value.len())),
        };
        self.0 = rest;
        Some((name, Some(value)))
    }
}

struct Tokens<'a>(&'a str);

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        if self.0.is_empty() {
            return None;
        }
        if let Some(end) = self.0.strip_prefix('<').and_then(tag_end) {
            let (tag, rest) = self.0.split_at(1 + end);
            self.0 = rest;
            return Some(Token::Tag(Tag::parse(tag)));
        }
        // A `<` at the start that begins no tag is text.
        let end = self.0.match_indices('<').map(|(at, _)| at).find(|at| *at > 0).unwrap_or(self.0.len());
        let (text, rest) = self.0.split_at(end);
        self.0 = rest;
        Some(Token::Text(text))
    }
}

/// The length of a tag after `<`: up to the first `>` that is not in quotes.
fn tag_end(text: &str) -> Option<usize> {
    let mut is_quoted = false;
    text.bytes()
        .position(|byte| {
            is_quoted ^= byte == b'"';
            byte == b'>' && !is_quoted
        })
        .map(|at| at + 1)
}

/// The text of an escaped value.
fn unescape(value: &str) -> Cow<'_, str> {
    if !value.contains('&') {
        return Cow::Borrowed(value);
    }
    let mut text = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = rest.find('&') {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        let entity = rest.find(';').filter(|end| *end <= 9);
        match entity.and_then(|end| Some((end, character(&rest[1..end])?))) {
            Some((end, c)) => {
                text.push(c);
                rest = &rest[end + 1..];
            }
            None => {
                text.push('&');
                rest = &rest[1..];
            }
        }
    }
    text.push_str(rest);
    Cow::Owned(text)
}

/// The character of an entity.
fn character(entity: &str) -> Option<char> {
    match entity {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let number = entity.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?)
        }
    }
}

/// The text for an attribute or for text of a page.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&#38;"),
            '<' => escaped.push_str("&#60;"),
            '>' => escaped.push_str("&#62;"),
            '"' => escaped.push_str("&#34;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// The addresses to which a page links, in order.
pub(crate) fn links(html: &str) -> Vec<String> {
    let tags = Tokens(html).filter_map(|token| match token {
        Token::Tag(tag) => Some(tag),
        Token::Text(_) => None,
    });
    let of_tag = |tag: Tag<'_>| tag.attribute("href").or_else(|| tag.attribute("src")).map(Cow::into_owned);
    tags.filter_map(of_tag).collect()
}

/// The anchors of a page.
pub(crate) fn anchors(html: &str) -> impl Iterator<Item = String> {
    Tokens(html).filter_map(|token| match token {
        Token::Tag(tag) => tag.attribute("id").map(Cow::into_owned),
        Token::Text(_) => None,
    })
}

/// The page with other links. `target` returns the new address of a link; without one the link becomes plain text, or
/// is removed if it is only navigation. Forms are removed, the script does not refresh the page, and `note`, which is
/// HTML, is at the start of the content.
pub(crate) fn rewrite(html: &str, note: &str, target: impl Fn(&str) -> Option<String>) -> String {
    let mut page = Rewriter { out: String::with_capacity(html.len() + note.len()), ..Rewriter::default() };
    for token in Tokens(html) {
        match token {
            Token::Text(_) if page.is_hidden() => {}
            Token::Text(text) => page.out.push_str(text),
            Token::Tag(tag) => page.tag(&tag, note, &target),
        }
    }
    page.out
}

#[derive(Default)]
struct Rewriter {
    out: String,
    /// Inside of a form.
    in_form: bool,
    /// Inside of a link that is removed.
    in_removed: bool,
    /// Inside of the navigation of a page.
    in_navigation: bool,
    in_svg: bool,
    /// The name of the element that replaces the open link.
    replaced: Option<&'static str>,
}

impl Rewriter {
    fn is_hidden(&self) -> bool {
        self.in_form || self.in_removed
    }

    fn tag(&mut self, tag: &Tag<'_>, note: &str, target: &impl Fn(&str) -> Option<String>) {
        match (tag.name, tag.closes) {
            ("form", closes) => return self.in_form = !closes,
            ("footer", closes) => self.in_navigation = !closes,
            ("nav", closes) => {
                let class = tag.attribute("class");
                self.in_navigation = !closes && matches!(class.as_deref(), Some("side" | "pager"));
            }
            ("svg", closes) => self.in_svg = !closes,
            _ => {}
        }
        match (tag.name, tag.closes) {
            ("a", true) if self.in_removed => return self.in_removed = false,
            _ if self.is_hidden() => return,
            ("a", true) => {
                let name = self.replaced.take().unwrap_or("a");
                return self.out.push_str(&format!("</{name}>"));
            }
            ("a" | "link" | "script", false) => return self.link(tag, target),
            _ => {}
        }
        let text = tag.with(tag.name, |name, value| match name {
            "data-live" => Some(Some(Cow::Borrowed("0"))),
            "data-follow" => None,
            _ => Some(value.map(Cow::Borrowed)),
        });
        self.out.push_str(if tag.closes || tag.name.starts_with('!') { tag.raw } else { &text });
        if tag.name == "main" && !tag.closes {
            self.out.push_str(note);
        }
    }

    /// The start of a link.
    fn link(&mut self, tag: &Tag<'_>, target: &impl Fn(&str) -> Option<String>) {
        let Some(old) = tag.attribute("href").or_else(|| tag.attribute("src")) else {
            return self.out.push_str(tag.raw);
        };
        if let Some(new) = target(&old) {
            self.out.push_str(&tag.with(tag.name, |name, value| match name {
                "href" | "src" => Some(Some(Cow::Owned(escape(&new)))),
                _ => Some(value.map(Cow::Borrowed)),
            }));
        } else if tag.name == "script" {
            // The tag at its end follows.
            self.out.push_str("<script>");
        } else if tag.name != "a" {
            // A `<link>` has no end.
        } else if self.in_navigation {
            self.in_removed = true;
        } else {
            let name = if self.in_svg { "g" } else { "span" };
            self.replaced = Some(name);
            self.out.push_str(&tag.with(name, |name, value| {
                matches!(name, "class" | "title" | "aria-current").then_some(value.map(Cow::Borrowed))
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(html: &str) -> String {
        rewrite(html, "<p>copy</p>", |address| {
            address.strip_prefix("/ci").map(|rest| format!("x{rest}.html"))
        })
    }

    #[test]
    fn links_are_rewritten_or_become_text() {
        for (html, expected) in [
            (
                "<a class=\"k\" href=\"/ci?a&#38;b=&#34;\">t</a>",
                "<a class=\"k\" href=\"x?a&#38;b=&#34;.html\">t</a>",
            ),
            (
                "<a class=\"k\" rel=\"next\" href=\"/c/&gt;\"><b>t</b></a>.",
                "<span class=\"k\"><b>t</b></span>.",
            ),
            ("<svg><a href=\"/c\"><text>t</text></a></svg>", "<svg><g><text>t</text></g></svg>"),
            ("<footer><a href=\"/c\">JSON</a><p>x</p></footer>", "<footer><p>x</p></footer>"),
            ("<form action=\"/ci\"><a href=\"/c\">x</a><input></form>y", "y"),
            ("<main id=\"m\">x</main>", "<main id=\"m\"><p>copy</p>x</main>"),
            ("<body data-live=\"10\"><pre data-follow=\"/c\">", "<body data-live=\"0\"><pre>"),
            ("<script src=\"/ci/s.js\" defer></script>", "<script src=\"x/s.js.html\" defer></script>"),
            (
                "<!doctype html>\n<path d=\"M1\"/>é&#60;a href=",
                "<!doctype html>\n<path d=\"M1\"/>é&#60;a href=",
            ),
            ("<a title=\"a > b\" href=\"/c\">x</a> < y", "<span title=\"a > b\">x</span> < y"),
        ] {
            assert_eq!(rewritten(html), expected);
        }
    }

    #[test]
    fn links_and_anchors_are_found() {
        let html = "<a id=\"a&#39;\" href=\"/ci?x&amp;y#&#x7a;\">&lt;a href=\"no\"</a><img src=\"/i\">";
        assert_eq!(links(html), ["/ci?x&y#z", "/i"]);
        assert_eq!(anchors(html).collect::<Vec<_>>(), ["a'"]);
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics_and_text_is_kept(text in "[<>\"&=/ a-fé#;]{0,60}") {
            let _ = (rewritten(&text), links(&text), anchors(&text).count());
            let escaped = escape(&text);
            proptest::prop_assert_eq!(rewritten(&escaped), escaped.clone());
            proptest::prop_assert_eq!(unescape(&escaped), text);
        }
    }
}
