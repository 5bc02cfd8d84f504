//! The notes of the kernel (vmcoreinfo): lines of `NAME=VALUE` and `TYPE(NAME)=VALUE`.

use std::collections::HashMap;

use crate::CoreError;

/// The parsed notes.
#[derive(Debug, Default)]
pub(crate) struct Info(HashMap<String, String>);

impl Info {
    pub(crate) fn parse(text: &str) -> Self {
        let lines = text.lines().filter_map(|line| line.split_once('='));
        Self(lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    pub(crate) fn text(&self, name: &str) -> Result<&str, CoreError> {
        self.0.get(name).map(String::as_str).ok_or_else(|| CoreError::Lacks(name.into()))
    }

    /// `SYMBOL(name)`: its address.
    pub(crate) fn symbol(&self, name: &str) -> Result<u64, CoreError> {
        self.number(&format!("SYMBOL({name})"), 16)
    }

    /// `OFFSET(name)`: the offset of a member, as `type.member`.
    pub(crate) fn offset(&self, name: &str) -> Result<u64, CoreError> {
        self.number(&format!("OFFSET({name})"), 10)
    }

    /// `SIZE(name)`: the size of a type.
    pub(crate) fn size(&self, name: &str) -> Result<u64, CoreError> {
        self.number(&format!("SIZE({name})"), 10)
    }

    /// `NUMBER(name)`, which may be negative.
    pub(crate) fn value(&self, name: &str) -> Result<i64, CoreError> {
        let name = format!("NUMBER({name})");
        let text = self.text(&name)?;
        text.trim().parse().map_err(|_| CoreError::Lacks(name))
    }

    fn number(&self, name: &str, radix: u32) -> Result<u64, CoreError> {
        u64::from_str_radix(self.text(name)?.trim(), radix).map_err(|_| CoreError::Lacks(name.into()))
    }
}
