//! Progress as lines: text for a pipe, JSON for programs.

use std::collections::HashSet;
use std::fmt;
use std::io::{self, Write};
use std::sync::Mutex;
use std::time::Duration;

use indicatif::{BinaryBytes, HumanDuration};
use landfall_core::status::{ProgressEvent, ProgressSink, TransferTally};
use landfall_core::sync::lock;
use tokio::time::Instant;

use crate::output::digest::short_digest;
use crate::output::printer::Printer;

/// Interval of the totals while bytes move.
const TOTALS_EVERY: Duration = Duration::from_secs(10);

/// Display with a line of text for each phase, image and retry, and the totals every [`TOTALS_EVERY`]. Blobs have lines
/// with `--verbose` only.
#[derive(Debug)]
pub(super) struct PlainLines {
    printer: Printer,
    totals: Mutex<Totals>,
    told: ToldReasons,
}

impl PlainLines {
    pub(super) fn new(printer: Printer) -> PlainLines {
        PlainLines {
            printer,
            totals: Mutex::new(Totals {
                tally: TransferTally::default(),
                last_line_at: Instant::now(),
                done_at_last_line: 0,
            }),
            told: ToldReasons::default(),
        }
    }
}

/// The reasons of failed images so far. A reason is printed once, also if it is one for all images.
#[derive(Debug, Default)]
pub(super) struct ToldReasons(Mutex<HashSet<String>>);

impl ToldReasons {
    /// Takes the reason out of an event if it was printed before.
    pub(super) fn shorten(&self, event: ProgressEvent) -> ProgressEvent {
        match event {
            ProgressEvent::ImageFailed { image, error } if !lock(&self.0).insert(error.clone()) => {
                ProgressEvent::ImageFailed {
                    image,
                    error: "the same as above".to_owned(),
                }
            }
            event => event,
        }
    }
}

/// Totals of all bytes, and the time of the last line about them.
#[derive(Debug)]
struct Totals {
    tally: TransferTally,
    last_line_at: Instant,
    done_at_last_line: u64,
}

impl Totals {
    /// Counts an event, and returns a line if one is due.
    fn note(&mut self, event: &ProgressEvent) -> Option<String> {
        self.tally.note(event);
        let passed = self.last_line_at.elapsed();
        if passed < TOTALS_EVERY || !matches!(event, ProgressEvent::BlobAdvanced { .. }) {
            return None;
        }
        let (done, total) = (self.tally.done(), self.tally.total());
        let rate = u128::from(done.saturating_sub(self.done_at_last_line)) * 1000 / passed.as_millis().max(1);
        let rate = u64::try_from(rate).unwrap_or(u64::MAX);
        (self.last_line_at, self.done_at_last_line) = (Instant::now(), done);
        let (of, a_second) = (BinaryBytes(total), BinaryBytes(rate));
        let mut line = format!("  {} of {of}, {a_second} a second", BinaryBytes(done));
        if let Some(seconds) = (total - done).checked_div(rate) {
            line += &format!(", {} to go", HumanDuration(Duration::from_secs(seconds)));
        }
        Some(line)
    }
}

impl ProgressSink for PlainLines {
    fn progress(&self, event: ProgressEvent) {
        let totals = lock(&self.totals).note(&event);
        if let Some(line) = totals {
            self.printer.note(line);
        }
        let event = self.told.shorten(event);
        match event {
            ProgressEvent::Phase { .. }
            | ProgressEvent::ImageFinished { .. }
            | ProgressEvent::ImageFailed { .. }
            | ProgressEvent::Retrying { .. } => self.printer.note(Sentence(&event)),
            ProgressEvent::BlobStarted { .. }
            | ProgressEvent::BlobFinished { .. }
            | ProgressEvent::BlobSkipped { .. } => {
                self.printer.detail(Sentence(&event));
            }
            ProgressEvent::BlobPlanned { .. } | ProgressEvent::BlobAdvanced { .. } => {}
        }
    }
}

/// An event in words.
pub(super) struct Sentence<'a>(pub(super) &'a ProgressEvent);

impl fmt::Display for Sentence<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ProgressEvent::Phase { phase } => write!(f, "phase {phase:?}"),
            ProgressEvent::BlobPlanned { digest, size } => {
                write!(f, "  wanted: {} ({size} bytes)", short_digest(digest))
            }
            ProgressEvent::BlobStarted {
                image,
                digest,
                size,
                offset: 0,
            } => {
                write!(f, "  fetching {} ({size} bytes) of {image}", short_digest(digest))
            }
            ProgressEvent::BlobStarted {
                image,
                digest,
                size,
                offset,
            } => {
                write!(
                    f,
                    "  resuming {} at byte {offset} of {size} of {image}",
                    short_digest(digest)
                )
            }
            ProgressEvent::BlobAdvanced { digest, bytes } => write!(f, "  {}: {bytes} bytes", short_digest(digest)),
            ProgressEvent::BlobFinished { digest } => write!(f, "  verified {}", short_digest(digest)),
            ProgressEvent::BlobSkipped { digest, size } => {
                write!(f, "  there already: {} ({size} bytes)", short_digest(digest))
            }
            ProgressEvent::Retrying {
                subject,
                attempt,
                delay_ms,
                error,
            } => {
                write!(f, "  {subject}: attempt {attempt} in {delay_ms} ms, because {error}")
            }
            ProgressEvent::ImageFinished { image } => write!(f, "  done {image}"),
            ProgressEvent::ImageFailed { image, error } => write!(f, "  failed {image}: {error}"),
        }
    }
}

/// Display with a line of JSON for each event.
#[derive(Debug)]
pub(super) struct JsonLines;

impl ProgressSink for JsonLines {
    fn progress(&self, event: ProgressEvent) {
        let mut line = serde_json::to_vec(&event).expect("a progress event has only strings and numbers");
        line.push(b'\n');
        // If stderr is closed, no one can be told; the work continues.
        let _stderr_closed = io::stderr().lock().write_all(&line);
    }
}

#[cfg(test)]
mod tests {
    use landfall_core::status::Phase;

    use super::*;
    use crate::output::printer::{ColorChoice, Verbosity};

    #[tokio::test(start_paused = true)]
    async fn totals_are_told_now_and_then_with_the_time_to_go() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let advanced = ProgressEvent::BlobAdvanced {
            digest: digest.clone(),
            bytes: 10 * 1024 * 1024,
        };
        let mut totals = PlainLines::new(Printer::new(Verbosity::Normal, ColorChoice::Auto))
            .totals
            .into_inner()
            .unwrap();
        assert_eq!(
            totals.note(&ProgressEvent::BlobPlanned {
                digest,
                size: 40 * 1024 * 1024
            }),
            None
        );
        tokio::time::advance(TOTALS_EVERY).await;
        assert_eq!(
            totals.note(&advanced).unwrap(),
            "  10.00 MiB of 40.00 MiB, 1.00 MiB a second, 30 seconds to go"
        );
        assert_eq!(totals.note(&advanced), None);
    }

    #[test]
    fn events_read_as_sentences() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let image = "docker.io/library/nginx:1.27".to_owned();
        let events = [
            ProgressEvent::Phase {
                phase: Phase::ProviderImage,
            },
            ProgressEvent::BlobStarted {
                image: image.clone(),
                digest: digest.clone(),
                size: 10,
                offset: 0,
            },
            ProgressEvent::BlobStarted {
                image: image.clone(),
                digest: digest.clone(),
                size: 10,
                offset: 4,
            },
            ProgressEvent::BlobFinished { digest: digest.clone() },
            ProgressEvent::BlobSkipped { digest, size: 10 },
            ProgressEvent::Retrying {
                subject: image.clone(),
                attempt: 2,
                delay_ms: 500,
                error: "reset".into(),
            },
            ProgressEvent::ImageFinished { image: image.clone() },
            ProgressEvent::ImageFailed {
                image,
                error: "not there".into(),
            },
        ];
        let lines: Vec<String> = events.iter().map(|event| Sentence(event).to_string()).collect();
        insta::assert_snapshot!(lines.join("\n"), @r"
        phase ProviderImage
          fetching sha256:abababababab (10 bytes) of docker.io/library/nginx:1.27
          resuming sha256:abababababab at byte 4 of 10 of docker.io/library/nginx:1.27
          verified sha256:abababababab
          there already: sha256:abababababab (10 bytes)
          docker.io/library/nginx:1.27: attempt 2 in 500 ms, because reset
          done docker.io/library/nginx:1.27
          failed docker.io/library/nginx:1.27: not there
        ");
    }
}
