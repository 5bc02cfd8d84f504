//! Flavors: the requirements of test files, merged into as few kernels as their contradictions allow.
//!
//! Every file is in exactly one flavor, no flavor requires two values for one option, and the result does not depend on
//! the order of the input.

use std::collections::BTreeMap;

use crate::option::{KOption, KValue};
use crate::requirements::Requirements;

/// One kernel configuration and the test files that share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flavor {
    /// The requirements of its files, in canonical form.
    pub requirements: Requirements,
    /// The test files, sorted.
    pub files: Vec<String>,
    /// Soft requirements that another file overrides, with the file that has them.
    pub overruled: Vec<(String, KOption)>,
}

impl Flavor {
    /// The flavor of a single test file.
    #[must_use]
    pub fn of(file: impl Into<String>, requirements: &Requirements) -> Self {
        Self { requirements: requirements.canonical(), files: vec![file.into()], overruled: Vec::new() }
    }

    /// Its name: the architecture and 12 digits of the hash of the requirements. The hash does not depend on the files.
    #[must_use]
    pub fn name(&self) -> String {
        let text = serde_json::to_string(&self.requirements).expect("requirements are plain text");
        format!("{}-{}", self.requirements.arch, &fsx::digest::sha256_hex(text)[..12])
    }
}

/// A flavor to which files are still added.
struct Draft {
    hard: BTreeMap<String, KValue>,
    soft: BTreeMap<String, (KValue, String)>,
    files: Vec<String>,
    overruled: Vec<(String, KOption)>,
}

impl Draft {
    /// The number of soft requirements that adding the file would override; `None` if hard requirements contradict each
    /// other.
    fn cost(&self, file: &Requirements) -> Option<usize> {
        let mut cost = 0;
        for option in &file.require {
            if self.hard.get(&option.name).is_some_and(|value| !value.agrees(&option.value)) {
                return None;
            }
            cost += usize::from(
                self.soft.get(&option.name).is_some_and(|(value, _)| !value.agrees(&option.value)),
            );
        }
        for option in &file.require_soft {
            let present =
                self.hard.get(&option.name).or_else(|| self.soft.get(&option.name).map(|(value, _)| value));
            cost += usize::from(present.is_some_and(|value| !value.agrees(&option.value)));
        }
        Some(cost)
    }

    fn add(&mut self, file: &str, required: &Requirements) {
        for option in &required.require {
            if let Some((value, by)) = self.soft.remove(&option.name)
                && !value.agrees(&option.value)
            {
                self.overruled.push((by, KOption { name: option.name.clone(), value }));
            }
            self.hard.entry(option.name.clone()).or_insert_with(|| option.value.clone());
        }
        for option in &required.require_soft {
            let present =
                self.hard.get(&option.name).or_else(|| self.soft.get(&option.name).map(|(value, _)| value));
            match present {
                None => {
                    self.soft.insert(option.name.clone(), (option.value.clone(), file.into()));
                }
                Some(value) if !value.agrees(&option.value) => {
                    self.overruled.push((file.into(), option.clone()));
                }
                Some(_) => {}
            }
        }
        self.files.push(file.into());
    }
}

/// The flavors for these test files. Files with the most requirements come first; each is added to the flavor in which
/// it overrides the fewest soft requirements.
#[must_use]
pub fn merge(files: &[(String, Requirements)]) -> Vec<Flavor> {
    let mut sorted: Vec<(String, Requirements)> =
        files.iter().map(|(file, required)| (file.clone(), required.canonical())).collect();
    sorted.sort_by_cached_key(|(file, required)| {
        let text = serde_json::to_string(required).expect("requirements are plain text");
        (std::cmp::Reverse(required.require.len()), file.clone(), text)
    });
    let mut groups: BTreeMap<String, (Requirements, Vec<Draft>)> = BTreeMap::new();
    for (file, required) in sorted {
        let mut rest = required.clone();
        (rest.require, rest.require_soft) = (Vec::new(), Vec::new());
        let key = serde_json::to_string(&rest).expect("requirements are plain text");
        let drafts = &mut groups.entry(key).or_insert((rest, Vec::new())).1;
        let best = drafts
            .iter()
            .enumerate()
            .filter_map(|(index, draft)| Some((draft.cost(&required)?, index)))
            .min()
            .map(|(_, index)| index);
        let best = best.unwrap_or_else(|| {
            drafts.push(Draft {
                hard: BTreeMap::new(),
                soft: BTreeMap::new(),
                files: Vec::new(),
                overruled: Vec::new(),
            });
            drafts.len() - 1
        });
        drafts[best].add(&file, &required);
    }
    let mut flavors: Vec<Flavor> = groups
        .into_values()
        .flat_map(|(rest, drafts)| drafts.into_iter().map(move |draft| finish(rest.clone(), draft)))
        .collect();
    flavors.sort_by(|a, b| a.files.cmp(&b.files));
    flavors
}

fn finish(mut requirements: Requirements, mut draft: Draft) -> Flavor {
    requirements.require = draft.hard.into_iter().map(|(name, value)| KOption { name, value }).collect();
    requirements.require_soft =
        draft.soft.into_iter().map(|(name, (value, _))| KOption { name, value }).collect();
    draft.files.sort();
    draft.overruled.sort();
    Flavor { requirements, files: draft.files, overruled: draft.overruled }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Arch;
    use proptest::prelude::*;

    fn asks(hard: &str, soft: &str) -> Requirements {
        let list = |text: &str| text.split_whitespace().map(|word| word.parse().unwrap()).collect();
        Requirements { require: list(hard), require_soft: list(soft), ..Requirements::new(Arch::X86_64) }
    }

    fn show(flavors: &[Flavor]) -> String {
        let mut text = String::new();
        for flavor in flavors {
            let words = |list: &[KOption]| list.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            text += &format!("{:?}: {}", flavor.files, words(&flavor.requirements.require));
            text +=
                &format!(" | {} | {:?}\n", words(&flavor.requirements.require_soft), flavor.overruled.len());
        }
        text
    }

    #[test]
    fn compatible_files_share_one_kernel() {
        let files = [
            ("ext4".into(), asks("EXT4_FS QUOTA", "")),
            ("xfs".into(), asks("XFS_FS QUOTA", "KASAN")),
            ("noquota".into(), asks("QUOTA=n KASAN", "")),
            ("soft".into(), asks("KASAN=n", "XFS_FS")),
        ];
        insta::assert_snapshot!(show(&merge(&files)), @r#"
        ["ext4", "soft", "xfs"]: EXT4_FS=y KASAN=n QUOTA=y XFS_FS=y |  | 1
        ["noquota"]: KASAN=y QUOTA=n |  | 0
        "#);
    }

    #[test]
    fn other_requirements_separate_flavors() {
        let mut clang = asks("A", "");
        clang.compiler = Some("clang".into());
        let mut gcc = asks("A", "");
        gcc.compiler = Some(" gcc ".into());
        let flavors = merge(&[("a".into(), clang), ("b".into(), gcc), ("c".into(), asks("B", ""))]);
        assert_eq!(flavors.iter().map(|f| f.files.join("+")).collect::<Vec<_>>(), ["a", "b+c"]);
        assert_ne!(flavors[0].name(), flavors[1].name());
        assert!(flavors[0].name().starts_with("x86_64-") && flavors[0].name().len() == 19);
    }

    fn requirements() -> impl Strategy<Value = Requirements> {
        let option =
            ("[A-E]", "(y|n|m|1|2)").prop_map(|(name, value)| format!("{name}={value}").parse().unwrap());
        let options = |most| prop::collection::vec(option.clone(), 0..most);
        (options(4), options(3), prop::option::of("clang|gcc")).prop_map(
            |(require, require_soft, compiler)| Requirements {
                require,
                require_soft,
                compiler,
                ..Requirements::new(Arch::X86_64)
            },
        )
    }

    proptest! {
        #[test]
        fn each_file_once_and_no_contradiction(list in prop::collection::vec(requirements(), 0..8)) {
            let files: Vec<_> = list.into_iter().enumerate().map(|(at, asked)| (format!("f{at}"), asked)).collect();
            let flavors = merge(&files);
            let mut reversed = files.clone();
            reversed.reverse();
            prop_assert_eq!(&merge(&reversed), &flavors);
            let mut seen: Vec<_> = flavors.iter().flat_map(|flavor| flavor.files.clone()).collect();
            seen.sort();
            let mut names: Vec<_> = files.iter().map(|(name, _)| name.clone()).collect();
            names.sort();
            prop_assert_eq!(seen, names);
            for flavor in &flavors {
                let hard = flavor.requirements.hard();
                prop_assert_eq!(hard.len(), flavor.requirements.require.len());
                prop_assert_eq!(&flavor.requirements, &flavor.requirements.canonical());
                for (_, asked) in files.iter().filter(|(name, _)| flavor.files.contains(name)) {
                    prop_assert_eq!(asked.compiler_name(), flavor.requirements.compiler_name());
                    for (name, value) in asked.hard() {
                        prop_assert!(hard[name].agrees(value));
                    }
                }
            }
            // Files without contradictions share one kernel.
            let agree = files.iter().all(|(_, a)| files.iter().all(|(_, b)| {
                a.compiler_name() == b.compiler_name()
                    && a.hard().iter().all(|(name, value)| b.hard().get(name).is_none_or(|other| other.agrees(value)))
            }));
            if agree {
                prop_assert!(flavors.len() <= 1);
            }
        }
    }
}
