//! The description of a job to submit, and of an executor to add.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::needs::Needs;

/// A job to submit.
#[derive(Debug, Clone, PartialEq)]
pub struct JobSpec<P> {
    /// The name in logs and the status.
    pub name: String,
    /// Data for the executor.
    pub payload: P,
    /// Jobs share a batch only if their batch key, group and needs are equal.
    pub batch_key: String,
    /// The expected duration, in whole ms, rounded up. The total cost of a batch is at most the executor's budget,
    /// except if a single job exceeds it.
    pub cost: Duration,
    /// The fair-share group.
    pub group: String,
    /// Sets the weight of the group: twice the weight gives twice the share. A value that is not positive is treated as
    /// 1.
    pub weight: f64,
    /// Sets the maximum number of executors that run batches of the group at the same time.
    pub executors_max: Option<usize>,
    /// The order within the group, lowest first, then in order of submission.
    pub order: i64,
    /// The needs.
    pub needs: Needs,
}

impl<P> JobSpec<P> {
    /// A job in its own batch (the batch key is the name), in the group `default` with weight 1, cost 1 s, order 0 and
    /// no needs.
    pub fn new(name: impl Into<String>, payload: P) -> Self {
        let name = name.into();
        Self {
            batch_key: name.clone(),
            name,
            payload,
            cost: Duration::from_secs(1),
            group: "default".into(),
            weight: 1.0,
            executors_max: None,
            order: 0,
            needs: Needs::none(),
        }
    }
}

/// An executor to add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutorSpec {
    /// Its unique name.
    pub name: String,
    /// Its host. A failed job goes to another host if possible.
    pub host: String,
    /// Its tags: `arch` = `x86_64`.
    pub tags: BTreeMap<String, String>,
    /// Its amounts: `memory` = 4096.
    pub amounts: BTreeMap<String, u64>,
    /// The maximum total cost of a batch.
    pub budget: Duration,
}

impl ExecutorSpec {
    /// An executor on a host of the same name, without tags and amounts, with a budget of ten minutes.
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
