//! Writes man pages and shell completions of the four commands into a folder: `man/`, `bash/`, `zsh/` and `fish/`,
//! from the very definitions the commands parse with. `make install` puts them where they belong.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap_complete::{Shell, generate_to};

fn folder(dir: &Path, name: &str) -> Result<PathBuf> {
    let path = dir.join(name);
    std::fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
    Ok(path)
}

fn main() -> Result<()> {
    let dir = std::env::args_os().nth(1).context("say the folder: manual DIR")?;
    let dir = Path::new(&dir);
    let commands = [
        ktest::cli::command(),
        ci_daemon::cli::command(),
        ci_dashboard::cli::command(),
        ci_status::cli::command(),
    ];
    for command in commands {
        let name = command.get_name().to_owned();
        clap_mangen::generate_to(command.clone(), folder(dir, "man")?)
            .with_context(|| format!("the man pages of {name}"))?;
        for (shell, place) in [(Shell::Bash, "bash"), (Shell::Zsh, "zsh"), (Shell::Fish, "fish")] {
            generate_to(shell, &mut command.clone(), &name, folder(dir, place)?)
                .with_context(|| format!("the {shell} completions of {name}"))?;
        }
        // bash-completion looks for a file named as the command.
        let bash = dir.join("bash");
        let script = bash.join(format!("{name}.bash"));
        std::fs::rename(&script, bash.join(&name)).with_context(|| script.display().to_string())?;
    }
    Ok(())
}
