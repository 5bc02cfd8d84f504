//! The open connections and requests, counted per address and in total.
//!
//! A new connection or request that exceeds a limit replaces the one that made no progress for the longest time. If its
//! address is at its limit, it replaces one of the same address. So a client that stalls on all its connections can
//! still open another one, and does not block other clients.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::Limits;
use crate::activity::Activity;
use crate::proxies::counted_as;

/// A connection or request without progress for this time can be replaced by a new one.
const REPLACEABLE: Duration = Duration::from_secs(1);

/// All clients of a server.
#[derive(Debug)]
pub(crate) struct Clients {
    limits: Limits,
    handlers: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    connections: Counted,
    requests: Counted,
    /// The handlers of each address with open requests.
    handlers: HashMap<IpAddr, Arc<Semaphore>>,
}

/// Open connections, or open requests.
#[derive(Debug, Default)]
struct Counted {
    next: u64,
    open: HashMap<u64, Open>,
}

#[derive(Debug)]
struct Open {
    /// `None` for a connection of a trusted proxy, which has no per-address limit.
    address: Option<IpAddr>,
    activity: Arc<Activity>,
}

/// What happens to a new connection or request.
#[derive(Debug, PartialEq, Eq)]
enum Admission {
    Open,
    /// Admitted after the connection or request with this id has been ended.
    Replace(u64),
    Refused,
}

/// Counts as an open connection until it is dropped.
#[derive(Debug)]
pub(crate) struct OpenConnection {
    clients: Arc<Clients>,
    id: u64,
    pub(crate) activity: Arc<Activity>,
}

/// Counts as an open request until it is dropped.
#[derive(Debug)]
pub(crate) struct OpenRequest {
    clients: Arc<Clients>,
    id: u64,
    counted_as: IpAddr,
}

/// The client of a request.
#[derive(Debug, Clone)]
pub struct Client {
    address: IpAddr,
    pub(crate) is_behind_proxy: bool,
    own: Arc<Semaphore>,
    all: Arc<Semaphore>,
}

/// The right to run a handler.
#[derive(Debug)]
pub struct HandlerPermit {
    _own: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

impl Client {
    /// Its address. Behind a trusted proxy, the address that the proxy reports.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Whether the request came from a trusted proxy or from this host, where only a proxy sends `X-Forwarded-*`.
    #[must_use]
    pub fn is_behind_proxy(&self) -> bool {
        self.is_behind_proxy
    }

    /// Waits for a free handler: first among the requests of this client, then among those of all clients.
    pub async fn permit(&self) -> HandlerPermit {
        const OPEN: &str = "nothing closes these semaphores";
        let own = Arc::clone(&self.own).acquire_owned().await.expect(OPEN);
        let all = Arc::clone(&self.all).acquire_owned().await.expect(OPEN);
        HandlerPermit { _own: own, _all: all }
    }
}

impl Clients {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        let handlers = Arc::new(Semaphore::new(limits.handlers));
        Arc::new(Self { limits, handlers, state: Mutex::default() })
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Counts a new connection; `None` if it is refused.
    pub(crate) fn connect(self: &Arc<Self>, address: IpAddr, is_proxy: bool) -> Option<OpenConnection> {
        let (own, total) = (self.limits.connections_per_address, self.limits.connections);
        let activity = Arc::new(Activity::new());
        let address = (!is_proxy).then(|| counted_as(address));
        let id = self.state().connections.open(address, &activity, own, total)?;
        Some(OpenConnection { clients: Arc::clone(self), id, activity })
    }

    /// Counts a new request with the activity of its stream or connection; `None` if it is refused.
    pub(crate) fn request(
        self: &Arc<Self>,
        address: IpAddr,
        activity: &Arc<Activity>,
    ) -> Option<(OpenRequest, Client)> {
        let (own, total) = (self.limits.requests_per_address, self.limits.requests);
        let counted_as = counted_as(address);
        let mut state = self.state();
        let id = state.requests.open(Some(counted_as), activity, own, total)?;
        let handlers = || Arc::new(Semaphore::new(self.limits.handlers_per_address));
        let handlers = Arc::clone(state.handlers.entry(counted_as).or_insert_with(handlers));
        let client =
            Client { address, is_behind_proxy: false, own: handlers, all: Arc::clone(&self.handlers) };
        Some((OpenRequest { clients: Arc::clone(self), id, counted_as }, client))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counted {
    /// Counts a new connection or request and returns its id, if the per-address and total limits allow it.
    fn open(
        &mut self,
        address: Option<IpAddr>,
        activity: &Arc<Activity>,
        own: usize,
        total: usize,
    ) -> Option<u64> {
        let idle = self.open.iter().map(|(id, open)| (*id, open.address, open.activity.idle()));
        match admit(idle.collect(), address, own, total) {
            Admission::Open => {}
            Admission::Replace(id) => {
                if let Some(replaced) = self.open.remove(&id) {
                    replaced.activity.end();
                }
            }
            Admission::Refused => return None,
        }
        let id = self.next;
        self.next += 1;
        self.open.insert(id, Open { address, activity: Arc::clone(activity) });
        Some(id)
    }
}

/// Decides whether to admit a new connection or request of `address`. `open` lists the existing ones by id, address and
/// time without progress.
fn admit(
    open: Vec<(u64, Option<IpAddr>, Duration)>,
    address: Option<IpAddr>,
    own: usize,
    total: usize,
) -> Admission {
    let is_own = |of: &Option<IpAddr>| address.is_some() && *of == address;
    let at_own_limit = open.iter().filter(|(_, of, _)| is_own(of)).count() >= own;
    if !at_own_limit && open.len() < total {
        return Admission::Open;
    }
    let candidates = open.into_iter().filter(|(_, of, _)| !at_own_limit || is_own(of));
    match candidates.max_by_key(|(id, _, idle)| (*idle, u64::MAX - id)) {
        Some((id, _, idle)) if idle >= REPLACEABLE => Admission::Replace(id),
        _ => Admission::Refused,
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.clients.state().connections.open.remove(&self.id);
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        let mut state = self.clients.state();
        state.requests.open.remove(&self.id);
        let address = Some(self.counted_as);
        if !state.requests.open.values().any(|open| open.address == address) {
            state.handlers.remove(&self.counted_as);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: fn() -> Limits = || Limits {
        connections: 4,
        connections_per_address: 2,
        requests: 4,
        requests_per_address: 3,
        handlers: 2,
        handlers_per_address: 1,
        ..Limits::default()
    };

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn connections_are_admitted_replaced_or_refused() {
        // For each open connection: the last byte of its address (0 for a proxy) and the time without progress in ms.
        for (open, new, expected) in [
            (vec![], 1, Admission::Open),
            (vec![(1, 5000)], 1, Admission::Open),
            (vec![(1, 5000), (1, 9000)], 1, Admission::Replace(1)),
            (vec![(1, 9000), (1, 9000)], 1, Admission::Replace(0)),
            (vec![(1, 500), (1, 900)], 1, Admission::Refused),
            (vec![(2, 9000), (1, 500), (1, 900)], 1, Admission::Refused),
            (vec![(2, 9000), (1, 500), (1, 900)], 2, Admission::Open),
            (vec![(2, 100), (1, 5000), (1, 9000), (2, 900)], 3, Admission::Replace(2)),
            (vec![(2, 100), (1, 500), (1, 900), (2, 900)], 3, Admission::Refused),
            (vec![(0, 100), (0, 100), (0, 100)], 0, Admission::Open),
            (vec![(0, 100), (0, 3000), (0, 100), (0, 100)], 0, Admission::Replace(1)),
        ] {
            let of = |last: u8| (last > 0).then(|| address(last));
            let open: Vec<_> = open
                .iter()
                .zip(0..)
                .map(|((last, idle), id)| (id, of(*last), Duration::from_millis(*idle)))
                .collect();
            assert_eq!(admit(open.clone(), of(new), 2, 4), expected, "{open:?}");
        }
    }

    #[test]
    fn requests_are_counted_until_they_end() {
        let clients = Clients::new(LIMITS());
        let activity = Arc::new(Activity::new());
        let request = |last| clients.request(address(last), &activity);
        let mut open: Vec<_> = (0..3).map(|_| request(1).unwrap()).collect();
        assert!(request(1).is_none(), "its own limit");
        let other = request(2).unwrap();
        assert!(request(3).is_none(), "the total");
        open.pop();
        assert!(request(1).is_some());
        drop((open, other));
        let state = clients.state();
        assert!(state.requests.open.is_empty() && state.handlers.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_request_replaces_one_that_stalls() {
        let clients = Clients::new(LIMITS());
        let stalled = Arc::new(Activity::new());
        let _open: Vec<_> = (0..3).map(|_| clients.request(address(1), &stalled).unwrap()).collect();
        tokio::time::sleep(REPLACEABLE).await;
        let new = Arc::new(Activity::new());
        assert!(clients.request(address(1), &new).is_some());
        tokio::time::timeout(REPLACEABLE, stalled.over(Duration::MAX)).await.unwrap();
    }

    #[tokio::test]
    async fn one_client_cannot_use_all_handlers() {
        let clients = Clients::new(LIMITS());
        let activity = Arc::new(Activity::new());
        let (_first, client) = clients.request(address(1), &activity).unwrap();
        let (_second, other) = clients.request(address(2), &activity).unwrap();
        let permit = client.permit().await;
        let waits = tokio::time::timeout(Duration::from_millis(20), client.permit()).await;
        assert!(waits.is_err());
        let _others = other.permit().await;
        drop(permit);
        let _next = client.permit().await;
    }
}
