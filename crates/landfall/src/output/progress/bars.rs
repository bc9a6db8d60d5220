//! Progress as bars: one for all bytes, with rate and remaining time, and one for each blob in flight.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use landfall_core::status::{ProgressEvent, ProgressSink, TransferTally};
use landfall_core::sync::lock;

use crate::output::digest::short_digest;
use crate::output::progress::lines::{Sentence, ToldReasons};

/// Bars on a terminal.
pub(super) struct Bars {
    multi: MultiProgress,
    total: ProgressBar,
    tally: Mutex<TransferTally>,
    blobs: Mutex<HashMap<String, ProgressBar>>,
    told: ToldReasons,
}

impl fmt::Debug for Bars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bars")
    }
}

impl Bars {
    pub(super) fn new() -> Bars {
        let multi = MultiProgress::new();
        let total = multi.add(
            ProgressBar::new(0)
                .with_style(style(
                    "{prefix:15} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} eta {eta}",
                ))
                .with_prefix("Total"),
        );
        Bars {
            multi,
            total,
            tally: Mutex::default(),
            blobs: Mutex::default(),
            told: ToldReasons::default(),
        }
    }

    /// Returns a handle that clears the bars while other lines are written.
    pub(super) fn multi(&self) -> MultiProgress {
        self.multi.clone()
    }

    fn blobs(&self) -> MutexGuard<'_, HashMap<String, ProgressBar>> {
        lock(&self.blobs)
    }

    fn count(&self, event: &ProgressEvent) {
        let mut tally = lock(&self.tally);
        tally.note(event);
        self.total.set_length(tally.total());
        self.total.set_position(tally.done());
    }

    fn print_line(&self, event: &ProgressEvent) {
        // If the terminal is closed, no one can be told.
        let _terminal_closed = self.multi.println(Sentence(event).to_string());
    }
}

impl ProgressSink for Bars {
    fn progress(&self, event: ProgressEvent) {
        self.count(&event);
        let event = self.told.shorten(event);
        match &event {
            ProgressEvent::Phase { phase } => {
                self.print_line(&event);
                self.total.set_prefix(format!("{phase:?}"));
            }
            ProgressEvent::BlobStarted {
                image,
                digest,
                size,
                offset,
            } => {
                let bar = ProgressBar::new(*size)
                    .with_position(*offset)
                    .with_style(style("  {prefix:19} {bar:25} {bytes}/{total_bytes} {wide_msg}"));
                let bar = self.multi.add(
                    bar.with_prefix(short_digest(digest).to_owned())
                        .with_message(image.clone()),
                );
                // A blob that is retried has a bar already.
                if let Some(former) = self.blobs().insert(digest.clone(), bar) {
                    self.multi.remove(&former);
                }
            }
            ProgressEvent::BlobAdvanced { digest, bytes } => {
                if let Some(bar) = self.blobs().get(digest) {
                    bar.inc(*bytes);
                }
            }
            ProgressEvent::BlobFinished { digest } => {
                if let Some(bar) = self.blobs().remove(digest) {
                    bar.finish_and_clear();
                    self.multi.remove(&bar);
                }
            }
            ProgressEvent::BlobPlanned { .. } | ProgressEvent::BlobSkipped { .. } => {}
            ProgressEvent::Retrying { .. }
            | ProgressEvent::ImageFinished { .. }
            | ProgressEvent::ImageFailed { .. } => {
                self.print_line(&event);
            }
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.total.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates of this file are valid; a test builds the bars")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finished_blob_leaves_no_bar_behind() {
        let bars = Bars::new();
        let digest = "sha256:00".to_owned();
        bars.progress(ProgressEvent::BlobStarted {
            image: "a".into(),
            digest: digest.clone(),
            size: 10,
            offset: 4,
        });
        bars.progress(ProgressEvent::BlobAdvanced {
            digest: digest.clone(),
            bytes: 6,
        });
        assert_eq!(bars.blobs()[&digest].position(), 10);
        assert_eq!((bars.total.position(), bars.total.length()), (6, Some(6)));
        bars.progress(ProgressEvent::BlobFinished { digest });
        assert!(bars.blobs().is_empty());
    }
}
