//! Parses a file into [`Node`]s: TOML with the `toml` crate, JSON5 with [`crate::json5`]. Both keep line numbers.

use std::path::Path;

use fsx::untrusted::Dir;
use toml::de::{DeTable, DeValue};

use crate::error::ConfigError;
use crate::fault::{Fault, Problem};
use crate::node::{Node, Value};

/// The maximum size of a configuration file, in bytes.
const SIZE_LIMIT: u64 = 4 << 20;

/// The format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Toml,
    Json5,
}

impl Format {
    /// The format for the suffix of the file name, if it is known.
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "toml" => Some(Self::Toml),
            "json5" | "json" => Some(Self::Json5),
            _ => None,
        }
    }
}

/// The text and format of a file.
pub(crate) fn file(path: &Path) -> Result<(Format, String), ConfigError> {
    let format = Format::of(path).ok_or_else(|| ConfigError::Format { path: path.into() })?;
    let read = |source| ConfigError::Read { path: path.into(), source };
    let text = fsx::own::read_to_string(path, SIZE_LIMIT).map_err(|error| read(error.source))?;
    Ok((format, text))
}

/// The text and format of a file in the users' directory. Other users can write there, so links are not followed.
pub(crate) fn user_file(dir: &Dir, path: &Path) -> Result<(Format, String), ConfigError> {
    let format = Format::of(path).ok_or_else(|| ConfigError::Format { path: path.into() })?;
    let name = path.file_name().unwrap_or_default();
    let text = dir.read(name, SIZE_LIMIT).map_err(|error| ConfigError::Read {
        path: path.into(),
        source: std::io::Error::other(error.reason),
    })?;
    let text = String::from_utf8(text).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.split(|byte| *byte == b'\n').count();
        let problem = Box::new(Problem::Syntax("not UTF-8 text; save the file as UTF-8".into()));
        ConfigError::At { path: path.into(), line, problem }
    })?;
    Ok((format, text))
}

/// Parses a text.
pub(crate) fn tree(format: Format, text: &str) -> Result<Node, Fault> {
    match format {
        Format::Toml => from_toml(text),
        Format::Json5 => crate::json5::parse(text),
    }
}

fn from_toml(text: &str) -> Result<Node, Fault> {
    let lines = Lines::new(text);
    let table = DeTable::parse(text).map_err(|error| Fault {
        line: error.span().map_or(1, |span| lines.of(span.start)),
        problem: Problem::Syntax(format!("not TOML: {}", one_line(error.message()))),
    })?;
    Ok(Node { line: 1, value: lines.table(table.get_ref()) })
}

fn one_line(message: &str) -> String {
    let parts: Vec<&str> = message.lines().map(str::trim).filter(|part| !part.is_empty()).collect();
    parts.join(", ")
}

/// The byte offsets of the lines.
struct Lines(Vec<usize>);

impl Lines {
    fn new(text: &str) -> Self {
        Self(text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1).collect())
    }

    fn of(&self, offset: usize) -> usize {
        self.0.partition_point(|start| *start <= offset) + 1
    }

    fn table(&self, table: &DeTable<'_>) -> Value {
        let entries = table.iter().map(|(key, value)| {
            let line = self.of(key.span().start);
            (key.get_ref().to_string(), Node { line, value: self.value(value.get_ref()) })
        });
        Value::Table(entries.collect())
    }

    fn value(&self, value: &DeValue<'_>) -> Value {
        match value {
            DeValue::String(text) => Value::Str(text.to_string()),
            DeValue::Integer(n) => {
                // An integer that overflows is outside every range; the range check reports it.
                let huge = if n.as_str().starts_with('-') { f64::MIN } else { f64::MAX };
                i64::from_str_radix(n.as_str(), n.radix()).map_or(Value::Float(huge), Value::Int)
            }
            DeValue::Float(n) => Value::Float(n.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(yes) => Value::Bool(*yes),
            DeValue::Datetime(time) => Value::Str(time.to_string()),
            DeValue::Array(items) => Value::List(
                items
                    .iter()
                    .map(|item| Node { line: self.of(item.span().start), value: self.value(item.get_ref()) })
                    .collect(),
            ),
            DeValue::Table(table) => self.table(table),
        }
    }
}
