//! `ci-status flaky`: the flaky tests of a branch, with their failure rates.

use std::io::{self, Write};

use model::{BranchRef, Status};
use results::json::FlakyRow;

use super::{Answer, to_json};
use crate::context::Context;
use crate::problem::Problem;
use crate::select;
use crate::text::{self, Cell, Table};

/// The flaky tests of a branch.
#[derive(Debug)]
pub struct Flaky {
    branch: BranchRef,
    rows: Vec<FlakyRow>,
}

/// Reads the flaky tests.
pub fn run(context: &Context, branch: Option<&str>) -> Result<Flaky, Problem> {
    let branch = select::branch(context, branch)?;
    let rows = context.backend.flaky(&branch)?;
    Ok(Flaky { branch, rows })
}

impl Answer for Flaky {
    fn json(&self) -> serde_json::Result<String> {
        to_json(&self.rows)
    }

    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.rows.is_empty() {
            return writeln!(out, "no test of {} is flaky", self.branch);
        }
        let mut table = Table::default();
        for FlakyRow { name, rate, since, hosts, only_under_load, .. } in &self.rows {
            let hosts: Vec<String> = hosts
                .iter()
                .map(|on| format!("{}: {} of {}", on.host, on.rate.failed, on.rate.runs))
                .collect();
            let load = only_under_load.map_or(String::new(), |load| load.to_string());
            table.row([
                Cell::left(format_args!("flaky {} of {}", rate.failed, rate.runs))
                    .styled(text::style(Status::Flaky)),
                Cell::left(name),
                Cell::left(rate),
                Cell::left(format_args!("since {}", since.short())),
                Cell::left(hosts.join(", ")).styled(text::FAINT),
                Cell::left(load),
            ]);
        }
        write!(out, "{table}")
    }
}
