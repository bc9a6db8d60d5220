//! `landfall man`: renders the manual pages.

use anyhow::Context as _;
use camino::Utf8PathBuf;
use clap::{Args, Command};
use clap_mangen::Man;

use crate::context::Context;
use crate::exit::ExitStatus;

/// Print the manual page of the program, or write the pages of all commands.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  landfall man | man -l -
  landfall man --directory /usr/local/share/man/man1")]
pub struct ManArgs {
    /// Directory for one page for each command, created if missing [default: the page of the program, on stdout].
    #[arg(long, value_name = "DIR")]
    pub directory: Option<Utf8PathBuf>,
}

/// Renders the pages of the program's whole command line.
pub(crate) fn run(args: &ManArgs, command: Command, context: &Context) -> anyhow::Result<ExitStatus> {
    let mut command = command.disable_help_subcommand(true);
    // Gives each subcommand its whole name, e.g. `landfall-bundle-create`.
    command.build();
    let Some(directory) = &args.directory else {
        context.printer.exact_data(&render_page(&command)?)?;
        return Ok(ExitStatus::Done);
    };
    let mut pages = Vec::new();
    render_pages(&command, &mut pages)?;
    fs_err::create_dir_all(directory)?;
    for (name, page) in &pages {
        fs_err::write(directory.join(format!("{name}.1")), page)?;
    }
    let written = format_args!("{} pages written to `{directory}`", pages.len());
    context.printer.note(written);
    Ok(ExitStatus::Done)
}

/// Renders the pages of a command and its subcommands, each with its name.
fn render_pages(command: &Command, pages: &mut Vec<(String, String)>) -> anyhow::Result<()> {
    pages.push((page_name(command).to_owned(), render_page(command)?));
    for child in command.get_subcommands().filter(|child| !child.is_hide_set()) {
        render_pages(child, pages)?;
    }
    Ok(())
}

fn page_name(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

fn render_page(command: &Command) -> anyhow::Result<String> {
    let mut text = Vec::new();
    Man::new(command.clone())
        .render(&mut text)
        .with_context(|| format!("cannot render the page of `{}`", page_name(command)))?;
    Ok(String::from_utf8(text)?)
}
