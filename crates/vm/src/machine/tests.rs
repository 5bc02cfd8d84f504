use super::*;

fn machine() -> Machine {
    Machine {
        cpus: 2,
        append: vec!["quiet".into()],
        root: "/i/root,1.ext4".into(),
        shares: vec![Share {
            tag: "ktest_guest".into(),
            dir: "/r/guest".into(),
            writable: false,
            xattr: false,
        }],
        sockets: Some("/s".into()),
        serial_log: Some("/r/serial".into()),
        ..fixture::machine()
    }
}

fn disk(at: usize) -> Disk {
    Disk { file: format!("/r/dev{at}").into(), readonly: false, snapshot: false, iops: None, bps: None }
}

fn show(machine: &Machine) -> String {
    let argv = argv(machine).unwrap();
    let words: Vec<_> = argv.iter().map(|word| word.to_str().unwrap()).collect();
    words.join("\n").replace("\n-", " \n-").replace('\n', "\n  ").replace(" \n", "\n")
}

/// Only the options of the disks.
fn show_disks(machine: &Machine) -> String {
    let argv = argv(machine).unwrap();
    let words: Vec<_> = argv.iter().map(|word| word.to_str().unwrap()).collect();
    let skip = ["virtio-serial-pci,id=vser", "virtio-rng-pci", "virtio-blk-pci,drive=root,serial=root"];
    words
        .windows(2)
        .filter(|w| ["-drive", "-device", "-object", "-m", "-netdev"].contains(&w[0]))
        .filter(|w| !skip.contains(&w[1]) && !w[1].contains("9p") && !w[1].contains("id=root"))
        .map(|w| format!("{} {}\n", w[0], w[1]))
        .collect()
}

#[test]
fn plain_machine() {
    insta::assert_snapshot!(show(&machine()));
}

#[test]
fn aarch64_and_kvm() {
    let mut m = machine();
    m.arch = Arch::Aarch64;
    insta::assert_snapshot!("aarch64", show(&m));
    m.accel = Accel::Kvm;
    assert!(show(&m).contains("-accel\n  kvm"));
    // With KVM the kernel has the host's clock.
    assert!(!show(&m).contains("tsc="));
}

#[test]
fn each_bus() {
    let mut all = String::new();
    for bus in [
        StorageBus::VirtioBlk,
        StorageBus::VirtioScsi,
        StorageBus::Ahci,
        StorageBus::Nvme,
        StorageBus::Piix4Ide,
        StorageBus::Lsi,
    ] {
        let m = Machine { bus, disks: vec![disk(0), disk(1)], ..machine() };
        all.push_str(&format!("# {bus:?}\n{}", show_disks(&m)));
    }
    insta::assert_snapshot!("each_bus", all);
}

#[test]
fn more_than_26_disks_share_slots_and_too_many_are_refused() {
    let m = Machine { disks: (0..30).map(disk).collect(), ..machine() };
    assert!(show_disks(&m).contains("multifunction=on,addr=0x13.5"));
    let m = Machine { bus: StorageBus::Lsi, disks: (0..8).map(disk).collect(), ..machine() };
    assert_eq!(argv(&m), Err(MachineError::TooManyDisks { disks: 8, bus: StorageBus::Lsi }));
}

#[test]
fn every_six_ahci_disks_have_a_controller() {
    let m = Machine { bus: StorageBus::Ahci, disks: (0..8).map(disk).collect(), ..machine() };
    let shown = show_disks(&m);
    assert!(shown.contains("-device ahci,id=bus\n-device ahci,id=bus1\n"), "{shown}");
    assert!(
        shown.contains("ide-hd,bus=bus.5,id=dev5,") && shown.contains("ide-hd,bus=bus1.1,id=dev7,"),
        "{shown}"
    );
}

#[test]
fn disks_that_can_be_unplugged_have_ports() {
    let m = Machine { hotplug: Some(Hotplug::Native), disks: vec![disk(0), disk(1)], ..machine() };
    insta::assert_snapshot!("hotplug", show_disks(&m));
}

#[test]
fn slow_and_read_only_disks_pmem_and_network() {
    let slow = Disk { iops: Some(100), bps: Some(1 << 20), ..disk(0) };
    let image = Disk { readonly: true, ..disk(1) };
    let rw = Disk { snapshot: true, ..disk(2) };
    let m = Machine {
        disks: vec![slow, image, rw],
        pmem: vec![("/r/pmem0".into(), 1 << 30)],
        network: Some(Network { ssh_port: Some(2222), open: false }),
        ..machine()
    };
    insta::assert_snapshot!("special_disks", show_disks(&m));
}

#[test]
fn a_machine_whose_memory_is_saved_waits_after_a_panic() {
    let shown = show(&Machine { core: true, ..machine() });
    assert!(shown.contains("-device\n  vmcoreinfo") && shown.contains(" panic=10 oops=panic"), "{shown}");
    assert!(!show(&machine()).contains("vmcoreinfo"));
}
