//! Help texts in two lengths: `-h` has the first sentence of each option, `--help` has everything and examples.

use clap::Command;

/// Makes `-h` short. The texts of the command line are those of `--help`.
#[must_use]
pub fn short_and_long(command: Command) -> Command {
    let command = match command.get_after_help().map(ToString::to_string) {
        Some(text) => command.after_help(None::<&str>).after_long_help(text),
        None => command,
    };
    let command = command.mut_args(|arg| match arg.get_help().map(ToString::to_string) {
        Some(help) if arg.get_long_help().is_none() && first_sentence(&help).len() < help.len() => {
            arg.help(first_sentence(&help).to_owned()).long_help(help)
        }
        _ => arg,
    });
    command.mut_subcommands(short_and_long)
}

/// The text up to the first full stop before a space and a capital letter.
fn first_sentence(text: &str) -> &str {
    let is_end = |at: &usize| text[at + 2..].starts_with(|c: char| c.is_uppercase() || c == '$');
    text.match_indices(". ").map(|(at, _)| at).find(is_end).map_or(text, |at| &text[..at])
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    #[test]
    fn the_short_help_has_first_sentences_and_no_examples() {
        let arg = Arg::new("a").long("all").help("Print all, e.g. x. y. See the manual");
        let mut command = short_and_long(Command::new("x").arg(arg).after_help("Examples:\n  x --all"));
        let (short, long) = (command.render_help().to_string(), command.render_long_help().to_string());
        assert!(short.contains("Print all, e.g. x. y\n") && !short.contains("Examples"), "{short}");
        assert!(short.contains("see more with '--help'"), "{short}");
        assert!(long.contains("See the manual") && long.contains("Examples:\n  x --all"), "{long}");
        assert_eq!(first_sentence("One sentence."), "One sentence.");
        assert_eq!(first_sentence("é. Ä"), "é");
    }
}
