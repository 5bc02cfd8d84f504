//! The `ci-status` command: parse, wire, print. Exit codes: 0 success, 1 error, 2 usage error; `wait` has its own.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{CommandFactory as _, FromArgMatches as _, Parser as _};
use clap_complete::Shell;
use fsx::clock::unix_seconds;
use stdio::terminal::{self, Filter};

use crate::args::{Cli, Command};
use crate::commands::logs::LogOptions;
use crate::commands::wait::{Clock, WaitOptions};
use crate::commands::{
    Answer, artifacts, believe, bisect, branches, check_b4, compare, control, crashes, findings, flaky,
    follow, history, log, logs, notify, open, range_diff, rerun, show, wait, watch, workers,
};
use crate::context::{Context, ResultsLocation};
use crate::log_colors::LogColors;
use crate::problem::Problem;
use crate::screen::{self, Screen, UserInput};

/// The interval at which `watch` and `wait` read, for results on this machine and for `--remote`.
const POLL: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(2));

/// Parses the command line and runs the command.
#[must_use]
pub fn main() -> ExitCode {
    let matches = command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match print(&cli) {
        Ok(code) => ExitCode::from(code),
        // The reader of the output has closed the pipe.
        Err(Problem::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            stdio::error("ci-status", &error);
            // Exit code 1 of `wait` means that a test failed.
            ExitCode::from(if matches!(cli.command, Command::Wait { .. }) { 125 } else { 1 })
        }
    }
}

fn print(cli: &Cli) -> Result<u8, Problem> {
    let directory = std::env::current_dir()?;
    let terminal = io::stdout().is_terminal();
    if let (Command::Watch { branch, once: false }, false) = (&cli.command, cli.global.json) {
        if !terminal {
            return Err(Problem::NoTerminal);
        }
        return live(&context(cli, directory, unix_seconds())?, branch.as_deref());
    }
    match (&cli.command, cli.global.json, terminal) {
        // Logs are unfiltered in a file or a pipe, and filtered on a terminal.
        (Command::Logs { .. }, false, false) => {
            respond(cli, directory, unix_seconds(), &mut io::stdout().lock())
        }
        (Command::Logs { follow, .. }, false, true) if *follow || !is_paged(cli) => {
            let mut out = LogColors::new(anstream::stdout().lock());
            let code = respond(cli, directory, unix_seconds(), &mut out)?;
            stdio::OutputError::unless_closed(out.flush())?;
            Ok(code)
        }
        (_, false, true) if is_paged(cli) => paged(cli, directory),
        (Command::Open { name, test }, false, true) => {
            let context = context(cli, directory, unix_seconds())?;
            let page = open::run(&context, name.as_deref(), test.as_deref())?;
            let code = written(cli, &page, &mut io::stdout().lock())?;
            page.show();
            Ok(code)
        }
        // JSON and completions are already escaped.
        (Command::Completions { .. }, ..) | (_, true, _) => {
            respond(cli, directory, unix_seconds(), &mut io::BufWriter::new(io::stdout().lock()))
        }
        _ => filtered(cli, directory, Filter::with_colors(io::BufWriter::new(anstream::stdout().lock()))),
    }
}

/// Runs the command with its output filtered.
fn filtered(cli: &Cli, directory: PathBuf, mut out: Filter<impl Write>) -> Result<u8, Problem> {
    let code = respond(cli, directory, unix_seconds(), &mut out)?;
    stdio::OutputError::unless_closed(out.finish().and_then(|()| out.flush()))?;
    Ok(code)
}

fn is_paged(cli: &Cli) -> bool {
    use Command::{Compare, Crashes, History, Log, Logs, RangeDiff, Show};
    let long = matches!(
        cli.command,
        Log { .. }
            | Show { .. }
            | Logs { .. }
            | History { .. }
            | Compare { .. }
            | Crashes { .. }
            | RangeDiff { .. }
    );
    long && !cli.global.no_pager
}

/// Shows the output in a pager if it is longer than the terminal.
fn paged(cli: &Cli, directory: PathBuf) -> Result<u8, Problem> {
    let mut text = Vec::new();
    let code = if matches!(cli.command, Command::Logs { .. }) {
        let mut out = LogColors::new(&mut text);
        let code = respond(cli, directory, unix_seconds(), &mut out)?;
        out.flush()?;
        code
    } else {
        filtered(cli, directory, Filter::with_colors(&mut text))?
    };
    let plain = anstream::stdout().current_choice() == anstream::ColorChoice::Never;
    if plain {
        text = anstream::adapter::strip_bytes(&text).into_vec();
    }
    let pager = std::env::var("PAGER").unwrap_or_else(|_| "less".into());
    if screen::is_long(&text) && screen::page(&pager, &text)? {
        return Ok(code);
    }
    io::stdout().write_all(&text)?;
    Ok(code)
}

/// Runs a command line (including the program name) in `directory` at the time `now` (Unix seconds). The output has
/// colors. Returns the exit code.
pub fn answer(
    arguments: impl IntoIterator<Item: Into<OsString> + Clone>,
    directory: PathBuf,
    now: i64,
    out: &mut dyn Write,
) -> anyhow::Result<u8> {
    Ok(respond(&Cli::try_parse_from(arguments)?, directory, now, out)?)
}

fn context(cli: &Cli, directory: PathBuf, now: i64) -> Result<Context, Problem> {
    let global = &cli.global;
    let fallback = std::env::var("KTEST_CI_URL").ok().filter(|url| !url.is_empty());
    let remote = global.remote.as_deref().or(global.dashboard.as_deref());
    let location = ResultsLocation {
        output_dir: global.output_dir.as_deref().filter(|_| remote.is_none()),
        config: global.config.as_deref(),
        remote,
        fallback: fallback.as_deref(),
        local: global.local,
        user: global.user.as_ref(),
        branch: global.on_branch.as_deref(),
        timeout: global.timeout,
        token_file: global.token_file.as_deref(),
    };
    Context::open(&location, directory, now)
}

fn respond(cli: &Cli, directory: PathBuf, now: i64, out: &mut dyn Write) -> Result<u8, Problem> {
    if let Command::Completions { shell } = cli.command {
        return written(cli, &Completions(shell), out);
    }
    if matches!(cli.command, Command::PullConfig | Command::PushConfig) {
        return Err(Problem::NoConfigCopy);
    }
    let context = context(cli, directory, now)?;
    match &cli.command {
        Command::Logs { commit, test, full, machine, follow: true } if !cli.global.json => {
            let options = LogOptions { machine: *machine, full: *full };
            follow::run(&context, commit, test, options, out)?;
            return Ok(0);
        }
        Command::Watch { branch, once: false } => return changes(&context, branch.as_deref(), out),
        _ => {}
    }
    written(cli, &*run(cli, &context)?, out)
}

/// Writes an answer and returns its exit code, even if the reader has closed the pipe.
fn written(cli: &Cli, answer: &dyn Answer, out: &mut dyn Write) -> Result<u8, Problem> {
    let result = if cli.global.json {
        let json = answer.json().map_err(io::Error::other)?;
        writeln!(out, "{}", terminal::json(&json))
    } else {
        answer.text(out)
    };
    stdio::OutputError::unless_closed(result.and_then(|()| out.flush()))?;
    Ok(answer.exit_code())
}

fn run(cli: &Cli, context: &Context) -> Result<Box<dyn Answer>, Problem> {
    Ok(match &cli.command {
        Command::Branches => Box::new(branches::run(context, cli.global.user.as_ref())?),
        Command::Log { branch, limit, test, configuration } => {
            let selection = (test.as_deref(), configuration.as_deref());
            Box::new(log::run(context, branch.as_deref(), *limit, selection)?)
        }
        Command::Show { commit, failed, test, configuration } => {
            let selection = (test.as_deref(), configuration.as_deref());
            Box::new(show::run(context, commit.as_deref(), *failed, selection)?)
        }
        Command::Logs { commit, test, full, machine, .. } => {
            Box::new(logs::run(context, commit, test, LogOptions { machine: *machine, full: *full })?)
        }
        Command::Artifacts { commit, test, names, to } => {
            Box::new(artifacts::run(context, commit, test, names, to.as_deref())?)
        }
        Command::Workers => Box::new(workers::run(context)?),
        Command::History { branch, test } => Box::new(history::run(context, branch, test)?),
        Command::Flaky { branch } => Box::new(flaky::run(context, branch.as_deref())?),
        Command::Crashes { branch } => Box::new(crashes::run(context, branch.as_deref())?),
        Command::Findings { branch, limit } => Box::new(findings::run(context, branch.as_deref(), *limit)?),
        Command::CheckB4 => Box::new(check_b4::run(context)?),
        Command::Notify(command) => notify::run(context, command)?,
        Command::Open { name, test } => Box::new(open::run(context, name.as_deref(), test.as_deref())?),
        Command::RangeDiff { branch, of } => {
            Box::new(range_diff::run(context, branch.as_deref(), of.as_deref())?)
        }
        Command::Compare { base, head } => Box::new(compare::run(context, base, head)?),
        Command::Wait { commit, all, limit, strict } => {
            let until = WaitOptions { all: *all, limit: *limit, strict: *strict };
            let mut report = |progress: &str| stdio::message(terminal::line(progress));
            let mut clock = SystemClock { start: Instant::now(), pause: pause(context) };
            Box::new(wait::run(context, commit.as_deref(), until, &mut clock, &mut report)?)
        }
        Command::Watch { branch, .. } => {
            let at = watch::branch(context, branch.as_deref())?;
            Box::new(watch::run(context, &at, context.now)?)
        }
        Command::Rerun { commit, test } => Box::new(rerun::run(context, commit, test)?),
        Command::Bisect { cancel: Some(id), .. } => Box::new(bisect::cancel(context, id)?),
        Command::Bisect { test: Some(test), range, .. } => {
            Box::new(bisect::run(context, test, range.as_deref())?)
        }
        Command::Bisect { test: None, .. } => Box::new(bisect::list(context)?),
        Command::Believe { cancel: Some(id), .. } => Box::new(believe::cancel(context, id)?),
        Command::Believe { test: Some(test), branch, confidence, wait, .. } => {
            let wanted =
                believe::Wanted { test, branch: branch.as_deref(), confidence: *confidence, wait: *wait };
            let mut report = |progress: &str| stdio::message(terminal::line(progress));
            let mut clock = SystemClock { start: Instant::now(), pause: pause(context) };
            Box::new(believe::run(context, &wanted, &mut clock, &mut report)?)
        }
        Command::Control(control) => Box::new(control::run(context, control)?),
        Command::Believe { test: None, .. } => Box::new(believe::list(context)?),
        Command::Completions { shell } => Box::new(Completions(*shell)),
        Command::PullConfig | Command::PushConfig => return Err(Problem::NoConfigCopy),
    })
}

/// The completions of a shell, which do not depend on results.
struct Completions(Shell);

impl Answer for Completions {
    fn json(&self) -> serde_json::Result<String> {
        let mut script = Vec::new();
        self.text(&mut script).map_err(serde_json::Error::io)?;
        serde_json::to_string(&String::from_utf8_lossy(&script))
    }

    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.0, &mut command(), "ci-status", &mut script);
        out.write_all(&script)
    }
}

fn pause(context: &Context) -> Duration {
    if context.backend.directory().is_some() { POLL.0 } else { POLL.1 }
}

/// The clock of this machine.
struct SystemClock {
    start: Instant,
    pause: Duration,
}

impl Clock for SystemClock {
    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    fn pause(&mut self) {
        std::thread::sleep(self.pause);
    }
}

/// Shows a branch on the terminal until the user quits.
fn live(context: &Context, branch: Option<&str>) -> Result<u8, Problem> {
    let at = watch::branch(context, branch)?;
    let mut text = Vec::new();
    watch::run(context, &at, unix_seconds())?.text(&mut text)?;
    let plain = anstream::stdout().current_choice() == anstream::ColorChoice::Never;
    let mut screen = Screen::open()?;
    loop {
        if plain {
            text = anstream::adapter::strip_bytes(&text).into_vec();
        }
        screen.draw(&terminal::text(&String::from_utf8_lossy(&text)))?;
        if screen.pause(pause(context))? == UserInput::Quit {
            return Ok(0);
        }
        context.backend.refresh();
        // An error may be temporary: show it and continue.
        let shown = watch::run(context, &at, unix_seconds());
        text.clear();
        match shown {
            Ok(view) => view.text(&mut text)?,
            Err(error) => writeln!(text, "{error}")?,
        }
    }
}

/// Prints a branch as one JSON line per change until the output is closed.
fn changes(context: &Context, branch: Option<&str>, out: &mut dyn Write) -> Result<u8, Problem> {
    let at = watch::branch(context, branch)?;
    let mut last = String::new();
    loop {
        let line = watch::run(context, &at, unix_seconds())?.json().map_err(io::Error::other)?;
        if line != last {
            writeln!(out, "{}", terminal::json(&line))?;
            out.flush()?;
            last = line;
        }
        std::thread::sleep(pause(context));
        context.backend.refresh();
    }
}

/// The command line, for help texts, completions, man pages and tests.
#[must_use]
pub fn command() -> clap::Command {
    model::help::short_and_long(Cli::command())
}
