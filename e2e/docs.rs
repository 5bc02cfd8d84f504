//! Compares the documentation with the tree: the crate table in docs/architecture.md, the links between pages, the
//! command lines on pages, and the tests that docs/security.md names.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test reports a problem by failing")]

mod programs;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).canonicalize().unwrap()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The pages: every Markdown file that git tracks.
fn pages() -> Vec<PathBuf> {
    let output =
        Command::new("git").args(["ls-files", "-z", "--", "*.md"]).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let names = String::from_utf8(output.stdout).unwrap();
    let pages: Vec<PathBuf> =
        names.split_terminator('\0').map(|name| root().join(name)).filter(|page| page.is_file()).collect();
    assert!(pages.len() > 15, "{pages:?}");
    pages
}

/// The crates in `crates/`, with the workspace crates that each uses, without dev-dependencies.
fn crates() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline", "--locked"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut crates = BTreeMap::new();
    for package in metadata["packages"].as_array().unwrap() {
        if !Path::new(package["manifest_path"].as_str().unwrap()).starts_with(root().join("crates")) {
            continue;
        }
        let uses = package["dependencies"].as_array().unwrap().iter();
        let uses = uses.filter(|dependency| dependency["path"].is_string() && dependency["kind"].is_null());
        let uses = uses.map(|dependency| dependency["name"].as_str().unwrap().to_owned()).collect();
        crates.insert(package["name"].as_str().unwrap().to_owned(), uses);
    }
    crates
}

/// The rows of the crate table, in its order: a crate and the crates that it may use.
fn table() -> Vec<(String, BTreeSet<String>)> {
    let text = read(&root().join("docs/architecture.md"));
    let (_, section) = text.split_once("\n## Crates\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")).map(|line| {
        let cells: Vec<&str> = line.trim_end_matches(" |").split(" | ").collect();
        let [name, _, uses] = cells[..] else { panic!("not a row of three cells: {line}") };
        let uses = uses.split(", ").filter(|name| *name != "-").map(str::to_owned).collect();
        (name.trim_end_matches('`').to_owned(), uses)
    });
    rows.collect()
}

#[test]
fn the_crate_table_matches_cargo_metadata() {
    let (table, crates) = (table(), crates());
    let rows: BTreeMap<_, _> = table.iter().cloned().collect();
    assert_eq!(rows.len(), table.len(), "a crate has two rows");
    for (name, uses) in &crates {
        assert_eq!(
            rows.get(name),
            Some(uses),
            "row of {name} in docs/architecture.md (left), cargo metadata (right)"
        );
    }
    assert!(
        rows.keys().all(|name| crates.contains_key(name)),
        "docs/architecture.md has a row for a crate that does not exist"
    );
    let mut above = BTreeSet::new();
    for (name, uses) in &table {
        for used in uses {
            assert!(above.contains(used), "{name} uses {used}, which is not above it in the table");
        }
        above.insert(name.clone());
    }
}

#[test]
fn only_tests_use_testkit() {
    for (name, uses) in crates() {
        assert!(!uses.contains("testkit"), "{name} uses testkit outside of its tests");
    }
}

/// The anchor that GitHub generates for a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

/// A page without its fenced blocks.
fn without_code(text: &str) -> String {
    let prose = text.split("\n```").step_by(2);
    prose.map(|part| part.split_once('\n').map_or("", |(_, rest)| rest)).collect::<Vec<_>>().join("\n")
}

#[test]
fn links_between_pages_work() {
    let mut broken = Vec::new();
    let mut checked = 0;
    for page in pages() {
        let text = read(&page);
        let prose = without_code(&format!("\n{text}"));
        let markdown =
            prose.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link);
        let html =
            prose.split("src=\"").skip(1).filter_map(|rest| rest.split_once('"')).map(|(link, _)| link);
        for link in markdown.chain(html) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            checked += 1;
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let found = target.exists()
                && (heading.is_empty()
                    || read(&target).lines().any(|line| {
                        line.starts_with('#') && anchor(line.trim_start_matches('#').trim()) == heading
                    }));
            if !found {
                broken.push(format!("{}: {link}", page.strip_prefix(root()).unwrap().display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    assert!(checked > 50, "{checked}");
}

#[test]
fn every_page_can_be_reached_from_the_readme() {
    let mut reached = BTreeSet::new();
    let mut open = vec![root().join("README.md")];
    while let Some(page) = open.pop() {
        if !page.is_file() || !reached.insert(page.clone()) {
            continue;
        }
        let text = read(&page);
        for (link, _) in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')) {
            let file = link.split('#').next().unwrap();
            if file.ends_with(".md") && !file.contains("://") {
                open.extend(page.parent().unwrap().join(file).canonicalize());
            }
        }
    }
    let lost: Vec<_> = pages()
        .into_iter()
        .filter(|page| page.starts_with(root().join("docs")) && !reached.contains(page))
        .collect();
    assert!(lost.is_empty(), "no link leads to {lost:?}");
}

/// The words of the first simple command on a shell line, without redirections and comment; `None` if quotes do not
/// match.
fn words(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let (mut word, mut quote) = (None::<String>, None);
    for c in line.chars() {
        match (c, quote) {
            (_, Some(end)) if c == end => quote = None,
            (_, Some(_)) => word.get_or_insert_default().push(c),
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (' ', None) => words.extend(word.take()),
            ('|' | '&' | ';' | '>' | '<', None) => break,
            ('#', None) if word.is_none() => break,
            (_, None) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

/// The command lines in the code blocks of a page that run our commands.
fn command_lines(text: &str) -> Vec<String> {
    let names = ["ktest ", "ci-daemon ", "ci-dashboard ", "ci-status "];
    // Neither a key in a configuration nor a word in a diagram.
    let is_command = |part: &str| {
        let rest = names.iter().find_map(|name| part.strip_prefix(name));
        rest.is_some_and(|rest| !rest.starts_with([' ', '=']))
    };
    let mut lines = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
        } else if fenced || line.starts_with("    ") {
            let line = line.trim_start().trim_start_matches("$ ");
            for part in line.split(" && ") {
                let part = part.strip_prefix("git bisect run ").unwrap_or(part);
                if is_command(part) {
                    lines.push(part.to_owned());
                }
            }
        }
    }
    lines
}

#[test]
fn command_lines_on_pages_are_valid() {
    let commands = programs::commands().map(|command| (command.get_name().to_owned(), command));
    let commands = BTreeMap::from(commands);
    let mut refused = Vec::new();
    let mut checked = 0;
    for page in pages() {
        for line in command_lines(&read(&page)) {
            let words = words(&line).unwrap_or_else(|| panic!("{}: quotes: {line}", page.display()));
            checked += 1;
            let parsed = commands[words[0].as_str()].clone().try_get_matches_from(&words);
            if let Err(error) =
                parsed.map(drop).or_else(|error| if error.use_stderr() { Err(error) } else { Ok(()) })
            {
                refused.push(format!("{}: {line}\n{error}", page.strip_prefix(root()).unwrap().display()));
            }
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
    assert!(checked > 50, "{checked}");
}

/// The code blocks of a page in a language, with the number of the line before each.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<(usize, &'a str)> {
    let start = format!("```{language}\n");
    let starts = text.match_indices(start.as_str()).filter(|(at, _)| *at == 0 || text[..*at].ends_with('\n'));
    let block = |(at, _): (usize, &str)| {
        let content = &text[at + start.len()..];
        let end = content.find("```").unwrap_or(content.len());
        (text[..at].matches('\n').count() + 1, &content[..end])
    };
    starts.map(block).collect()
}

#[test]
fn toml_on_pages_is_valid() {
    let mut found = 0;
    for page in pages() {
        for (line, block) in blocks(&read(&page), "toml") {
            found += 1;
            if let Err(error) = block.parse::<toml::Table>() {
                panic!("{}:{line}: {error}", page.display());
            }
        }
    }
    assert!(found > 3, "{found} blocks");
}

/// The names in backquotes in the last cell of each row of the tables of claims.
fn evidence(page: &str) -> Vec<Vec<String>> {
    let mut of_claims = false;
    let mut rows = Vec::new();
    for line in page.lines() {
        if line.starts_with("| claim |") || !line.starts_with('|') {
            of_claims = line.starts_with('|');
        } else if of_claims && line.starts_with("| ") {
            let cell = line.trim_end().strip_suffix('|').and_then(|row| row.rsplit_once("| ")).unwrap().1;
            rows.push(cell.split('`').skip(1).step_by(2).map(ToOwned::to_owned).collect());
        }
    }
    rows
}

/// The names and texts of all sources and test files that git tracks.
fn sources() -> Vec<(String, String)> {
    let args = ["ls-files", "-z", "--", "*.rs", "*.ktest"];
    let output = Command::new("git").args(args).current_dir(root()).output().unwrap();
    let names = String::from_utf8(output.stdout).unwrap();
    let names = names.split_terminator('\0').filter(|name| root().join(name).is_file());
    names.map(|name| (name.to_owned(), read(&root().join(name)))).collect()
}

/// The names in a row that are wrong: a file without its full path, or a test that is in none of the files of the row.
fn wrong_names(row: &[String], sources: &[(String, String)]) -> Vec<String> {
    let is_below = |name: &str, path: &str| {
        name.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let paths: Vec<&String> = row.iter().filter(|name| name.contains('/')).collect();
    let files = sources.iter().filter(|(name, _)| paths.iter().any(|path| is_below(name, path)));
    let text: String = files.map(|(_, text)| text.as_str()).collect();
    let is_right = |name: &str| {
        let is_file = name.contains('/') || name.ends_with(".rs") || name.ends_with(".ktest");
        let is_test =
            name.contains('_') && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_*".contains(&b));
        let (prefix, end) = name.strip_suffix('*').map_or((name, "("), |prefix| (prefix, ""));
        let is_in = |keyword| text.contains(&format!("{keyword}{prefix}{end}"));
        match (is_file, is_test) {
            (true, _) => name.contains('/') && root().join(name).exists(),
            (false, true) => is_in("fn ") || is_in("test_"),
            (false, false) => true,
        }
    };
    let wrong = row.iter().filter(|name| !is_right(name)).cloned();
    wrong.chain(paths.is_empty().then(|| format!("no path: {row:?}"))).collect()
}

#[test]
fn each_claim_of_the_security_page_names_its_test_with_its_path() {
    let (page, sources) = (read(&root().join("docs/security.md")), sources());
    let rows = evidence(&page);
    let wrong: Vec<_> = rows.iter().flat_map(|row| wrong_names(row, &sources)).collect();
    assert!(wrong.is_empty() && rows.len() > 90, "{} claims, wrong: {wrong:#?}", rows.len());
}

/// The numbers of docs/running-a-farm.md.
#[test]
fn the_units_are_as_confined_as_documented() {
    for (unit, tenths) in [("ci-daemon", 51), ("ci-dashboard", 12)] {
        let file = root().join(format!("packaging/systemd/{unit}.service"));
        let threshold = format!("--threshold={tenths}");
        let args = ["security", "--no-pager", "--offline=true", &threshold];
        match Command::new("systemd-analyze").args(args).arg(file).output() {
            Ok(output) => {
                assert!(output.status.success(), "{unit}: {}", String::from_utf8_lossy(&output.stdout));
            }
            Err(error) => {
                println!("skipped: the_units_are_as_confined_as_documented: systemd-analyze: {error}");
            }
        }
    }
}
