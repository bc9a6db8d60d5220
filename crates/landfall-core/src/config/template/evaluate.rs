//! Evaluation of the templates in a text. Positions in the result are traced to the file.
//!
//! A template without a value becomes a mark with a number. Readers report the marks that a value which is used
//! depends on, and only these are errors [spec:profile.template-values].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::config::codes::{self, CodeDoc};
use crate::config::node::{UNRESOLVED_END, UNRESOLVED_START};
use crate::config::report::Report;
use crate::config::template::TemplateValues;
use crate::config::template::functions::{FUNCTIONS, FunctionError, Value, apply_function};
use crate::config::template::packs::{PackTable, PackValue};
use crate::config::template::parse::{Command, Operand, Pipeline, parse_pipeline};
use crate::config::template::scan::{is_comment, templates, trimmed_range};
use crate::config::text::{Segment, Span, Text};
use crate::config::variables::Variables;
use crate::config::yaml::{TEXT_BYTES_MAX, TEXTS_BYTES_MAX};
use crate::diagnostic::Severity;
use crate::wording::{counted, nearest};

/// The maximum size of a template's value, in bytes. Values that refer to each other could multiply it.
const VALUE_BYTES_MAX: usize = 64 * 1024;
/// The maximum number of values that refer to each other in a row.
const CHAIN_MAX: usize = 100;

/// The evaluator of templates. It looks up each name once.
#[derive(Debug)]
pub(crate) struct Templates<'a> {
    values: &'a TemplateValues,
    packs: PackTable,
    variables: &'a Variables,
    /// The version of Kubernetes, from the pack of that layer.
    kubernetes_version: Option<String>,
    /// The names that were looked up, by profile.
    known: HashMap<(usize, String), Result<Arc<str>, Arc<Failure>>>,
    /// The templates without a value; a mark holds the index.
    problems: Vec<Problem>,
    /// Look-ups without a value that `default` replaced in the current template.
    defaulted: Vec<Arc<Failure>>,
    /// The size of all texts that were rendered, in bytes.
    rendered: usize,
}

/// The reason why a template has no value.
#[derive(Debug)]
struct Failure {
    doc: &'static CodeDoc,
    message: String,
    help: String,
    /// The position of the wrong value, if it is not that of the template.
    place: Option<(Span, Arc<str>)>,
}

/// A template without a value.
#[derive(Debug)]
struct Problem {
    failure: Arc<Failure>,
    span: Span,
    key: Arc<str>,
    /// The severity if it does not depend on the use.
    severity: Option<Severity>,
}

impl<'a> Templates<'a> {
    pub(crate) fn new(
        values: &'a TemplateValues,
        packs: PackTable,
        variables: &'a Variables,
        kubernetes_version: Option<String>,
    ) -> Templates<'a> {
        Templates {
            values,
            packs,
            variables,
            kubernetes_version,
            known: HashMap::new(),
            problems: Vec::new(),
            defaulted: Vec::new(),
            rendered: 0,
        }
    }

    /// Returns the text with its templates replaced. A template without a value becomes a mark, which is a plain text
    /// for YAML. `profile` is the number of the profile that holds the text.
    pub(crate) fn render(&mut self, text: &Text, key: &str, profile: usize, report: &mut Report) -> Text {
        let source = text.as_str();
        if !source.contains("{{") {
            return text.clone();
        }
        let mut rendered = String::with_capacity(source.len());
        let mut segments = Vec::new();
        let mut copied = 0;
        let key: Arc<str> = Arc::from(key);
        for found in templates(source) {
            let value = self.evaluate(found.inner, profile, &mut Vec::new());
            if value.is_err() && is_comment(source, found.start) {
                continue;
            }
            let problem = |failure, severity| Problem {
                failure,
                span: text.slice(found.start..found.end),
                key: key.clone(),
                severity,
            };
            for failure in self.defaulted.drain(..) {
                self.problems.push(problem(failure, Some(Severity::Note)));
            }
            let value = value.unwrap_or_else(|failure| {
                self.problems.push(problem(failure, None));
                Arc::from(format!("{UNRESOLVED_START}{}{UNRESOLVED_END}", self.problems.len() - 1))
            });
            let size = rendered.len() + value.len() + (source.len() - copied);
            if size > TEXT_BYTES_MAX || self.rendered + size > TEXTS_BYTES_MAX {
                report
                    .at(
                        &codes::TOO_LARGE,
                        text.slice(found.start..found.end),
                        key.clone(),
                        "the values of the templates make the text too large",
                    )
                    .help("shorten the values that its templates stand for");
                break;
            }
            let (start, end) = trimmed_range(source, &found, copied);
            push(&mut segments, rendered.len(), copied, true);
            rendered.push_str(&source[copied..start]);
            push(&mut segments, rendered.len(), found.start, false);
            rendered.push_str(&value);
            copied = end;
        }
        push(&mut segments, rendered.len(), copied, true);
        rendered.push_str(&source[copied..]);
        self.rendered += rendered.len();
        Text::derived(text, &rendered, segments)
    }

    /// Reports each reason for templates without a value once: as an error if a value that is used depends on it, else
    /// as a warning. `used` has the numbers of the marks in such values, with their key paths.
    pub(crate) fn report_problems(self, used: &BTreeMap<usize, Arc<str>>, report: &mut Report) {
        struct Group {
            /// The problem that is shown: the first that is used, else the first.
            shown: usize,
            is_used: bool,
            count: usize,
        }
        let mut groups: Vec<Group> = Vec::new();
        let mut group_of: HashMap<(&'static str, &str), usize> = HashMap::new();
        for (index, problem) in self.problems.iter().enumerate() {
            let is_used = used.contains_key(&index);
            let reason = (problem.failure.doc.code, problem.failure.message.as_str());
            let at = *group_of.entry(reason).or_insert_with(|| {
                groups.push(Group {
                    shown: index,
                    is_used: false,
                    count: 0,
                });
                groups.len() - 1
            });
            let group = &mut groups[at];
            group.count += 1;
            if is_used && !group.is_used {
                group.is_used = true;
                group.shown = index;
            }
        }
        for group in groups {
            let problem = &self.problems[group.shown];
            let failure = &problem.failure;
            let used_at = used.get(&group.shown).unwrap_or(&problem.key);
            let place = failure.place.clone();
            let (span, key) = place.unwrap_or_else(|| (problem.span.clone(), used_at.clone()));
            let more = match group.count - 1 {
                0 => String::new(),
                more => format!(", here and at {}", counted(more, "further place")),
            };
            let severity = match (problem.severity, group.is_used) {
                (Some(severity), _) => severity,
                (None, true) => Severity::Error,
                (None, false) => Severity::Warning,
            };
            let draft = report.at(failure.doc, span, key, format!("{}{more}", failure.message));
            draft.severity(severity).help(failure.help.clone());
            if failure.place.is_some() {
                draft.also_at(problem.span.clone(), used_at.clone(), "used here");
            }
        }
        self.variables
            .report_unused(&self.known_variables(), self.values, report);
    }

    /// Returns the variables that a template named, by profile and name.
    fn known_variables(&self) -> BTreeSet<(usize, &str)> {
        let names = self.known.keys();
        names
            .filter_map(|(profile, name)| Some((*profile, name.strip_prefix("var.")?)))
            .collect()
    }

    /// Evaluates the text between the braces.
    fn evaluate(&mut self, inner: &str, profile: usize, open: &mut Vec<String>) -> Result<Arc<str>, Arc<Failure>> {
        if inner.starts_with("/*") && inner.ends_with("*/") {
            return Ok(Arc::from(""));
        }
        let pipeline = parse_pipeline(inner).map_err(|error| {
            failure(
                &codes::UNSUPPORTED_TEMPLATE,
                format!("cannot evaluate this template: {error}"),
                format!("write a look-up, with functions behind `|`: {}", FUNCTIONS.join(", ")),
            )
        })?;
        // Go too looks at the functions before it looks up a value.
        if let Some(name) = unknown_function(&pipeline) {
            return Err(function_failure(&FunctionError::Unknown { name: name.to_owned() }));
        }
        let value = self.evaluate_pipeline(&pipeline, profile, open)?;
        Ok(Arc::from(value.into_text()))
    }

    fn evaluate_pipeline(
        &mut self,
        pipeline: &Pipeline,
        profile: usize,
        open: &mut Vec<String>,
    ) -> Result<Value, Arc<Failure>> {
        let mut piped = None;
        for command in &pipeline.0 {
            piped = Some(self.evaluate_command(command, piped, profile, open));
        }
        piped.unwrap_or_else(|| Ok(Value::Text(String::new())))
    }

    fn evaluate_command(
        &mut self,
        command: &Command,
        piped: Option<Result<Value, Arc<Failure>>>,
        profile: usize,
        open: &mut Vec<String>,
    ) -> Result<Value, Arc<Failure>> {
        let mut operands: Vec<_> = command
            .operands
            .iter()
            .map(|operand| self.evaluate_operand(operand, profile, open))
            .collect();
        operands.extend(piped);
        let Some(function) = &command.function else {
            return match <[_; 1]>::try_from(operands) {
                Ok([value]) => value,
                Err(_) => Err(failure(
                    &codes::UNSUPPORTED_TEMPLATE,
                    "cannot evaluate this template: the word behind `|` is not a function".to_owned(),
                    format!("functions are: {}", FUNCTIONS.join(", ")),
                )),
            };
        };
        if function == "default"
            && let [default, given] = operands.as_mut_slice()
            && let Err(reason) = given
            && *reason.doc == codes::UNRESOLVED_TEMPLATE
        {
            let used = failure(
                &codes::DEFAULT_USED,
                format!("{}, so its default is used", reason.message),
                reason.help.clone(),
            );
            self.defaulted.push(used);
            return std::mem::replace(default, Ok(Value::Boolean(false)));
        }
        let operands = operands.into_iter().collect::<Result<Vec<_>, _>>()?;
        apply_function(function, operands, VALUE_BYTES_MAX).map_err(|error| function_failure(&error))
    }

    fn evaluate_operand(
        &mut self,
        operand: &Operand,
        profile: usize,
        open: &mut Vec<String>,
    ) -> Result<Value, Arc<Failure>> {
        match operand {
            Operand::LookUp(name) => Ok(Value::Text(self.look_up_once(name, profile, open)?.to_string())),
            Operand::Text(text) => Ok(Value::Text(text.clone())),
            Operand::Number(number) => Ok(Value::Number(*number)),
            Operand::Boolean(value) => Ok(Value::Boolean(*value)),
            Operand::Pipeline(inner) => self.evaluate_pipeline(inner, profile, open),
        }
    }

    /// Looks up a name. `open` has the names whose values are being evaluated.
    fn look_up_once(&mut self, name: &str, profile: usize, open: &mut Vec<String>) -> Result<Arc<str>, Arc<Failure>> {
        let known_as = (profile, name.to_owned());
        if let Some(known) = self.known.get(&known_as) {
            return known.clone();
        }
        if open.iter().any(|open| open == name) {
            return Err(failure(
                &codes::TEMPLATE_CYCLE,
                format!("the template `{{{{.spectro.{name}}}}}` refers to itself"),
                "write a value without a template into one of the values".to_owned(),
            ));
        }
        if open.len() >= CHAIN_MAX {
            return Err(failure(
                &codes::TOO_LARGE,
                format!("the template `{{{{.spectro.{name}}}}}` stands at the end of {CHAIN_MAX} templates in a row"),
                "write the finished value into one of them".to_owned(),
            ));
        }
        open.push(name.to_owned());
        let value = self.look_up(name, profile, open);
        open.pop();
        self.known.insert(known_as, value.clone());
        value
    }

    fn look_up(&mut self, name: &str, profile: usize, open: &mut Vec<String>) -> Result<Arc<str>, Arc<Failure>> {
        if let Some(rest) = name.strip_prefix("pack.") {
            return self.look_up_pack(name, rest, open);
        }
        let variable = name
            .strip_prefix("var.")
            .and_then(|variable| self.variables.get(profile, variable));
        if let Some(given) = self.values.get(name) {
            if let Some(variable) = variable
                && let Err(reason) = variable.check(given)
            {
                let place = self.values.place(name).unwrap_or_else(|| variable.place());
                return Err(Arc::new(Failure {
                    doc: &codes::VARIABLE_VALUE,
                    message: format!("the value of the variable `{}` {reason}", variable.name),
                    help: "give another value: by `--set`, or in the values file".to_owned(),
                    place: Some(place),
                }));
            }
            return Ok(Arc::from(given));
        }
        if let Some(variable) = variable
            && let Some(default) = variable.default_text()
        {
            return match variable.check(default) {
                Ok(()) => Ok(Arc::from(default)),
                Err(reason) => Err(Arc::new(Failure {
                    doc: &codes::VARIABLE_VALUE,
                    message: format!("the default of the variable `{}` {reason}", variable.name),
                    help: "correct `defaultValue`, or give a value by `--set`".to_owned(),
                    place: Some(variable.place()),
                })),
            };
        }
        if name == KUBERNETES_VERSION
            && let Some(version) = &self.kubernetes_version
        {
            return Ok(Arc::from(version.as_str()));
        }
        Err(failure(
            &codes::UNRESOLVED_TEMPLATE,
            no_value(name),
            match name.split_once('.') {
                Some(("macro" | "var" | "system", _)) => format!("give it one: `--set {name}=…`, or in a values file"),
                _ => "templates are `.spectro.macro.`, `.spectro.var.`, `.spectro.system.` and \
                      `.spectro.pack.<pack>.<path>`"
                    .to_owned(),
            },
        ))
    }

    fn look_up_pack(&mut self, name: &str, rest: &str, open: &mut Vec<String>) -> Result<Arc<str>, Arc<Failure>> {
        let unresolved = |help| failure(&codes::UNRESOLVED_TEMPLATE, no_value(name), help);
        let (raw, profile) = match self.packs.look_up(rest) {
            PackValue::Found { raw, profile } => (raw, profile),
            PackValue::NoPack => {
                return Err(unresolved(
                    "no pack of the profiles has this name; write `.spectro.pack.<pack>.<path into its values>`"
                        .to_owned(),
                ));
            }
            PackValue::Unreadable { pack } => {
                return Err(unresolved(format!("the pack `{pack}` has no values that can be read")));
            }
            PackValue::NoValue { pack, path } => {
                return Err(unresolved(match path.strip_prefix("options.") {
                    Some(key) => {
                        format!("the pack `{pack}` has no option `{key}`: add it below `options` in its values")
                    }
                    None => format!("the values of the pack `{pack}` have no `{path}`: add it, or correct the path"),
                }));
            }
            PackValue::NotText { pack, path, kind } => {
                return Err(unresolved(format!(
                    "in the values of the pack `{pack}`, `{path}` is {kind}: name a text, a number or a boolean"
                )));
            }
        };
        let mut value = String::new();
        let mut copied = 0;
        for found in templates(&raw) {
            let (start, end) = trimmed_range(&raw, &found, copied);
            value.push_str(&raw[copied..start]);
            value.push_str(&self.evaluate(found.inner, profile, open)?);
            copied = end;
            if value.len() > VALUE_BYTES_MAX {
                return Err(failure(
                    &codes::TOO_LARGE,
                    format!("the value of `{{{{.spectro.{name}}}}}` has more than {VALUE_BYTES_MAX} bytes"),
                    "shorten the values that it is made of".to_owned(),
                ));
            }
        }
        value.push_str(&raw[copied..]);
        Ok(Arc::from(value))
    }
}

/// The look-up that the pack of the layer `k8s` answers if no value is given.
const KUBERNETES_VERSION: &str = "system.kubernetes.version";

/// Returns the first function of a pipeline that is not known.
fn unknown_function(pipeline: &Pipeline) -> Option<&str> {
    pipeline.0.iter().find_map(|command| {
        let own = command.function.as_deref().filter(|name| !FUNCTIONS.contains(name));
        own.or_else(|| {
            let inner = command.operands.iter().filter_map(|operand| match operand {
                Operand::Pipeline(inner) => Some(inner),
                _ => None,
            });
            inner.filter_map(unknown_function).next()
        })
    })
}

fn no_value(name: &str) -> String {
    format!("the template `{{{{.spectro.{name}}}}}` has no value")
}

fn failure(doc: &'static CodeDoc, message: String, help: String) -> Arc<Failure> {
    Arc::new(Failure {
        doc,
        message,
        help,
        place: None,
    })
}

fn function_failure(error: &FunctionError) -> Arc<Failure> {
    let help = match error {
        FunctionError::Unknown { name } => match nearest(name, FUNCTIONS.into_iter()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("functions are: {}", FUNCTIONS.join(", ")),
        },
        _ => "correct the template, or put the finished value into a macro".to_owned(),
    };
    failure(
        &codes::UNSUPPORTED_TEMPLATE,
        format!("cannot evaluate this template: {error}"),
        help,
    )
}

fn push(segments: &mut Vec<Segment>, at: usize, parent_at: usize, linear: bool) {
    // An empty piece has no position.
    if segments.last().is_some_and(|last: &Segment| last.at == at) {
        segments.pop();
    }
    segments.push(Segment { at, parent_at, linear });
}

#[cfg(test)]
mod tests;
