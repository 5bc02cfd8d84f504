//! What an operator does with the form `/ci/control`.

/// What an operator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlAction {
    /// Start no new batches on a host or slot.
    Drain,
    /// Start batches there again.
    Resume,
    /// Stop the batch of a slot.
    Cancel,
    /// Run no further tests of a branch.
    Pause,
    /// Run them again.
    ResumeBranch,
}

/// The words of an action.
#[derive(Debug, Clone, Copy)]
pub struct ControlWords {
    /// In addresses and forms.
    pub word: &'static str,
    /// On its button.
    pub button: &'static str,
    /// What it stops or resumes.
    pub target: &'static str,
    /// What happens.
    pub effect: &'static str,
}

impl ControlAction {
    /// All actions.
    pub const ALL: [Self; 5] = [Self::Drain, Self::Resume, Self::Cancel, Self::Pause, Self::ResumeBranch];

    /// Its words.
    #[must_use]
    pub fn words(self) -> ControlWords {
        let (word, button, target, effect) = match self {
            Self::Drain => (
                "drain",
                "Drain",
                "Host, or host/slot",
                "What runs there finishes. No new batches start until it is resumed.",
            ),
            Self::Resume => ("resume", "Resume", "Host, or host/slot", "Batches start there again."),
            Self::Cancel => (
                "cancel",
                "Cancel batch",
                "Host/slot",
                "The batch stops. Its tests without a verdict get the verdict Failed to run, which a rerun replaces.",
            ),
            Self::Pause => (
                "pause",
                "Pause branch",
                "User/branch",
                "What runs finishes. No further tests of the branch start until it is resumed.",
            ),
            Self::ResumeBranch => {
                ("resume-branch", "Resume branch", "User/branch", "The tests of the branch run again.")
            }
        };
        ControlWords { word, button, target, effect }
    }

    /// The action with this word.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.words().word == word)
    }
}
