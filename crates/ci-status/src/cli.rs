//! The `ci-status` command: parse, wire, print. Exit codes: 0 answered; 1 no answer, said on stderr; 2 wrong usage.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anstyle::{AnsiColor, Style};
use clap::{CommandFactory as _, Parser as _};
use clap_complete::Shell;

use crate::args::{Cli, Command};
use crate::commands::logs::Extent;
use crate::commands::wait::{Clock, Until};
use crate::commands::{
    Answer, artifacts, branches, compare, follow, history, log, logs, rerun, show, wait, watch, workers,
};
use crate::problem::Problem;
use crate::screen::{self, Live, Meanwhile};
use crate::source::{Asked, Source};
use crate::text::Tame;

/// How often a live view and a waiting command look, with results on this machine and elsewhere.
const LOOK: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(2));

/// Parses the command line and runs the command.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match print(&cli) {
        Ok(code) => ExitCode::from(code),
        // Whoever read the output has had enough.
        Err(Problem::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let style = Style::new().fg_color(Some(AnsiColor::Red.into())).bold();
            let _ = writeln!(anstream::stderr(), "{style}ci-status:{style:#} {error}");
            // A test that failed is told from a question that has no answer.
            ExitCode::from(if matches!(cli.command, Command::Wait { .. }) { 125 } else { 1 })
        }
    }
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    i64::try_from(now).unwrap_or(i64::MAX)
}

fn print(cli: &Cli) -> Result<u8, Problem> {
    let folder = std::env::current_dir()?;
    let terminal = io::stdout().is_terminal();
    if let (Command::Watch { branch, once: false }, false) = (&cli.command, cli.place.json) {
        if !terminal {
            return Err(Problem::NoTerminal);
        }
        return live(&source(cli, folder, now())?, branch.as_deref());
    }
    match (&cli.command, cli.place.json, terminal) {
        // A log is other people's bytes: as they are into a file or a pipe, harmless on a terminal.
        (Command::Logs { .. }, false, false) => respond(cli, folder, now(), &mut io::stdout().lock()),
        (Command::Logs { follow: true, .. }, false, true) => {
            respond(cli, folder, now(), &mut Tame::new(io::stdout().lock()))
        }
        (_, false, true) if is_paged(cli) => paged(cli, folder),
        _ => respond(cli, folder, now(), &mut io::BufWriter::new(anstream::stdout().lock())),
    }
}

fn is_paged(cli: &Cli) -> bool {
    use Command::{Compare, History, Log, Logs, Show};
    let long =
        matches!(cli.command, Log { .. } | Show { .. } | Logs { .. } | History { .. } | Compare { .. });
    long && !cli.place.no_pager
}

/// Answers in a pager, if the answer is longer than the terminal.
fn paged(cli: &Cli, folder: PathBuf) -> Result<u8, Problem> {
    let mut text = Vec::new();
    let code = if matches!(cli.command, Command::Logs { .. }) {
        respond(cli, folder, now(), &mut Tame::new(&mut text))?
    } else {
        respond(cli, folder, now(), &mut text)?
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

/// Answers to a command line (the program's name first) in `folder` at `now` (Unix seconds), colours and all; gives the
/// exit code.
pub fn answer(
    arguments: impl IntoIterator<Item: Into<OsString> + Clone>,
    folder: PathBuf,
    now: i64,
    out: &mut dyn Write,
) -> anyhow::Result<u8> {
    Ok(respond(&Cli::try_parse_from(arguments)?, folder, now, out)?)
}

fn source(cli: &Cli, folder: PathBuf, now: i64) -> Result<Source, Problem> {
    let place = &cli.place;
    let fallback = std::env::var("KTEST_CI_URL").ok().filter(|url| !url.is_empty());
    let asked = Asked {
        output_dir: place.output_dir.as_deref().filter(|_| place.remote.is_none()),
        config: place.config.as_deref(),
        remote: place.remote.as_deref(),
        fallback: fallback.as_deref(),
        local: place.local,
        user: place.user.as_ref(),
    };
    Source::open(&asked, folder, now)
}

fn respond(cli: &Cli, folder: PathBuf, now: i64, out: &mut dyn Write) -> Result<u8, Problem> {
    if let Command::Completions { shell } = cli.command {
        let script = Completions(shell);
        if cli.place.json {
            writeln!(out, "{}", script.json().map_err(io::Error::other)?)?;
        } else {
            script.text(out)?;
        }
        return Ok(out.flush().map(|()| 0)?);
    }
    let source = source(cli, folder, now)?;
    match &cli.command {
        Command::Logs { commit, test, full, machine, follow: true } if !cli.place.json => {
            let extent = Extent { machine: *machine, full: *full };
            follow::run(&source, commit, test, extent, out)?;
            return Ok(0);
        }
        Command::Watch { branch, once: false } => return changes(&source, branch.as_deref(), out),
        _ => {}
    }
    let answer = run(cli, &source)?;
    if cli.place.json {
        writeln!(out, "{}", answer.json().map_err(io::Error::other)?)?;
    } else {
        answer.text(out)?;
    }
    out.flush()?;
    Ok(answer.exit_code())
}

fn run(cli: &Cli, source: &Source) -> Result<Box<dyn Answer>, Problem> {
    Ok(match &cli.command {
        Command::Branches => Box::new(branches::run(source, cli.place.user.as_ref())?),
        Command::Log { branch, limit, test } => {
            Box::new(log::run(source, branch.as_deref(), *limit, test.as_deref())?)
        }
        Command::Show { commit, failed, test } => {
            Box::new(show::run(source, commit.as_deref(), *failed, test.as_deref())?)
        }
        Command::Logs { commit, test, full, machine, .. } => {
            Box::new(logs::run(source, commit, test, Extent { machine: *machine, full: *full })?)
        }
        Command::Artifacts { commit, test, names, to } => {
            Box::new(artifacts::run(source, commit, test, names, to.as_deref())?)
        }
        Command::Workers => Box::new(workers::run(source)?),
        Command::History { branch, test } => Box::new(history::run(source, branch, test)?),
        Command::Compare { a, b } => Box::new(compare::run(source, a, b)?),
        Command::Wait { commit, all, limit } => {
            let until = Until { all: *all, limit: *limit };
            let mut progress = |stands: &str| {
                let _ = writeln!(anstream::stderr(), "{}", crate::text::clean(stands));
            };
            let mut clock = Watchmaker { since: Instant::now(), pause: pause(source) };
            Box::new(wait::run(source, commit.as_deref(), until, &mut clock, &mut progress)?)
        }
        Command::Watch { branch, .. } => {
            let at = watch::branch(source, branch.as_deref())?;
            Box::new(watch::run(source, &at, source.now)?)
        }
        Command::Rerun { commit, test } => Box::new(rerun::run(source, commit, test)?),
        Command::Completions { shell } => Box::new(Completions(*shell)),
    })
}

/// The completions of a shell: the one answer that needs no results.
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

fn pause(source: &Source) -> Duration {
    if source.results.folder().is_some() { LOOK.0 } else { LOOK.1 }
}

/// The time of this machine.
struct Watchmaker {
    since: Instant,
    pause: Duration,
}

impl Clock for Watchmaker {
    fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }

    fn pause(&mut self) {
        std::thread::sleep(self.pause);
    }
}

/// A branch on the terminal, until the user leaves.
fn live(source: &Source, branch: Option<&str>) -> Result<u8, Problem> {
    let at = watch::branch(source, branch)?;
    let mut text = Vec::new();
    watch::run(source, &at, now())?.text(&mut text)?;
    let plain = anstream::stdout().current_choice() == anstream::ColorChoice::Never;
    let mut screen = Live::open()?;
    loop {
        if plain {
            text = anstream::adapter::strip_bytes(&text).into_vec();
        }
        screen.draw(&String::from_utf8_lossy(&text))?;
        if screen.pause(pause(source))? == Meanwhile::Leave {
            return Ok(0);
        }
        source.results.refresh();
        // What cannot be read now may be in a moment: the screen stays, and says so.
        let shown = watch::run(source, &at, now());
        text.clear();
        match shown {
            Ok(view) => view.text(&mut text)?,
            Err(error) => writeln!(text, "{error}")?,
        }
    }
}

/// A branch as JSON, a line for each change, until nobody reads it any more.
fn changes(source: &Source, branch: Option<&str>, out: &mut dyn Write) -> Result<u8, Problem> {
    let at = watch::branch(source, branch)?;
    let mut last = String::new();
    loop {
        let line = watch::run(source, &at, now())?.json().map_err(io::Error::other)?;
        if line != last {
            writeln!(out, "{line}")?;
            out.flush()?;
            last = line;
        }
        std::thread::sleep(pause(source));
        source.results.refresh();
    }
}

/// The command line, for help texts, completions, man pages and tests.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}
