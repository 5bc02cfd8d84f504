//! Measures how long a guest takes under TCG, with an existing kernel. Prints `name value unit` lines, the best of
//! several rounds.
//!
//! `vm_bare_boot_s`: QEMU boots the same kernel directly into a first process that powers off.
//! `vm_command_tcg_s`: `ktest boot -- true`, from the kernel store to the exit code.

#![expect(clippy::print_stdout, reason = "a program for developers")]

use std::path::Path;
use std::time::Instant;

use kernel::{Cache, Kernel, Store};
use ktest::report::{Reporter, Style};
use ktest::run::{Boot, KernelFrom, RunRequest, boot};
use model::AccelChoice;
use model::Arch;
use spawn::{Cmd, Limits};

/// The number of rounds.
const ROUNDS: usize = 5;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(bench());
    runtime.shutdown_background();
}

async fn bench() {
    let Ok(cache) = Cache::from_env(|name| std::env::var_os(name)) else {
        println!("skipped: no cache directory");
        return;
    };
    let Some(kernel) = newest(&cache) else {
        println!(
            "skipped: no x86_64 kernel in {}; `make demo` or ktest build makes one",
            cache.dir.display()
        );
        return;
    };
    let spec = vm::image::ImageSpec::standard(Arch::X86_64);
    let image = match vm::image::find_or_create(&spec, &cache.dir, &mut |_| {}).await {
        Ok(image) => image.path,
        Err(error) => return println!("skipped: no root image: {error}"),
    };
    let mut best = (f64::MAX, f64::MAX);
    for _ in 0..ROUNDS {
        best.0 = best.0.min(bare(&kernel.image, &image).await);
        best.1 = best.1.min(command(&kernel, &image, &cache).await);
    }
    println!("vm_bare_boot_s {:.3} s", best.0);
    println!("vm_command_tcg_s {:.3} s", best.1);
}

/// The most recently used kernel of those that were built here.
fn newest(cache: &Cache) -> Option<Kernel> {
    let store = Store::of(cache);
    let used = |id: &model::KernelId| {
        std::fs::metadata(store.path(id).join("meta.json")).and_then(|meta| meta.modified()).ok()
    };
    let mut ids: Vec<_> = store.ids().into_iter().map(|id| (used(&id), id)).collect();
    ids.sort();
    let kernels = ids.into_iter().rev().filter_map(|(_, id)| store.get(&id));
    { kernels }.find(|kernel| kernel.arch == Arch::X86_64 && kernel.initrd.is_none())
}

async fn bare(kernel: &Path, image: &Path) -> f64 {
    let root = format!("if=none,id=root,format=raw,snapshot=on,cache=unsafe,file={}", image.display());
    let cmd = Cmd::new("qemu-system-x86_64")
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-machine", "q35"])
        .args(["-accel", "tcg,thread=multi", "-cpu", "max,la57=off", "-smp", "2", "-m", "1024M", "-kernel"])
        .arg(kernel)
        .args(["-drive", &root, "-device", "virtio-blk-pci,drive=root", "-append"])
        .arg("root=/dev/vda panic=-1 mitigations=off init=/usr/bin/busybox -- poweroff -f");
    let began = Instant::now();
    let output = cmd.output(Limits::seconds(120)).await.expect("QEMU runs");
    assert!(output.exit.success(), "{}", output.error_line());
    began.elapsed().as_secs_f64()
}

async fn command(kernel: &Kernel, image: &Path, cache: &Cache) -> f64 {
    let out = tempfile::tempdir().expect("a temporary directory");
    let kernel = KernelFrom::Stored(kernel.id.clone());
    let mut request = RunRequest::new("", kernel, cache.dir.clone());
    request.order.test.out = out.path().into();
    request.order.accel = AccelChoice::Tcg;
    request.order.test.image = Some(model::RootImage::File(image.into()));
    request.command = vec!["true".into()];
    let mut reporter = Reporter::new(Style::Silent);
    let began = Instant::now();
    let wish = Boot { cpus: Some(2), ..Boot::default() };
    let summary = boot(&request, &wish, &mut reporter).await.expect("a guest");
    assert_eq!(summary.command_status, Some(0), "{:?}", summary.infrastructure);
    began.elapsed().as_secs_f64()
}
