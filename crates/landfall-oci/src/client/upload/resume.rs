//! The upload sessions of one sink: their offsets, and their continuation after a break.
//!
//! After a broken request the client asks the registry how many bytes arrived, and sends the rest.
//! [`ChunkPolicy`](crate::client::chunking::ChunkPolicy) decides whether a large blob is sent in one request or in
//! chunks.

use std::collections::HashMap;
use std::fmt;
use std::sync::Mutex;

use http::StatusCode;
use landfall_core::failure::{AfterShortcut, FailureKind, Shortcut, Unexpected};
use landfall_core::oci_types::Descriptor;
use landfall_core::reference::{Digest, Repository};
use landfall_core::sync::lock;
use reqwest::Url;

use super::chunks::BlobChunks;
use super::journal::{UploadJournal, UploadKey};
use super::session::{UploadSession, UploadStart};
use crate::client::chunking::AdaptiveLength;
use crate::client::error::Fault;
use crate::client::registry_client::RegistryClient;
use crate::client::shortcut::unexpected;
use crate::image::{BlobStart, BlobStream, TransferError};

/// Number of conflicts after which the client gives up an upload session.
const CONFLICTS_MAX: u32 = 2;
/// Redirects of the requests of one blob that are followed.
const REDIRECTS_MAX: u32 = 3;

/// The unfinished upload sessions of one repository.
#[derive(Default)]
pub(in crate::client) struct UploadSessions {
    states: Mutex<HashMap<Digest, UploadState>>,
    /// Keeps sessions beyond the end of this process.
    journal: Option<UploadJournal>,
}

#[derive(Debug, Clone, Default)]
struct UploadState {
    /// The session at the offset that the registry reported last.
    session: Option<UploadSession>,
    /// Length of the request that was begun. Only the registry knows how many of its bytes arrived.
    in_flight: Option<u64>,
    /// Number of conflicts with another request on the session since the offset last grew.
    conflicts: u32,
    /// True if the request before the current one broke off.
    previous_broke: bool,
    /// Number of chunks that failed for a reason that may pass, before the registry took any.
    failed_chunks: u32,
    /// True if the registry refused the blob in chunks: it is sent in one request.
    in_one: bool,
    /// Number of redirects of its requests.
    redirects: u32,
}

impl fmt::Debug for UploadSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UploadSessions").finish_non_exhaustive()
    }
}

impl UploadSessions {
    pub(in crate::client) fn new(journal: Option<UploadJournal>) -> UploadSessions {
        UploadSessions {
            states: Mutex::default(),
            journal,
        }
    }

    fn state(&self, digest: &Digest) -> UploadState {
        let states = lock(&self.states);
        states.get(digest).cloned().unwrap_or_default()
    }

    fn set(&self, digest: &Digest, state: Option<UploadState>) {
        let mut states = lock(&self.states);
        match state {
            Some(state) => states.insert(digest.clone(), state),
            None => states.remove(digest),
        };
    }

    /// Decides about a blob: present, mounted, or wanted from an offset on.
    pub(in crate::client) async fn start(
        &self,
        client: &RegistryClient,
        repository: &Repository,
        blob: &Descriptor,
        from: Option<&Repository>,
    ) -> Result<BlobStart, TransferError> {
        let digest = &blob.digest;
        let key = UploadKey {
            registry: client.host(),
            repository,
            blob,
        };
        let mut state = self.state(digest);
        if let Some(session) = &state.session {
            let found = match state.in_flight {
                Some(_) => client.fetch_upload_status(repository, digest, session).await?,
                None => Some(session.clone()),
            };
            let found = found.filter(|found| found.offset() <= blob.size);
            let arrived = found
                .as_ref()
                .map_or(0, |found| found.offset().saturating_sub(session.offset()));
            match state.in_flight {
                Some(_) if arrived > 0 && state.previous_broke => client.chunks.connection_broke(arrived),
                Some(_) if arrived > 0 => client.chunks.resume_kept(),
                Some(request) => client.chunks.resume_lost(request),
                None => {}
            }
            state.previous_broke = state.in_flight.is_some();
            state.in_flight = None;
            if arrived > 0 {
                state.conflicts = 0;
            }
            if let Some(session) = found {
                let offset = session.offset();
                state.session = Some(session);
                self.set(digest, Some(state));
                return Ok(BlobStart::Wanted(offset));
            }
            self.forget(key);
        }
        match client
            .start_upload(repository, digest, from.unwrap_or(repository))
            .await?
        {
            UploadStart::Present => {
                self.set(digest, None);
                self.forget(key);
                Ok(from.map_or(BlobStart::Present, |_| BlobStart::Mounted))
            }
            UploadStart::Accepted(new) => {
                let session = match self.find_recorded(client, key).await {
                    Some(recorded) => {
                        client.cancel_upload(repository, new).await;
                        recorded
                    }
                    None => {
                        self.record(key, &new);
                        new
                    }
                };
                let offset = session.offset();
                state.session = Some(session);
                self.set(digest, Some(state));
                Ok(BlobStart::Wanted(offset))
            }
        }
    }

    /// Returns the session of an earlier process if the registry has bytes of it. A registry that does not answer the
    /// question is no reason to stop.
    async fn find_recorded(&self, client: &RegistryClient, key: UploadKey<'_>) -> Option<UploadSession> {
        let location = self.journal.as_ref()?.find(key)?;
        let recorded = UploadSession { location, offset: 0 };
        let found = client.fetch_upload_status(key.repository, &key.blob.digest, &recorded);
        let found = found.await.ok().flatten();
        found.filter(|found| (1..=key.blob.size).contains(&found.offset()))
    }

    fn record(&self, key: UploadKey<'_>, session: &UploadSession) {
        if let Some(journal) = &self.journal {
            journal.record(key, &session.location);
        }
    }

    fn forget(&self, key: UploadKey<'_>) {
        if let Some(journal) = &self.journal {
            journal.forget(key);
        }
    }

    /// Sends a blob from `offset` on. The offset must be the one from [`UploadSessions::start`].
    pub(in crate::client) async fn write(
        &self,
        client: &RegistryClient,
        repository: &Repository,
        blob: &Descriptor,
        offset: u64,
        stream: BlobStream,
    ) -> Result<(), TransferError> {
        let session = self.state(&blob.digest).session;
        let session = session.filter(|session| session.offset() == offset);
        let key = UploadKey {
            registry: client.host(),
            repository,
            blob,
        };
        let Some(session) = session else {
            return Err(TransferError {
                attempt: format!("cannot push `{}` to `{repository}` from byte {offset} on", blob.digest),
                kind: FailureKind::Protocol,
                source: None,
            });
        };
        let mut error = match self.send(client, key, session, stream).await {
            Ok(()) => {
                self.set(&blob.digest, None);
                self.forget(key);
                return Ok(());
            }
            Err(error) => error,
        };
        if let Some(Fault::UploadRedirected { to }) = Fault::of(&error) {
            let mut state = self.state(&blob.digest);
            state.redirects += 1;
            if let Some(session) = state.session.as_mut().filter(|_| state.redirects <= REDIRECTS_MAX) {
                session.location = Url::clone(to);
                state.in_flight = None;
                self.set(&blob.digest, Some(state));
                return Err(error);
            }
            error.kind = FailureKind::Protocol;
        }
        match response_status(&error) {
            // The registry still processes the broken request, or has more of it than it reported. The next attempt
            // asks again.
            Some(StatusCode::CONFLICT | StatusCode::RANGE_NOT_SATISFIABLE) => {
                error.kind = FailureKind::Unreachable;
                self.count_conflict(client, key);
                return Err(error);
            }
            // A proxy in front of the registry rejects requests of this size. No byte arrived, so the next request is
            // smaller.
            Some(StatusCode::PAYLOAD_TOO_LARGE) if self.can_send_less(key) => {
                error.kind = FailureKind::Unreachable;
                self.change(&blob.digest, |state| state.in_one = false);
                return Err(error);
            }
            _ => {}
        }
        if self.take_plain_way(client, key, offset, &error) {
            error.kind = FailureKind::Unreachable;
            return Err(error);
        }
        // A registry that rejects a blob from several requests may have joined them incorrectly.
        if offset > 0 && error.kind == FailureKind::Protocol {
            error.kind = FailureKind::Corrupt;
        }
        // The received bytes are useless: the next attempt starts a new session.
        if matches!(error.kind, FailureKind::Corrupt | FailureKind::Protocol) {
            self.set(&blob.digest, None);
            self.forget(key);
        }
        Err(error)
    }

    /// Decides after a failed request. Returns true if the blob was sent in chunks, and the next attempt sends it in one
    /// request: the registry does not take chunks.
    fn take_plain_way(&self, client: &RegistryClient, key: UploadKey<'_>, offset: u64, error: &TransferError) -> bool {
        let state = self.state(&key.blob.digest);
        let Some(fault) = Fault::of(error) else { return false };
        let answer = unexpected(fault);
        if state.in_one && answer == Unexpected::Silence {
            // The link broke: chunks get through where one request does not.
            self.change(&key.blob.digest, |state| state.in_one = false);
            return false;
        }
        if state.in_one || !(offset > 0 || is_chunked(&state, key.blob)) {
            return false;
        }
        let is_last = offset_of(&state) + state.in_flight.unwrap_or(0) == key.blob.size;
        let passes = matches!(
            answer,
            Unexpected::Wait | Unexpected::Silence | Unexpected::Status(500..)
        );
        if passes && (client.chunks.were_taken() || is_last) {
            return false;
        }
        // The session ended, e.g. with a restart of the registry: a new one, once.
        let is_lost = matches!(answer, Unexpected::Status(404 | 410));
        if is_lost && offset_of(&state) > 0 && state.failed_chunks == 0 {
            let anew = UploadState {
                failed_chunks: 1,
                ..UploadState::default()
            };
            self.set(&key.blob.digest, Some(anew));
            self.forget(key);
            return true;
        }
        match Shortcut::ChunkedUpload.after(answer, state.failed_chunks) {
            AfterShortcut::Fail => false,
            AfterShortcut::Again => {
                self.change(&key.blob.digest, |state| {
                    state.failed_chunks += 1;
                    state.in_one = Shortcut::ChunkedUpload.is_given_up(state.failed_chunks);
                });
                false
            }
            AfterShortcut::PlainWay => {
                let in_one = UploadState {
                    in_one: true,
                    ..UploadState::default()
                };
                self.set(&key.blob.digest, Some(in_one));
                self.forget(key);
                true
            }
        }
    }

    fn change(&self, digest: &Digest, change: impl FnOnce(&mut UploadState)) {
        let mut state = self.state(digest);
        change(&mut state);
        self.set(digest, Some(state));
    }

    fn can_send_less(&self, key: UploadKey<'_>) -> bool {
        let in_flight = self.state(&key.blob.digest).in_flight;
        in_flight.is_some_and(|request| request > AdaptiveLength::MIN)
    }

    /// Counts a conflict. On a link that hardly moves, the registry keeps a request open that ended here long ago.
    /// After [`CONFLICTS_MAX`] conflicts the blob starts anew, in chunks that get through.
    fn count_conflict(&self, client: &RegistryClient, key: UploadKey<'_>) {
        let digest = &key.blob.digest;
        let mut state = self.state(digest);
        state.conflicts += 1;
        if state.conflicts < CONFLICTS_MAX {
            return self.set(digest, Some(state));
        }
        // A registry that took no chunk yet may take none, and say so by a conflict.
        let in_one = !state.in_one && !client.chunks.were_taken() && is_chunked(&state, key.blob);
        if let Some(request) = state.in_flight {
            client.chunks.resume_lost(request);
        }
        let anew = UploadState {
            in_one,
            ..UploadState::default()
        };
        self.set(digest, Some(anew));
        self.forget(key);
    }

    /// Sends the rest of a blob in one request, or in chunks if the chunk policy says so.
    async fn send(
        &self,
        client: &RegistryClient,
        key: UploadKey<'_>,
        mut session: UploadSession,
        stream: BlobStream,
    ) -> Result<(), TransferError> {
        let UploadKey { repository, blob, .. } = key;
        let chunks = BlobChunks::new(stream);
        let mut state = self.state(&blob.digest);
        loop {
            let left = blob.size - session.offset();
            let length = match state.in_one {
                true => left,
                false => client.chunks.chunk_size(left),
            };
            state.session = Some(session.clone());
            state.in_flight = Some(length);
            self.set(&blob.digest, Some(state.clone()));
            let chunk = chunks.next(length);
            if length == left {
                client.finish_upload(repository, blob, session, chunk).await?;
                if state.in_one {
                    client.chunks.refused();
                }
                return Ok(());
            }
            session = client
                .upload_chunk(repository, &blob.digest, &session, chunk, length)
                .await?;
            client.chunks.taken();
            state.previous_broke = false;
            self.record(key, &session);
        }
    }
}

/// Returns true if the request in flight is not all of the blob.
fn is_chunked(state: &UploadState, blob: &Descriptor) -> bool {
    state.in_flight.is_some_and(|request| request < blob.size)
}

fn offset_of(state: &UploadState) -> u64 {
    state.session.as_ref().map_or(0, UploadSession::offset)
}

fn response_status(error: &TransferError) -> Option<StatusCode> {
    match Fault::of(error) {
        Some(Fault::Answer { status, .. }) => Some(*status),
        _ => None,
    }
}
