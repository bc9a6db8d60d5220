//! `landfall events`: shows the agent's event log.

use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use camino::Utf8Path;
use clap::Args;
use landfall_core::status::{Event, EventKind};
use landfall_core::yaml_out::render_yaml;
use reqwest::header::HeaderMap;
use serde::Deserialize;
use tokio::runtime::Runtime;

use crate::args::{OutputArgs, StateArgs};
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::host_api::{HostApi, RemoteHostArgs};
use crate::output::printer::{Printer, stdout_width};
use crate::output::structured::{OutputFormat, print_report};
use crate::output::table::Table;
use crate::runtime;

/// Interval at which `--follow` reads the log. The agent replaces the log file from time to time. Reading it again
/// works on every file system, and a delay of a second does no harm.
const POLL: Duration = Duration::from_secs(1);

/// Show the agent's events on this host.
///
/// The agent keeps at least the last thousand events, across restarts. With `--follow` the command runs until it is
/// interrupted; `-o json` then writes one object per line. With `--from`, the agent of another host is asked.
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  landfall events --follow -o json")]
pub struct EventsArgs {
    #[command(flatten)]
    pub state: StateArgs,
    #[command(flatten)]
    pub remote: RemoteHostArgs,
    /// Keep running, and write new events as they happen.
    #[arg(short, long)]
    pub follow: bool,
    /// Show only events with a greater sequence number than this.
    #[arg(long, value_name = "SEQUENCE", default_value_t = 0)]
    pub since: u64,
    #[command(flatten)]
    pub output: OutputArgs,
}

pub(crate) fn run(args: &EventsArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    let directory = &args.state.state_dir;
    let mut log = match &args.remote.from {
        Some(address) => Log::Remote {
            api: HostApi::new(address, &args.remote.trust, HeaderMap::new())?,
            runtime: runtime::current_thread()?,
        },
        None => Log::Local(directory),
    };
    let is_missing = matches!(log, Log::Local(_)) && !directory.join(landfall_agent::events::FILE_NAME).is_file();
    if !args.follow && is_missing {
        context
            .printer
            .problem(format_args!("no agent ever ran with the state directory `{directory}`"));
        return Ok(ExitStatus::AnswerIsNo);
    }
    if !args.follow {
        let events = log.events_since(args.since)?;
        print_report(&context.printer, args.output.output, &events, |events| table_of(events))?;
        return Ok(ExitStatus::Done);
    }
    let mut since = args.since;
    loop {
        for event in log.events_since(since)? {
            since = event.sequence;
            print_one(&context.printer, args.output.output, &event)?;
        }
        thread::sleep(POLL);
    }
}

/// Log of the agent on this host, or on another one.
enum Log<'a> {
    /// State directory of the agent.
    Local(&'a Utf8Path),
    Remote {
        api: HostApi,
        runtime: Runtime,
    },
}

impl Log<'_> {
    fn events_since(&mut self, since: u64) -> anyhow::Result<Vec<Event>> {
        #[derive(Deserialize)]
        struct Answer {
            events: Vec<Event>,
        }
        match self {
            Log::Local(directory) => {
                landfall_agent::events::read_events(directory, since).context("cannot read the agent's events")
            }
            Log::Remote { api, runtime } => {
                let answer: Answer = runtime.block_on(api.get(&format!("/api/v1/events?since={since}")))?;
                Ok(answer.events)
            }
        }
    }
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
        time,
        reason,
        subject,
        message,
        ..
    } = event;
    format!(
        "{time:.0}  {:<7}  {:<20}  {subject}  {message}",
        kind_word(event.kind),
        format!("{reason:?}")
    )
}

fn table_of(events: &[Event]) -> String {
    let mut table = Table::new(&["TIME", "KIND", "REASON", "SUBJECT", "MESSAGE"]);
    for event in events {
        table.row([
            format!("{:.0}", event.time),
            kind_word(event.kind).to_owned(),
            event.reason.to_string(),
            event.subject.clone(),
            event.message.clone(),
        ]);
    }
    table.render(stdout_width())
}

fn kind_word(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Normal => "normal",
        EventKind::Warning => "warning",
    }
}
