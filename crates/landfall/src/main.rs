//! The `landfall` program: parses the command line, runs the command, prints its error, exits. Everything else is in
//! the library. Started under the name of the credential provider, the program is the credential provider only.

use std::process::ExitCode;

use clap::Parser;
use landfall::cli::Cli;
use landfall::credential_provider;
use landfall::exit::ExitStatus;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    if credential_provider::is_provider_name(arguments.next().as_deref()) {
        return credential_provider::run(arguments);
    }
    match Cli::try_parse() {
        Ok(cli) => landfall::run(cli).into(),
        Err(usage) => {
            // `--help` and `--version` arrive here too: text for stdout, status 0. A closed pipe is no error.
            let status = if usage.use_stderr() {
                ExitStatus::Failed
            } else {
                ExitStatus::Done
            };
            let _reader_gone = usage.print();
            status.into()
        }
    }
}
