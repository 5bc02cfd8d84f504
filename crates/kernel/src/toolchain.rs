//! The compiler and the other programs of a build: their names, their versions, and missing ones.

use std::path::{Path, PathBuf};

use debian::programs::find_program;
use model::Arch;
use spawn::{Cmd, Limits};

use crate::error::{BuildError, InfrastructureError, SourceError};

/// The programs of this host that build a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toolchain {
    /// The target architecture.
    pub arch: Arch,
    /// The arguments of make: `ARCH=x86_64`, `CC=ccache gcc`...
    pub make_args: Vec<String>,
    /// The compiler as a command: `gcc`, `aarch64-linux-gnu-gcc`.
    pub compiler: String,
    /// The versions of the compiler and the linker, which are part of the kernel id.
    pub version: String,
    /// Whether the compiler is run through ccache.
    pub ccache: bool,
    /// The directories outside `/usr` that the compiler needs.
    pub dirs: Vec<PathBuf>,
}

/// The names of a tool chain's programs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ProgramNames {
    compiler: String,
    linker: String,
    make_args: Vec<String>,
}

/// The name of an architecture in `make ARCH=`.
fn kernel_arch(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "x86_64",
        Arch::Aarch64 => "arm64",
    }
}

/// The directory of an architecture below `arch/`.
#[must_use]
pub fn srcarch(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "x86",
        Arch::Aarch64 => "arm64",
    }
}

/// Checks the name of a compiler, which may not be installed.
pub fn check_name(compiler: &str) -> Result<(), BuildError> {
    names(Arch::X86_64, compiler, None).map(|_| ())
}

/// The programs that belong to a compiler of this name.
fn names(arch: Arch, compiler: &str, native: Option<Arch>) -> Result<ProgramNames, BuildError> {
    let bad = || BuildError::from(SourceError::Compiler(compiler.into()));
    let file = compiler.rsplit('/').next().unwrap_or(compiler);
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+._-/".contains(&b));
    if !plain(compiler) || compiler.starts_with('-') || file.is_empty() {
        return Err(bad());
    }
    let mut make_args = vec![format!("ARCH={}", kernel_arch(arch))];
    if let Some(suffix) = file.strip_prefix("clang") {
        let digits = suffix.strip_prefix('-').unwrap_or(suffix);
        if digits.len() < suffix.len() && digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad());
        }
        let directory = &compiler[..compiler.len() - file.len()];
        let llvm = if directory.is_empty() { suffix.to_owned() } else { directory.to_owned() };
        make_args.push(format!("LLVM={}", if llvm.is_empty() { "1" } else { &llvm }));
        return Ok(ProgramNames {
            compiler: compiler.into(),
            linker: format!("{directory}ld.lld{suffix}"),
            make_args,
        });
    }
    if !file.contains("gcc") {
        return Err(bad());
    }
    let cross = cross(arch, native);
    if !cross.is_empty() {
        make_args.push(format!("CROSS_COMPILE={cross}"));
    }
    let prefixed = !cross.is_empty() && !compiler.contains('/') && !file.starts_with(cross);
    let compiler = if prefixed { format!("{cross}{compiler}") } else { compiler.into() };
    Ok(ProgramNames { compiler, linker: format!("{cross}ld"), make_args })
}

/// The prefix of gcc and binutils on a host with the architecture `native`; empty for native builds.
#[must_use]
pub fn cross(arch: Arch, native: Option<Arch>) -> &'static str {
    match arch {
        _ if native == Some(arch) => "",
        Arch::X86_64 => "x86_64-linux-gnu-",
        Arch::Aarch64 => "aarch64-linux-gnu-",
    }
}

impl Toolchain {
    /// Finds the compiler and its version.
    pub async fn probe(arch: Arch, compiler: &str) -> Result<Self, BuildError> {
        let ProgramNames { compiler, linker, mut make_args } = names(arch, compiler, Arch::native())?;
        let (cc, ld) = tokio::join!(version(&compiler), version(&linker));
        let version = format!("{}; {}", cc?, ld?);
        let ccache = find_program("ccache").is_some();
        make_args.push(if ccache { format!("CC=ccache {compiler}") } else { format!("CC={compiler}") });
        let home = std::env::var_os("HOME").map(PathBuf::from);
        let dirs = find_program(&compiler).map_or_else(Vec::new, |file| outside_usr(&file, home.as_deref()));
        Ok(Self { arch, make_args, compiler, version, ccache, dirs })
    }

    /// Checks the other programs of a build. The error is the first missing one.
    pub async fn check_programs(&self) -> Result<(), BuildError> {
        let missing = |(program, package): &(&str, &'static str)| {
            let program = find_program(program).is_none().then(|| (*program).to_owned())?;
            Some(BuildError::from(InfrastructureError::Missing { program, package }))
        };
        // The compiler for the kernel's own tools, which is clang with LLVM=.
        let llvm = self.make_args.iter().find_map(|arg| arg.strip_prefix("LLVM="));
        let host = if llvm.is_some() { self.compiler.as_str() } else { "gcc" };
        let tools = llvm.map_or_else(Vec::new, llvm_tools);
        if let Some(error) = tools.iter().find_map(|tool| missing(&(tool, "llvm"))) {
            return Err(error);
        }
        let programs = [
            ("make", "make"),
            (host, "gcc"),
            ("flex", "flex"),
            ("bison", "bison"),
            ("bc", "bc"),
            ("awk", "mawk"),
        ];
        if let Some(error) = programs.iter().find_map(missing) {
            return Err(error);
        }
        if self.arch == Arch::X86_64 {
            let args = ["-E", "-x", "c", "-include", "gelf.h", "/dev/null"];
            if !Cmd::new(host).args(args).output(Limits::seconds(20)).await?.exit.success() {
                return Err(InfrastructureError::MissingLibelf.into());
            }
        }
        Ok(())
    }
}

/// The LLVM programs that make runs in addition to clang and the linker. `llvm` is the value of make's LLVM variable:
/// 1, a suffix or a directory.
fn llvm_tools(llvm: &str) -> Vec<String> {
    let names = ["llvm-ar", "llvm-nm", "llvm-objcopy", "llvm-objdump", "llvm-readelf", "llvm-strip"];
    let full_name = |name: &str| match llvm {
        "1" => name.to_owned(),
        suffix if suffix.starts_with('-') => format!("{name}{suffix}"),
        directory => format!("{directory}{name}"),
    };
    names.map(full_name).into()
}

/// The first line of `PROGRAM --version`.
async fn version(program: &str) -> Result<String, BuildError> {
    let output = Cmd::new(program).arg("--version").env("LC_ALL", "C").output(Limits::seconds(20)).await?;
    let text = output.text();
    match text.lines().next() {
        Some(line) if output.exit.success() => Ok(line.trim().into()),
        _ => {
            let complaint = format!("{}: {}", output.exit, output.error_line());
            Err(InfrastructureError::program(format!("{program} --version"), complaint).into())
        }
    }
}

/// The parent directory of the `bin/` of a compiler outside the system directories.
fn outside_usr(file: &Path, home: Option<&Path>) -> Vec<PathBuf> {
    let real = file.canonicalize().unwrap_or_else(|_| file.into());
    let mut dirs = Vec::new();
    for file in [file, &real] {
        let own = ["/usr", "/bin", "/sbin", "/lib"].iter().any(|dir| file.starts_with(dir));
        let (Some(bin), Some(above)) = (file.parent(), file.parent().and_then(Path::parent)) else {
            continue;
        };
        // A home directory is not a tool chain.
        let dir = if home.is_some_and(|home| home.starts_with(above)) { bin } else { above };
        if !own && !dirs.iter().any(|known: &PathBuf| known == dir) {
            dirs.push(dir.to_owned());
        }
    }
    dirs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(arch: Arch, compiler: &str) -> String {
        match names(arch, compiler, Some(Arch::X86_64)) {
            Ok(names) => format!("{} | {} | {}", names.compiler, names.linker, names.make_args.join(" ")),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn compilers_by_name() {
        insta::assert_snapshot!(show(Arch::X86_64, "gcc"), @"gcc | ld | ARCH=x86_64");
        insta::assert_snapshot!(show(Arch::X86_64, "gcc-13"), @"gcc-13 | ld | ARCH=x86_64");
        insta::assert_snapshot!(show(Arch::Aarch64, "gcc"), @"aarch64-linux-gnu-gcc | aarch64-linux-gnu-ld | ARCH=arm64 CROSS_COMPILE=aarch64-linux-gnu-");
        insta::assert_snapshot!(show(Arch::Aarch64, "clang"), @"clang | ld.lld | ARCH=arm64 LLVM=1");
        insta::assert_snapshot!(show(Arch::X86_64, "clang-17"), @"clang-17 | ld.lld-17 | ARCH=x86_64 LLVM=-17");
        insta::assert_snapshot!(show(Arch::X86_64, "/opt/llvm/bin/clang"), @"/opt/llvm/bin/clang | /opt/llvm/bin/ld.lld | ARCH=x86_64 LLVM=/opt/llvm/bin/");
        for bad in ["tcc", "gcc; rm -rf /", "-gcc", "", "clang-", "clang-x", "gcc $(x)"] {
            assert!(names(Arch::X86_64, bad, None).is_err(), "{bad}");
        }
    }

    #[test]
    fn llvm_tools_match_the_version_of_clang() {
        assert_eq!(llvm_tools("1")[0], "llvm-ar");
        assert_eq!(llvm_tools("-17")[1], "llvm-nm-17");
        assert_eq!(llvm_tools("/opt/llvm/bin/")[2], "/opt/llvm/bin/llvm-objcopy");
    }

    #[tokio::test]
    async fn a_missing_compiler_is_reported() {
        let error = Toolchain::probe(Arch::X86_64, "/nowhere/gcc-99").await.unwrap_err();
        assert!(error.to_string().starts_with("/nowhere/gcc-99: not installed"), "{error}");
    }

    #[test]
    fn directories_of_compilers_outside_usr() {
        let dirs = |file: &str| outside_usr(Path::new(file), Some(Path::new("/home/kent")));
        assert_eq!(dirs("/opt/cross/bin/gcc"), [Path::new("/opt/cross")]);
        assert_eq!(dirs("/home/kent/bin/gcc"), [Path::new("/home/kent/bin")]);
        assert_eq!(dirs("/home/kent/cross/bin/gcc"), [Path::new("/home/kent/cross")]);
        assert!(dirs("/usr/bin/gcc").is_empty());
    }
}
