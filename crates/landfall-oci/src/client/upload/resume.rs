//! The uploads of one sink: where each one stands, and how it goes on after it broke off.
//!
//! When a request breaks off, the registry is asked how much has arrived, and the rest follows. Whether a large blob goes
//! up in one request or in pieces depends on what the registry made of those that broke off: see `chunking`.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use http::StatusCode;
use landfall_core::failure::FailureKind;
use landfall_core::oci_types::Descriptor;
use landfall_core::reference::{Digest, Repository};

use super::journal::{Errand, UploadJournal};
use super::pieces::Pieces;
use super::session::{Opened, Upload};
use crate::client::chunking::AdaptiveLength;
use crate::client::error::Fault;
use crate::client::registry_client::RegistryClient;
use crate::image::{BlobStart, BlobStream, TransferError};

/// After so many conflicts an upload is given up.
const CONFLICTS_MAX: u32 = 2;

/// The uploads to one repository that are not complete.
#[derive(Default)]
pub(in crate::client) struct Uploads {
    states: Mutex<HashMap<Digest, State>>,
    /// Those that are to outlive this process, if any.
    journal: Option<UploadJournal>,
}

#[derive(Debug, Clone, Default)]
struct State {
    /// Where the upload stood when we last heard of it.
    upload: Option<Upload>,
    /// A request of so many bytes was begun: only the registry knows how far that came.
    begun: Option<u64>,
    /// How often the registry said that another request is at the upload, since it last got further.
    conflicts: u32,
    /// The request before that one broke off.
    has_broken: bool,
}

impl fmt::Debug for Uploads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uploads").finish_non_exhaustive()
    }
}

impl Uploads {
    pub(in crate::client) fn new(journal: Option<UploadJournal>) -> Uploads {
        Uploads {
            states: Mutex::default(),
            journal,
        }
    }

    fn state(&self, digest: &Digest) -> State {
        let states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        states.get(digest).cloned().unwrap_or_default()
    }

    fn set(&self, digest: &Digest, state: Option<State>) {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        match state {
            Some(state) => states.insert(digest.clone(), state),
            None => states.remove(digest),
        };
    }

    /// Finds out what there is to do for a blob.
    pub(in crate::client) async fn start(
        &self,
        client: &RegistryClient,
        repository: &Repository,
        blob: &Descriptor,
        from: Option<&Repository>,
    ) -> Result<BlobStart, TransferError> {
        let digest = &blob.digest;
        let errand = Errand {
            registry: client.host(),
            repository,
            blob,
        };
        let mut state = self.state(digest);
        if let Some(upload) = &state.upload {
            let found = match state.begun {
                Some(_) => client.find_upload(repository, digest, upload).await?,
                None => Some(upload.clone()),
            };
            let found = found.filter(|found| found.offset() <= blob.size);
            let arrived = found
                .as_ref()
                .map_or(0, |found| found.offset().saturating_sub(upload.offset()));
            match state.begun {
                Some(_) if arrived > 0 && state.has_broken => client.chunks.connection_broke(arrived),
                Some(_) if arrived > 0 => client.chunks.resume_kept(),
                Some(request) => client.chunks.resume_lost(request),
                None => {}
            }
            state.has_broken = state.begun.is_some();
            state.begun = None;
            if arrived > 0 {
                state.conflicts = 0;
            }
            if let Some(upload) = found {
                let offset = upload.offset();
                state.upload = Some(upload);
                self.set(digest, Some(state));
                return Ok(BlobStart::Wanted(offset));
            }
            self.forget(errand);
        }
        match client
            .open_upload(repository, digest, from.unwrap_or(repository))
            .await?
        {
            Opened::Present => {
                self.set(digest, None);
                self.forget(errand);
                Ok(from.map_or(BlobStart::Present, |_| BlobStart::Mounted))
            }
            Opened::Wanted(new) => {
                let upload = match self.find_recorded(client, errand).await {
                    Some(recorded) => {
                        client.cancel_upload(repository, new).await;
                        recorded
                    }
                    None => {
                        self.record(errand, &new);
                        new
                    }
                };
                let offset = upload.offset();
                state.upload = Some(upload);
                self.set(digest, Some(state));
                Ok(BlobStart::Wanted(offset))
            }
        }
    }

    /// The upload of an earlier process, where it got anywhere. That the registry cannot be asked is no reason to stop.
    async fn find_recorded(&self, client: &RegistryClient, errand: Errand<'_>) -> Option<Upload> {
        let url = self.journal.as_ref()?.find(errand)?;
        let recorded = Upload { url, offset: 0 };
        let found = client.find_upload(errand.repository, &errand.blob.digest, &recorded);
        let found = found.await.ok().flatten();
        found.filter(|found| (1..=errand.blob.size).contains(&found.offset()))
    }

    fn record(&self, errand: Errand<'_>, upload: &Upload) {
        if let Some(journal) = &self.journal {
            journal.record(errand, &upload.url);
        }
    }

    fn forget(&self, errand: Errand<'_>) {
        if let Some(journal) = &self.journal {
            journal.forget(errand);
        }
    }

    /// Sends a blob from `offset` on, which is where [`Uploads::start`] said it stands.
    pub(in crate::client) async fn write(
        &self,
        client: &RegistryClient,
        repository: &Repository,
        blob: &Descriptor,
        offset: u64,
        stream: BlobStream,
    ) -> Result<(), TransferError> {
        let upload = self.state(&blob.digest).upload;
        let upload = upload.filter(|upload| upload.offset() == offset);
        let errand = Errand {
            registry: client.host(),
            repository,
            blob,
        };
        let Some(upload) = upload else {
            return Err(TransferError {
                attempt: format!("cannot push `{}` to `{repository}` from byte {offset} on", blob.digest),
                kind: FailureKind::Protocol,
                source: None,
            });
        };
        let mut error = match self.send(client, errand, upload, stream).await {
            Ok(()) => {
                self.set(&blob.digest, None);
                self.forget(errand);
                return Ok(());
            }
            Err(error) => error,
        };
        match response_status(&error) {
            // The registry is still at the request that broke off, or has got more of it than it said: it is asked again.
            Some(StatusCode::CONFLICT | StatusCode::RANGE_NOT_SATISFIABLE) => {
                error.kind = FailureKind::Unreachable;
                self.count_conflict(client, errand);
                return Err(error);
            }
            // A proxy before the registry takes no request of this size: nothing of it arrived, so the next one is smaller.
            Some(StatusCode::PAYLOAD_TOO_LARGE) if self.may_shrink(errand) => {
                error.kind = FailureKind::Unreachable;
                return Err(error);
            }
            _ => {}
        }
        // A registry that refuses the bytes of several requests may have put them together wrongly.
        if offset > 0 && error.kind == FailureKind::Protocol {
            error.kind = FailureKind::Corrupt;
        }
        // What arrived is worth nothing: the next attempt begins anew.
        if matches!(error.kind, FailureKind::Corrupt | FailureKind::Protocol) {
            self.set(&blob.digest, None);
            self.forget(errand);
        }
        Err(error)
    }

    fn may_shrink(&self, errand: Errand<'_>) -> bool {
        let begun = self.state(&errand.blob.digest).begun;
        begun.is_some_and(|request| request > AdaptiveLength::MIN)
    }

    /// A link that hardly moves keeps a request alive at the registry that is long over here. Then the blob is begun
    /// anew, in pieces that get through.
    fn count_conflict(&self, client: &RegistryClient, errand: Errand<'_>) {
        let digest = &errand.blob.digest;
        let mut state = self.state(digest);
        state.conflicts += 1;
        if state.conflicts < CONFLICTS_MAX {
            return self.set(digest, Some(state));
        }
        if let Some(request) = state.begun {
            client.chunks.resume_lost(request);
        }
        self.set(digest, None);
        self.forget(errand);
    }

    /// Sends the rest of a blob: in one request, or in as many as the chunk policy asks for.
    async fn send(
        &self,
        client: &RegistryClient,
        errand: Errand<'_>,
        mut upload: Upload,
        stream: BlobStream,
    ) -> Result<(), TransferError> {
        let Errand { repository, blob, .. } = errand;
        let pieces = Pieces::new(stream);
        let mut state = self.state(&blob.digest);
        loop {
            let left = blob.size - upload.offset();
            let length = client.chunks.chunk_size(left);
            state.upload = Some(upload.clone());
            state.begun = Some(length);
            self.set(&blob.digest, Some(state.clone()));
            let piece = pieces.next(length);
            if length == left {
                return Ok(client.finish_upload(repository, blob, upload, piece).await?);
            }
            upload = client
                .append_to_upload(repository, &blob.digest, &upload, piece, length)
                .await?;
            state.has_broken = false;
            self.record(errand, &upload);
        }
    }
}

fn response_status(error: &TransferError) -> Option<StatusCode> {
    match Fault::of(error) {
        Some(Fault::Answer { status, .. }) => Some(*status),
        _ => None,
    }
}
