//! Reads the input files and checks them. No other module passes the command line to the configuration.

use camino::{Utf8Path, Utf8PathBuf};

use anyhow::{Context as _, bail};
use landfall_core::config::{Inputs, TemplateValues, parse_settings};
use landfall_core::diagnostic::{Diagnostics, NamedText, Severity, render_text};
use landfall_core::failure::Explanation;
use landfall_core::settings::{Compat, Settings, Unknown, Unknowns};
use landfall_host::inputs::{load_input, read_input};

use crate::args::{CompatWith, InputArgs, ValueArgs};
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::output::printer::Verbosity;

/// Name of stdin in messages.
const STDIN_NAME: &str = "<stdin>";

/// Inputs, read and checked.
#[derive(Debug)]
pub(crate) struct CheckedInputs {
    /// Settings; `None` if the inputs are too broken to give any.
    pub(crate) settings: Option<Settings>,
    pub(crate) diagnostics: Diagnostics,
}

impl CheckedInputs {
    /// Prints the findings on stderr, for commands whose data is something else: errors always, warnings unless
    /// `--quiet`, notes with `--verbose`.
    pub(crate) fn print_findings(&self, context: &Context) {
        let least = match context.printer.verbosity() {
            Verbosity::Quiet => Severity::Error,
            Verbosity::Normal => Severity::Warning,
            Verbosity::Verbose => Severity::Note,
        };
        let mut shown = Diagnostics::new();
        // `Severity` is ordered from the most severe on.
        shown.extend(
            self.diagnostics
                .iter()
                .filter(|finding| finding.severity <= least)
                .cloned(),
        );
        if !shown.is_empty() {
            let text = render_text(&shown, context.printer.colors_messages());
            context.printer.problem(text);
        }
    }

    /// Returns the settings for a command that asks registries or writes files.
    ///
    /// # Errors
    /// If it is not known where images come from: from a part of the configuration the public registries would follow
    /// [spec:combinations.unknown].
    pub(crate) fn complete_settings(&self) -> anyhow::Result<&Settings> {
        self.settings_unless(Unknowns::stops)
    }

    /// Returns the settings for a command that needs every file, but not the sources of images.
    ///
    /// # Errors
    /// If a file cannot be parsed.
    pub(crate) fn settings_of_all_files(&self) -> anyhow::Result<&Settings> {
        self.settings_unless(|unknown| {
            let all = unknown.sources.iter().chain(&unknown.images);
            all.into_iter().find(|unknown| unknown.is_whole_file)
        })
    }

    fn settings_unless(&self, stops: impl Fn(&Unknowns) -> Option<&Unknown>) -> anyhow::Result<&Settings> {
        let why = match &self.settings {
            Some(settings) => match stops(&settings.unknown) {
                Some(unknown) => unknown.to_string(),
                None => return Ok(settings),
            },
            None => "no input can be read".to_owned(),
        };
        bail!(Explanation::new(
            format!("nothing was done, because a part of the configuration is not known: {why}"),
            "correct it (`landfall validate` shows all findings), and run the command again",
        ))
    }

    /// Returns the exit status: a finding that is an error makes the answer a no.
    pub(crate) fn status(&self) -> ExitStatus {
        if self.diagnostics.has_errors() {
            ExitStatus::AnswerIsNo
        } else {
            ExitStatus::Done
        }
    }
}

/// Reads the files that the command line names, and checks them.
///
/// # Errors
/// If a file cannot be read or is not UTF-8, or a `--set` is not `key=value`.
pub(crate) fn load_settings(args: &InputArgs) -> anyhow::Result<CheckedInputs> {
    Ok(LoadedInputs::load(args)?.check())
}

/// Says that no image is known, if no profile is named.
pub(crate) fn note_missing_profile(args: &InputArgs, context: &Context) {
    if args.profiles.is_empty() {
        context
            .printer
            .note("no profile is named, and so no image is known: name one with `--profile`");
    }
}

/// Input files with the findings about their values for templates.
#[derive(Debug)]
pub(crate) struct LoadedInputs {
    pub(crate) inputs: Inputs,
    found: Diagnostics,
}

impl LoadedInputs {
    /// Reads the files that the command line names.
    ///
    /// # Errors
    /// If a file cannot be read or is not UTF-8, or a `--set` is not `key=value`.
    pub(crate) fn load(args: &InputArgs) -> anyhow::Result<LoadedInputs> {
        let from_stdin = args
            .user_data
            .iter()
            .chain(&args.profiles)
            .filter(|path| path.as_str() == "-")
            .count();
        if from_stdin > 1 {
            bail!("stdin (`-`) can be read only once");
        }
        let (values, found) = load_values(&args.values)?;
        let inputs = Inputs {
            user_data: load_texts(&args.user_data)?,
            profiles: load_texts(&args.profiles)?,
            values,
            compat: compat_of(args.compat),
            ..Inputs::default()
        };
        Ok(LoadedInputs { inputs, found })
    }

    /// Checks the files.
    pub(crate) fn check(&self) -> CheckedInputs {
        let (settings, found) = parse_settings(&self.inputs);
        let mut diagnostics = self.found.clone();
        diagnostics.extend(found.iter().cloned());
        CheckedInputs { settings, diagnostics }
    }
}

/// Returns the settings of a command without input files.
///
/// # Errors
/// Never: there is nothing to find fault with.
pub(crate) fn settings_without_inputs() -> anyhow::Result<Settings> {
    let (settings, _nothing_to_find) = parse_settings(&Inputs::default());
    settings.context("settings without any input cannot be made")
}

pub(crate) fn compat_of(compat: Option<CompatWith>) -> Compat {
    match compat {
        Some(CompatWith::Palette) => Compat::Palette,
        None => Compat::None,
    }
}

/// Reads the values for templates. `--set` overrides the values file.
///
/// # Errors
/// If the file cannot be read, or a `--set` is not `key=value`.
pub(crate) fn load_values(args: &ValueArgs) -> anyhow::Result<(TemplateValues, Diagnostics)> {
    let mut values = TemplateValues::default();
    for assignment in &args.set {
        // The value may be a password: the message names the key only.
        let name = assignment.split_once('=').map_or("…", |(name, _)| name);
        values
            .set(assignment)
            .with_context(|| format!("cannot use `--set {name}`"))?;
    }
    let mut diagnostics = Diagnostics::new();
    if let Some(path) = &args.values {
        diagnostics = values.add_file(&load_text(path)?);
    }
    Ok((values, diagnostics))
}

fn load_texts(paths: &[Utf8PathBuf]) -> anyhow::Result<Vec<NamedText>> {
    paths.iter().map(|path| load_text(path)).collect()
}

/// Reads one input file and gives it its name in messages; `-` is stdin.
///
/// # Errors
/// If it cannot be read, is too large, or is no text in UTF-8.
pub(crate) fn load_text(path: &Utf8Path) -> anyhow::Result<NamedText> {
    Ok(match path.as_str() {
        "-" => read_input(STDIN_NAME, std::io::stdin().lock())?,
        _ => load_input(path)?,
    })
}
