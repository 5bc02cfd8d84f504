//! Finds the crashes in a whole log, in the order of their first lines.
//!
//! Single pass: a line that starts kernel trouble opens a report. The report consists of the following lines of the
//! same caller, if printk prints callers, so that messages of other processors are not part of it.

use std::cell::LazyCell;
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::LazyLock;

use regex::Regex;

use crate::families::Noise;
use crate::frame::{self, Frame, FrameKind};
use crate::log::{has_run, lines};
use crate::noise::is_noise;
use crate::rules::{REBOOT, RULES, Rule, Search};
use crate::source;
use crate::stall::{is_dispatcher, is_interrupt};
use crate::stamp::{Caller, ConsoleLine, split};
use crate::title::{canonical, general, plain};
use crate::trouble::{TroubleKind, trouble_in};

/// A crash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The title: `KASAN: slab-use-after-free Read in ext4_find_extent`.
    pub title: String,
    /// The kind of trouble.
    pub kind: TroubleKind,
    /// The number of its first line, from 1.
    pub start_line: usize,
    /// Its last line.
    pub end_line: usize,
    /// The context that printed it, if the log contains it. Lines of other callers are not part of the report.
    pub caller: Option<Caller>,
    /// Whether the kernel panicked because of it.
    pub fatal: bool,
    /// Whether the log lacks what the title needs: lines are torn, or the report is cut off.
    pub corrupted: bool,
    /// The function in the title.
    pub guilty: Option<String>,
    /// The frame of that function, in [`Self::frames`].
    pub guilty_frame: Option<usize>,
    /// The source file and line in that function, if the log contains them.
    pub source: Option<(String, u32)>,
    /// The frames of all stacks of the report in their order, each stack innermost first.
    pub frames: Vec<Frame>,
}

impl Report {
    /// The lines of the report in its `log`, without those of other callers.
    #[must_use]
    pub fn excerpt(&self, log: &str) -> String {
        let mut text = String::new();
        let lines = log.split('\n').enumerate().skip(self.start_line - 1);
        for (_, raw) in lines.take_while(|(index, _)| *index < self.end_line) {
            if split(raw).caller == self.caller {
                text.push_str(raw.trim_end());
                text.push('\n');
            }
        }
        text
    }
}

/// The maximum length of a report, in lines of its caller.
const LONGEST: usize = 1200;
/// The maximum number of reports. It limits the cost of a log that repeats one.
const MOST: usize = 1000;
/// The number of lines before the first line that the `near` of a rule is matched against.
const BEFORE: usize = 6;
/// The number of lines after the first line that the `near` of a rule is matched against.
const AFTER: usize = 40;

/// The crashes in a log.
#[must_use]
pub fn reports(log: &str) -> Vec<Report> {
    let lines = lines(log);
    let mut reports: Vec<Report> = Vec::new();
    let mut busy: HashMap<Option<Caller>, usize> = HashMap::new();
    for (at, line) in lines.iter().enumerate() {
        if busy.get(&line.caller).is_some_and(|end| at <= *end) {
            continue;
        }
        let text = line.text.trim_start();
        let boots = text.starts_with("Linux version ");
        if trouble_in(text).is_none() && !boots {
            continue;
        }
        let around = LazyCell::new(|| surroundings(&lines, at));
        let Some((rule, caught)) = RULES.iter().find_map(|rule| fits(rule, text, &around)) else { continue };
        if rule.row.line == REBOOT && !(has_run(log, at) && reports.is_empty()) {
            continue;
        }
        if rule.row.kind == TroubleKind::Panic
            && let Some(last) = reports.last_mut()
        {
            last.fatal = true;
            continue;
        }
        let own = own_lines(&lines, at);
        let end = own.last().copied().unwrap_or(at);
        busy.insert(line.caller, end);
        reports.push(build(rule, &caught, &lines, &own));
        if reports.len() == MOST {
            break;
        }
    }
    reports
}

/// The groups that a rule matched: numbered groups of `line`, named groups of `line` and `near`.
#[derive(Default)]
struct Caught {
    groups: Vec<String>,
    functions: Vec<String>,
    access: Option<String>,
    message: Option<String>,
}

fn fits<'r>(rule: &'r Rule, text: &str, around: &impl Deref<Target = String>) -> Option<(&'r Rule, Caught)> {
    let found = rule.line.captures(text)?;
    let mut caught = Caught::default();
    for group in found.iter().skip(1) {
        caught.groups.push(group.map_or("", |group| group.as_str()).to_owned());
    }
    caught.functions.extend(found.name("f").map(|f| f.as_str().to_owned()));
    if let Some(near) = &rule.near {
        let found = near.captures(around)?;
        let get = |name| found.name(name).map(|part| part.as_str().to_owned());
        caught.functions.extend(get("f"));
        // A decoded report has an additional line for each inlined function.
        let after = found.get(0).map_or("", |part| &around[part.end()..]);
        caught.functions.extend(after.lines().skip(1).map_while(lock_taker));
        caught.access = get("access");
        caught.message = get("message");
    }
    Some((rule, caught))
}

static LOCK_TAKER: LazyLock<Regex> = LazyLock::new(|| {
    let pattern = r", at: (?:\[<[0-9a-f]+>\] )?(?P<f>[A-Za-z_][\w.]*)(?:\+0x| [\w./-]+:\d+)";
    Regex::new(pattern).expect("a regular expression")
});

/// The function that takes the lock, from a line of a lockdep report.
fn lock_taker(line: &str) -> Option<String> {
    Some(LOCK_TAKER.captures(line)?["f"].to_owned())
}

/// The lines of the same caller around `at`, joined.
fn surroundings(lines: &[ConsoleLine<'_>], at: usize) -> String {
    let caller = lines[at].caller;
    let ours = |line: &&ConsoleLine<'_>| line.caller == caller;
    let before: Vec<&str> = lines[at.saturating_sub(60)..at]
        .iter()
        .rev()
        .filter(ours)
        .take(BEFORE)
        .map(|line| line.text)
        .collect();
    let after = lines[at..].iter().take(AFTER * 10).filter(ours).take(AFTER).map(|line| line.text);
    before.into_iter().rev().chain(after).collect::<Vec<_>>().join("\n")
}

/// The indices of the lines of the report that begins at line `at`.
fn own_lines(lines: &[ConsoleLine<'_>], at: usize) -> Vec<usize> {
    let caller = lines[at].caller;
    let mut own = vec![at];
    let mut framed = false;
    for (index, line) in lines.iter().enumerate().skip(at + 1).take(LONGEST * 10) {
        if line.caller != caller {
            continue;
        }
        let text = line.text.trim();
        if text.starts_with("------------[ cut here ]") && framed {
            break;
        }
        own.push(index);
        framed = framed || text.contains("+0x");
        let over = text.starts_with("---[ end ") || text.contains("Rebooting in ");
        let rule_off = framed && text.len() >= 50 && text.bytes().all(|b| b == b'=');
        if over || rule_off || own.len() >= LONGEST {
            break;
        }
    }
    own
}

fn build(rule: &Rule, caught: &Caught, lines: &[ConsoleLine<'_>], own: &[usize]) -> Report {
    let row = rule.row;
    let texts: Vec<&str> = own.iter().map(|index| lines[*index].text).collect();
    let frames = stack(&texts, row.kind);
    let noise = match row.search {
        Search::First(noise) => noise,
        Search::Stall | Search::Lockup | Search::After(_) | Search::Chain => Noise::Usual,
    };
    let pointer = frames.iter().find(|frame| frame.frame.kind == FrameKind::InstructionPointer);
    let helper = source::helper(texts[0], pointer.map(|frame| frame.frame.function.as_str()));
    let is_noise =
        |name: &str| is_noise(name, noise) || helper.as_ref().is_some_and(|helper| helper.is(name));
    let named = caught.functions.iter().map(|name| plain(name)).find(|name| !is_noise(name));
    let mut guilty = named.map(str::to_owned);
    if guilty.is_none() && row.title.contains("{fn}") {
        let first = || first_useful(&frames, begin(&frames, texts[0], row.kind), is_noise);
        let found = match row.search {
            Search::First(_) => first(),
            Search::Stall => stalled(&frames, interrupted),
            Search::Lockup => stalled(&frames, stuck),
            Search::After(words) => after(&texts, words),
            Search::Chain => after(&texts, "-> #").or_else(first),
        };
        guilty = found.map(|frame| frame.function);
    }
    // A shared function is better than none.
    let guilty = guilty.or_else(|| {
        caught.functions.iter().map(|name| plain(name)).find(|name| is_name(name)).map(str::to_owned)
    });
    let corrupted = guilty.is_none() && row.title.contains("{fn}");
    let name = guilty.map_or("corrupted".to_owned(), |function| frame::demangled(canonical(&function)));
    let guilty_frame = frames.iter().position(|frame| canonical(&frame.frame.function) == name);
    let framed = guilty_frame.and_then(|at| frames[at].frame.source.clone());
    let source = framed.or_else(|| source::first_line(texts[0], row.kind, &name));
    let start = own.first().copied().unwrap_or(0);
    Report {
        title: title(row.title, caught, &name),
        kind: row.kind,
        start_line: start + 1,
        end_line: own.last().copied().unwrap_or(start) + 1,
        caller: lines[start].caller,
        fatal: row.kind == TroubleKind::Panic
            || texts.iter().any(|text| text.contains("Kernel panic - not syncing")),
        corrupted,
        guilty: (!corrupted && row.title.contains("{fn}")).then_some(name),
        guilty_frame,
        source,
        frames: frames.into_iter().map(|frame| frame.frame).collect(),
    }
}

/// Fills in a title.
fn title(template: &str, caught: &Caught, function: &str) -> String {
    let group = |number: usize| caught.groups.get(number - 1).map_or("", String::as_str);
    let mut title = template.to_owned();
    for number in 1..=3 {
        let text = match group(number) {
            "[ BUG" => "BUG",
            "[ INFO" => "INFO",
            text => text,
        };
        title = title.replace(&format!("{{{number}}}"), text);
        title = title.replace(&format!("{{f{number}}}"), canonical(text));
        title = title.replace(&format!("{{text{number}}}"), &general(text));
    }
    let trap = match group(1) {
        "stack segment" => "stack segment fault",
        other => other,
    };
    title
        .replace("{trap}", trap)
        .replace("{access}", caught.access.as_deref().unwrap_or(""))
        .replace("{message}", &general(caught.message.as_deref().unwrap_or("")))
        .replace("{fn}", function)
}

struct Stacked {
    frame: Frame,
    /// Whether the frame is in the stack of the report itself, not in the stack of an earlier event.
    counts: bool,
}

/// The frames of a report. Frames in stacks of earlier events (an allocation, a free, an earlier lock) do not count.
fn stack(texts: &[&str], kind: TroubleKind) -> Vec<Stacked> {
    let mut frames = Vec::new();
    let mut counts = true;
    let mut caller: Option<String> = None;
    // If the trace has a header line, return addresses before it belong to something else: a list of locks, or lines of
    // another processor in a log without callers.
    let mut begun = kind.headless() || !texts.iter().any(|text| is_head(text.trim()));
    for text in texts {
        let trimmed = text.trim();
        if let Some(frame) = frame::parse(text) {
            let counts = counts && (begun || frame.kind == FrameKind::InstructionPointer);
            // 32-bit Arm prints the caller on the callee's line; the outermost caller has no line of its own.
            if let Some(caller) = caller.take().filter(|caller| *caller != frame.function) {
                frames.push(Stacked { frame: Frame::named(caller), counts });
            }
            caller = frame::caller(text);
            frames.push(Stacked { frame, counts });
            continue;
        }
        if let Some(function) = caller.take() {
            frames.push(Stacked { frame: Frame::named(function), counts: counts && begun });
        }
        if is_earlier(trimmed) {
            counts = false;
        } else if is_head(trimmed) {
            (begun, counts) = (true, true);
        } else if trimmed.starts_with("CPU: ") {
            counts = true;
        }
    }
    frames
}

/// Whether a line is the header of a stack trace.
fn is_head(text: &str) -> bool {
    ["Call Trace:", "Call trace:", "stack backtrace:", "Backtrace:"].iter().any(|head| text.starts_with(head))
}

fn is_earlier(text: &str) -> bool {
    const EARLIER: [&str; 11] = [
        "Allocated by task",
        "Freed by task",
        "Last potentially related work creation",
        "Uninit was ",
        "Local variable ",
        "allocated by task",
        "freed by task",
        "which lock already depends",
        "the existing dependency chain",
        "other info that might help",
        "but task is already holding lock",
    ];
    EARLIER.iter().any(|start| text.starts_with(start))
        || text.ends_with("state was registered at:")
        || text.starts_with("hardirqs last ")
        || text.starts_with("softirqs last ")
        || text.contains(" allocated by task ")
}

/// Whether a function is a name and not just an address.
fn is_name(function: &str) -> bool {
    let hex = function.bytes().all(|byte| byte.is_ascii_hexdigit());
    function != "address" && !hex && !function.starts_with(|c: char| c.is_ascii_digit())
}

static IN_FIRST_LINE: LazyLock<Regex> = LazyLock::new(|| {
    let pattern = r" (?:at|in|on) (?:\S+ )?([A-Za-z_][\w.]*)\+0x[0-9a-f]";
    Regex::new(pattern).expect("a regular expression")
});

/// The index of the frame where the kernel was when it found the problem. The frames before it belong to the code that
/// prints the report, under any name: the first line names the function, the stack contains the instruction pointer of
/// the fault, or the functions of the detector and of the scheduler are known by one name.
fn begin(frames: &[Stacked], first_line: &str, kind: TroubleKind) -> usize {
    let counted = |frame: &Stacked| frame.counts && frame.frame.sure;
    let named = IN_FIRST_LINE.captures(first_line).map(|found| found[1].to_owned());
    let here = |frame: &Frame| match (kind, &named) {
        (TroubleKind::HungTask, _) => plain(&frame.function) == "schedule",
        (TroubleKind::Ubsan, _) => frame.function.starts_with("__ubsan_handle_"),
        (TroubleKind::Oops | TroubleKind::Gpf | TroubleKind::KernelBug, _) => {
            frame.kind == FrameKind::InstructionPointer
        }
        (_, Some(name)) => plain(name) == plain(&frame.function),
        (_, None) => false,
    };
    frames.iter().position(|frame| counted(frame) && here(&frame.frame)).unwrap_or(0)
}

/// The first frame from `begin` that is not noise.
fn first_useful(frames: &[Stacked], begin: usize, is_noise: impl Fn(&str) -> bool) -> Option<Frame> {
    let sure = || frames.iter().filter(|frame| frame.frame.sure);
    let counted = frames[begin..].iter().filter(|frame| frame.counts && frame.frame.sure);
    let candidates: Vec<&Frame> = counted.map(|frame| &frame.frame).collect();
    let useful = |frame: &&Frame| !is_noise(plain(&frame.function));
    // Inlined functions appear only in decoded traces, and the title must not depend on decoding.
    let own = candidates.iter().copied().filter(|frame| !frame.inlined()).find(useful);
    let found = own.or_else(|| candidates.iter().copied().find(useful));
    // If there is none: earlier stacks (such as that of the waiter, if the worker's own stack is not useful), then the
    // outermost function.
    let earlier = || sure().map(|frame| &frame.frame).find(useful);
    found.or_else(earlier).or(candidates.last().copied()).cloned()
}

/// The first useful frame from the line on that contains `words`.
fn after(texts: &[&str], words: &str) -> Option<Frame> {
    let frames = texts.iter().skip_while(|text| !text.contains(words)).filter_map(|text| frame::parse(text));
    frames.filter(|frame| frame.sure).find(|frame| !is_noise(plain(&frame.function), Noise::Usual))
}

/// The function that names a stall or a lockup: the innermost one with a dispatcher as its caller.
fn stalled(frames: &[Stacked], begin: impl Fn(&[&Frame]) -> usize) -> Option<Frame> {
    let frames: Vec<&Frame> = frames.iter().map(|frame| &frame.frame).filter(|frame| frame.sure).collect();
    let frames = without_rcu_thread(&frames);
    let stack = &frames[begin(frames)..];
    let useful = |frame: &&&Frame| !is_noise(plain(&frame.function), Noise::Usual);
    let first = stack.iter().find(useful).copied();
    // A processor that waits for another one loops in that function; its caller does not matter.
    if first.is_some_and(|frame| canonical(&frame.function) == "smp_call_function") {
        return first.cloned();
    }
    let called = (1..stack.len()).filter(|at| is_dispatcher(plain(&stack[*at].function))).find_map(|at| {
        let inner = stack[..at].iter().rev().find(useful)?;
        (!is_dispatcher(plain(&inner.function))).then_some(inner)
    });
    let mut guilty = called.copied().or(first).cloned()?;
    // The 32-bit compat entry of a driver gets the name of its 64-bit counterpart.
    guilty.function = guilty.function.replace("_compat_ioctl", "_ioctl");
    Some(guilty)
}

/// The frames after the stack of the grace-period kthread, which the report prints first.
fn without_rcu_thread<'a>(frames: &'a [&'a Frame]) -> &'a [&'a Frame] {
    let waits = |frame: &&Frame| plain(&frame.function) == "rcu_gp_kthread";
    let Some(at) = frames.iter().position(waits) else { return frames };
    let rest = &frames[at + 1..];
    let outer =
        |frame: &&&Frame| matches!(plain(&frame.function), "kthread" | "ret_from_fork" | "ret_from_fork_asm");
    let rest = &rest[rest.iter().take_while(outer).count()..];
    if rest.is_empty() { frames } else { rest }
}

/// The start of the stack of a stuck processor: its instruction pointer, unless the trace starts with the interrupt
/// that reported it.
fn stuck(frames: &[&Frame]) -> usize {
    let pointer = frames.iter().position(|frame| frame.kind == FrameKind::InstructionPointer);
    let entry = frames.iter().position(|frame| is_interrupt(plain(&frame.function)));
    match (pointer, entry) {
        (Some(pointer), Some(entry)) if pointer < entry => pointer,
        _ => interrupted(frames),
    }
}

/// The start of the stack of a stalled task: after the entry of the first interrupt. An interrupt handler or a softirq
/// in it ran only because the task prevented the end of the grace period.
fn interrupted(frames: &[&Frame]) -> usize {
    let entry = |frame: &&&Frame| is_interrupt(plain(&frame.function));
    let Some(first) = frames.iter().position(|frame| entry(&frame)) else {
        return frames.iter().position(|frame| frame.kind == FrameKind::InstructionPointer).unwrap_or(0);
    };
    // The frames of an interrupt's entry are close together: the handler, the controller, the vector.
    let mut last = first;
    for (at, frame) in
        frames.iter().enumerate().skip(first).take_while(|(_, frame)| frame.kind == FrameKind::ReturnAddress)
    {
        if at > last + 4 {
            break;
        }
        if entry(&frame) {
            last = at;
        }
    }
    last + 1
}
