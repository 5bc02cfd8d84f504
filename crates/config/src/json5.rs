//! A JSON5 parser (spec.json5.org) that records the line of each value. A duplicate key in an object is an error.

use crate::fault::{Fault, Problem};
use crate::node::{Node, Value};

/// The maximum nesting depth.
const DEPTH: usize = 64;

pub(crate) fn parse(text: &str) -> Result<Node, Fault> {
    let mut parser = Parser { rest: text.strip_prefix('\u{feff}').unwrap_or(text), line: 1 };
    parser.skip()?;
    let node = parser.value(0)?;
    parser.skip()?;
    match parser.peek() {
        None => Ok(node),
        Some(c) => Err(parser.fault(format!("expected the end of the file, found {c:?}"))),
    }
}

struct Parser<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Parser<'a> {
    fn fault(&self, message: impl Into<String>) -> Fault {
        Fault { line: self.line, problem: Problem::Syntax(message.into()) }
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.rest = &self.rest[c.len_utf8()..];
        if c == '\n' {
            self.line += 1;
        }
        Some(c)
    }

    fn eat(&mut self, text: &str) -> bool {
        let found = self.rest.starts_with(text);
        if found {
            self.rest = &self.rest[text.len()..];
        }
        found
    }

    fn take_while(&mut self, test: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !test(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        self.line += taken.matches('\n').count();
        taken
    }

    /// Skips white space and comments.
    fn skip(&mut self) -> Result<(), Fault> {
        loop {
            self.take_while(|c| c.is_whitespace() || c == '\u{feff}');
            if self.eat("//") {
                self.take_while(|c| !is_line_end(c));
            } else if self.rest.starts_with("/*") {
                let Some(end) = self.rest[2..].find("*/") else {
                    return Err(self.fault("this comment does not end; close it with */"));
                };
                let comment = &self.rest[..end + 4];
                self.line += comment.matches('\n').count();
                self.rest = &self.rest[end + 4..];
            } else {
                return Ok(());
            }
        }
    }

    fn value(&mut self, depth: usize) -> Result<Node, Fault> {
        if depth > DEPTH {
            return Err(self.fault("nested too deeply"));
        }
        let line = self.line;
        let value = match self.peek() {
            Some('{') => self.object(depth)?,
            Some('[') => self.array(depth)?,
            Some('"' | '\'') => Value::Str(self.string()?),
            Some(c) if c.is_ascii_digit() || "+-.".contains(c) => self.number()?,
            Some(c) if is_word_start(c) => {
                let word = self.take_while(is_word);
                match word {
                    "null" => Value::Null,
                    "true" => Value::Bool(true),
                    "false" => Value::Bool(false),
                    "Infinity" => Value::Float(f64::INFINITY),
                    "NaN" => Value::Float(f64::NAN),
                    _ => return Err(self.fault(format!("expected a value, found {word}; quote strings"))),
                }
            }
            Some(c) => return Err(self.fault(format!("expected a value, found {c:?}"))),
            None => return Err(self.fault("expected a value, found the end of the file")),
        };
        Ok(Node { line, value })
    }

    fn object(&mut self, depth: usize) -> Result<Value, Fault> {
        let opened = self.line;
        self.next();
        let mut entries: Vec<(String, Node)> = Vec::new();
        loop {
            self.skip()?;
            if self.eat("}") {
                return Ok(Value::Table(entries));
            }
            let line = self.line;
            let key = match self.peek() {
                Some('"' | '\'') => self.string()?,
                Some(c) if is_word_start(c) => self.take_while(is_word).to_owned(),
                Some(c) => return Err(self.fault(format!("expected a key or }}, found {c:?}"))),
                None => return Err(self.fault(format!("the {{ of line {opened} is not closed"))),
            };
            if entries.iter().any(|(other, _)| *other == key) {
                return Err(self.fault(format!("{key:?} is a duplicate key")));
            }
            self.skip()?;
            if !self.eat(":") {
                return Err(self.fault(format!("expected : after the key {key:?}")));
            }
            self.skip()?;
            let value = self.value(depth + 1)?.value;
            entries.push((key, Node { line, value }));
            self.separator('}', opened)?;
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value, Fault> {
        let opened = self.line;
        self.next();
        let mut items = Vec::new();
        loop {
            self.skip()?;
            if self.eat("]") {
                return Ok(Value::List(items));
            }
            if self.rest.is_empty() {
                return Err(self.fault(format!("the [ of line {opened} is not closed")));
            }
            items.push(self.value(depth + 1)?);
            self.separator(']', opened)?;
        }
    }

    /// Parses a comma, which is optional before the closing bracket.
    fn separator(&mut self, close: char, opened: usize) -> Result<(), Fault> {
        self.skip()?;
        match self.peek() {
            Some(',') => {
                self.next();
                Ok(())
            }
            Some(c) if c == close => Ok(()),
            Some(c) => Err(self.fault(format!("expected , or {close}, found {c:?}"))),
            None => Err(self.fault(format!("the bracket of line {opened} is not closed; expected {close}"))),
        }
    }

    fn string(&mut self) -> Result<String, Fault> {
        let opened = self.line;
        let quote = self.next();
        let mut text = String::new();
        loop {
            match self.next() {
                None | Some('\n' | '\r') => {
                    return Err(Fault {
                        line: opened,
                        problem: Problem::Syntax("this string does not end".into()),
                    });
                }
                c if c == quote => return Ok(text),
                Some('\\') => self.escape(&mut text)?,
                Some(c) => text.push(c),
            }
        }
    }

    fn escape(&mut self, text: &mut String) -> Result<(), Fault> {
        let Some(c) = self.next() else { return Err(self.fault("this string does not end")) };
        match c {
            'n' => text.push('\n'),
            't' => text.push('\t'),
            'r' => text.push('\r'),
            'b' => text.push('\u{8}'),
            'f' => text.push('\u{c}'),
            'v' => text.push('\u{b}'),
            '0' if !self.peek().is_some_and(|c| c.is_ascii_digit()) => text.push('\0'),
            '0'..='9' => return Err(self.fault(format!("\\{c} is not an escape of JSON5"))),
            'x' => text.push(self.hex(2).and_then(char::from_u32).ok_or_else(|| self.bad_escape())?),
            'u' => {
                let high = self.hex(4).ok_or_else(|| self.bad_escape())?;
                let code = if (0xd800..0xdc00).contains(&high) && self.eat("\\u") {
                    let low = self.hex(4).filter(|low| (0xdc00..0xe000).contains(low));
                    let low = low.ok_or_else(|| self.bad_escape())?;
                    0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)
                } else {
                    high
                };
                text.push(char::from_u32(code).ok_or_else(|| self.bad_escape())?);
            }
            '\r' => {
                self.eat("\n").then(|| self.line += 1);
            }
            c if is_line_end(c) => {}
            c => text.push(c),
        }
        Ok(())
    }

    fn bad_escape(&self) -> Fault {
        self.fault("not an escape of JSON5: after \\x come 2, after \\u 4 hexadecimal digits")
    }

    fn hex(&mut self, digits: usize) -> Option<u32> {
        let text = self.rest.get(..digits)?;
        let all_hex = text.bytes().all(|b| b.is_ascii_hexdigit());
        let code = u32::from_str_radix(text, 16).ok().filter(|_| all_hex)?;
        self.rest = &self.rest[digits..];
        Some(code)
    }

    fn number(&mut self) -> Result<Value, Fault> {
        let text = self.take_while(|c| is_word(c) || "+-.".contains(c));
        let (negative, digits) = match text.as_bytes()[0] {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let bad = || self.fault(format!("{text:?} is not a number"));
        let sign = if negative { -1.0 } else { 1.0 };
        match digits {
            "Infinity" => return Ok(Value::Float(sign * f64::INFINITY)),
            "NaN" => return Ok(Value::Float(f64::NAN)),
            _ => {}
        }
        if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
            if hex.is_empty() || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(bad());
            }
            let n = i64::from_str_radix(hex, 16).map_err(|_| bad())?;
            return Ok(Value::Int(if negative { -n } else { n }));
        }
        let plain = digits.bytes().all(|b| b.is_ascii_digit());
        if digits.is_empty()
            || (digits.len() > 1 && digits.starts_with('0') && digits.as_bytes()[1].is_ascii_digit())
        {
            return Err(bad());
        }
        if plain && let Ok(n) = digits.parse::<i64>() {
            return Ok(Value::Int(if negative { -n } else { n }));
        }
        let float_shape = digits.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
        let n: f64 = digits.parse().ok().filter(|_| float_shape && digits != ".").ok_or_else(bad)?;
        Ok(Value::Float(sign * n))
    }
}

fn is_line_end(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{2028}' | '\u{2029}')
}

fn is_word_start(c: char) -> bool {
    c.is_alphabetic() || c == '_' || c == '$'
}

fn is_word(c: char) -> bool {
    is_word_start(c) || c.is_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Converts a node to the JSON value of the `json5` crate.
    fn plain(node: &Node) -> serde_json::Value {
        use serde_json::Value as Json;
        match &node.value {
            Value::Null => Json::Null,
            Value::Bool(yes) => (*yes).into(),
            Value::Int(n) => (*n as f64).into(),
            Value::Float(n) => (*n).into(),
            Value::Str(text) => text.clone().into(),
            Value::List(items) => items.iter().map(plain).collect(),
            Value::Table(entries) => entries.iter().map(|(key, node)| (key.clone(), plain(node))).collect(),
        }
    }

    fn as_floats(json: serde_json::Value) -> serde_json::Value {
        use serde_json::Value as Json;
        match json {
            Json::Number(n) => n.as_f64().into(),
            Json::Array(items) => items.into_iter().map(as_floats).collect(),
            Json::Object(map) => map.into_iter().map(|(key, value)| (key, as_floats(value))).collect(),
            other => other,
        }
    }

    #[test]
    fn every_form_has_its_line_numbers() {
        let text = "// a\n{ a: 'x\\\ny', /* b\n */ \"b\": [1, +2, -0x10,\n .5e1, 'it\\'s \\u00e9\\x41'],\n $c_1: {d: null,},}\n";
        let node = parse(text).unwrap();
        let Value::Table(entries) = &node.value else { panic!() };
        let lines: Vec<_> = entries.iter().map(|(key, node)| (key.as_str(), node.line)).collect();
        assert_eq!(lines, [("a", 2), ("b", 4), ("$c_1", 6)]);
        assert_eq!(entries[0].1.value, Value::Str("xy".into()));
        assert_eq!(plain(&node), as_floats(json5::from_str(text).unwrap()));
    }

    #[test]
    fn nesting_is_bounded() {
        assert!(parse(&"[".repeat(100_000)).is_err());
    }

    fn tree() -> impl proptest::strategy::Strategy<Value = serde_json::Value> {
        use proptest::prelude::*;
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i32>().prop_map(Into::into),
            "\\PC{0,8}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(serde_json::Value::from),
                proptest::collection::btree_map("\\PC{0,8}", inner, 0..5)
                    .prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into()),
            ]
        })
    }

    proptest::proptest! {
        #[test]
        fn all_json_is_accepted(json in tree()) {
            let text = serde_json::to_string_pretty(&json).unwrap();
            assert_eq!(plain(&parse(&text).unwrap()), as_floats(json));
        }

        #[test]
        fn json5_matches_the_json5_crate(text in "[\\[\\]{}:,a\"'\\\\ 0-9xeE.+\\-\n/*]{0,14}") {
            if let Ok(node) = parse(&text) {
                let theirs = json5::from_str::<serde_json::Value>(&text);
                assert_eq!(plain(&node), as_floats(theirs.unwrap()), "{text:?}");
            }
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = parse(&text);
        }
    }
}
