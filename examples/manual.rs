//! Writes the man pages and shell completions of the four commands to `man/`, `bash/`, `zsh/` and `fish/` in a
//! directory. They are generated from the clap definitions of the commands. `make install` installs them.

#[path = "../e2e/programs.rs"]
mod programs;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap_complete::{Shell, generate_to};

fn subdirectory(dir: &Path, name: &str) -> Result<PathBuf> {
    let path = dir.join(name);
    std::fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
    Ok(path)
}

fn main() -> Result<()> {
    let dir = std::env::args_os().nth(1).context("no directory given; usage: manual DIR")?;
    let dir = Path::new(&dir);
    for command in programs::commands() {
        let name = command.get_name().to_owned();
        clap_mangen::generate_to(command.clone(), subdirectory(dir, "man")?)
            .with_context(|| format!("the man pages of {name}"))?;
        for (shell, directory) in [(Shell::Bash, "bash"), (Shell::Zsh, "zsh"), (Shell::Fish, "fish")] {
            generate_to(shell, &mut command.clone(), &name, subdirectory(dir, directory)?)
                .with_context(|| format!("the {shell} completions of {name}"))?;
        }
        // bash-completion expects a file with the name of the command.
        let bash = dir.join("bash");
        let script = bash.join(format!("{name}.bash"));
        std::fs::rename(&script, bash.join(&name)).with_context(|| script.display().to_string())?;
    }
    Ok(())
}
