//! The QEMU arguments that a test file may declare on a farm: devices without a host side, processors, memory and
//! machine properties. Anything that refers to a file, a program, a socket or a network of the host is refused.
//!
//! Pure. Arguments are compared with lists; an argument that is in none of them is refused.

/// A refused argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The option and its value.
    pub(super) argument: String,
    /// What to do.
    pub(super) why: String,
}

/// What the value of an option may be.
#[derive(Debug, Clone, Copy)]
enum Value {
    /// There is none.
    None,
    /// Properties with any of these keys; a value without a key is also a key.
    Keys(&'static [&'static str]),
    /// One of these kinds, with properties that refer to nothing on the host.
    Kinds(&'static [&'static str]),
    /// Properties that refer to nothing on the host.
    Properties,
}

const OPTIONS: &[(&str, Value)] = &[
    ("accel", Value::Kinds(&["kvm", "tcg"])),
    ("action", Value::Keys(&["reboot", "shutdown", "panic", "watchdog"])),
    ("cpu", Value::Properties),
    ("device", Value::Kinds(DEVICES)),
    ("global", Value::Properties),
    ("icount", Value::Keys(&["shift", "align", "sleep"])),
    ("m", Value::Keys(&["size", "slots", "maxmem"])),
    ("M", Value::Keys(MACHINE)),
    ("machine", Value::Keys(MACHINE)),
    ("no-acpi", Value::None),
    ("no-hpet", Value::None),
    ("numa", Value::Properties),
    ("object", Value::Kinds(OBJECTS)),
    ("rtc", Value::Keys(&["base", "clock", "driftfix"])),
    ("smbios", Value::Keys(SMBIOS)),
    ("smp", Value::Keys(&["cpus", "maxcpus", "sockets", "dies", "clusters", "cores", "threads"])),
    ("usb", Value::None),
    (
        "watchdog-action",
        Value::Keys(&["reset", "shutdown", "poweroff", "inject-nmi", "pause", "debug", "none"]),
    ),
];

/// Devices with a backend in QEMU or in the guest.
const DEVICES: &[&str] = &[
    "ahci",
    "am53c974",
    "cxl-rp",
    "cxl-type3",
    "e1000",
    "e1000e",
    "edu",
    "floppy",
    "i6300esb",
    "ib700",
    "ich9-ahci",
    "ich9-usb-ehci1",
    "ich9-usb-uhci1",
    "ide-cd",
    "ide-hd",
    "igb",
    "intel-iommu",
    "ioh3420",
    "lsi53c895a",
    "megasas",
    "mptsas1068",
    "nec-usb-xhci",
    "ne2k_pci",
    "nvdimm",
    "nvme",
    "nvme-ns",
    "nvme-subsys",
    "pc-dimm",
    "pcie-pci-bridge",
    "pcie-root-port",
    "pci-bridge",
    "piix3-ide",
    "piix4-ide",
    "pvpanic",
    "pvpanic-pci",
    "pvscsi",
    "pxb",
    "pxb-cxl",
    "pxb-pcie",
    "qemu-xhci",
    "rtl8139",
    "scsi-cd",
    "scsi-hd",
    "sdhci-pci",
    "smmuv3",
    "usb-ehci",
    "usb-hub",
    "usb-kbd",
    "usb-mouse",
    "usb-storage",
    "usb-tablet",
    "virtio-balloon",
    "virtio-balloon-pci",
    "virtio-blk",
    "virtio-blk-pci",
    "virtio-crypto-pci",
    "virtio-iommu",
    "virtio-iommu-pci",
    "virtio-keyboard-pci",
    "virtio-mem-pci",
    "virtio-mouse-pci",
    "virtio-net-pci",
    "virtio-pmem-pci",
    "virtio-rng-pci",
    "virtio-scsi-pci",
    "virtio-serial-pci",
    "vmgenid",
    "vmxnet3",
    "x3130-upstream",
    "xio3130-downstream",
];

/// Objects that use no host resources except memory, time and random numbers.
const OBJECTS: &[&str] =
    &["cryptodev-backend-builtin", "iothread", "memory-backend-ram", "rng-builtin", "throttle-group"];

const MACHINE: &[&str] = &[
    "type",
    "accel",
    "acpi",
    "cxl",
    "default-bus-bypass-iommu",
    "dump-guest-core",
    "gic-version",
    "hmat",
    "hpet",
    "i8042",
    "iommu",
    "its",
    "kernel_irqchip",
    "kernel-irqchip",
    "max-ram-below-4g",
    "mem-merge",
    "memory-backend",
    "mte",
    "nvdimm",
    "pit",
    "ras",
    "sata",
    "secure",
    "smbus",
    "smm",
    "usb",
    "virtualization",
    "vmport",
];

const SMBIOS: &[&str] = &[
    "type",
    "vendor",
    "version",
    "date",
    "release",
    "uefi",
    "manufacturer",
    "product",
    "serial",
    "uuid",
    "sku",
    "family",
    "asset",
    "location",
    "sock_pfx",
    "part",
    "max-speed",
    "current-speed",
    "loc_pfx",
    "bank",
    "speed",
    "value",
];

/// Keys of properties that refer to a file, a socket, a device or a network of the host.
const HOST_KEYS: &[&str] = &[
    "audiodev",
    "cdat",
    "chardev",
    "chassis-file",
    "drive-file",
    "fd",
    "fds",
    "file",
    "filename",
    "firmware",
    "fsdev",
    "host",
    "hostaddr",
    "hostbus",
    "hostport",
    "mem-path",
    "netdev",
    "path",
    "pcap",
    "pidfile",
    "property",
    "romfile",
    "rootdir",
    "socket",
    "sysfsdev",
    "vhost",
    "vhostfd",
    "vhostfds",
];

/// The first argument that a farm refuses.
pub(super) fn refused(args: &[String]) -> Option<Refusal> {
    let mut words = args.iter();
    while let Some(word) = words.next() {
        let refuse = |argument: &str, why: String| Some(Refusal { argument: argument.into(), why });
        let name = word.strip_prefix("--").or_else(|| word.strip_prefix('-')).unwrap_or_default();
        let Some((_, rule)) = OPTIONS.iter().find(|(option, _)| *option == name) else {
            let known: Vec<String> = OPTIONS.iter().map(|(option, _)| format!("-{option}")).collect();
            let why = format!("use another declaration, or one of {}", known.join(" "));
            return refuse(word, why);
        };
        if matches!(rule, Value::None) {
            continue;
        }
        let Some(value) = words.next() else {
            return refuse(word, "the option needs a value, in the next word".into());
        };
        if let Err(why) = check(*rule, value) {
            return refuse(&format!("{word} {value}"), why);
        }
    }
    None
}

fn check(rule: Value, value: &str) -> Result<(), String> {
    if value.starts_with('{') {
        return Err("write the properties as KEY=VALUE,...".into());
    }
    let properties = split(value);
    for (at, property) in properties.iter().enumerate() {
        let (key, content) = match property.split_once('=') {
            Some((key, content)) => (Some(key.trim()), content),
            None => (None, property.as_str()),
        };
        let first = at == 0;
        // QEMU ends a key at a comma, also at a double one.
        if key.unwrap_or(content).contains(',') {
            return Err(format!("{property:?} has a comma in a key"));
        }
        let key_name = key.map(|key| key.rsplit('.').next().unwrap_or(key));
        // A key without a value is switched on. The first word can also be a kind: `-cpu host`.
        let key_name = key_name.or((!first).then_some(content));
        if key_name.is_some_and(|key| HOST_KEYS.contains(&key)) || content.contains('/') {
            return Err(format!("{property:?} refers to the host"));
        }
        match rule {
            Value::Kinds(kinds) if first => {
                let kind = match key {
                    None | Some("driver" | "qom-type" | "accel") => content,
                    Some(_) => "",
                };
                if !kinds.contains(&kind) {
                    return Err(format!("use one of {}", kinds.join(" ")));
                }
            }
            Value::Kinds(_) if matches!(key, Some("driver" | "qom-type")) => {
                return Err(format!("{property:?} gives the type a second time"));
            }
            Value::Keys(keys) => {
                let allowed = match key {
                    Some(key) => keys.contains(&key),
                    None => content.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b)),
                };
                if !allowed {
                    return Err(format!("allowed properties: {}", keys.join(" ")));
                }
            }
            Value::None | Value::Kinds(_) | Value::Properties => {}
        }
    }
    Ok(())
}

/// Splits a value at its commas. A double comma is a literal comma in a property.
fn split(value: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut chars = value.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            ',' if chars.peek() == Some(&',') => {
                chars.next();
                parts.last_mut().expect("never empty").push(',');
            }
            ',' => parts.push(String::new()),
            c => parts.last_mut().expect("never empty").push(c),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(args: &str) -> Option<String> {
        let args: Vec<String> = args.split(' ').filter(|word| !word.is_empty()).map(Into::into).collect();
        refused(&args).map(|refusal| format!("{}: {}", refusal.argument, refusal.why))
    }

    #[test]
    fn machine_properties_are_accepted() {
        for args in [
            "",
            "-smbios type=1,product=test",
            "-device edu",
            "-device driver=nvme,serial=x,drive=disk0",
            "-device virtio-balloon-pci,id=b,free-page-reporting=on -usb",
            "-object memory-backend-ram,id=m0,size=256M -numa node,nodeid=0,memdev=m0",
            "-cpu max,-avx512f,+smap,vendor=GenuineIntel -cpu host",
            "--machine q35,iommu=on -M hmat=on",
            "-smp 4,sockets=2,cores=2 -m 512M,slots=2,maxmem=4G -global kvm-pit.lost_tick_policy=discard",
            "-device intel-iommu,intremap=on -accel tcg,thread=single -rtc base=utc,clock=vm -icount shift=3",
        ] {
            assert_eq!(why(args), None, "{args}");
        }
    }

    const REFUSED: &[&str] = &[
        "-incoming exec:id",
        "--incoming exec:id",
        "incoming exec:id",
        "-chardev file,id=x,path=/etc/passwd",
        "-chardev socket,id=x,host=1.2.3.4,port=1",
        "-drive file=/etc/shadow",
        "-blockdev driver=file,filename=/etc/shadow,node-name=x",
        "-hda /etc/shadow",
        "-cdrom x",
        "-fsdev local,id=x,path=/",
        "-virtfs local,path=/,mount_tag=x,security_model=none",
        "-netdev user,id=n,hostfwd=tcp::1-:1",
        "-nic user,smb=/",
        "-monitor stdio",
        "-qmp unix:/x",
        "-serial file:/x",
        "-gdb tcp::1",
        "-readconfig /x",
        "-writeconfig /x",
        "-pidfile /x",
        "-D /x",
        "-d all",
        "-trace file=x",
        "-daemonize",
        "-runas root",
        "-kernel /x",
        "-append x",
        "-bios /x",
        "-option-rom /x",
        "-acpitable file=/x",
        "-set drive.root.file=/x",
        "-add-fd fd=3,set=1",
        "-sandbox off",
        "-plugin /x.so",
        "-mem-path /x",
        "-loadvm x",
        "-S",
        "-device vfio-pci,host=00:01.0",
        "-device usb-host,hostbus=1",
        "-device loader,file=/etc/shadow",
        "-device loader",
        "-device edu,romfile=/etc/shadow",
        "-device edu,romfile=x",
        "-device virtio-net-pci,netdev=x",
        "-device isa-serial,chardev=console",
        "-device vhost-vsock-pci,guest-cid=3",
        "-device id=x,driver=loader",
        "-device edu,driver=loader",
        r#"-device {"driver":"loader"}"#,
        "-device nvme,serial=a,,b/c",
        "-object secret,id=x,file=/etc/shadow",
        "-object memory-backend-file,id=x,mem-path=/etc/shadow,size=1M",
        "-object filter-dump,id=x,file=y",
        "-object qom-type=secret,id=x",
        "-object rng-random,id=x,filename=/dev/zero",
        "-global virtio-net-pci.romfile=x",
        "-global driver=virtio-net-pci,property=romfile,value=x",
        "-device edu,romfile",
        "-machine q35,dumpdtb=x",
        "-machine q35,kernel=x",
        "-machine q35,pflash0=x",
        "-smbios file=x",
        "-smbios type=11,path=x",
        "-icount shift=3,rr=record,rrfile=x",
        "-device usb-kbd,pcap=x",
        "-device cxl-type3,cdat=x",
        "-device virtio-rng-pci,multifunction,,romfile=x",
        "-device edu,,romfile=x",
        "-machine q35,usb,,dumpdtb=x",
        "-drive file=x,if=none",
        "-fw_cfg name=opt/x,file=x",
        "-fw_cfg name=opt/x,string=x",
        "-object memory-backend-ram,id=m,size=1M,prealloc-context=/x",
        "-object filter-dump,id=x,netdev=y,file=z",
        "-object cryptodev-vhost-user,id=x,chardev=y",
        "-object tls-creds-x509,id=x,dir=y",
        "-object authz-list-file,id=x,filename=y",
        "-object input-linux,id=x,evdev=/dev/input/event0",
        "-object can-host-socketcan,id=x,if=can0",
        "-tpmdev passthrough,id=x",
        "-spice port=1",
        "-vnc :1",
        "-display vnc=:1",
        "-dtb x",
        "-initrd x",
        "-pflash x",
        "-sd x",
        "-mtdblock x",
        "-snapshot",
        "-parallel file:x",
        "-debugcon file:x",
        "-mon chardev=x",
        "-net tap",
        "-usbdevice disk:x",
        "-chroot /x",
        "-name x,process=y,debug-threads=on",
        "-dump-vmstate x",
        "-msg x",
        "-semihosting-config chardev=x",
        "-L /x",
        "-cpu max,,x=/y",
        "@file",
        "--",
        "-smp",
        "-device",
    ];

    /// Properties of the accepted devices and objects that are text and do not refer to the host: identifiers of other
    /// parts of the machine, and what the guest sees.
    const HARMLESS: &[&str] = &[
        "device_id",
        "display",
        "drive",
        "duplex",
        "failover_pair_id",
        "guid",
        "hba_serial",
        "mac",
        "masterbus",
        "model",
        "nqn",
        "port",
        "product",
        "serial",
        "tx",
        "uuid",
        "vendor",
        "ver",
    ];

    /// A property of the installed QEMU that is text could be the name of a file.
    #[test]
    fn every_text_property_of_the_accepted_devices_is_known() {
        let help = |option: &str, kind: &str| {
            let output = std::process::Command::new("qemu-system-x86_64")
                .args(["-machine", "none", option, &format!("{kind},help")])
                .output();
            output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
        };
        let devices = DEVICES.iter().map(|kind| ("-device", kind));
        let all = devices.chain(OBJECTS.iter().map(|kind| ("-object", kind)));
        let text: String = all.map(|(option, kind)| help(option, kind)).collect();
        if text.is_empty() {
            eprintln!("skipped: every_text_property_of_the_accepted_devices_is_known: no qemu-system-x86_64");
            return;
        }
        let names = text.lines().filter_map(|line| line.trim().split_once("=<str>").map(|(name, _)| name));
        let mut unknown: Vec<&str> =
            names.filter(|name| !HARMLESS.contains(name) && !HOST_KEYS.contains(name)).collect();
        unknown.sort_unstable();
        unknown.dedup();
        assert_eq!(unknown, [""; 0], "add each to HOST_KEYS or HARMLESS");
    }

    #[test]
    fn arguments_that_refer_to_the_host_are_refused() {
        for args in REFUSED {
            assert!(why(args).is_some(), "{args}");
        }
    }

    #[test]
    fn the_refusal_names_the_argument_and_what_to_do() {
        assert_eq!(
            why("-device edu,romfile=x").unwrap(),
            "-device edu,romfile=x: \"romfile=x\" refers to the host"
        );
        assert_eq!(
            why("-object secret,id=x").unwrap(),
            "-object secret,id=x: use one of cryptodev-backend-builtin iothread memory-backend-ram rng-builtin throttle-group"
        );
        assert!(
            why("-incoming exec:id")
                .unwrap()
                .starts_with("-incoming: use another declaration, or one of -accel ")
        );
    }

    proptest::proptest! {
        /// No property of the host is accepted in any position, with or without double commas.
        #[test]
        fn no_path_and_no_host_key_is_accepted(
            option in proptest::sample::select(OPTIONS),
            before in proptest::sample::select(&["edu", "iothread", "q35", "type=1", "4", "kvm", "max"][..]),
            key in proptest::sample::select(HOST_KEYS),
            value in "[a-z/]{0,6}",
        ) {
            let args = [format!("-{}", option.0), format!("{before},{key}={value}")];
            proptest::prop_assert!(refused(&args).is_some(), "{args:?}");
        }
    }
}
