//! Stack frames, in the formats of the kernel's architectures and of symbolizers.

use std::sync::LazyLock;

use regex::Regex;

/// How the address of a frame was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// The instruction pointer at the time of the report.
    InstructionPointer,
    /// A return address on the stack.
    ReturnAddress,
}

/// A frame of a stack trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The function, with the suffixes of compiler passes (`f.part.0`).
    pub function: String,
    /// The module, if it is not the kernel itself.
    pub module: Option<String>,
    /// The offset into the function and the function's size, in bytes, if the log has them.
    pub offset: Option<(u64, Option<u64>)>,
    /// Source file and line, if the log contains them.
    pub source: Option<(String, u32)>,
    /// How its address was found.
    pub kind: FrameKind,
    /// `false` if the unwinder marked the frame with `?` as unreliable.
    pub sure: bool,
}

/// A pattern with the named groups `f` (function), `m` (module), `offset`, `size`, `file`, `line`, `q` (the question
/// mark).
struct Shape {
    regex: Regex,
    kind: FrameKind,
}

const OFFSET: &str = r"\+0x(?P<offset>[0-9a-f]{1,16})(?:/0x(?P<size>[0-9a-f]{1,16}))?";
const SOURCE: &str =
    r"(?: \[(?P<m>\w+)(?: [0-9a-f]+)?\])?(?: (?P<file>[\w./+-]+\.(?:[chS]|rs)):(?P<line>\d+))?";
const ADDR: &str = r"\[<[0-9a-f ]+>\]";
/// The name of a function; demangled Rust names contain spaces and brackets.
const NAME: &str = r"(?P<f><[^+]{1,300}>[\w:]*|[A-Za-z_$][\w.$:]*)";

/// The formats, most frequent first. `{NAME}` and the other placeholders are substituted.
const SHAPES: &[(FrameKind, &str)] = &[
    // x86: `RIP: 0010:f+0x1/0x2`, with an address before it in older kernels; also symbolized and inlined.
    (
        FrameKind::InstructionPointer,
        r"^\s*(?:RIP|EIP): (?:[0-9a-f]{4}:)?(?:{ADDR}\s*)?(?:{ADDR}\s*)?{NAME}{OFFSET}{SOURCE}",
    ),
    (
        FrameKind::InstructionPointer,
        r"^\s*RIP: [0-9a-f]{4}:{NAME} (?P<file>[\w./+-]+):(?P<line>\d+)(?: \[inline\])?",
    ),
    (FrameKind::InstructionPointer, r"^\s*EIP is at {NAME}{OFFSET}{SOURCE}"),
    // x86 before 4.10: `IP: [<ffffffff81234567>] f+0x1/0x2`.
    (FrameKind::InstructionPointer, r"^\s*IP: (?:{ADDR}\s*)?{NAME}{OFFSET}{SOURCE}"),
    // Arm, RISC-V, MIPS, LoongArch, PowerPC, s390.
    (
        FrameKind::InstructionPointer,
        r"^\s*(?:pc|PC|epc|era|nip|NIP)(?: is at| *:)\s*(?:\[?<?[0-9a-f]{8,16}>?\]?\s*)?{NAME}{OFFSET}{SOURCE}",
    ),
    (FrameKind::InstructionPointer, r"^\s*pc : {NAME} (?P<file>[\w./+-]+):(?P<line>\d+)(?: \[inline\])?"),
    (FrameKind::InstructionPointer, r"^\s*NIP \[[0-9a-f]+\] {NAME}{OFFSET}{SOURCE}"),
    (FrameKind::InstructionPointer, r"^\s*epc : [0-9a-f]+ ra : .*{NAME}{OFFSET}{SOURCE}"),
    (FrameKind::InstructionPointer, r"^\s*Krnl PSW : [0-9a-f]+ [0-9a-f]+ \({NAME}{OFFSET}\)"),
    // 32-bit Arm prints callee and caller on one line.
    (FrameKind::ReturnAddress, r"^\s*(?:{ADDR} )?\({NAME}(?:{OFFSET})?\) from "),
    (FrameKind::ReturnAddress, r"^\s*{NAME}(?:{OFFSET})?(?: \[\w+\])? from "),
    (FrameKind::ReturnAddress, r"^\s*(?:{ADDR})?\s*(?P<q>\? )?{NAME}{OFFSET}{SOURCE}"),
    (FrameKind::ReturnAddress, r"^\s*\[[0-9a-f]{16}\] \[[0-9a-f]{16}\] {NAME}{OFFSET}"),
    (FrameKind::ReturnAddress, r"^\s*\[\s*inline\s*\] (?P<q>\? )?{NAME} (?P<file>[\w./+-]+):(?P<line>\d+)"),
    (
        FrameKind::ReturnAddress,
        r"^\s*(?:\[<\s*inline\s*>\])\s*(?P<q>\? )?{NAME} (?P<file>[\w./+-]+):(?P<line>\d+)",
    ),
    (
        FrameKind::ReturnAddress,
        r"^\s*(?:{ADDR})?\s*(?P<q>\? )?{NAME} (?P<file>[\w./+-]+\.(?:[chS]|rs)):(?P<line>\d+)(?: \[inline\])?$",
    ),
];

static SHAPES_READY: LazyLock<Vec<Shape>> = LazyLock::new(|| {
    let fill = |shape: &str| {
        let filled = shape
            .replace("{OFFSET}", OFFSET)
            .replace("{SOURCE}", SOURCE)
            .replace("{ADDR}", ADDR)
            .replace("{NAME}", NAME);
        Regex::new(&filled).expect("the table's patterns are regular expressions")
    };
    SHAPES.iter().map(|(kind, shape)| Shape { regex: fill(shape), kind: *kind }).collect()
});

impl Frame {
    /// Whether the function is inlined into the next one. Only decoded traces have such frames.
    pub(crate) fn inlined(&self) -> bool {
        self.kind == FrameKind::ReturnAddress && self.offset.is_none() && self.source.is_some()
    }

    /// A frame for which only the name of the function is known.
    pub(crate) fn named(function: String) -> Self {
        Self {
            function,
            module: None,
            offset: None,
            source: None,
            kind: FrameKind::ReturnAddress,
            sure: true,
        }
    }
}

/// The frame in a message, if it contains one.
pub(crate) fn parse(text: &str) -> Option<Frame> {
    // This check rejects most other lines.
    if text.len() > 600 || !(text.contains("+0x") || text.contains(':') || text.contains(" from ")) {
        return None;
    }
    SHAPES_READY.iter().find_map(|shape| {
        let found = shape.regex.captures(text)?;
        let get = |name| found.name(name).map(|part| part.as_str());
        let source = get("file").zip(get("line").and_then(|line| line.parse().ok()));
        let hex = |name| get(name).and_then(|digits| u64::from_str_radix(digits, 16).ok());
        Some(Frame {
            function: get("f")?.to_owned(),
            module: get("m").map(str::to_owned),
            offset: hex("offset").map(|offset| (offset, hex("size"))),
            source: source.map(|(file, line)| (file.to_owned(), line)),
            kind: shape.kind,
            sure: get("q").is_none(),
        })
    })
}

static CALLER: LazyLock<Regex> = LazyLock::new(|| {
    let pattern = r" from (?:\[<[0-9a-f]+>\] )?\(?([A-Za-z_$][\w.$]*)\+0x[0-9a-f]+";
    Regex::new(pattern).expect("a regular expression")
});

/// The caller, which 32-bit Arm prints after the callee on the same line.
pub(crate) fn caller(text: &str) -> Option<String> {
    if !text.contains(" from ") {
        return None;
    }
    Some(CALLER.captures(text)?[1].to_owned())
}

/// The source name of a function: demangled if it is a Rust name or the name of a plain C++ function.
pub(crate) fn demangled(function: &str) -> String {
    if let Some(name) = cpp_function(function) {
        return name.to_owned();
    }
    match rustc_demangle::try_demangle(function.split('.').next().unwrap_or(function)) {
        Ok(name) => format!("{name:#}"),
        Err(_) => function.to_owned(),
    }
}

/// The name in `_Z8fakeNameiii`, the mangled name of a function outside of namespaces and classes.
fn cpp_function(function: &str) -> Option<&str> {
    let rest = function.strip_prefix("_Z")?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let length: usize = rest[..digits].parse().ok()?;
    rest[digits..].get(..length).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape() {
        for (line, function, kind, sure) in [
            (" dump_stack+0x12e/0x185", "dump_stack", FrameKind::ReturnAddress, true),
            (" ? f.part.2+0x1/0x2 [ext4]", "f.part.2", FrameKind::ReturnAddress, false),
            (
                " [<ffffffff82d1b1d9>] dump_stack+0x12e/0x185 lib/dump_stack.c:50",
                "dump_stack",
                FrameKind::ReturnAddress,
                true,
            ),
            ("RIP: 0010:f+0x1/0x2 fs/a.c:12", "f", FrameKind::InstructionPointer, true),
            (
                "RIP: 0010:[<ffffffff81234567>]  [<ffffffff81234567>] f+0x1/0x2",
                "f",
                FrameKind::InstructionPointer,
                true,
            ),
            ("RIP: 0010:f fs/a.c:12 [inline]", "f", FrameKind::InstructionPointer, true),
            ("IP: [<ffffffff81234567>] f+0x1/0x2", "f", FrameKind::InstructionPointer, true),
            ("IP: f+0x1/0x2", "f", FrameKind::InstructionPointer, true),
            ("EIP: f+0x1/0x2", "f", FrameKind::InstructionPointer, true),
            ("PC is at memset+0x30/0xa8", "memset", FrameKind::InstructionPointer, true),
            ("pc : clear_page+0x14/0x28", "clear_page", FrameKind::InstructionPointer, true),
            ("epc : f+0x1/0x2", "f", FrameKind::InstructionPointer, true),
            ("epc   : ffffffff80123456 f+0x1/0x2", "f", FrameKind::InstructionPointer, true),
            ("   era: 9000000000123456 f+0x1/0x2", "f", FrameKind::InstructionPointer, true),
            ("NIP [c000000000001234] f+0x1/0x2", "f", FrameKind::InstructionPointer, true),
            (
                "[<8011218c>] (unwind_backtrace) from [<8010e300>] (show_stack+0x18/0x1c)",
                "unwind_backtrace",
                FrameKind::ReturnAddress,
                true,
            ),
            (" vfs_write from ksys_write+0x68/0xec", "vfs_write", FrameKind::ReturnAddress, true),
            (" __list_del include/linux/list.h:101 [inline]", "__list_del", FrameKind::ReturnAddress, true),
            ("[<     inline     >] f fs/a.c:1", "f", FrameKind::ReturnAddress, true),
        ] {
            let frame = parse(line).expect(line);
            assert_eq!((frame.function.as_str(), frame.kind, frame.sure), (function, kind, sure), "{line}");
        }
        let frame = parse(" ext4_x+0x1/0x2 [ext4] fs/ext4/x.c:77").unwrap();
        assert_eq!((frame.module.as_deref(), frame.source), (Some("ext4"), Some(("fs/ext4/x.c".into(), 77))));
        assert_eq!(frame.offset, Some((1, Some(2))));
    }

    #[test]
    fn demangling() {
        for (from, to) in [
            ("_Z8fakeNameiii", "fakeName"),
            ("_Z99short", "_Z99short"),
            ("_Zebra", "_Zebra"),
            ("ext4_find_extent", "ext4_find_extent"),
        ] {
            assert_eq!(demangled(from), to);
        }
    }

    #[test]
    fn no_frames() {
        for line in [
            "RIP: 0033:0x452ac9",
            "RSP: 0018:ffff8801db206738 EFLAGS: 00000206",
            "Call Trace:",
            "",
            "CPU: 1 PID: 2",
        ] {
            assert_eq!(parse(line), None, "{line}");
        }
        let long = |length: usize| format!(" f+0x1/0x2{}", " ".repeat(length - 10));
        assert!(parse(&long(600)).is_some() && parse(&long(601)).is_none());
    }
}
