//! Debian's architecture names.

use model::Arch;

/// Debian's name for an architecture: `amd64`, `arm64`.
#[must_use]
pub fn arch_name(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "amd64",
        Arch::Aarch64 => "arm64",
    }
}

/// Parses an architecture from Debian's name or from the output of `uname -m`.
#[must_use]
pub fn parse_arch(text: &str) -> Option<Arch> {
    Arch::ALL.into_iter().find(|arch| text == arch.as_str() || text == arch_name(*arch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_names_are_accepted() {
        assert_eq!(parse_arch("amd64"), Some(Arch::X86_64));
        assert_eq!(parse_arch("aarch64"), Some(Arch::Aarch64));
        assert_eq!(parse_arch("sparc"), None);
    }
}
