//! `ktest bisect`: finds the first bad commit on this host. The crate `belief` chooses the runs and concludes; this module
//! executes them one after another, and writes the record after each, so that an interrupted search continues.

mod commits;
mod covered;
mod record_file;
mod search;
mod text;

pub(crate) use commits::{Range, RangeError};
pub(crate) use covered::{KnownFiles, executed_files, mark};
pub(crate) use record_file::RecordFile;
pub(crate) use search::{Lab, Ran, Reproduced, Search, SearchError, Tested, reproduce};
pub(crate) use text::{conclusion, progress};
