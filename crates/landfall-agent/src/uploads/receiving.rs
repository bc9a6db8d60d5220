//! A range that is being received.

use std::fmt;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fs_err as fs;
use landfall_core::bundle::upload::{JournalEntry, RangeDecision, UploadRefusal, UploadStatus};
use landfall_core::reference::Digest;
use landfall_core::sync::lock;
use landfall_oci::digest::{Algorithm, Digester};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Entry, Offer, Shared, UploadError};

/// Time without bytes after which a range gives way to another client, or to another connection of the same one.
const IDLE_MAX: Duration = Duration::from_secs(5);

/// A range under way, as others see it.
#[derive(Debug)]
pub(super) struct InFlight {
    gives_way: CancellationToken,
    moved: Mutex<Instant>,
}

impl InFlight {
    pub(super) fn give_way(&self) {
        self.gives_way.cancel();
    }

    /// Makes a range that gets no bytes give way. Its place is free soon.
    fn give_way_if_idle(&self) {
        if lock(&self.moved).elapsed() >= IDLE_MAX {
            self.give_way();
        }
    }
}

/// A range that is being received. What was written counts only once [`Receiving::finish`] has succeeded.
pub(crate) struct Receiving {
    shared: Arc<Shared>,
    entry: Arc<Entry>,
    number: u64,
    span: Range<u64>,
    sha256: Digest,
    /// Opened for this range alone: the kernel tells each open file of a failed write once.
    file: fs::File,
    digester: Digester,
    flight: Arc<InFlight>,
    _slot: OwnedSemaphorePermit,
}

impl fmt::Debug for Receiving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Receiving({} of {})", self.number, self.entry.id)
    }
}

impl Receiving {
    pub(super) fn begin(
        shared: &Arc<Shared>,
        id: &str,
        number: u64,
        length: Option<u64>,
        sha256: &Digest,
    ) -> Result<Offer, UploadError> {
        let entry = shared.find(id)?;
        let slot = shared.slots.clone().try_acquire_owned();
        if slot.is_err() {
            let entries: Vec<Arc<Entry>> = lock(&shared.entries).values().cloned().collect();
            for entry in entries {
                lock(&entry.state)
                    .in_flight
                    .values()
                    .for_each(|flight| flight.give_way_if_idle());
            }
        }
        let mut state = lock(&entry.state);
        if state.is_removed {
            return Err(UploadRefusal::Unknown { id: id.to_owned() }.into());
        }
        if state.upload.offer(number, length, sha256)? == RangeDecision::Here {
            return Ok(Offer::Here(entry.status(&state)));
        }
        let slot = slot.map_err(|_| UploadRefusal::Busy)?;
        if let Some(flight) = state.in_flight.get(&number) {
            flight.give_way_if_idle();
            return Err(UploadRefusal::InFlight { number }.into());
        }
        let span = state.upload.span(number).unwrap_or_default();
        shared.room()?.check_range(span.end - span.start)?;
        let file = fs::OpenOptions::new().write(true).open(&entry.part);
        let file = file.map_err(|error| shared.failed(&entry.part, error))?;
        let flight = Arc::new(InFlight {
            gives_way: CancellationToken::new(),
            moved: Mutex::new(Instant::now()),
        });
        state.in_flight.insert(number, flight.clone());
        drop(state);
        Ok(Offer::Take(Box::new(Receiving {
            shared: shared.clone(),
            entry,
            number,
            span,
            sha256: sha256.clone(),
            file,
            digester: Digester::new(Algorithm::Sha256),
            flight,
            _slot: slot,
        })))
    }

    /// Returns the number of bytes of the range.
    pub(crate) fn length(&self) -> u64 {
        self.span.end - self.span.start
    }

    /// Returns the token that is cancelled when the range has to give way.
    pub(crate) fn gives_way(&self) -> CancellationToken {
        self.flight.gives_way.clone()
    }

    /// Returns the refusal for a range that gave way.
    pub(crate) fn gave_way(&self) -> UploadRefusal {
        UploadRefusal::InFlight { number: self.number }
    }

    /// Writes the next bytes of the range.
    ///
    /// # Errors
    ///
    /// If there are too many, or the disk fails.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), UploadError> {
        let found = self.digester.length() + bytes.len() as u64;
        if found > self.length() {
            return Err(self.wrong_length(found));
        }
        let offset = self.span.start + self.digester.length();
        let written = self.file.file().write_all_at(bytes, offset);
        written.map_err(|error| self.shared.failed(&self.entry.part, error))?;
        self.digester.update(bytes);
        *lock(&self.flight.moved) = Instant::now();
        Ok(())
    }

    /// Acknowledges the range: its bytes and the line in the journal are on the disk then. The last range gives the file
    /// its name.
    ///
    /// # Errors
    ///
    /// If the bytes are not those that the client meant, or the disk fails.
    pub(crate) fn finish(mut self) -> Result<UploadStatus, UploadError> {
        let found = self.digester.length();
        if found != self.length() {
            return Err(self.wrong_length(found));
        }
        let digester = std::mem::replace(&mut self.digester, Digester::new(Algorithm::Sha256));
        if digester.finish() != self.sha256 {
            return Err(UploadRefusal::Hash { number: self.number }.into());
        }
        let synced = self.file.sync_data();
        synced.map_err(|error| self.shared.failed(&self.entry.part, error))?;
        let mut state = lock(&self.entry.state);
        if state.is_removed {
            let id = self.entry.id.clone();
            return Err(UploadRefusal::Unknown { id }.into());
        }
        let noted = state.note(&JournalEntry::Range(self.number, self.sha256.clone()));
        noted.map_err(|error| self.shared.failed(&self.entry.journal, error))?;
        self.shared.complete(&self.entry, &mut state);
        Ok(self.entry.status(&state))
    }

    fn wrong_length(&self, found: u64) -> UploadError {
        UploadRefusal::Length {
            number: self.number,
            expected: self.length(),
            found,
        }
        .into()
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        lock(&self.entry.state).in_flight.remove(&self.number);
    }
}
