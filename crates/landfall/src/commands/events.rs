//! `landfall events`: shows the agent's event log.

use std::str::FromStr;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use camino::Utf8Path;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use jiff::Timestamp;
use landfall_core::quantity::Seconds;
use landfall_core::status::{Event, EventKind, EventList, EventReason, EventSelection, Since};
use landfall_core::yaml_out::render_yaml;
use serde::Deserialize;
use serde::de::IntoDeserializer as _;
use serde::de::value::Error as WordError;

use crate::args::{OutputArgs, StateArgs};
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::host_api::{RemoteHost, RemoteHostArgs};
use crate::output::printer::{Printer, stdout_width};
use crate::output::structured::{OutputFormat, print_report};
use crate::output::table::Table;

/// Interval at which `--follow` reads the log. The agent replaces the log file from time to time. Reading it again
/// works on every file system, and a delay of a second does no harm.
const POLL: Duration = Duration::from_secs(1);

/// Show the agent's events on this host.
///
/// The agent keeps at least the last thousand events, across restarts. With `--follow` the command runs until it is
/// interrupted; `-o json` then writes one object per line. With `--from`, the agent of another host is asked.
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  landfall events --since 10m --kind warning")]
pub struct EventsArgs {
    #[command(flatten)]
    pub state: StateArgs,
    #[command(flatten)]
    pub remote: RemoteHostArgs,
    /// Keep running, and write new events as they happen.
    #[arg(short, long)]
    pub follow: bool,
    /// Show only newer events: than a duration, e.g. `5m`; from a time on, e.g. `2026-01-31T08:00:00Z`; or after the event
    /// with this number.
    #[arg(long, value_name = "TIME|NUMBER")]
    pub since: Option<SinceArg>,
    /// Show only the last events, this many of those that the other options select.
    #[arg(short = 'n', long, value_name = "NUMBER")]
    pub tail: Option<usize>,
    /// Show only events of this kind.
    #[arg(long, ignore_case = true,
          value_parser = PossibleValuesParser::new(["Normal", "Warning"]).try_map(|word| parse_kind(&word)))]
    pub kind: Option<EventKind>,
    /// Show only events with this reason, e.g. `ImageFailed` [repeatable: any of them].
    #[arg(long, value_name = "REASON", value_parser = parse_reason)]
    pub reason: Vec<EventReason>,
    /// Show only events whose subject contains this text, e.g. a part of an image's name.
    #[arg(long, value_name = "TEXT")]
    pub subject: Option<String>,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Start of the events as it is written on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SinceArg {
    /// Sequence number.
    Sequence(u64),
    /// Time before now.
    Ago(Seconds),
    Time(Timestamp),
}

impl FromStr for SinceArg {
    type Err = String;

    fn from_str(text: &str) -> Result<SinceArg, String> {
        if let Ok(sequence) = text.parse() {
            return Ok(SinceArg::Sequence(sequence));
        }
        if let Ok(ago) = text.parse() {
            return Ok(SinceArg::Ago(ago));
        }
        text.parse().map(SinceArg::Time).map_err(|_reason| {
            "give a duration (`5m`), a time (`2026-01-31T08:00:00Z`), or the number of an event".to_owned()
        })
    }
}

impl SinceArg {
    fn resolve(self, now: Timestamp) -> anyhow::Result<Since> {
        Ok(match self {
            SinceArg::Sequence(sequence) => Since::Sequence(sequence),
            SinceArg::Ago(ago) => Since::Time(
                now.checked_sub(ago.duration())
                    .with_context(|| format!("`--since {ago}` is before all times"))?,
            ),
            SinceArg::Time(time) => Since::Time(time),
        })
    }
}

/// Parses a kind in any case.
fn parse_kind(word: &str) -> Result<EventKind, &'static str> {
    let mut kinds = [EventKind::Normal, EventKind::Warning].into_iter();
    kinds
        .find(|kind| kind.to_string().eq_ignore_ascii_case(word))
        .ok_or("a kind is `Normal` or `Warning`")
}

/// Parses the serialised name of a reason. The error lists all names.
fn parse_reason(word: &str) -> Result<EventReason, WordError> {
    EventReason::deserialize(word.to_owned().into_deserializer())
}

pub(crate) fn run(args: &EventsArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    let directory = &args.state.state_dir;
    let remote = args.remote.open()?;
    let is_missing = remote.is_none() && !directory.join(landfall_agent::events::FILE_NAME).is_file();
    if !args.follow && is_missing {
        context
            .printer
            .problem(format_args!("no agent ever ran with the state directory `{directory}`"));
        return Ok(ExitStatus::AnswerIsNo);
    }
    let selection = EventSelection {
        since: args.since.map(|since| since.resolve(Timestamp::now())).transpose()?,
        kind: args.kind,
        reasons: args.reason.clone(),
        subject: args.subject.clone(),
    };
    let events_after = |sequence: u64| load_events(directory, remote.as_ref(), sequence);
    let mut seen = match selection.since {
        Some(Since::Sequence(sequence)) => sequence,
        Some(Since::Time(_)) | None => 0,
    };
    let mut events = events_after(seen)?;
    seen = events.last().map_or(seen, |event| event.sequence);
    let mut selected = selection.select(events, args.tail);
    if !args.follow {
        let list = EventList::new(selected);
        print_report(&context.printer, args.output.output, &list, |list| {
            table_of(&list.events).render(stdout_width())
        })?;
        return Ok(ExitStatus::Done);
    }
    loop {
        for event in &selected {
            print_one(&context.printer, args.output.output, event)?;
        }
        thread::sleep(POLL);
        events = events_after(seen)?;
        seen = events.last().map_or(seen, |event| event.sequence);
        selected = selection.select(events, None);
    }
}

/// Loads the events with a greater sequence number than `after`, from this host or another one.
fn load_events(directory: &Utf8Path, remote: Option<&RemoteHost>, after: u64) -> anyhow::Result<Vec<Event>> {
    #[derive(Deserialize)]
    struct Answer {
        events: Vec<Event>,
    }
    let Some(host) = remote else {
        return landfall_agent::events::read_events(directory, after).context("cannot read the agent's events");
    };
    let answer: Answer = host.get(&format!("/api/v1/events?since={after}"))?;
    Ok(answer.events)
}

fn print_one(printer: &Printer, format: OutputFormat, event: &Event) -> anyhow::Result<()> {
    match format {
        OutputFormat::Table => printer.data(&one_line(event)),
        OutputFormat::Json => printer.data(&serde_json::to_string(event).context("cannot write an event as JSON")?),
        // One document per event, so that a reader need not wait for the end.
        OutputFormat::Yaml => printer.data(&format!("---\n{}", render_yaml(event)?)),
    }
}

fn one_line(event: &Event) -> String {
    let Event {
        sequence,
        time,
        kind,
        reason,
        subject,
        message,
    } = event;
    format!("{sequence:>5}  {time:.0}  {kind:<7}  {reason:<20}  {subject}  {message}")
}

fn table_of(events: &[Event]) -> Table {
    let mut table = Table::new(&["NUMBER", "TIME", "KIND", "REASON", "SUBJECT", "MESSAGE"]);
    for event in events {
        table.row([
            event.sequence.to_string(),
            format!("{:.0}", event.time),
            event.kind.to_string(),
            event.reason.to_string(),
            event.subject.clone(),
            event.message.clone(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mk_event() -> Event {
        Event {
            sequence: 41,
            time: "2026-01-31T08:00:00.123456789Z".parse().unwrap(),
            kind: EventKind::Warning,
            reason: EventReason::ImageFailed,
            subject: "docker.io/library/nginx:1.27".to_owned(),
            message: "not found".to_owned(),
        }
    }

    #[test]
    fn table_and_line_have_the_number_and_the_words_of_the_json() {
        insta::assert_snapshot!(table_of(&[mk_event()]).render(None), @r"
        NUMBER  TIME                  KIND     REASON       SUBJECT                       MESSAGE
        41      2026-01-31T08:00:00Z  Warning  ImageFailed  docker.io/library/nginx:1.27  not found
        ");
        insta::assert_snapshot!(one_line(&mk_event()), @"   41  2026-01-31T08:00:00Z  Warning  ImageFailed           docker.io/library/nginx:1.27  not found");
    }

    #[test]
    fn start_is_a_number_a_duration_or_a_time() {
        let now: Timestamp = "2026-01-31T08:00:00Z".parse().unwrap();
        let time = |text: &str| Since::Time(text.parse().unwrap());
        for (text, expected) in [
            ("41", Since::Sequence(41)),
            ("5m", time("2026-01-31T07:55:00Z")),
            ("1h30m", time("2026-01-31T06:30:00Z")),
            ("2026-01-30T10:00:00+02:00", time("2026-01-30T08:00:00Z")),
        ] {
            let since = text.parse::<SinceArg>().map(|since| since.resolve(now).unwrap());
            assert_eq!(since, Ok(expected), "{text}");
        }
        for text in ["", "-5m", "yesterday", "2026-01-30"] {
            assert!(text.parse::<SinceArg>().is_err(), "{text}");
        }
    }
}
