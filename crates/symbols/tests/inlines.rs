//! A program compiled with optimization, so that its functions are inlined. The expected source lines are read from its
//! text.

#![expect(clippy::print_stderr, reason = "a test reports what it skips and measures")]
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};
use std::process::Command;

use symbols::{SymbolLocation, Symbols};

const MAIN: &str = "\
#include \"list.h\"
volatile int sink;
static __attribute__((noinline)) int deep(int *p)
{
	return *p;
}
static __attribute__((noinline)) int outer(int *p)
{
	sink = 1;
	sink = take(p) + deep(p + sink);
	return sink;
}
int start_kernel(int argc)
{
	return outer(&argc) + 1;
}
int main(int argc, char **argv)
{
	(void)argv;
	return start_kernel(argc);
}
";

const HEADER: &str = "\
extern volatile int sink;
static inline __attribute__((always_inline)) int first(int *p)
{
	sink = 7;
	return *p + sink;
}
static inline __attribute__((always_inline)) int take(int *p)
{
	return first(p) * 2;
}
";

/// Compiles the source in a directory that looks like a kernel tree. Returns `None` if no compiler is installed.
fn compiled(dir: &Path, flags: &[&str]) -> Option<PathBuf> {
    std::fs::create_dir_all(dir.join("init")).unwrap();
    std::fs::create_dir_all(dir.join("obj")).unwrap();
    std::fs::write(dir.join("init/main.c"), MAIN).unwrap();
    std::fs::write(dir.join("init/list.h"), HEADER).unwrap();
    let built = Command::new("gcc")
        .args(flags)
        .args(["-O2", "-o", "vmlinux", "../init/main.c"])
        .current_dir(dir.join("obj"))
        .status();
    match built {
        Ok(status) => {
            assert!(status.success(), "gcc: {status}");
            Some(dir.join("obj/vmlinux"))
        }
        Err(error) => {
            eprintln!("skipped: gcc: {error}");
            None
        }
    }
}

/// The locations of a function, for each of its bytes.
fn all(symbols: &Symbols, function: &str) -> Vec<Vec<SymbolLocation>> {
    let mut places: Vec<_> = (0..200).map(|at| symbols.locations(function, at, None, false)).collect();
    places.dedup();
    places
}

#[test]
fn inlined_functions_have_the_lines_of_their_calls() {
    let dir = tempfile::tempdir().unwrap();
    for flags in [&["-g"][..], &["-gdwarf-4"], &["-g", "-gz=zlib"]] {
        let Some(elf) = compiled(dir.path(), flags) else { return };
        let symbols = Symbols::open(&elf).unwrap().expect("it has debug information");
        let place = |function: &str, file: &str, line| SymbolLocation {
            function: function.into(),
            file: file.into(),
            line,
        };
        let inlined = vec![
            place("first", "init/list.h", 4),
            place("take", "init/list.h", 9),
            place("outer", "init/main.c", 10),
        ];
        let outer = all(&symbols, "outer");
        assert!(outer.contains(&inlined), "{flags:?}: {outer:?}");
        assert!(
            all(&symbols, "start_kernel").contains(&vec![place("start_kernel", "init/main.c", 15)]),
            "{flags:?}"
        );
        // In a kernel's stack trace, the size includes the padding after a function. Try which sizes match.
        let fits: Vec<u64> =
            (1..400).filter(|size| !symbols.locations("outer", 0, Some(*size), false).is_empty()).collect();
        assert_eq!(fits.len(), 64, "{fits:?}");
        // A wrong size belongs to another function. Unknown names have no location.
        assert_eq!(symbols.locations("outer", 0, Some(7777), false), []);
        assert_eq!(symbols.locations("no_such", 0, None, false), []);
        assert_eq!(symbols.locations("outer", u64::MAX, None, true), []);
    }
}

#[test]
fn a_return_address_resolves_to_its_call() {
    let dir = tempfile::tempdir().unwrap();
    let Some(elf) = compiled(dir.path(), &["-g"]) else { return };
    let symbols = Symbols::open(&elf).unwrap().unwrap();
    let line =
        |at, returns| symbols.locations("start_kernel", at, None, returns).pop().map(|place| place.line);
    assert!((1..100).all(|at| line(at, true) == line(at - 1, false)));
    assert_eq!(line(0, true), line(0, false));
}

#[test]
fn without_debug_information_nothing_is_found_and_errors_are_one_line() {
    let dir = tempfile::tempdir().unwrap();
    if let Some(elf) = compiled(dir.path(), &[]) {
        assert!(Symbols::open(&elf).unwrap().is_none());
    }
    let truncated = dir.path().join("truncated");
    std::fs::write(&truncated, b"\x7fELF and no more").unwrap();
    let error = Symbols::open(&truncated).unwrap_err().to_string();
    let begin = format!("cannot read the debug information of {}: ", truncated.display());
    assert!(error.starts_with(&begin) && !error.contains('\n'), "{error}");
    assert!(Symbols::open(&dir.path().join("none")).is_err());
}

/// A kernel that names a file for its debug information. A FIFO would stop this program until someone opens it.
#[test]
fn other_files_that_a_kernel_names_are_not_opened() {
    for flags in [["-g", "-gsplit-dwarf", "-gdwarf-5"], ["-g", "-gsplit-dwarf", "-gdwarf-4"]] {
        let dir = tempfile::tempdir().unwrap();
        let Some(kernel) = compiled(dir.path(), &flags) else {
            eprintln!("skipped: other_files_that_a_kernel_names_are_not_opened: gcc is not installed");
            return;
        };
        let named: Vec<_> =
            std::fs::read_dir(kernel.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path()).collect();
        let named =
            named.iter().find(|path| path.extension().is_some_and(|extension| extension == "dwo")).unwrap();
        std::fs::remove_file(named).unwrap();
        assert!(Command::new("mkfifo").arg(named).status().unwrap().success());
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let _ = sender.send(Symbols::open(&kernel).map(drop).map_err(|error| error.to_string()));
        });
        let opened =
            receiver.recv_timeout(std::time::Duration::from_secs(20)).expect("it does not wait for the FIFO");
        let error = opened.unwrap_err();
        assert!(error.contains("it names other files"), "{error}");
    }
}
