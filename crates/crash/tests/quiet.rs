//! Ordinary lines of programs and of the kernel are not kernel trouble, even if they contain the same words.

#[test]
fn ordinary_lines_are_not_trouble() {
    for line in include_str!("quiet.txt").lines() {
        for shown in [line.to_owned(), format!("{line}\r"), format!("00012 {line}"), format!("10%\r{line}")] {
            assert_eq!(crash::trouble(&shown), None, "{shown:?}");
        }
    }
    assert_eq!(crash::reports(include_str!("quiet.txt")), []);
}
