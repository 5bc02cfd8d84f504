//! Measures the dashboard on a branch of 500 commits x 5,000 tests. Prints `name value unit` lines: `cargo run
//! --release -p ci-dashboard --example bench-ci-dashboard [DIR]`, with the scratch results in DIR.
//!
//! The CGI figures are for a separate process, from its start to its last byte; with a CGI environment, this program acts
//! as `ci-dashboard`. The p99 figures are measured with wrk at about 200 requests/s, with unchanged results and while the results of
//! a commit are published ten times per second. wrk has no fixed rate: its connections wait 100 ms after each response,
//! so requests arrive in bursts of 21, and less often if responses are slow (the rate is printed after the p99).

#![expect(clippy::print_stderr, clippy::print_stdout, reason = "a program for developers")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ci_dashboard::{Actions, Site, cli, is_cgi, serve};
use results::Reader;
use spawn::{Cmd, Limits};
use testkit::results_fixture::commit_id;

#[path = "large.rs"]
#[expect(dead_code, reason = "its main is not run here")]
mod large;

const COMMITS: usize = 500;
const TESTS: usize = 5_000;
/// The branch page.
const BRANCH: &str = "/ci?user=u&branch=big";
/// The number of connections of wrk. Each waits 100 ms between two requests, which gives about 200 requests/s.
const CONNECTIONS: &str = "21";
const WAIT: &str = "function delay() return 100 end\n";

fn main() -> ExitCode {
    if is_cgi() {
        let code = cli::main();
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("");
        eprintln!("peak {}", peak.trim());
        return code;
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let directory = std::env::args_os().nth(1).unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let dir = tempfile::tempdir_in(directory)?;
    large::fill(dir.path(), COMMITS, TESTS)?;
    let commit = format!("/c/{}/", commit_id("large 7"));
    let history = format!("{BRANCH}&history=fs.ext4.suite12.generic.034");
    let report = |name: &str, value: f64, unit: &str| println!("{name} {value:.3} {unit}");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;

    let (elapsed, peak, _) = runtime.block_on(cgi_page(dir.path(), BRANCH))?;
    report("cgi_branch_page_ms", elapsed, "ms");
    report("cgi_branch_page_rss_mb", peak, "MB");
    let (elapsed, peak, bytes) = runtime.block_on(cgi_page(dir.path(), &commit))?;
    report("cgi_commit_page_ms", elapsed, "ms");
    report("cgi_commit_page_rss_mb", peak, "MB");
    report("commit_page_bytes", f64::from(u32::try_from(bytes)?), "B");

    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))?;
    let address = listener.local_addr()?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let site = Site::new(Reader::open(dir.path())?, Default::default());
    let server = runtime.spawn(serve(site, Actions::default(), listener, Default::default(), async {
        stopped.await.ok();
    }));
    let crashes = format!("{BRANCH}&crashes");
    let compare = format!("/ci?compare={}..{}", commit_id("large 90"), commit_id("large 7"));
    for (name, target) in [
        ("server_branch_page_ms", BRANCH),
        ("server_commit_page_ms", &commit),
        ("server_history_page_ms", &history),
        ("server_crashes_page_ms", &crashes),
        ("server_compare_page_ms", &compare),
    ] {
        report(name, server_page(address, target)?, "ms");
    }
    if let Some((p99, rate)) = runtime.block_on(wrk(dir.path(), address))? {
        report("server_branch_page_p99_ms", p99, "ms");
        report("server_branch_page_rate", rate, "requests/s");
        let over = AtomicBool::new(false);
        let (p99, rate) = std::thread::scope(|scope| {
            let publisher = scope.spawn(|| publish(dir.path(), &over));
            let measured = runtime.block_on(wrk(dir.path(), address));
            over.store(true, Ordering::Relaxed);
            publisher.join().map_err(|_| anyhow::anyhow!("the publisher panicked"))??;
            measured
        })?
        .context("wrk disappeared")?;
        report("server_branch_page_changing_p99_ms", p99, "ms");
        report("server_branch_page_changing_rate", rate, "requests/s");
    } else {
        eprintln!("SKIPPED: server_branch_page_p99_ms; apt-get install wrk");
    }
    stop.send(()).ok();
    runtime.block_on(server)??;
    Ok(())
}

/// Replaces the blob of a commit repeatedly, as the store does.
fn publish(dir: &Path, over: &AtomicBool) -> Result<()> {
    let blob = dir.join(format!("{}.capnp", commit_id("large 7")));
    let new = dir.join("new.capnp");
    while !over.load(Ordering::Relaxed) {
        std::fs::copy(&blob, &new)?;
        std::fs::rename(&new, &blob)?;
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn millis(elapsed: Duration) -> f64 {
    elapsed.as_secs_f64() * 1000.0
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Milliseconds, peak MB, and bytes of the body; each is the median over several processes.
async fn cgi_page(dir: &Path, target: &str) -> Result<(f64, f64, usize)> {
    let program = std::env::current_exe()?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (mut times, mut peaks, mut size) = (Vec::new(), Vec::new(), 0);
    for _ in 0..15 {
        let cmd = Cmd::new(&program)
            .env_clear()
            .env("GATEWAY_INTERFACE", "CGI/1.1")
            .env("KTEST_CI_OUTPUT_DIR", dir)
            .env("REQUEST_METHOD", "GET")
            .env("SCRIPT_NAME", "/cgi-bin/ci-dashboard")
            .env("PATH_INFO", path)
            .env("QUERY_STRING", query);
        let began = Instant::now();
        let output = cmd.output(Limits::seconds(60)).await?;
        times.push(millis(began.elapsed()));
        ensure!(output.stdout.starts_with(b"Status: 200 "), "{target}: {}", output.error_line());
        size = output.stdout.len();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let peak = stderr.lines().find_map(|line| line.strip_prefix("peak ")?.strip_suffix(" kB"));
        peaks.push(peak.and_then(|peak| peak.trim().parse::<f64>().ok()).context("no peak")? / 1024.0);
    }
    Ok((median(times), median(peaks), size))
}

/// The median of several requests over one connection. The first request fills the cache and is not counted.
fn server_page(address: SocketAddr, target: &str) -> Result<f64> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    let mut times = Vec::new();
    for round in 0..41 {
        let began = Instant::now();
        write!(writer, "GET {target} HTTP/1.1\r\nHost: ci\r\n\r\n")?;
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            if line.starts_with("HTTP/1.1 ") && !line.starts_with("HTTP/1.1 200") {
                bail!("{target}: {line}");
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
                length = value.trim().parse()?;
            }
            if line.trim().is_empty() {
                break;
            }
        }
        reader.read_exact(&mut vec![0; length])?;
        if round > 0 {
            times.push(millis(began.elapsed()));
        }
    }
    Ok(median(times))
}

/// The 99th percentile in ms and the rate in requests/s; `None` without wrk.
async fn wrk(dir: &Path, address: SocketAddr) -> Result<Option<(f64, f64)>> {
    let Some(wrk) =
        ["/usr/bin/wrk", "/usr/local/bin/wrk"].map(PathBuf::from).into_iter().find(|wrk| wrk.exists())
    else {
        return Ok(None);
    };
    let script = dir.join("wait.lua");
    std::fs::write(&script, WAIT)?;
    let url = format!("http://{address}{BRANCH}");
    let cmd =
        Cmd::new(wrk).args(["-t1", "-c", CONNECTIONS, "-d10s", "--latency", "-s"]).arg(&script).arg(url);
    let output = cmd.output(Limits::seconds(60)).await?;
    let text = output.text();
    ensure!(output.exit.success() && !text.contains("Non-2xx"), "wrk: {text} {}", output.error_line());
    let after = |name: &str| text.lines().find_map(|line| line.trim().strip_prefix(name)).map(str::trim);
    let p99 = after("99%").and_then(duration_ms).context("wrk prints no 99%")?;
    let rate = after("Requests/sec:").and_then(|rate| rate.parse().ok()).context("wrk prints no rate")?;
    Ok(Some((p99, rate)))
}

/// `12.34ms`, `1.20s`, `640.00us`.
fn duration_ms(text: &str) -> Option<f64> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let scale = match &text[number.len()..] {
        "us" => 0.001,
        "ms" => 1.0,
        "s" => 1000.0,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * scale)
}
