//! What a user hands in: jobs and executors.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::needs::Needs;

/// A job to be submitted.
#[derive(Debug, Clone, PartialEq)]
pub struct JobSpec<P> {
    /// For people: logs and the status.
    pub name: String,
    /// What the executor needs to know; the scheduler never looks into it.
    pub payload: P,
    /// Jobs may share a batch only if this is equal (and their group and needs are).
    pub batch_key: String,
    /// How long the job is expected to take. A batch's costs add up to at most the executor's budget, except that a
    /// single job may exceed it. Counted in whole ms, rounded up.
    pub cost: Duration,
    /// Whose share of the executors it uses.
    pub group: String,
    /// The group's weight from now on: twice the weight, twice the share. What is not a positive number counts as 1.
    pub weight: f64,
    /// Lower goes first within the group; equals go in order of submission.
    pub order: i64,
    /// What the executor must have.
    pub needs: Needs,
}

impl<P> JobSpec<P> {
    /// A job that shares a batch with nobody else (its batch key is its name), in the group `default` with weight 1,
    /// of cost 1 s, order 0 and no needs.
    pub fn new(name: impl Into<String>, payload: P) -> Self {
        let name = name.into();
        Self {
            batch_key: name.clone(),
            name,
            payload,
            cost: Duration::from_secs(1),
            group: "default".into(),
            weight: 1.0,
            order: 0,
            needs: Needs::none(),
        }
    }
}

/// An executor to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutorSpec {
    /// Its name, unique among the executors that are there.
    pub name: String,
    /// The machine it works on; a job that failed here goes to another host where there is one.
    pub host: String,
    /// What it is: `arch` = `x86_64`.
    pub tags: BTreeMap<String, String>,
    /// What it has: `memory` = 4096.
    pub amounts: BTreeMap<String, u64>,
    /// The cost of the largest batch it takes.
    pub budget: Duration,
}

impl ExecutorSpec {
    /// An executor on a host of its own name, without tags and amounts, with a budget of ten minutes.
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            host: name.clone(),
            name,
            tags: BTreeMap::new(),
            amounts: BTreeMap::new(),
            budget: Duration::from_secs(600),
        }
    }
}
