//! The system call filter of the sandbox, a classic BPF program (seccomp(2)): no set-user-ID and set-group-ID files.
//!
//! A sandboxed program writes files as the user of this process. With such a file, every user of the host who can reach
//! its directory could become that user. The filter refuses to add these bits. A file that is created with them loses
//! them when it is written to, because the program lacks `CAP_FSETID`.

use std::sync::LazyLock;

/// The architectures that this machine runs: the number of the architecture, and the calls that change a mode, each with
/// the position of the mode in its arguments.
#[cfg(target_arch = "x86_64")]
const CALLS: [(u32, &[(u32, u32)]); 2] = [
    // chmod, fchmod, fchmodat, fchmodat2, and the same with the numbers of x32.
    (
        0xc000_003e,
        &[(90, 1), (91, 1), (268, 2), (452, 2), (X32 | 90, 1), (X32 | 91, 1), (X32 | 268, 2), (X32 | 452, 2)],
    ),
    (0x4000_0003, &[(15, 1), (94, 1), (306, 2), (452, 2)]),
];
#[cfg(target_arch = "x86_64")]
const X32: u32 = 0x4000_0000;
#[cfg(target_arch = "aarch64")]
const CALLS: [(u32, &[(u32, u32)]); 2] = [
    // There is no chmod.
    (0xc000_00b7, &[(52, 1), (53, 2), (452, 2)]),
    (0x4000_0028, &[(15, 1), (94, 1), (333, 2), (452, 2)]),
];

/// Set-user-ID and set-group-ID.
const BITS: u32 = 0o6000;

/// The operations of a classic BPF program: load a word, compare, test bits, return.
const LOAD: u16 = 0x20;
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
            let rules: Vec<_> = calls.iter().flat_map(|(number, mode)| rule(*number, *mode)).collect();
            let skip = u8::try_from(rules.len() + 2).expect("a short program");
            program.extend([op(LOAD, 0, 0, ARCH), op(IF_EQUAL, 0, skip, arch), op(LOAD, 0, 0, NUMBER)]);
            program.extend(rules);
            program.push(op(RETURN, 0, 0, ALLOW));
        }
        // The calls of another architecture are unknown.
        program.push(op(RETURN, 0, 0, REFUSE));
        program.concat()
    });
    &FILTER
}

/// Refuses the call `number` if its mode has one of [`BITS`]. The number of the call is loaded.
fn rule(number: u32, mode: u32) -> [[u8; 8]; 5] {
    [
        op(IF_EQUAL, 0, 4, number),
        op(LOAD, 0, 0, argument(mode)),
        op(IF_SET, 0, 1, BITS),
        op(RETURN, 0, 0, REFUSE),
        op(RETURN, 0, 0, ALLOW),
    ]
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
}
