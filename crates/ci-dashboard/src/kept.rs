//! Pages kept for the next who asks: made once for many, and never older than the results.
//!
//! A kept page answers a request in two cases. Its making began after the request came: it knows all that a page made
//! for this request alone would. Or nothing was published since (each file of the results is replaced by rename, which
//! moves the time of their folder) and it is young: what another program changes in place shows after [`AGE_MAX`].

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, StatusCode};

use crate::problem::Problem;
use crate::rendered::Rendered;
use crate::response::{Body, Response};

/// The longest that a page is kept.
pub const AGE_MAX: Duration = Duration::from_millis(500);
/// What all kept pages may take, in bytes, with their codings.
const BYTES_MAX: usize = 48 << 20;
/// How many are kept.
const PAGES_MAX: usize = 1000;
/// A folder that changed this short a time ago may change again without its time of change showing it: file systems
/// count in ticks of the kernel's clock.
const TICK: Duration = Duration::from_millis(20);

/// When a folder last changed, and which folder it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    inode: u64,
    changed: (i64, i64),
}

impl Stamp {
    /// Of a folder; `None` while it cannot be relied on.
    #[must_use]
    pub fn of(folder: &Path) -> Option<Self> {
        let data = std::fs::metadata(folder).ok()?;
        let age = SystemTime::now().duration_since(data.modified().ok()?).ok()?;
        (age > TICK).then(|| Self { inode: data.ino(), changed: (data.mtime(), data.mtime_nsec()) })
    }
}

/// A page with what says how long it counts.
struct Page {
    began: Instant,
    stamp: Option<Stamp>,
    headers: HeaderMap,
    rendered: Arc<Rendered>,
}

impl Page {
    fn response(&self) -> Response {
        let body = Body::Rendered(Arc::clone(&self.rendered));
        Response { status: StatusCode::OK, headers: self.headers.clone(), body }
    }
}

/// Locked while its page is made, so that those who want the same wait for it rather than make it too.
type Slot = Arc<Mutex<Option<Page>>>;

#[derive(Default)]
struct Table {
    slots: HashMap<String, Place>,
    bytes: usize,
}

struct Place {
    slot: Slot,
    weight: usize,
    made: Instant,
}

/// The pages that are kept, by address.
#[derive(Default)]
pub struct Kept {
    table: Mutex<Table>,
}

impl Kept {
    /// The page of an address for a request that came at `came`: a kept one that is as good, else what `make` makes.
    pub fn get(
        &self,
        address: &str,
        came: Instant,
        stamp: impl Fn() -> Option<Stamp>,
        make: impl FnOnce() -> Result<Response, Problem>,
    ) -> Result<Response, Problem> {
        let slot = self.slot(address, came);
        let mut page = slot.lock().unwrap_or_else(PoisonError::into_inner);
        let (began, stamp) = (Instant::now(), stamp());
        if let Some(page) = &*page {
            let same = stamp.is_some() && page.stamp == stamp && began - page.began < AGE_MAX;
            if same || page.began >= came {
                return Ok(page.response());
            }
        }
        *page = None;
        let response = make()?;
        if let Body::Rendered(rendered) = &response.body
            && response.status == StatusCode::OK
            && self.room(address, rendered.weight(), began)
        {
            let (headers, rendered) = (response.headers.clone(), Arc::clone(rendered));
            *page = Some(Page { began, stamp, headers, rendered });
        }
        Ok(response)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot(&self, address: &str, now: Instant) -> Slot {
        let mut table = self.table();
        if let Some(place) = table.slots.get(address) {
            return Arc::clone(&place.slot);
        }
        if table.slots.len() >= PAGES_MAX {
            table.clear(now);
        }
        let slot = Slot::default();
        let place = Place { slot: Arc::clone(&slot), weight: address.len(), made: now };
        table.bytes += place.weight;
        table.slots.insert(address.to_owned(), place);
        slot
    }

    /// Whether a page of this weight may be kept; others make room for it.
    fn room(&self, address: &str, weight: usize, now: Instant) -> bool {
        let mut table = self.table();
        if weight > BYTES_MAX / 4 {
            table.forget(address);
            return false;
        }
        if table.bytes + weight > BYTES_MAX {
            table.clear(now);
        }
        // Where it was cleared away meanwhile, those who wait for it still get it.
        let Some(place) = table.slots.get_mut(address) else { return true };
        let before = std::mem::replace(&mut place.weight, address.len() + weight);
        place.made = now;
        table.bytes = table.bytes + address.len() + weight - before;
        true
    }
}

impl Table {
    /// Forgets what is too old to be of use, or all of it where that is not enough.
    fn clear(&mut self, now: Instant) {
        self.slots.retain(|_, place| now.saturating_duration_since(place.made) < AGE_MAX);
        if self.slots.len() >= PAGES_MAX / 2 || self.weight() > BYTES_MAX / 2 {
            self.slots.clear();
        }
        self.bytes = self.weight();
    }

    fn weight(&self) -> usize {
        self.slots.values().map(|place| place.weight).sum()
    }

    fn forget(&mut self, address: &str) {
        if let Some(place) = self.slots.remove(address) {
            self.bytes -= place.weight;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::response::kind;

    fn page(text: String) -> Result<Response, Problem> {
        Ok(Response::rendered(kind::HTML, Arc::new(Rendered::new(text))))
    }

    fn text(response: Response) -> String {
        let mut bytes = Vec::new();
        response.body.write_to(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    fn stamp(nanos: i64) -> Option<Stamp> {
        Some(Stamp { inode: 1, changed: (0, nanos) })
    }

    #[test]
    fn a_page_is_kept_until_something_is_published() {
        let kept = Kept::default();
        let get = |stamp: Option<Stamp>, made: &str| {
            text(kept.get("/ci", Instant::now(), || stamp, || page(made.into())).unwrap())
        };
        assert_eq!(get(stamp(1), "a"), "a");
        assert_eq!(get(stamp(1), "b"), "a");
        assert_eq!(get(stamp(2), "c"), "c");
        // A time of change that cannot be relied on.
        assert_eq!(get(None, "d"), "d");
        assert_eq!(get(None, "e"), "e");
        std::thread::sleep(AGE_MAX);
        assert_eq!(get(stamp(2), "f"), "f", "it grew old");
        // What went wrong is not kept, nor what came before it.
        let wrong = kept.get("/ci", Instant::now(), || stamp(3), || Err(Problem::Render));
        assert_eq!(wrong.unwrap_err(), Problem::Render);
        assert_eq!(get(stamp(3), "g"), "g");
    }

    #[test]
    fn many_who_ask_at_once_are_answered_by_two_makings_even_while_results_change() {
        let kept = Kept::default();
        let makings = AtomicUsize::new(0);
        let start = std::sync::Barrier::new(16);
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    start.wait();
                    let came = Instant::now();
                    let made = kept.get(
                        "/ci",
                        came,
                        || None,
                        || {
                            makings.fetch_add(1, Ordering::SeqCst);
                            std::thread::sleep(Duration::from_millis(300));
                            page("x".into())
                        },
                    );
                    assert_eq!(text(made.unwrap()), "x");
                });
            }
        });
        let makings = makings.load(Ordering::SeqCst);
        assert!((1..=3).contains(&makings), "{makings}");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let kept = Kept::default();
        let large = "x".repeat(1 << 20);
        for at in 0..3 * PAGES_MAX {
            let address = format!("/ci?user={at}");
            let made = if at % 10 == 0 { large.clone() } else { String::new() };
            kept.get(&address, Instant::now(), || stamp(1), || page(made)).unwrap();
            let table = kept.table();
            assert!(table.slots.len() <= PAGES_MAX && table.bytes <= BYTES_MAX);
            assert_eq!(table.bytes, table.weight());
        }
        let huge = "x".repeat(BYTES_MAX / 8);
        kept.get("/huge", Instant::now(), || stamp(1), || page(huge)).unwrap();
        assert!(!kept.table().slots.contains_key("/huge"));
    }

    #[test]
    fn a_folder_that_just_changed_has_no_stamp() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), "").unwrap();
        assert_eq!(Stamp::of(dir.path()), None);
        std::thread::sleep(2 * TICK);
        let before = Stamp::of(dir.path());
        assert!(before.is_some());
        std::fs::rename(dir.path().join("a"), dir.path().join("b")).unwrap();
        std::thread::sleep(2 * TICK);
        assert_ne!(Stamp::of(dir.path()), before);
    }
}
