//! `landfall completion`: prints a shell's completion script.

use clap::{Args, Command};
use clap_complete::Shell;

use crate::context::Context;
use crate::exit::ExitStatus;

/// Print the completion script of a shell.
///
/// The packages install the scripts of bash, zsh and fish. For a program without a package, load the script in the
/// shell's start file.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  bash:        source <(landfall completion bash)
  zsh:         source <(landfall completion zsh)
  fish:        landfall completion fish | source
  PowerShell:  landfall completion powershell | Out-String | Invoke-Expression
  Elvish:      eval (landfall completion elvish | slurp)")]
pub struct CompletionArgs {
    /// Shell that reads the script.
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Prints the script for the program's whole command line.
pub(crate) fn run(args: &CompletionArgs, mut command: Command, context: &Context) -> anyhow::Result<ExitStatus> {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    context.printer.exact_data(&String::from_utf8(script)?)?;
    Ok(ExitStatus::Done)
}
