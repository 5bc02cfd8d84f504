//! `--until-believed`: repeats a subtest until its passes prove that a failure is fixed. The crate `belief` decides when.

use belief::{FixClaim, FixState};
use model::{Status, SubtestName};

use super::error::RunError;
use super::request::RunRequest;
use super::summary::Summary;

/// A claim is about one subtest: the passes of another prove nothing.
pub(super) fn check(request: &RunRequest, subtests: &[SubtestName]) -> Result<(), RunError> {
    if request.claim.is_none() || subtests.len() == 1 {
        return Ok(());
    }
    let file = request.file.display();
    let count = subtests.len();
    Err(RunError::Usage(format!(
        "--until-believed needs one subtest, {file} lists {count}; name the one that failed: {file} SUBTEST"
    )))
}

/// Whether another run is needed. Skipped runs and passes that are too short prove nothing, however many they are.
pub(super) fn goes_on(claim: &FixClaim, summary: &Summary) -> bool {
    let skipped = summary.count(Status::NotRun) > 0;
    claim.state() == FixState::Unproven && !skipped && claim.early_passes() <= claim.needed()
}

/// `7 of 33 passes`.
pub(super) fn progress(claim: &FixClaim) -> String {
    let early = match claim.early_passes() {
        0 => String::new(),
        early => format!(", {early} more ended before --fails-after"),
    };
    format!("{} of {} passes{early}", claim.passes(), claim.needed())
}

/// What the runs of a claim prove, in one line.
pub(crate) fn conclusion(claim: &FixClaim, summary: &Summary) -> String {
    let (passes, needed, confidence) = (claim.passes(), claim.needed(), claim.confidence());
    let reason = summary.verdicts.last().and_then(|(_, verdict)| verdict.reason());
    match claim.state() {
        FixState::Fixed => format!("fixed: {passes} passes, enough for a confidence of {confidence}"),
        FixState::StillFails => {
            let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            format!("not fixed: failed after {passes} of {needed} passes{reason}")
        }
        FixState::Unproven => {
            let why = match reason {
                Some(reason) => format!("; the last run has no verdict: {reason}"),
                None if claim.early_passes() > 0 => "; the passes end before --fails-after".into(),
                None => String::new(),
            };
            format!("not proven: {passes} of {needed} passes{why}")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use belief::{Confidence, Evidence};
    use model::Verdict;

    use super::*;

    fn summary(verdicts: Vec<Verdict>) -> Summary {
        let verdicts = verdicts.into_iter().map(|verdict| ("x".parse().unwrap(), verdict)).collect();
        Summary { verdicts, ..Summary::default() }
    }

    fn claim() -> FixClaim {
        let evidence = Evidence::new(3, 3).unwrap();
        FixClaim::new(evidence, Confidence::USUAL, Some(Duration::from_secs(10)))
    }

    #[test]
    fn passes_prove_a_fix() {
        let (mut claim, summary) = (claim(), summary(vec![Verdict::Passed]));
        assert!(goes_on(&claim, &summary));
        claim.passed(Duration::from_secs(10));
        assert_eq!(progress(&claim), "1 of 2 passes");
        assert!(goes_on(&claim, &summary));
        claim.passed(Duration::from_secs(10));
        assert!(!goes_on(&claim, &summary));
        assert_eq!(conclusion(&claim, &summary), "fixed: 2 passes, enough for a confidence of 95 %");
    }

    #[test]
    fn a_failure_ends_it() {
        let mut claim = claim();
        claim.passed(Duration::from_secs(10));
        claim.failed();
        let summary = summary(vec![Verdict::Passed, Verdict::Failed { reason: "kernel BUG".into() }]);
        assert!(!goes_on(&claim, &summary));
        assert_eq!(conclusion(&claim, &summary), "not fixed: failed after 1 of 2 passes: kernel BUG");
    }

    #[test]
    fn runs_that_prove_nothing_end_it() {
        let skipped = summary(vec![Verdict::NotRun { reason: "no device".into() }]);
        assert!(!goes_on(&claim(), &skipped));
        let text = "not proven: 0 of 2 passes; the last run has no verdict: no device";
        assert_eq!(conclusion(&claim(), &skipped), text);
        let (mut claim, summary) = (claim(), summary(vec![Verdict::Passed]));
        for early in 0..3 {
            assert!(goes_on(&claim, &summary), "{early}");
            claim.passed(Duration::from_secs(9));
        }
        assert!(!goes_on(&claim, &summary));
        assert_eq!(progress(&claim), "0 of 2 passes, 3 more ended before --fails-after");
        assert_eq!(
            conclusion(&claim, &summary),
            "not proven: 0 of 2 passes; the passes end before --fails-after"
        );
        let summary = Summary { claim: Some(claim), ..summary };
        assert_eq!(summary.exit_code(), 125);
    }
}
