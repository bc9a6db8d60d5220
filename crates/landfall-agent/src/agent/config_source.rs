//! Reads and checks the configuration in the input files.

use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use landfall_core::config::{self, TemplateValues, parse_settings};
use landfall_core::diagnostic::{Diagnostics, Severity};
use landfall_core::failure::{Hint as _, line_with_hint};
use landfall_core::settings::{Compat, Settings};

use crate::agent::inputs::{ConfigTexts, load_inputs, read_last_good};
use crate::failure::error_line;
use crate::options::AgentOptions;

/// The input files and the options for reading them.
#[derive(Debug, Clone)]
pub(crate) struct ConfigSource {
    user_data: Vec<Utf8PathBuf>,
    profiles: Vec<Utf8PathBuf>,
    values: TemplateValues,
    compat: Compat,
}

impl ConfigSource {
    pub(crate) fn new(options: &AgentOptions) -> ConfigSource {
        ConfigSource {
            user_data: options.user_data.clone(),
            profiles: options.profiles.clone(),
            values: options.values.clone(),
            compat: options.compat,
        }
    }

    /// Reads and checks the files as they are now.
    pub(crate) async fn read(&self) -> Reading {
        let source = self.clone();
        match tokio::task::spawn_blocking(move || load_inputs(&source.user_data, &source.profiles)).await {
            Ok(Ok(inputs)) => self.check(inputs),
            Ok(Err(error)) => Reading::unreadable(&error),
            Err(error) => Reading::unreadable(&error.into()),
        }
    }

    /// Returns the fingerprint of the files as they are now; `None` if one cannot be read.
    pub(crate) async fn fingerprint(&self) -> Option<String> {
        let source = self.clone();
        let read = move || {
            load_inputs(&source.user_data, &source.profiles)
                .ok()
                .map(|inputs| inputs.fingerprint())
        };
        tokio::task::spawn_blocking(read).await.ok().flatten()
    }

    /// Checks texts that were read before.
    pub(crate) fn check(&self, inputs: ConfigTexts) -> Reading {
        let fingerprint = Some(inputs.fingerprint());
        let (settings, diagnostics) = parse_settings(&config::Inputs {
            user_data: inputs.user_data.clone(),
            profiles: inputs.profiles.clone(),
            values: self.values.clone(),
            compat: self.compat,
            // The agent looks for bundles by itself, again and again.
            ..config::Inputs::default()
        });
        let result = match settings {
            Some(settings) if !diagnostics.has_errors() => Ok(ValidConfig {
                settings: Arc::new(settings),
                inputs,
            }),
            _ => Err(summarize_errors(&diagnostics)),
        };
        Reading { fingerprint, result }
    }
}

/// Returns the settings of the last good configuration of a state directory; `None` if there is none that can be used.
/// Changes nothing.
pub(crate) fn last_settings(state_dir: &Utf8Path) -> Option<Arc<Settings>> {
    let source = ConfigSource::new(&AgentOptions::new(Vec::new(), Vec::new()));
    let reading = source.check(read_last_good(state_dir)?);
    reading.result.ok().map(|valid| valid.settings)
}

/// The content of the files at one time.
#[derive(Debug)]
pub(crate) struct Reading {
    /// The fingerprint of the files; `None` if they could not be read.
    pub(crate) fingerprint: Option<String>,
    /// The configuration, or a sentence about its first error.
    pub(crate) result: Result<ValidConfig, String>,
}

/// A configuration without errors, with its texts. The texts are dropped once they are kept on disk.
#[derive(Debug)]
pub(crate) struct ValidConfig {
    pub(crate) settings: Arc<Settings>,
    pub(crate) inputs: ConfigTexts,
}

impl Reading {
    fn unreadable(error: &anyhow::Error) -> Reading {
        Reading {
            fingerprint: None,
            result: Err(error_line(error)),
        }
    }

    /// Returns the state directory that the configuration names.
    pub(crate) fn state_dir(&self) -> Option<&Utf8Path> {
        self.result
            .as_ref()
            .ok()
            .map(|good| good.settings.landfall.state_dir.as_path())
    }
}

/// Reads the configuration for the first time in a run.
pub(crate) async fn read_first(options: &AgentOptions) -> Reading {
    ConfigSource::new(options).read().await
}

/// Returns the first error with its location and hint, and the number of the others.
fn summarize_errors(diagnostics: &Diagnostics) -> String {
    let errors = diagnostics.count(Severity::Error);
    let Some(first) = diagnostics
        .iter()
        .find(|diagnostic| diagnostic.severity == Severity::Error)
    else {
        return "the configuration cannot be used".to_owned();
    };
    let place = &first.primary.location;
    let mut text = format!(
        "{}:{}:{}: {} ({})",
        place.file, place.line, place.column, first.message, first.code
    );
    if errors > 1 {
        text.push_str(&format!(", and {} more, which `landfall validate` lists", errors - 1));
    }
    line_with_hint(text, first.hint())
}

#[cfg(test)]
mod tests {
    use landfall_core::config::Inputs;
    use landfall_core::diagnostic::NamedText;

    use super::*;

    #[test]
    fn several_errors_are_counted_with_the_command_that_lists_them() {
        let summary_of = |text: &str| {
            let (_, diagnostics) = parse_settings(&Inputs {
                user_data: vec![NamedText::new("user-data", text)],
                ..Inputs::default()
            });
            summarize_errors(&diagnostics)
        };
        insta::assert_snapshot!(
            summary_of("#cloud-config\nlandfall: {concurrency: 0}\n"), @"user-data:2:25: `landfall.concurrency` cannot be 0 (LF0207); hint: write a whole number from 1 to 256");
        insta::assert_snapshot!(
            summary_of("#cloud-config\nlandfall: {concurrency: 0, reconcileInterval: x}\n"), @"user-data:2:25: `landfall.concurrency` cannot be 0 (LF0207), and 1 more, which `landfall validate` lists; hint: write a whole number from 1 to 256");
    }
}
