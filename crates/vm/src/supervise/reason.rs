//! Finds the console line that explains a failure.

use crash::line::split;

use crate::console::CappedLog;

/// The number of last lines that are searched for the reason of a failure.
const SEARCHED_LINES: usize = 200;
/// The maximum length of the reason of a failed subtest, in characters.
const FAILURE_CHARS: usize = 300;
/// The maximum length of the reason of a failed `init`, in characters.
const INIT_CHARS: usize = 400;

/// The reason of a subtest that printed FAILED: the last `FILE:LINE: failed ...` of the shell library, or else the last
/// line that was not printed by the kernel.
pub(super) fn failure(log: &CappedLog) -> String {
    let lines: Vec<String> = log.lines_reversed().take(SEARCHED_LINES).collect();
    let library = lines.iter().map(|line| split(line).text.trim()).find(|text| {
        text.split_once(": failed")
            .is_some_and(|(position, _)| position.contains(".ktest:") && !position.contains(' '))
    });
    let program = || {
        let mut texts = lines.iter().map(|line| program_text(line).trim());
        texts.find(|text| !text.is_empty() && !text.starts_with("========="))
    };
    let reason = library.or_else(program).unwrap_or("the subtest printed FAILED without a reason");
    reason.chars().take(FAILURE_CHARS).collect()
}

/// The part of a console line that was not printed by the kernel.
fn program_text(line: &str) -> &str {
    let line = split(line);
    if line.is_kernel() { line.before } else { line.text }
}

/// The reason of a failed `init`: the last message of the test file if there is one, or else the `message` of the
/// guest, which contains the file and its exit code.
pub(super) fn init_failure(message: &str, file_message: Option<&str>) -> String {
    let path = message.split(" init failed").next().unwrap_or_default();
    let file = path.rsplit('/').next().unwrap_or(path);
    let own = |text: &&str| !file.is_empty() && text.contains(&format!("{file}:"));
    match file_message.filter(own) {
        Some(text) => format!("init failed: {}", text.chars().take(INIT_CHARS).collect::<String>()),
        None => message.into(),
    }
}
