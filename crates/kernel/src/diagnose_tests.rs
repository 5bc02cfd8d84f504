//! Recorded output of failing builds, with the expected reasons.

use super::*;
use std::path::Path;

fn conclude(output: &str, exit: Exit) -> Failure {
    let mut diagnosis = Diagnosis::new(&[Path::new("/ktest/src"), Path::new("/ktest/obj")]);
    for line in output.lines() {
        diagnosis.feed(line);
    }
    diagnosis.conclude(exit)
}

/// The reason if the source is the cause; otherwise `host: ...` or `uncertain: ...`.
fn reason(output: &str) -> String {
    match conclude(output, Exit::Code(2)) {
        Failure::Source { reason, certain: true } => reason,
        Failure::Source { reason, certain: false } => format!("uncertain: {reason}"),
        Failure::Host { reason } => format!("host: {reason}"),
    }
}

const TAIL: &str = "make[4]: *** [/ktest/src/scripts/Makefile.build:255: fs/ext4/file.o] Error 1
make[3]: *** [/ktest/src/scripts/Makefile.build:508: fs/ext4] Error 2
make[2]: *** Waiting for unfinished jobs....
  AR      io_uring/built-in.a
make[1]: *** [/ktest/src/Makefile:2065: .] Error 2
make[1]: Leaving directory '/ktest/obj'
make: *** [Makefile:250: __sub-make] Error 2
";

#[test]
fn gcc() {
    let output = "  CC      fs/ext4/file.o
/ktest/src/fs/ext4/inode.c: In function 'x':
/ktest/src/fs/ext4/inode.c:3:7: warning: unused variable 'error: ' [-Wunused-variable]
    3 |   pr_err(\"No space left on device\");
In file included from /ktest/src/fs/ext4/file.c:37:
/ktest/src/fs/ext4/truncate.h:53:13: error: expected declaration specifiers or '...' before '{' token
   53 | int broken( { return 1; }
      |             ^
/ktest/src/fs/ext4/file.c:411:16: error: storage class specified for parameter 'ext4_dio_write_checks'
";
    insta::assert_snapshot!(reason(&format!("{output}{TAIL}")),
        @"fs/ext4/truncate.h:53:13: error: expected declaration specifiers or '...' before '{' token");
}

#[test]
fn clang_and_assembler() {
    insta::assert_snapshot!(reason("/ktest/src/mm/slub.c:10:2: error: use of undeclared identifier 'x'\n1 error generated.\n"),
        @"mm/slub.c:10:2: error: use of undeclared identifier 'x'");
    insta::assert_snapshot!(reason("/ktest/src/a/b.S: Assembler messages:\n/ktest/src/a/b.S:12: Error: no such instruction: `bogus'\n"),
        @"a/b.S:12: Error: no such instruction: `bogus'");
    insta::assert_snapshot!(reason("/ktest/src/a.c:1:10: fatal error: linux/nosuch.h: No such file or directory\ncompilation terminated.\n"),
        @"a.c:1:10: fatal error: linux/nosuch.h: No such file or directory");
    insta::assert_snapshot!(reason("cc1: error: -Werror=nosuch: no option -Wnosuch\n"), @"cc1: error: -Werror=nosuch: no option -Wnosuch");
}

#[test]
fn linkers() {
    insta::assert_snapshot!(reason("  LD      .tmp_vmlinux.kallsyms1
ld: warning: orphan section `.x' from `vmlinux.o' being placed in section `.x'
ld: fs/ext4/super.o: in function `foo_caller':
super.c:(.text+0x1b5f): undefined reference to `nosuch_fn'
make[1]: *** [/ktest/src/scripts/Makefile.vmlinux:35: vmlinux] Error 1
"), @"fs/ext4/super.o: in function foo_caller: undefined reference to `nosuch_fn'");
    insta::assert_snapshot!(reason("ld: vmlinux.o:/ktest/src/a.c:7: multiple definition of `x'; b.o:b.c:8: first defined here\n"),
        @"ld: vmlinux.o:a.c:7: multiple definition of `x'; b.o:b.c:8: first defined here");
    insta::assert_snapshot!(reason("ld.lld: error: undefined symbol: nosuch\n>>> referenced by a.c\n"), @"ld.lld: error: undefined symbol: nosuch");
    insta::assert_snapshot!(reason("WARNING: modpost: x\nERROR: modpost: \"nosuch\" [drivers/a/b.ko] undefined!\n"),
        @r#"ERROR: modpost: "nosuch" [drivers/a/b.ko] undefined!"#);
}

#[test]
fn other_tools() {
    insta::assert_snapshot!(reason("error[E0425]: cannot find value `x` in this scope\n --> /ktest/src/rust/kernel/lib.rs:12:5\n  |\n"),
        @"rust/kernel/lib.rs:12:5: error[E0425]: cannot find value `x` in this scope");
    insta::assert_snapshot!(reason("fs/ext4/super.o: error: objtool: ext4_x(): unexpected end of section .text\n"),
        @"fs/ext4/super.o: error: objtool: ext4_x(): unexpected end of section .text");
    insta::assert_snapshot!(reason("fs/ext4/Kconfig:9:warning: ignoring unsupported character\nfs/ext4/Kconfig:120: syntax error\n"),
        @"fs/ext4/Kconfig:120: syntax error");
}

#[test]
fn make_itself() {
    insta::assert_snapshot!(reason("make[4]: *** No rule to make target 'fs/ext4/superr.o', needed by 'fs/ext4/built-in.a'.  Stop.\n"),
        @"No rule to make target 'fs/ext4/superr.o', needed by 'fs/ext4/built-in.a'");
    insta::assert_snapshot!(reason("/ktest/src/fs/ext4/Makefile:20: *** missing 'endif'.  Stop.\n"), @"fs/ext4/Makefile:20: missing 'endif'");
    insta::assert_snapshot!(reason("  GEN     x.h\nsed: can't read y\nmake[2]: *** [/ktest/src/Makefile:3: include/x.h] Error 2\n"),
        @"include/x.h: sed: can't read y");
}

#[test]
fn failures_of_the_host() {
    insta::assert_snapshot!(
        reason("BTF: .tmp_vmlinux.btf: pahole (pahole) is not available\nFailed to generate BTF for vmlinux\n"),
        @"host: pahole: not installed; apt-get install pahole"
    );
    insta::assert_snapshot!(reason(&format!("/ktest/src/a.c:1:2: error: x\nfatal error: error writing to /tmp/cc.s: No space left on device\n{TAIL}")),
        @"host: fatal error: error writing to /tmp/cc.s: No space left on device");
    insta::assert_snapshot!(reason("gcc: fatal error: Killed signal terminated program cc1\ncompilation terminated.\n"),
        @"host: gcc: fatal error: Killed signal terminated program cc1");
    insta::assert_snapshot!(reason("make[2]: *** [scripts/Makefile.build:250: fs/a.o] Killed\n"), @"host: a compiler was killed while it built fs/a.o; the host may be out of memory");
    insta::assert_snapshot!(reason("make[2]: *** [scripts/Makefile.build:250: fs/a.o] Error 137\n"), @"host: a compiler was killed while it built fs/a.o; the host may be out of memory");
    insta::assert_snapshot!(reason("/bin/sh: 1: lz4c: not found\nmake[2]: *** [x: vmlinux.lz4] Error 127\n"), @"host: the build needs lz4c, which is not installed");
    insta::assert_snapshot!(reason("scripts/sign-file.c:25:10: fatal error: openssl/opensslv.h: No such file or directory\n"),
        @"host: openssl/opensslv.h is missing; apt-get install libssl-dev");
    insta::assert_snapshot!(reason("/ktest/src/a.c:9:1: internal compiler error: Segmentation fault\n/ktest/src/a.c:9:1: error: x\n"), @"uncertain: a.c:9:1: error: x");
    for line in [
        "make[2]: *** [Makefile:3: vmlinux] File size limit exceeded (core dumped)",
        "make: *** [Makefile:3: vmlinux] Error 153",
    ] {
        assert_eq!(reason(&format!("{line}\n")), "vmlinux: a file is larger than the size limit of builds");
    }
    assert!(matches!(conclude("a.c:1:2: error: x\n", Exit::Signal(9)), Failure::Host { .. }));
    assert!(matches!(conclude("", Exit::Code(2)), Failure::Host { .. }));
}

#[test]
fn a_reason_is_one_short_line() {
    let Failure::Source { reason, .. } =
        conclude(&format!("a.c:1:2: error: {}\u{1b}[0m", "x".repeat(5000)), Exit::Code(2))
    else {
        panic!("the source is at fault");
    };
    assert!(reason.chars().count() == 300 && !reason.contains('\u{1b}'));
}

proptest::proptest! {
    #[test]
    fn never_panics(lines in "(\\PC|\n|: error: |make\\[1\\]: \\*\\*\\* |ld: |error\\[E1\\]: | --> |in function `|:1:2){0,60}") {
        conclude(&lines, Exit::Code(2));
    }
}
