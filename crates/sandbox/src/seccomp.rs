//! The system call filter of the sandbox, a classic BPF program (seccomp(2)). It refuses what namespaces do not separate:
//!
//! - Set-user-ID and set-group-ID files. A sandboxed program writes files as the user of this process. With such a file,
//!   every user of the host who can reach its directory could become that user. A file that is created with these bits
//!   loses them when it is written to, because the program lacks `CAP_FSETID`.
//! - Sockets other than those of the sandbox and its network namespace: vsock reaches programs of the host.
//! - Keyrings: the program would have the session keyring of this process.
//! - Leases on files, with which the owner of a file, as which the program runs, delays everyone who opens it.
//! - The log of the kernel, and io_uring, whose operations are not filtered.

use std::sync::LazyLock;

/// A rule for one system call.
#[derive(Debug, Clone, Copy)]
enum Rule {
    /// It is refused.
    Refuse,
    /// It is refused if this argument, a file mode, has one of [`BITS`].
    Mode(u32),
    /// It is refused if its first argument is not one of [`FAMILIES`].
    Family,
    /// It is refused if its second argument is [`SET_LEASE`].
    Lease,
}

/// The system calls of an architecture with their rules.
type Calls = &'static [(u32, Rule)];

/// The architectures that this machine runs, each with its number. The comments name the calls in this order: those that
/// change a mode, socket, fcntl, the keyrings, the log, `io_uring`.
#[cfg(target_arch = "x86_64")]
const CALLS: [(u32, Calls); 2] = [
    // chmod, fchmod, fchmodat, fchmodat2; socket; fcntl; add_key, request_key, keyctl; syslog; io_uring_setup.
    (
        0xc000_003e,
        &[
            (90, Rule::Mode(1)),
            (91, Rule::Mode(1)),
            (268, Rule::Mode(2)),
            (452, Rule::Mode(2)),
            (41, Rule::Family),
            (72, Rule::Lease),
            (248, Rule::Refuse),
            (249, Rule::Refuse),
            (250, Rule::Refuse),
            (103, Rule::Refuse),
            (425, Rule::Refuse),
        ],
    ),
    // The same; socketcall, whose arguments are in memory; fcntl and fcntl64.
    (
        0x4000_0003,
        &[
            (15, Rule::Mode(1)),
            (94, Rule::Mode(1)),
            (306, Rule::Mode(2)),
            (452, Rule::Mode(2)),
            (359, Rule::Family),
            (102, Rule::Refuse),
            (55, Rule::Lease),
            (221, Rule::Lease),
            (286, Rule::Refuse),
            (287, Rule::Refuse),
            (288, Rule::Refuse),
            (103, Rule::Refuse),
            (425, Rule::Refuse),
        ],
    ),
];
/// The numbers of x32 are those of x86-64 with this bit.
#[cfg(target_arch = "x86_64")]
const SAME_CALL: u32 = !0x4000_0000;
#[cfg(target_arch = "aarch64")]
const CALLS: [(u32, Calls); 2] = [
    // fchmod, fchmodat, fchmodat2; socket; fcntl; add_key, request_key, keyctl; syslog; io_uring_setup.
    (
        0xc000_00b7,
        &[
            (52, Rule::Mode(1)),
            (53, Rule::Mode(2)),
            (452, Rule::Mode(2)),
            (198, Rule::Family),
            (25, Rule::Lease),
            (217, Rule::Refuse),
            (218, Rule::Refuse),
            (219, Rule::Refuse),
            (116, Rule::Refuse),
            (425, Rule::Refuse),
        ],
    ),
    (
        0x4000_0028,
        &[
            (15, Rule::Mode(1)),
            (94, Rule::Mode(1)),
            (333, Rule::Mode(2)),
            (452, Rule::Mode(2)),
            (281, Rule::Family),
            (55, Rule::Lease),
            (221, Rule::Lease),
            (309, Rule::Refuse),
            (310, Rule::Refuse),
            (311, Rule::Refuse),
            (103, Rule::Refuse),
            (425, Rule::Refuse),
        ],
    ),
];
#[cfg(target_arch = "aarch64")]
const SAME_CALL: u32 = u32::MAX;

/// Set-user-ID and set-group-ID.
const BITS: u32 = 0o6000;
/// `AF_UNIX`, `AF_INET`, `AF_INET6`, `AF_NETLINK`: a network namespace separates them.
const FAMILIES: [u32; 4] = [1, 2, 10, 16];
/// `F_SETLEASE`.
const SET_LEASE: u32 = 1024;

/// The operations of a classic BPF program: load a word, clear bits, compare, test bits, return.
const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const IF_EQUAL: u16 = 0x15;
const IF_SET: u16 = 0x45;
const RETURN: u16 = 0x06;
/// The results of a filter. The second one is `SECCOMP_RET_ERRNO | EPERM`.
const ALLOW: u32 = 0x7fff_0000;
const REFUSE: u32 = 0x0005_0001;

/// The offsets in `struct seccomp_data`: the number of the call, the architecture, the low word of an argument.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const fn argument(at: u32) -> u32 {
    16 + 8 * at
}

/// The program, for `bwrap --seccomp`.
pub(crate) fn filter() -> &'static [u8] {
    static FILTER: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mut program = Vec::new();
        for (arch, calls) in CALLS {
            let rules: Vec<_> = calls.iter().flat_map(|(number, rule)| rule.of_call(*number)).collect();
            let skip = u8::try_from(rules.len() + 3).expect("a short program");
            program.extend([op(LOAD, 0, 0, ARCH), op(IF_EQUAL, 0, skip, arch), op(LOAD, 0, 0, NUMBER)]);
            program.push(op(AND, 0, 0, SAME_CALL));
            program.extend(rules);
            program.push(op(RETURN, 0, 0, ALLOW));
        }
        // The calls of another architecture are unknown.
        program.push(op(RETURN, 0, 0, REFUSE));
        program.concat()
    });
    &FILTER
}

impl Rule {
    /// The operations for the call `number`. The number of the call is loaded, and is still loaded after them.
    fn of_call(self, number: u32) -> Vec<[u8; 8]> {
        let (refuse, allow) = (op(RETURN, 0, 0, REFUSE), op(RETURN, 0, 0, ALLOW));
        let body = match self {
            Self::Refuse => vec![refuse],
            Self::Mode(at) => vec![op(LOAD, 0, 0, argument(at)), op(IF_SET, 0, 1, BITS), refuse, allow],
            Self::Lease => vec![op(LOAD, 0, 0, argument(1)), op(IF_EQUAL, 0, 1, SET_LEASE), refuse, allow],
            Self::Family => {
                let left = FAMILIES.iter().zip((1..=FAMILIES.len()).rev());
                let known = left.map(|(family, left)| {
                    op(IF_EQUAL, u8::try_from(left).expect("few families"), 0, *family)
                });
                [op(LOAD, 0, 0, argument(0))].into_iter().chain(known).chain([refuse, allow]).collect()
            }
        };
        let skip = u8::try_from(body.len()).expect("a short rule");
        [op(IF_EQUAL, 0, skip, number)].into_iter().chain(body).collect()
    }
}

/// A `struct sock_filter`. `yes` and `no` are the numbers of operations to skip.
fn op(code: u16, yes: u8, no: u8, value: u32) -> [u8; 8] {
    let ([a, b], [c, d, e, f]) = (code.to_ne_bytes(), value.to_ne_bytes());
    [a, b, yes, no, c, d, e, f]
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use crate::{Sandbox, probe};
    use spawn::Limits;

    #[tokio::test]
    async fn a_sandboxed_program_leaves_no_set_user_id_file() {
        if let Err(error) = probe().await {
            eprintln!("skipped: a_sandboxed_program_leaves_no_set_user_id_file: {error}");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let sandbox = Sandbox::new().writable(dir.path(), "/out").dir("/out");
        let script = r#"for mode in 4755 2755 6755 u+s g+s; do
                cp /bin/true $mode; chmod $mode $mode && echo chmod $mode
                install -m $mode /bin/true install-$mode && echo install $mode
            done
            cp /bin/true fd; perl -e 'open my $f, "<", "fd"; chmod 04755, $f and print "fchmod\n"'
            perl -e 'use Fcntl; sysopen my $f, "new", O_CREAT | O_WRONLY, 06755; syswrite $f, "x"; truncate $f, 9'
            perl -e 'use Fcntl; sysopen my $f, "long", O_CREAT | O_WRONLY, 06755; truncate $f, 4096'
            mkdir -m 755 d && chmod 700 d && chmod 1777 d && chmod 600 fd && echo works"#;
        let output = sandbox.command("bash").args(["-c", script]).output(Limits::seconds(60)).await.unwrap();
        assert_eq!(output.text(), "works\n", "{output:?}");
        let entries: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap()).collect();
        assert!(entries.len() >= 8, "{entries:?}");
        for entry in entries {
            let meta = entry.metadata().unwrap();
            assert!(meta.mode() & 0o6000 == 0 || meta.len() == 0, "{:o} {entry:?}", meta.mode());
        }
    }

    #[tokio::test]
    async fn the_log_of_the_kernel_and_unfiltered_operations_are_refused() {
        if let Err(error) = probe().await {
            eprintln!("skipped: the_log_of_the_kernel_and_unfiltered_operations_are_refused: {error}");
            return;
        }
        // io_uring_setup; syslog for the size of the log; sockets of families that the sandbox does not need, and of those that it does.
        let script = r#"my $uring = "\0" x 120;
            my $syslog = `uname -m` eq "x86_64\n" ? 103 : 116;
            print syscall(425, 8, $uring) < 0 && $!{EPERM} ? "refused\n" : "io_uring $!\n";
            print syscall($syslog, 10, 0, 0) < 0 && $!{EPERM} ? "refused\n" : "syslog $!\n";
            for my $family (1 .. 45) { push @open, $family if socket(my $s, $family, 2, 0) || !$!{EPERM}; }
            push @open, 16 if socket(my $s, 16, 3, 0);
            print join(" ", sort { $a <=> $b } do { my %seen; grep { !$seen{$_}++ } @open }), "\n";"#;
        let output = Sandbox::new().command("perl").args(["-MErrno", "-e", script]);
        let output = output.output(Limits::seconds(60)).await.unwrap();
        assert_eq!(output.text(), "refused\nrefused\n1 2 10 16\n", "{output:?}");
    }
}
