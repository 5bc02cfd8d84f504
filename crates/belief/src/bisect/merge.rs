//! A search continues in the second parent of a merge that it found.

use super::record::{State, Step, Why};
use super::{Bisection, Budget, Question, QuestionError, Suspect};
use crate::stats::Tally;

impl Bisection {
    /// Continues in the second parent of a merge that is the culprit. `side` are the commits of the second parent that the first
    /// parent does not have, from oldest to newest. The base is the parent of the merge. The merge is the last suspect: if no
    /// commit of the side fails, it is the culprit itself. The record with the id of this search is kept in that of the new one.
    /// `None` if the culprit is not a merge.
    pub fn into_second_parent(self, id: &str, side: Vec<Suspect>) -> Option<Result<Self, QuestionError>> {
        let State::Culprit { culprit, parent, second_parent: Some(_) } = self.state() else { return None };
        let (merge, base) = (*self.positions.get(&culprit)?, *self.positions.get(&parent)?);
        let mut found = self.record(id);
        let mut outer = std::mem::take(&mut found.outer);
        outer.push(found);
        let (before, after) = self.tallies.split_at(merge);
        let (before, after): (Tally, Tally) = (before.iter().copied().sum(), after.iter().copied().sum());
        let mut suspects = side;
        suspects.push(Suspect { second_parent: None, ..self.suspect(merge).clone() });
        let base = self.suspect(base).clone();
        let builds = Budget::usual(suspects.len(), self.question.budget.wall).builds;
        let budget = Budget { builds, ..self.question.budget };
        let question = Question { base, suspects, earlier: before, budget, ..self.question };
        Some(Self::new(question).map(|mut bisection| {
            bisection.outer = outer;
            let (fails, passes, why) = (after.failures, after.passes, Why::Known);
            let runs = after.attempts();
            bisection.apply(Step {
                commit: culprit,
                runs,
                fails,
                other: 0,
                passes,
                image: None,
                host: None,
                why,
            });
            bisection
        }))
    }
}
