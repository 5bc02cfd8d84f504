//! The Debian packages of the programs that ktest-ci runs.

/// Programs with a Debian package of the same name.
const SAME_NAME: [&str; 13] = [
    "git",
    "make",
    "gcc",
    "clang",
    "flex",
    "bison",
    "bc",
    "mmdebstrap",
    "fakeroot",
    "ccache",
    "gdb",
    "brotli",
    "bash",
];

/// `; apt-get install PACKAGE`, or empty if the package of the program is not known.
pub(crate) fn install_hint(program: &str) -> String {
    package_of(program).map_or(String::new(), |package| format!("; apt-get install {package}"))
}

/// The Debian package of a program that ktest-ci needs.
fn package_of(program: &str) -> Option<String> {
    let name = program.rsplit('/').next().unwrap_or(program);
    // gcc-13, clang-19.
    let versioned = name
        .rsplit_once('-')
        .filter(|(_, version)| !version.is_empty() && version.bytes().all(|digit| digit.is_ascii_digit()));
    match versioned {
        Some(("gcc" | "clang", _)) => return Some(name.into()),
        Some(("ld.lld", version)) => return Some(format!("lld-{version}")),
        _ => {}
    }
    let package = match name {
        "qemu-system-x86_64" => Some("qemu-system-x86"),
        "qemu-system-aarch64" => Some("qemu-system-arm"),
        "qemu-img" => Some("qemu-utils"),
        "mke2fs" | "mkfs.ext4" => Some("e2fsprogs"),
        "bwrap" => Some("bubblewrap"),
        "aarch64-linux-gnu-gcc" => Some("gcc-aarch64-linux-gnu"),
        "x86_64-linux-gnu-gcc" => Some("gcc-x86-64-linux-gnu"),
        "ld" => Some("binutils"),
        "ld.lld" => Some("lld"),
        "ssh" => Some("openssh-client"),
        _ => SAME_NAME.into_iter().find(|known| *known == name),
    };
    package.map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_has_its_package() {
        let package = |program: &str| package_of(program).unwrap_or_default();
        assert_eq!(package("/usr/bin/clang-19"), "clang-19");
        assert_eq!(package("ld.lld-19"), "lld-19");
        assert_eq!(package("ld.lld"), "lld");
        assert_eq!(package("gcc-x"), "");
    }
}
