//! How the overlays in `lib/flavors` change the declarations of a test file.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;

use testfile::declare::Declarations;
use testfile::{HostEnv, TestFile};

async fn boot_with(env: &[(&str, &str)]) -> Result<Declarations, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let file = TestFile::find(&root.join("tests/boot.ktest"), None).unwrap();
    let env = env.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    file.deps(&[], &HostEnv { env, ..HostEnv::default() }).await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn each_flavor_adds_kernel_requirements() {
    let plain = boot_with(&[]).await.unwrap();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../lib/flavors");
    let mut seen = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let flavor = name.strip_suffix(".sh").unwrap();
        let declared = boot_with(&[("ktest_flavor", flavor)]).await.unwrap();
        // Soft requirements alone could have no effect without an error.
        assert!(declared.kernel.require.len() > plain.kernel.require.len(), "{flavor} requires nothing");
        seen += 1;
    }
    assert!(seen >= 9, "{seen}");
    let error = boot_with(&[("ktest_flavor", "../../x")]).await.unwrap_err();
    assert!(error.contains("no flavor '../../x'; known: ") && error.contains("kasan.sh"), "{error}");
}

#[tokio::test]
async fn gcov_covers_the_given_directories() {
    async fn gcov(dirs: &str) -> Result<Declarations, String> {
        boot_with(&[("ktest_flavor", "gcov"), ("ktest_gcov_dirs", dirs)]).await
    }
    let declared = gcov("fs/ext4+mm").await.unwrap();
    assert_eq!(
        declared.kernel.make_append,
        ["GCOV_PROFILE=$(if $(filter fs/ext4 fs/ext4/% mm mm/%,$(obj)),y)"]
    );
    for bad in ["fs/$(shell\u{a0}id)", "fs,x", "-fs", "*", "/etc"] {
        let error = gcov(bad).await.unwrap_err();
        assert!(error.contains("is not a directory of the kernel source"), "{bad}: {error}");
    }
}
