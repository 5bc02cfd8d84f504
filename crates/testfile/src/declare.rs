//! The declarations of a test file: the variables that its `deps` call sets, as typed data (docs/contract.md).
//!
//! Pure: converts variables to [`Declarations`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use kernel::{KOption, KconfigBase, Requirements};
use model::{Arch, ByteSize, StorageBus};

/// Bash variables by name; a scalar is an array with one element.
pub type Variables = BTreeMap<String, Vec<String>>;

/// All variables that are read after `deps`.
pub const NAMES: &[&str] = &[
    "ktest_arch",
    "ktest_compiler",
    "ktest_cpus",
    "ktest_mem",
    "ktest_timeout",
    "ktest_storage_bus",
    "ktest_allow_taint",
    "ktest_tests_unknown",
    "ktest_markers",
    "ktest_kconfig_base",
    "ktest_no_kbuild",
    "ktest_network",
    "ktest_no_vm",
    "ktest_kbuild_target",
    "ktest_kernel_append",
    "ktest_kernel_make_append",
    "ktest_kernel_config_require",
    "ktest_kernel_config_require_soft",
    "ktest_images",
    "ktest_rw_images",
    "ktest_scratch_dev_sizes",
    "ktest_scratch_slowdevs",
    "ktest_pmem_devs",
    "ktest_make_install",
    "ktest_kernel_headers",
    "ktest_kselftests",
    "ktest_qemu_append",
    "ktest_qemu_prepend",
    "ktest_list_env",
];

/// Why a declaration is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeclareError {
    /// A required variable is not set.
    #[error("declares no {0}; add {1}")]
    Missing(&'static str, &'static str),
    /// The requirements contradict each other or the architecture.
    #[error("requires a kernel that cannot be built: {0}")]
    Kernel(String),
    /// A value cannot be parsed.
    #[error("declares {name}={value:?}: {reason}")]
    Bad {
        /// The variable.
        name: &'static str,
        /// Its value, cut to 100 characters.
        value: String,
        /// The expected format.
        reason: String,
    },
}

pub(crate) fn bad(name: &'static str, value: &str, reason: impl Into<String>) -> DeclareError {
    DeclareError::Bad { name, value: value.chars().take(100).collect(), reason: reason.into() }
}

/// The declarations of one test file.
#[derive(Debug, Clone, PartialEq)]
pub struct Declarations {
    /// Architecture and kernel configuration.
    pub kernel: Requirements,
    /// The number of processors; `None` means the number of the host, at most 4.
    pub cpus: Option<u32>,
    /// Memory, MiB.
    pub mem_mib: u64,
    /// The default time limit of a subtest, under KVM. [`Duration::MAX`] means no limit, which is declared as 0.
    pub timeout: Duration,
    /// The bus of the disks.
    pub bus: StorageBus,
    /// A tainted kernel does not make a subtest fail.
    pub allow_taint: bool,
    /// The library of the test file prefixes its lines for the runner with the token of the boot.
    pub marks_with_token: bool,
    /// Subtests that `list-tests` does not print are allowed.
    pub tests_unknown: bool,
    /// The kernel is not built from a source tree.
    pub no_kbuild: bool,
    /// The guest can reach the host's network.
    pub network: bool,
    /// The tests run on the host, without a VM.
    pub no_vm: bool,
    /// Kernel arguments.
    pub kernel_append: Vec<String>,
    /// Images attached read-only.
    pub images: Vec<PathBuf>,
    /// Images attached copy-on-write.
    pub rw_images: Vec<PathBuf>,
    /// Sizes of the scratch devices, in bytes.
    pub scratch: Vec<u64>,
    /// The indices of slow scratch devices.
    pub slow: Vec<usize>,
    /// Sizes of the pmem devices, in bytes.
    pub pmem: Vec<u64>,
    /// Directories to build in the guest.
    pub make_install: Vec<PathBuf>,
    /// The guest gets the kernel's headers, to build modules.
    pub kernel_headers: bool,
    /// Kernel selftest collections, built from the tree under test.
    pub kselftests: Vec<String>,
    /// QEMU arguments after the runner's own.
    pub qemu_append: Vec<String>,
    /// QEMU arguments before the runner's own.
    pub qemu_prepend: Vec<String>,
    /// Variables and values with which `list-tests` prints other subtests, for the error about one that it does not print.
    pub list_env: Vec<(String, String)>,
}

/// The default time limit of the contract, in seconds.
const DEFAULT_TIMEOUT: u64 = 6000;

impl Declarations {
    /// The time limit as in `ktest_timeout`: seconds, or 0 for no limit.
    #[must_use]
    pub fn timeout_seconds(&self) -> u64 {
        if self.timeout == Duration::MAX { 0 } else { self.timeout.as_secs() }
    }

    /// Parses the variables that `deps` set. `arch` is the default architecture; relative kconfig files are looked up
    /// in `dir`.
    pub fn from_variables(
        variables: &Variables,
        arch: Arch,
        dir: &std::path::Path,
    ) -> Result<Self, DeclareError> {
        let get = Get(variables);
        let arch = match get.scalar("ktest_arch") {
            "" => arch,
            text => text.parse().map_err(|error: model::NameError| bad("ktest_arch", text, error.reason))?,
        };
        let mut kernel = Requirements::new(arch);
        kernel.compiler = Some(get.scalar("ktest_compiler").to_string()).filter(|text| !text.is_empty());
        kernel.require_soft = options(&get, "ktest_kernel_config_require_soft")?;
        kernel.make_append = get.list("ktest_kernel_make_append");
        kernel.kbuild_target =
            Some(get.scalar("ktest_kbuild_target").to_string()).filter(|text| !text.is_empty());
        let base = get.scalar("ktest_kconfig_base");
        kernel.kconfig_base = (!base.is_empty()).then(|| KconfigBase::parse(base, dir));

        let mem = get.scalar("ktest_mem");
        if mem.is_empty() {
            return Err(DeclareError::Missing("ktest_mem", "config-mem 1G"));
        }
        let bus = get.scalar("ktest_storage_bus");
        let bus: StorageBus =
            bus.parse().map_err(|error: model::NameError| bad("ktest_storage_bus", bus, error.reason))?;
        let pmem = sizes(&get, "ktest_pmem_devs")?;
        // The requirements of the file come last and take precedence.
        kernel.require = drivers(bus, !pmem.is_empty(), arch);
        kernel.require.extend(options(&get, "ktest_kernel_config_require")?);
        Ok(Self {
            kernel,
            cpus: number(&get, "ktest_cpus")?,
            mem_mib: mem
                .parse()
                .ok()
                .filter(|mib| (16..=1 << 24).contains(mib))
                .ok_or_else(|| bad("ktest_mem", mem, "expected a number of MiB, at least 16"))?,
            timeout: match number(&get, "ktest_timeout")?.unwrap_or(DEFAULT_TIMEOUT) {
                0 => Duration::MAX,
                seconds => Duration::from_secs(seconds),
            },
            bus,
            allow_taint: flag(&get, "ktest_allow_taint")?,
            marks_with_token: get.scalar("ktest_markers") == "token",
            tests_unknown: flag(&get, "ktest_tests_unknown")?,
            no_kbuild: flag(&get, "ktest_no_kbuild")?,
            network: flag(&get, "ktest_network")?,
            no_vm: flag(&get, "ktest_no_vm")?,
            kernel_headers: flag(&get, "ktest_kernel_headers")?,
            kernel_append: get.list("ktest_kernel_append"),
            images: get.list("ktest_images").into_iter().map(PathBuf::from).collect(),
            rw_images: get.list("ktest_rw_images").into_iter().map(PathBuf::from).collect(),
            scratch: sizes(&get, "ktest_scratch_dev_sizes")?,
            slow: numbers(&get, "ktest_scratch_slowdevs")?,
            pmem,
            make_install: get.list("ktest_make_install").into_iter().map(PathBuf::from).collect(),
            kselftests: get.list("ktest_kselftests"),
            qemu_append: get.list("ktest_qemu_append"),
            qemu_prepend: get.list("ktest_qemu_prepend"),
            list_env: assignments(&get, "ktest_list_env")?,
        })
    }
}

/// The drivers of the declared devices, so that a test file that declares a device does not have to require its driver.
fn drivers(bus: StorageBus, pmem: bool, arch: Arch) -> Vec<KOption> {
    let bus: &[&str] = match bus {
        StorageBus::VirtioBlk => &[],
        StorageBus::VirtioScsi => &["SCSI", "BLK_DEV_SD", "SCSI_LOWLEVEL", "SCSI_VIRTIO"],
        StorageBus::Ahci => &["SCSI", "BLK_DEV_SD", "ATA", "SATA_AHCI"],
        StorageBus::Nvme => &["BLK_DEV_NVME"],
        StorageBus::Piix4Ide => &["SCSI", "BLK_DEV_SD", "ATA", "ATA_SFF", "ATA_BMDMA", "ATA_PIIX"],
        StorageBus::Lsi => &["SCSI", "BLK_DEV_SD", "SCSI_LOWLEVEL", "SCSI_SYM53C8XX_2"],
    };
    let pmem: &[&str] = match (pmem, arch) {
        (false, _) => &[],
        // BTT selects ND_CLAIM, which drivers need to bind to a namespace.
        (true, Arch::X86_64) => &["ACPI_NFIT", "LIBNVDIMM", "BLK_DEV_PMEM", "BTT"],
        (true, Arch::Aarch64) => &["ACPI", "ACPI_NFIT", "LIBNVDIMM", "BLK_DEV_PMEM", "BTT"],
    };
    let yes = |name: &&str| KOption { name: (*name).into(), value: kernel::KValue::Yes };
    bus.iter().chain(pmem).map(yes).collect()
}

struct Get<'a>(&'a Variables);

impl Get<'_> {
    fn scalar(&self, name: &str) -> &str {
        self.0.get(name).and_then(|values| values.first()).map_or("", |value| value.trim())
    }

    fn list(&self, name: &str) -> Vec<String> {
        let values = self.0.get(name).map_or(&[][..], Vec::as_slice);
        values.iter().filter(|value| !value.is_empty()).cloned().collect()
    }
}

fn number<N: std::str::FromStr>(get: &Get<'_>, name: &'static str) -> Result<Option<N>, DeclareError> {
    match get.scalar(name) {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| bad(name, text, "expected a whole number")),
    }
}

fn numbers(get: &Get<'_>, name: &'static str) -> Result<Vec<usize>, DeclareError> {
    let one =
        |text: &String| text.trim().parse().map_err(|_| bad(name, text, "expected a list of whole numbers"));
    get.list(name).iter().map(one).collect()
}

fn flag(get: &Get<'_>, name: &'static str) -> Result<bool, DeclareError> {
    match get.scalar(name) {
        "" | "false" | "0" | "n" => Ok(false),
        "true" | "1" | "y" => Ok(true),
        text => Err(bad(name, text, "expected true or false")),
    }
}

fn options(get: &Get<'_>, name: &'static str) -> Result<Vec<KOption>, DeclareError> {
    // An element may contain several options: require-kernel-config takes a comma-separated list.
    let values = get.list(name);
    let words =
        values.iter().flat_map(|value| value.split(',')).map(str::trim).filter(|word| !word.is_empty());
    words.map(|word| word.parse().map_err(|error| bad(name, word, format!("{error}")))).collect()
}

fn assignments(get: &Get<'_>, name: &'static str) -> Result<Vec<(String, String)>, DeclareError> {
    let one = |text: &String| match text.split_once('=') {
        Some((variable, value)) if !variable.is_empty() => Ok((variable.to_owned(), value.to_owned())),
        _ => Err(bad(name, text, "expected NAME=VALUE")),
    };
    get.list(name).iter().map(one).collect()
}

fn sizes(get: &Get<'_>, name: &'static str) -> Result<Vec<u64>, DeclareError> {
    let one = |text: &String| match text.parse() {
        Ok(ByteSize(bytes @ 1..)) => Ok(bytes),
        Ok(_) => Err(bad(name, text, "expected a size above 0")),
        Err(error) => Err(bad(name, text, format!("{error}"))),
    };
    get.list(name).iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &[&str])]) -> Variables {
        pairs.iter().map(|(k, v)| ((*k).into(), v.iter().map(|s| (*s).into()).collect())).collect()
    }

    fn read(pairs: &[(&str, &[&str])]) -> Result<Declarations, String> {
        Declarations::from_variables(&variables(pairs), Arch::X86_64, std::path::Path::new("/t"))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_device_requires_its_driver_unless_the_file_overrides_it() {
        let options = |pairs: &[(&str, &[&str])]| {
            let hard = read(pairs).unwrap().kernel;
            hard.hard().iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
        };
        assert!(options(&[("ktest_mem", &["64"])]).is_empty());
        assert_eq!(
            options(&[
                ("ktest_mem", &["64"]),
                ("ktest_storage_bus", &["nvme"]),
                ("ktest_pmem_devs", &["1G"])
            ]),
            ["ACPI_NFIT=y", "BLK_DEV_NVME=y", "BLK_DEV_PMEM=y", "BTT=y", "LIBNVDIMM=y"]
        );
        let own: (&str, &[&str]) = ("ktest_kernel_config_require", &["BLK_DEV_NVME=m"]);
        assert_eq!(
            options(&[("ktest_mem", &["64"]), ("ktest_storage_bus", &["nvme"]), own]),
            ["BLK_DEV_NVME=m"]
        );
    }

    #[test]
    fn a_typical_file() {
        let d = read(&[
            ("ktest_mem", &["2048"]),
            ("ktest_cpus", &["4"]),
            ("ktest_timeout", &["120"]),
            ("ktest_scratch_dev_sizes", &["4G", "512M"]),
            ("ktest_kernel_config_require", &["EXT4_FS,QUOTA=n", "CONFIG_FOO=m"]),
            ("ktest_kernel_append", &["x=1"]),
        ]);
        let d = d.unwrap();
        assert_eq!((d.mem_mib, d.cpus, d.timeout.as_secs()), (2048, Some(4), 120));
        assert_eq!(d.scratch, [4 << 30, 512 << 20]);
        assert_eq!(d.kernel.require.len(), 3);
        assert_eq!(d.bus, StorageBus::VirtioBlk);
    }

    #[test]
    fn a_time_limit_of_0_means_no_limit() {
        let declared = read(&[("ktest_mem", &["1024"]), ("ktest_timeout", &["0"])]).unwrap();
        assert_eq!((declared.timeout, declared.timeout_seconds()), (Duration::MAX, 0));
    }

    #[test]
    fn defaults_and_errors() {
        assert_eq!(read(&[("ktest_mem", &["64"])]).unwrap().timeout.as_secs(), 6000);
        for (pairs, message) in [
            (&[][..], "declares no ktest_mem; add config-mem 1G"),
            (
                &[("ktest_mem", &["lots"][..])][..],
                "declares ktest_mem=\"lots\": expected a number of MiB, at least 16",
            ),
            (
                &[("ktest_mem", &["64"]), ("ktest_arch", &["riscv64"])],
                "declares ktest_arch=\"riscv64\": use x86_64 or aarch64",
            ),
            (
                &[("ktest_mem", &["64"]), ("ktest_scratch_dev_sizes", &["big"])],
                "declares ktest_scratch_dev_sizes=\"big\": expected a size like 512M or 4G",
            ),
            (
                &[("ktest_mem", &["64"]), ("ktest_no_vm", &["maybe"])],
                "declares ktest_no_vm=\"maybe\": expected true or false",
            ),
        ] {
            assert_eq!(read(pairs).unwrap_err(), message);
        }
    }
}
