//! The accelerator probe on this host.

use std::time::{Duration, Instant};

use model::Arch;
use vm::accel::{Kvm, kvm};

#[tokio::test]
async fn the_probe_takes_less_than_ten_seconds_and_is_cached() {
    let Some(arch) = Arch::native() else {
        println!("skipped: guests of this host's architecture are not supported");
        return;
    };
    let cache = tempfile::tempdir().unwrap();
    let began = Instant::now();
    let found = kvm(arch, cache.path()).await;
    println!("{found} ({} ms)", began.elapsed().as_millis());
    assert!(began.elapsed() < Duration::from_secs(10));
    let again = Instant::now();
    assert_eq!(kvm(arch, cache.path()).await, found);
    assert!(again.elapsed() < Duration::from_secs(1));
    if let Kvm::Unusable(reason) = found {
        assert!(!reason.is_empty());
    }
}
