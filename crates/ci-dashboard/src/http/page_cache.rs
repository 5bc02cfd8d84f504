//! Caches rendered pages. Requests share them, and they are never older than the results.
//!
//! A cached page is valid for a request in two cases. Either its rendering started after the request arrived, so a page
//! rendered for this request could not be newer. Or nothing has been published since (each file of the results is
//! replaced by rename, which changes the mtime of their directory) and the page is young: a change that another program
//! makes in place is visible after [`AGE_MAX`].
//!
//! While a page is requested often, requests do not wait for its renewal: if nothing has been published, the server sends the
//! page until [`AGED_MAX`], and renders the next one meanwhile.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use super::{Body, Response};

/// The maximum time for which a page is cached.
pub const AGE_MAX: Duration = Duration::from_millis(500);
/// The maximum time for which a page is sent while the next one is rendered.
pub const AGED_MAX: Duration = Duration::from_secs(2);
/// The maximum memory of all cached pages with their encodings, in bytes.
const BYTES_MAX: u64 = 48 << 20;
/// The memory of a page's headers and bookkeeping, in bytes.
const PAGE_OVERHEAD: usize = 4 << 10;
/// After a change, file systems may not show another change for one tick of the kernel's clock.
const TICK: Duration = Duration::from_millis(20);

/// The state of a directory: its inode and mtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    inode: u64,
    changed: (i64, i64),
}

impl Stamp {
    /// The stamp of a directory; `None` if it changed so recently that another change may not be visible.
    #[must_use]
    pub fn of(directory: &Path) -> Option<Self> {
        let data = std::fs::metadata(directory).ok()?;
        let age = SystemTime::now().duration_since(data.modified().ok()?).ok()?;
        (age > TICK).then(|| Self { inode: data.ino(), changed: (data.mtime(), data.mtime_nsec()) })
    }
}

/// The result of rendering, with the data that determines how long it is valid.
struct Page<E> {
    began: Instant,
    stamp: Option<Stamp>,
    result: Result<Response, E>,
    /// Whether the next one is being rendered.
    is_refreshing: AtomicBool,
}

impl<E> Page<E> {
    fn weight(&self) -> usize {
        match &self.result {
            Ok(Response { body: Body::Rendered(rendered), .. }) => rendered.weight(),
            Ok(response) => usize::try_from(response.body.length()).unwrap_or(usize::MAX),
            Err(_) => 0,
        }
    }
}

/// The cached pages, by address.
pub struct PageCache<E> {
    pages: Cache<String, Arc<Page<E>>>,
}

impl<E: Clone + Send + Sync + 'static> Default for PageCache<E> {
    fn default() -> Self {
        let pages = Cache::builder()
            .max_capacity(BYTES_MAX)
            .weigher(|address: &String, page: &Arc<Page<E>>| {
                let weight = PAGE_OVERHEAD.saturating_add(address.len()).saturating_add(page.weight());
                u32::try_from(weight).unwrap_or(u32::MAX)
            })
            .eviction_policy(EvictionPolicy::lru())
            .time_to_live(AGED_MAX)
            .build();
        Self { pages }
    }
}

impl<E: Clone + Send + Sync + 'static> PageCache<E> {
    /// The page at an address, for a request that arrived at `arrived`: a valid cached page, or a new one. Concurrent
    /// requests for the same page wait for a single rendering. If the server `refreshes` pages, the page may be an older one,
    /// with a request to render it again.
    pub fn get(
        &self,
        address: &str,
        (arrived, refreshes): (Instant, bool),
        stamp: impl Fn() -> Option<Stamp>,
        render: impl Fn() -> Result<Response, E>,
    ) -> Result<Response, E> {
        let valid = |page: &Arc<Page<E>>| {
            let young = page.result.is_ok() && page.stamp.is_some() && page.began.elapsed() < AGE_MAX;
            page.began >= arrived || (young && page.stamp == stamp())
        };
        let new = || {
            let (began, stamp) = (Instant::now(), stamp());
            Arc::new(Page { began, stamp, result: render(), is_refreshing: AtomicBool::new(false) })
        };
        if let Some(page) = self.pages.get(address).filter(|page| refreshes && page.stamp.is_some())
            && (AGE_MAX..AGED_MAX).contains(&page.began.elapsed())
            && page.stamp == stamp()
            && let Some(response) = page.result.as_ref().ok().and_then(Response::copied)
        {
            let needs_refresh = !page.is_refreshing.swap(true, Ordering::Relaxed);
            return Ok(Response { needs_refresh, ..response });
        }
        // If the rendering that a request waited for started before the request arrived, it may need the next one.
        for _ in 0..2 {
            let page =
                self.pages.entry_by_ref(address).or_insert_with_if(new, |page| !valid(page)).into_value();
            if valid(&page) {
                match &page.result {
                    Ok(response) => {
                        let Some(response) = response.copied() else { break };
                        return Ok(response);
                    }
                    Err(error) => return Err(error.clone()),
                }
            }
        }
        render()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::super::{Rendered, content_type};
    use super::*;

    fn page(text: String) -> Result<Response, &'static str> {
        Ok(Response::rendered(content_type::HTML, Arc::new(Rendered::new(text))))
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
    fn a_page_is_cached_until_something_is_published() {
        let cache = PageCache::default();
        let get = |stamp: Option<Stamp>, text_now: &str| {
            text(cache.get("/ci", (Instant::now(), false), || stamp, || page(text_now.into())).unwrap())
        };
        assert_eq!(get(stamp(1), "a"), "a");
        assert_eq!(get(stamp(1), "b"), "a");
        assert_eq!(get(stamp(2), "c"), "c");
        // An unreliable mtime.
        assert_eq!(get(None, "d"), "d");
        assert_eq!(get(None, "e"), "e");
        std::thread::sleep(AGE_MAX);
        assert_eq!(get(stamp(2), "f"), "f", "the old page has expired");
        // Neither an error nor the page before it is cached.
        let error = cache.get("/ci", (Instant::now(), false), || stamp(3), || Err("broken"));
        assert_eq!(error.unwrap_err(), "broken");
        assert_eq!(get(stamp(3), "g"), "g");
    }

    #[test]
    fn an_aged_page_is_sent_while_the_next_one_is_rendered() {
        let cache = PageCache::default();
        let get = |refreshes: bool, stamp: Option<Stamp>, text_now: &str| {
            let got =
                cache.get("/ci", (Instant::now(), refreshes), || stamp, || page(text_now.into())).unwrap();
            (got.needs_refresh, text(got))
        };
        assert_eq!(get(true, stamp(1), "a"), (false, "a".into()));
        std::thread::sleep(AGE_MAX);
        assert_eq!(get(true, stamp(1), "b"), (true, "a".into()), "one request refreshes the page");
        assert_eq!(get(true, stamp(1), "b"), (false, "a".into()));
        assert_eq!(get(false, stamp(1), "c"), (false, "c".into()), "the refresh");
        assert_eq!(get(true, stamp(1), "d"), (false, "c".into()));
        std::thread::sleep(AGE_MAX);
        assert_eq!(get(true, stamp(2), "e"), (false, "e".into()), "something was published");
    }

    #[test]
    fn concurrent_requests_share_two_renderings_while_results_change() {
        let cache = PageCache::default();
        let renderings = AtomicUsize::new(0);
        let start = std::sync::Barrier::new(16);
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    start.wait();
                    let rendered = cache.get(
                        "/ci",
                        (Instant::now(), false),
                        || None,
                        || {
                            renderings.fetch_add(1, Ordering::SeqCst);
                            std::thread::sleep(Duration::from_millis(300));
                            page("x".into())
                        },
                    );
                    assert_eq!(text(rendered.unwrap()), "x");
                });
            }
        });
        let renderings = renderings.load(Ordering::SeqCst);
        assert!((1..=3).contains(&renderings), "{renderings}");
    }

    #[test]
    fn memory_is_bounded() {
        let cache = PageCache::default();
        let large = "x".repeat(1 << 20);
        for number in 0..3000 {
            let address = format!("/ci?user={number}");
            let body = if number % 10 == 0 { large.clone() } else { String::new() };
            cache.get(&address, (Instant::now(), false), || stamp(1), || page(body.clone())).unwrap();
            if number % 100 == 0 {
                cache.pages.run_pending_tasks();
                assert!(cache.pages.weighted_size() <= BYTES_MAX);
            }
        }
        let huge = "x".repeat(usize::try_from(BYTES_MAX).unwrap() / 2);
        cache.get("/huge", (Instant::now(), false), || stamp(1), || page(huge.clone())).unwrap();
        cache.pages.run_pending_tasks();
        assert!(!cache.pages.contains_key("/huge"));
    }

    #[test]
    fn a_directory_that_just_changed_has_no_stamp() {
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
