//! The executors of the farm: added and removed according to the hosts and slots in the configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use config::HostKind;
use jobkit::{Choir, ExecutorSpec};
use model::{Arch, HostName};
use results::Writer;
use tokio::sync::{mpsc, watch};

use super::command::{Tools, tools};
use super::neighbors::Neighbors;
use super::placement;
use super::run::{ExecutorEvent, SlotContext, body};
use crate::farm::Controls;
use crate::plan::PlannedJob;
use crate::watch::fetch_loop::View;

/// The executors. Their tasks end with the scheduler.
#[derive(Debug)]
pub struct ExecutorPool {
    choir: Choir<Arc<PlannedJob>>,
    writer: Writer,
    ktest: PathBuf,
    tools: watch::Sender<Arc<Tools>>,
    events: mpsc::UnboundedSender<ExecutorEvent>,
    names: BTreeSet<String>,
    /// The batches on each host, other than clusters, which choose the nodes.
    hosts: BTreeMap<HostName, Arc<Neighbors>>,
}

impl ExecutorPool {
    /// A pool without executors, and the receiver of their events. They run the command `ktest`.
    #[must_use]
    pub fn new(
        choir: Choir<Arc<PlannedJob>>,
        writer: Writer,
        ktest: PathBuf,
        view: &View,
    ) -> (Self, mpsc::UnboundedReceiver<ExecutorEvent>) {
        let (events, inbox) = mpsc::unbounded_channel();
        let tools = watch::Sender::new(Arc::new(tools(view, &ktest)));
        (Self { choir, writer, ktest, tools, events, names: BTreeSet::new(), hosts: BTreeMap::new() }, inbox)
    }

    /// Adds and removes executors according to the view. The following batches use its tools.
    pub fn take_view(&mut self, view: &View, controls: &Controls) {
        let tools = Arc::new(tools(view, &self.ktest));
        self.tools.send_if_modified(|current| {
            let changed = *current != tools;
            *current = tools;
            changed
        });
        self.set_slots(view, controls);
    }

    /// Adds and removes executors: one per slot that is not drained. An executor that is removed ends its batch first.
    pub fn set_slots(&mut self, view: &View, controls: &Controls) {
        let wanted: BTreeMap<String, (HostName, u32)> = placement::slots(&view.config)
            .into_iter()
            .map(|(host, slot)| (format!("{host}/{slot}"), (host, slot)))
            .filter(|(name, _)| !controls.is_drained(name))
            .collect();
        for name in self.names.iter().filter(|name| !wanted.contains_key(*name)) {
            self.choir.remove_executor(name);
        }
        self.names.retain(|name| wanted.contains_key(name));
        for (name, (host, slot)) in wanted {
            if !self.names.contains(&name) {
                self.add(name, view, host, slot);
            }
        }
    }

    fn add(&mut self, name: String, view: &View, host: HostName, slot: u32) {
        let config = &view.config;
        let arch = config.hosts.get(&host).map(|host| host.arch).or_else(Arch::native);
        let kind = config.hosts.get(&host).map_or(HostKind::Local, |host| host.kind);
        let tags = arch.map(|arch| ("arch".to_owned(), arch.to_string())).into_iter();
        let tags = tags.chain([("kind".to_owned(), kind.to_string())]).collect();
        let budget = config.top.subtest_duration_max;
        let work = self.writer.output_dir().join(crate::WORK).join(format!("{host}-{slot}"));
        let spec = ExecutorSpec { host: host.to_string(), tags, budget, ..ExecutorSpec::new(&name) };
        let (tools, writer) = (self.tools.subscribe(), self.writer.clone());
        let neighbors =
            (kind != HostKind::Slurm).then(|| self.hosts.entry(host.clone()).or_default().clone());
        let slot = SlotContext { work, host, slot, tools, writer, neighbors, events: self.events.clone() };
        match self.choir.add_executor(spec, |executor| body(executor, slot)) {
            Ok(()) => {
                self.names.insert(name);
            }
            // A removed executor with that name is still running its last batch; the next call retries.
            Err(error) => tracing::debug!("{error}"),
        }
    }
}
