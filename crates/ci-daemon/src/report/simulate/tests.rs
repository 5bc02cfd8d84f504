//! Tests of the simulation.

use super::*;
use crate::plan::History;
use crate::plan::fixture::{self, branch, commit};

/// Two branches whose tips have the same parent, and one test file with `subtests` subtests that take 10 s each.
fn input(subtests: usize) -> Input {
    let branches = vec![branch("anna/b", &[3, 1]), branch("bob/b", &[2, 1])];
    let history = (0..subtests).map(|n| {
        let history = History { mean: Duration::from_secs(10), passed: 1, ..History::default() };
        (format!("a.s{n}").parse().unwrap(), history)
    });
    Input { history: history.collect(), ..fixture::input(branches, subtests) }
}

fn farm(slots: usize, all: bool) -> SimulatedFarm {
    let s = Duration::from_secs;
    SimulatedFarm { slots, window: 2000, budget: s(60), batch_min: s(60), boot: s(5), build: s(100), all }
}

fn equal(_: &UserName) -> Share {
    Share { weight: 1.0, slots_max: None }
}

#[test]
fn a_user_occupies_no_more_slots_than_its_limit() {
    let limited =
        |user: &UserName| Share { slots_max: (user.as_str() == "anna").then_some(1), ..equal(user) };
    let free = simulate(&input(12), &mut none, &equal, farm(8, false)).unwrap();
    let limited = simulate(&input(12), &mut none, &limited, farm(8, false)).unwrap();
    let tips = |forecast: &Forecast| [0, 1].map(|at| forecast.branches[at].tip_s.unwrap());
    // The two batches of a tip run one after the other, in one slot.
    assert_eq!((tips(&free), tips(&limited)), ([165, 165], [230, 165]));
}

fn none(_: &CommitId, _: &[ResultKey], _: &mut dyn FnMut(u32)) -> results::Result<()> {
    Ok(())
}

#[test]
fn a_farm_that_is_easy_to_calculate() {
    let one = simulate(&input(12), &mut none, &equal, farm(1, true)).unwrap();
    // Three commits are built once each, and have two batches of 6 x 10 s each.
    assert_eq!((one.jobs, one.all_s), (36, Some(3 * 100 + 6 * (5 + 60))));
    let two = simulate(&input(12), &mut none, &equal, farm(2, false)).unwrap();
    // Fair share gives one slot to each of the two tips.
    let tips: Vec<_> =
        two.branches.iter().map(|branch| (branch.left, branch.first_s, branch.tip_s)).collect();
    assert_eq!(tips, [(12, Some(115), Some(230)); 2]);
    // The second batch of a commit waits for its kernel.
    let four = simulate(&input(12), &mut none, &equal, farm(4, false)).unwrap();
    assert_eq!(four.branches[0].tip_s, Some(165));
    insta::assert_snapshot!(Table(&[one, two]), @r"
    branch       tip           left  first verdict, 1 slot  tip tested, 1 slot  first verdict, 2 slots  tip tested, 2 slots
    anna/b       000000000000  12    in 2 min               in 7 min            in 2 min                in 4 min
    bob/b        000000000000  12    in 5 min               in 8 min            in 2 min                in 4 min
    all commits  -             36    -                      in 12 min
    ");
}

#[test]
fn a_subtest_with_a_verdict_takes_no_time() {
    let mut done = |of: &CommitId, keys: &[ResultKey], each: &mut dyn FnMut(u32)| {
        let tip = *of == commit(3);
        (0..).zip(keys).filter(|(at, _)| tip || *at < 2).for_each(|(at, _)| each(at));
        Ok(())
    };
    let forecast = simulate(&input(3), &mut done, &equal, farm(4, false)).unwrap();
    assert_eq!((forecast.branches[0].left, forecast.branches[0].tip_s), (0, Some(0)));
    assert_eq!((forecast.branches[1].left, forecast.branches[1].tip_s), (1, Some(115)));
}

#[test]
fn slots_and_spans() {
    assert_eq!("+4".parse::<SlotCount>().unwrap().of(3), 7);
    assert_eq!("4".parse::<SlotCount>().unwrap().of(3), 4);
    assert!(["0", "+", "x", "-1", "+0"].iter().all(|text| text.parse::<SlotCount>().is_err()));
    let shown = [5, 100, 7200, 200_000].map(|s| Span(s).to_string());
    assert_eq!(shown, ["5 s", "2 min", "2 h 0 min", "2 d 7 h"]);
}

/// Durations of the cases of a file system test suite, in ms: the median is 4 s, nine of ten cases take at most 38 s, and the ten
/// longest are the rest of the time. Between these points, the logarithm of the duration is linear.
struct Suite {
    cases: Vec<u64>,
}

impl Suite {
    const CASES: usize = 1140;
    const POINTS: [(f64, f64); 4] = [(0.0, 0.5), (0.5, 4.0), (0.9, 38.0), (1.0, 110.0)];

    /// All but the ten longest.
    fn body() -> Vec<u64> {
        let at = |rank: f64| {
            let next = Self::POINTS.iter().position(|(end, _)| rank <= *end).unwrap().max(1);
            let ((from, low), (to, high)) = (Self::POINTS[next - 1], Self::POINTS[next]);
            let part = (rank - from) / (to - from);
            (1000.0 * (low.ln() + (high.ln() - low.ln()) * part).exp()).round() as u64
        };
        (0..Self::CASES - 10).map(|n| at((n as f64 + 0.5) / Self::CASES as f64)).collect()
    }

    /// The ten longest, each a part of the one before, so that their sum is `sum`.
    fn ten(sum: u64, ratio: f64) -> impl Iterator<Item = u64> {
        let parts: f64 = (0..10).map(|n| ratio.powi(n)).sum();
        (0..10).map(move |n| (sum as f64 / parts * ratio.powi(n)).round() as u64)
    }

    /// The ten longest cases take 69 % of the time.
    fn published(seed: u64) -> Self {
        let mut cases = Self::body();
        let rest: u64 = cases.iter().sum();
        cases.extend(Self::ten(rest * 69 / 31, 0.85));
        Self { cases }.shuffled(seed)
    }

    /// As `-g auto` on xfs: the longest case takes 454 s.
    fn xfs(seed: u64) -> Self {
        let mut cases = Self::body();
        cases.extend((0..10).map(|n| (454_000.0 * 0.9_f64.powi(n)).round() as u64));
        Self { cases }.shuffled(seed)
    }

    /// In another order, the same for the same seed.
    fn shuffled(mut self, mut seed: u64) -> Self {
        for at in (1..self.cases.len()).rev() {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            self.cases.swap(at, (seed >> 33) as usize % (at + 1));
        }
        self
    }

    fn sum(&self) -> u64 {
        self.cases.iter().sum()
    }

    fn longest(&self) -> u64 {
        *self.cases.iter().max().unwrap()
    }

    /// One commit that has to run all cases, and no other work.
    fn input(&self) -> Input {
        let history = self.cases.iter().enumerate().map(|(n, ms)| {
            let history = History { p75: Some(Duration::from_millis(*ms)), passed: 9, ..History::default() };
            (format!("a.s{n}").parse().unwrap(), history)
        });
        let branches = vec![branch("anna/b", &[1])];
        Input { history: history.collect(), ..fixture::input(branches, self.cases.len()) }
    }
}

/// A farm that has the kernel and boots a VM in 15 s.
fn booting(slots: usize) -> SimulatedFarm {
    let s = Duration::from_secs;
    let (budget, batch_min) = (s(600), s(60));
    SimulatedFarm { slots, window: 2000, budget, batch_min, boot: s(15), build: s(0), all: false }
}

#[test]
fn the_distributions_are_as_described() {
    let mut cases = Suite::published(1).cases;
    cases.sort_unstable();
    let (sum, ten) = (cases.iter().sum::<u64>(), cases[Suite::CASES - 10..].iter().sum::<u64>());
    assert_eq!((cases[Suite::CASES / 2] / 100, cases[Suite::CASES * 9 / 10] / 1000), (40, 38));
    assert_eq!((ten * 100 + sum / 2) / sum, 69);
    assert_eq!((Suite::xfs(1).longest(), Suite::xfs(1).cases.len()), (454_000, 1140));
    assert_ne!(Suite::xfs(1).cases, Suite::xfs(2).cases);
}

#[test]
fn the_last_batches_of_the_published_distribution_end_together() {
    for slots in 4..=64_u64 {
        let suite = Suite::published(slots);
        let forecast = simulate(&suite.input(), &mut none, &equal, booting(slots as usize)).unwrap();
        let least = suite.longest().max(suite.sum() / slots);
        let tip = forecast.branches[0].tip_s.unwrap() * 1000;
        assert_eq!(forecast.jobs, Suite::CASES, "no job is lost or runs twice");
        assert!(tip * 100 <= least * 105, "{slots} slots: {tip} ms, at least {least} ms");
    }
}

#[test]
fn xfs_on_64_slots_ends_soon_after_its_longest_case() {
    let forecast = simulate(&Suite::xfs(1).input(), &mut none, &equal, booting(64)).unwrap();
    let tip = forecast.branches[0].tip_s.unwrap();
    assert!(tip <= 8 * 60, "{tip} s");
    let (floor, longest) = (forecast.branches[0].floor.as_ref().unwrap(), &Suite::xfs(1));
    let at = longest.cases.iter().position(|ms| *ms == 454_000).unwrap();
    assert_eq!((floor.floor_s, floor.longest_s), (469, 454));
    let table = Table(std::slice::from_ref(&forecast)).to_string();
    let line = format!("anna/b, 64 slots: cannot be below 469 s: a.s{at} takes 454 s\n");
    assert!(table.ends_with(&line), "{table}");
    // With few slots, their number is the reason.
    let few = simulate(&Suite::xfs(1).input(), &mut none, &equal, booting(4)).unwrap();
    let floor = few.branches[0].floor.as_ref().unwrap();
    assert_eq!(
        (floor.longest.as_ref(), floor.floor_s),
        (None, (Suite::xfs(1).sum() / 4).div_ceil(1000) + 15)
    );
}

#[test]
fn a_group_of_unknown_duration_is_shared_by_all_slots() {
    let input = fixture::input(vec![branch("anna/b", &[1])], 1140);
    let forecast = simulate(&input, &mut none, &equal, booting(64)).unwrap();
    let tip = forecast.branches[0].tip_s.unwrap();
    // 1,140 x 30 s in 64 slots are 535 s.
    assert!((535..=700).contains(&tip), "{tip} s");
    // A small one is not one batch while other slots are idle.
    let input = fixture::input(vec![branch("anna/b", &[1])], 16);
    let tip = simulate(&input, &mut none, &equal, booting(8)).unwrap().branches[0].tip_s;
    assert_eq!(tip, Some(75), "two subtests of 30 s and the boot");
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 24, failure_persistence: None, ..Default::default() })]

    /// For any durations: no job is lost, and the end is at most the shared time with all boots, plus one batch: the longest
    /// case or the minimum.
    #[test]
    fn any_distribution(
        cases in proptest::collection::vec(proptest::prop_oneof![8 => 500..40_000_u64, 1 => 40_000..600_000_u64], 1..900),
        slots in 2..=64_usize,
    ) {
        let suite = Suite { cases };
        let forecast = simulate(&suite.input(), &mut none, &equal, booting(slots)).unwrap();
        proptest::prop_assert_eq!(forecast.jobs, suite.cases.len());
        let tip = forecast.branches[0].tip_s.unwrap() * 1000;
        // A batch fills at least half of the minimum, except for the last one.
        let boots = 15_000 * (1 + suite.sum() / 30_000);
        let slots = slots as u64;
        proptest::prop_assert!(tip <= (suite.sum() + boots) / slots + 16_000 + suite.longest().max(60_000));
        proptest::prop_assert!(tip >= suite.longest().max(suite.sum() / slots));
    }
}
