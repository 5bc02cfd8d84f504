//! The crash of a subtest: extracts its report from the log, adds source lines from the kernel's ELF file, and adds the
//! source location to the verdict.
//!
//! If a report cannot be read or written, this is noted in the log and changes no verdict.

use crash::{Frame, FrameKind, Report, SourceLine};
use kernel::Kernel;
use model::Verdict;
use symbols::{SymbolLocation, Symbols};
use vm::supervise::FinishedSubtest;

use super::artifacts::before_last_line;
use crate::out::Out;

/// The file of the report, in the subtest's directory.
const FILE: &str = "crash";

/// Writes the report of the crash. Returns its source location, as `FILE:LINE`.
pub(super) fn locate(kernel: &Kernel, finished: &mut FinishedSubtest, out: &Out) -> Option<String> {
    let title = finished.crash.clone()?;
    let log = String::from_utf8_lossy(&finished.log).into_owned();
    let reports = crash::reports(&log);
    let report = reports.iter().find(|report| report.title == title).or(reports.first())?;
    let symbols = match kernel.vmlinux.as_deref().map_or(Ok(None), Symbols::open) {
        Ok(symbols) => symbols,
        Err(error) => {
            before_last_line(&mut finished.log, &[error.to_string()]);
            None
        }
    };
    let places_of =
        |frame: &Frame| symbols.as_ref().map_or_else(Vec::new, |symbols| source_lines(symbols, frame));
    let text = format!("{title}\n\n{}", report.decoded(&log, places_of));
    if let Err(error) = out.subtest_file(&finished.subtest, FILE, text.as_bytes()) {
        before_last_line(&mut finished.log, &[format!("cannot write the crash report: {error}")]);
    }
    let source = source(report, places_of)?;
    add_place(finished, &source, report.guilty.as_deref());
    Some(source)
}

fn source_lines(symbols: &Symbols, frame: &Frame) -> Vec<SourceLine> {
    // A function of a module can have the same name as a function in the kernel image.
    let Some((offset, size)) = frame.offset.filter(|_| frame.module.is_none()) else { return Vec::new() };
    let locations = symbols.locations(&frame.function, offset, size, frame.kind == FrameKind::ReturnAddress);
    let source = |SymbolLocation { function, file, line }| SourceLine { function, file, line };
    locations.into_iter().map(source).collect()
}

/// The source location of the guilty function, from the kernel's debug information or else from the report.
fn source(report: &Report, locate: impl Fn(&Frame) -> Vec<SourceLine>) -> Option<String> {
    let frame = report.guilty_frame.map(|at| &report.frames[at]);
    let found = frame.and_then(|frame| locate(frame).pop()).map(|place| (place.file, place.line));
    let (file, line) = found.or_else(|| report.source.clone())?;
    Some(format!("{file}:{line}"))
}

/// Adds the source location to the verdict and to the log.
fn add_place(finished: &mut FinishedSubtest, source: &str, guilty: Option<&str>) {
    let function = guilty.map(|function| format!(" in {function}")).unwrap_or_default();
    before_last_line(&mut finished.log, &[format!("crashed at {source}{function}")]);
    if let Verdict::Failed { reason } = &mut finished.verdict
        && !reason.contains(source)
    {
        reason.push_str(&format!(", at {source}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::time::Duration;

    /// Creates a program that has a function with the name in the log, and returns the function's size.
    fn elf(dir: &Path) -> Option<u64> {
        let source = "volatile int sink;\nvoid start_kernel(void)\n{\n\tsink = 1;\n}\nint main(void) { start_kernel(); return 0; }\n";
        std::fs::create_dir_all(dir.join("init")).unwrap();
        std::fs::write(dir.join("init/main.c"), source).unwrap();
        let run = |program: &str, args: &[&str]| {
            std::process::Command::new(program).args(args).current_dir(dir).output().ok()
        };
        let built = run("gcc", &["-g", "-O2", "-o", "vmlinux", "init/main.c"])?;
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let listed = String::from_utf8(run("nm", &["-S", "vmlinux"])?.stdout).unwrap();
        let line = listed.lines().find(|line| line.ends_with(" start_kernel")).unwrap();
        u64::from_str_radix(line.split(' ').nth(1).unwrap(), 16).ok()
    }

    #[test]
    fn the_verdict_and_the_report_have_source_locations() {
        let dir = tempfile::tempdir().unwrap();
        let Some(size) = elf(dir.path()) else {
            eprintln!("skipped: gcc and nm are not installed");
            return;
        };
        let path = |name: &str| dir.path().join(name);
        let mut kernel = crate::run::kernel_in(dir.path());
        kernel.vmlinux = Some(path("vmlinux"));
        let subtest: model::SubtestName = "oops".parse().unwrap();
        let out =
            Out::create(&path("out"), &"boot".parse().unwrap(), std::slice::from_ref(&subtest)).unwrap();
        let title = "BUG: unable to handle kernel NULL pointer dereference in start_kernel";
        let log = format!(
            "00001 [    1.000000] BUG: kernel NULL pointer dereference, address: 0000000000000000\n\
             00001 [    1.000001] RIP: 0010:start_kernel+0x0/{size:#x}\n\
             00001 [    1.000002] Call Trace:\n00001 [    1.000003] ---[ end trace 0 ]---\n\
             00002 ========= FAILED oops in 1s\n"
        );
        let mut finished = FinishedSubtest {
            subtest,
            verdict: Verdict::Failed { reason: title.into() },
            duration: Duration::from_secs(1),
            crash: Some(title.into()),
            log: log.into_bytes(),
        };
        let source = locate(&kernel, &mut finished, &out).expect("it is known");
        assert!(source.starts_with("init/main.c:"), "{source}");
        assert_eq!(finished.verdict.reason(), Some(format!("{title}, at {source}").as_str()));
        let log = String::from_utf8(finished.log).unwrap();
        let end =
            format!("00002 ktest: crashed at {source} in start_kernel\n00002 ========= FAILED oops in 1s\n");
        assert!(log.ends_with(&end), "{log}");
        let report = std::fs::read_to_string(path("out/out/boot.oops/crash")).unwrap();
        assert!(report.starts_with(&format!("{title}\n\nBUG: kernel NULL")), "{report}");
        assert!(report.contains(&format!("RIP: 0010:start_kernel+0x0/{size:#x} {source}\n")), "{report}");
    }
}
