//! `[kernel_source.NAME]`: package repositories of distributions, from which hosts fetch the kernels `NAME/SUITE`.

use model::{NameError, PackageRepo};

use crate::fault::{Fault, Problem};
use crate::node::{Node, Section, Value};

/// The keys. The plural of a repeated one is accepted, too.
const KEYS: &[&str] = &["format", "url", "suite", "components", "packages", "key", "unsigned"];

/// An invalid kernel source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct KernelSourceError(NameError);

impl crate::fault::SectionError for KernelSourceError {}

pub(crate) fn read(node: &Node) -> Result<Vec<PackageRepo>, Fault> {
    node.table("kernel_source")?.iter().map(|(name, node)| source(name, node)).collect()
}

fn source(name: &str, node: &Node) -> Result<PackageRepo, Fault> {
    let section = Section::new(node, format!("[kernel_source.{name}]"), KEYS)?;
    let mut settings: Vec<(&str, &str)> = Vec::new();
    for key in KEYS {
        let Some(value) = section.get(key) else { continue };
        match (*key, &value.value) {
            ("unsigned", Value::Bool(unsigned)) => {
                settings.push(("unsigned", if *unsigned { "true" } else { "false" }));
            }
            ("unsigned", _) => {
                value.bool("unsigned")?;
            }
            (key @ ("url" | "components" | "packages"), _) => {
                for item in value.list(key)? {
                    settings.push((key.trim_end_matches('s'), item.str(key)?));
                }
            }
            (key, _) => settings.push((key, value.str(key)?)),
        }
    }
    PackageRepo::new(name, settings).map_err(|error| node.fault(Problem::from(KernelSourceError(error))))
}

#[cfg(test)]
mod tests {
    use crate::load::load;

    fn loaded(lines: &str) -> Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ci.toml");
        let text =
            format!("linux_repo = \"l\"\noutput_dir = \"o\"\nktest_dir = \"k\"\nuser = \"kim\"\n{lines}");
        std::fs::write(&path, text).unwrap();
        let config = load(&path).map_err(|error| error.to_string())?;
        Ok(config.kernel_sources.iter().map(ToString::to_string).collect())
    }

    const GROUP: &str = "[test_group.a]\ntests = [\"boot\"]\nkernels = [\"fedora/42\", \"arch\"]\n";

    #[test]
    fn groups_name_kernels_of_a_source() {
        let sources = "[kernel_source.fedora]\nformat = \"rpm-md\"\nurl = [\"https://a.example/{suite}\", \"https://b.example\"]\n\
                       packages = [\"kernel-core\"]\n[kernel_source.arch]\nformat = \"pacman\"\n\
                       url = \"http://c.example\"\nunsigned = true\n";
        let text = loaded(&format!("{sources}{GROUP}")).unwrap();
        assert_eq!(
            text,
            "arch,format=pacman,url=http://c.example,unsigned=true\
             fedora,format=rpm-md,url=https://a.example/{suite},url=https://b.example,package=kernel-core"
        );
        let error = loaded(GROUP).unwrap_err();
        assert!(error.contains("fedora/42") && error.contains("NAME of a kernel source"), "{error}");
    }

    #[test]
    fn wrong_settings_are_refused() {
        for (lines, reason) in [
            ("format = \"rpm-md\"\nurl = \"http://x\"", "key = \"FILE\""),
            ("format = \"rpm\"\nurl = \"https://x\"", "use apt, rpm-md or pacman"),
            ("format = \"apt\"\nurl = \"https://x\"\nunsigned = 1", "true or false"),
            ("format = \"apt\"\nuri = \"https://x\"", "unknown key"),
            ("format = \"apt\"", "url is missing"),
        ] {
            let error = loaded(&format!("[kernel_source.x]\n{lines}\n")).unwrap_err();
            assert!(error.contains(reason) && error.contains("ci.toml:"), "{error}");
        }
    }
}
