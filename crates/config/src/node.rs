//! The tree that TOML and JSON5 are parsed into: values with their line numbers.
//!
//! A [`Section`] is a table that has been checked for unknown keys.

use crate::fault::{Fault, Problem};
use crate::nearest::nearest;

/// A value and the line on which it starts (from 1).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub line: usize,
    pub value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(String),
    List(Vec<Node>),
    Table(Vec<(String, Node)>),
}

impl Value {
    /// The type with its article, for messages.
    fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "true or false",
            Self::Int(_) | Self::Float(_) => "a number",
            Self::Str(_) => "a string",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

impl Node {
    fn wrong(&self, key: &str, wanted: &'static str) -> Fault {
        self.fault(Problem::WrongType { key: key.into(), wanted, found: self.value.kind() })
    }

    /// An error at this line.
    pub fn fault(&self, problem: impl Into<Problem>) -> Fault {
        Fault { line: self.line, problem: problem.into() }
    }

    pub fn str(&self, key: &str) -> Result<&str, Fault> {
        match &self.value {
            Value::Str(text) => Ok(text),
            _ => Err(self.wrong(key, "a string")),
        }
    }

    /// Parses a string as a type of `model`.
    pub fn parse<T>(&self, key: &str) -> Result<T, Fault>
    where
        T: std::str::FromStr<Err = model::NameError>,
    {
        let name = self.str(key)?.parse::<T>();
        name.map_err(|error| self.fault(Problem::Name { key: key.into(), error }))
    }

    pub fn int(&self, key: &str, least: i64, most: i64) -> Result<i64, Fault> {
        let huge = |n: f64| if n < 0.0 { i64::MIN } else { i64::MAX };
        match self.value {
            Value::Float(n) if n.abs() >= 9e18 => {
                Err(self.fault(Problem::Range { key: key.into(), n: huge(n), least, most }))
            }
            Value::Int(n) if (least..=most).contains(&n) => Ok(n),
            Value::Int(n) => Err(self.fault(Problem::Range { key: key.into(), n, least, most })),
            _ => Err(self.wrong(key, "a whole number")),
        }
    }

    pub fn bool(&self, key: &str) -> Result<bool, Fault> {
        match self.value {
            Value::Bool(yes) => Ok(yes),
            _ => Err(self.wrong(key, "true or false")),
        }
    }

    /// A list. A single string is a list of one item.
    pub fn list(&self, key: &str) -> Result<&[Node], Fault> {
        match &self.value {
            Value::List(items) => Ok(items),
            Value::Str(_) => Ok(std::slice::from_ref(self)),
            _ => Err(self.wrong(key, "a list")),
        }
    }

    pub fn table(&self, key: &str) -> Result<&[(String, Node)], Fault> {
        match &self.value {
            Value::Table(entries) => Ok(entries),
            _ => Err(self.wrong(key, "a table")),
        }
    }
}

/// A table that has been checked for unknown keys.
pub(crate) struct Section<'a> {
    node: &'a Node,
    entries: &'a [(String, Node)],
    /// The name in messages, such as `[branch.next]`; empty for the top level.
    name: String,
    known: &'static [&'static str],
}

impl<'a> Section<'a> {
    /// Refuses keys that are not in `known`.
    pub fn new(
        node: &'a Node,
        name: impl Into<String>,
        known: &'static [&'static str],
    ) -> Result<Self, Fault> {
        let name = name.into();
        let entries = node.table(if name.is_empty() { "the file" } else { &name })?;
        if let Some((key, node)) = entries.iter().find(|(key, _)| !known.contains(&key.as_str())) {
            let hint = nearest(key, known.iter().copied());
            return Err(node.fault(Problem::UnknownKey { key: key.clone(), section: name, hint }));
        }
        Ok(Self { node, entries, name, known })
    }

    pub fn node(&self) -> &'a Node {
        self.node
    }

    /// The value of `key`, if present.
    pub fn get(&self, key: &'static str) -> Option<&'a Node> {
        debug_assert!(self.known.contains(&key), "{key} is not among the known keys of {}", self.name);
        self.entries.iter().find(|(name, _)| name == key).map(|(_, node)| node)
    }

    /// The value of a key with several spellings. More than one is an error.
    pub fn get_any(&self, keys: &[&'static str]) -> Result<Option<(&'static str, &'a Node)>, Fault> {
        let mut found: Option<(&'static str, &'a Node)> = None;
        for key in keys {
            if let Some(node) = self.get(key) {
                if let Some((first, _)) = found {
                    return Err(node.fault(Problem::Both { first, second: key }));
                }
                found = Some((key, node));
            }
        }
        Ok(found)
    }

    /// The value of a required key.
    pub fn need(&self, key: &'static str) -> Result<&'a Node, Fault> {
        self.get(key).ok_or_else(|| self.node.fault(Problem::Missing { key, section: self.name.clone() }))
    }

    /// A list of names, without duplicates.
    pub fn names<T>(&self, key: &'static str) -> Result<Option<Vec<T>>, Fault>
    where
        T: std::str::FromStr<Err = model::NameError> + PartialEq,
    {
        let Some(node) = self.get(key) else { return Ok(None) };
        let mut names: Vec<T> = Vec::new();
        for item in node.list(key)? {
            let name = item.parse(key)?;
            if !names.contains(&name) {
                names.push(name);
            }
        }
        Ok(Some(names))
    }
}
