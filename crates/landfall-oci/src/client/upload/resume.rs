//! The uploads of one sink: where each one stands, and how it goes on after it broke off.
//!
//! A blob goes up in one request. When that breaks off, the registry is asked how much has arrived, and the rest follows.
//! A registry that has lost the upload with its request (distribution 2 does) gets the blob again in small pieces, each
//! on a connection of its own: what cuts long connections does not get at those.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use http::StatusCode;
use landfall_core::oci_types::Descriptor;
use landfall_core::reference::{Digest, Repository};
use landfall_core::retry::FailureKind;

use super::journal::Errand;
use super::{Opened, Upload, UploadJournal};
use crate::client::{Fault, RegistryClient};
use crate::image::{BlobStart, BlobStream, TransferError};

/// How large a piece is: little is lost with one, and a large blob still takes few requests.
const PIECE: usize = 4 * 1024 * 1024;

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
    /// A request of it was begun: only the registry knows how far that came.
    begun: bool,
    /// The registry loses uploads whose requests break off.
    in_pieces: bool,
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
                true => client.find_upload(repository, digest, upload).await?,
                false => Some(upload.clone()),
            };
            if let Some(upload) = found.filter(|found| found.offset() <= blob.size) {
                let offset = upload.offset();
                state.upload = Some(upload);
                state.begun = false;
                self.set(digest, Some(state));
                return Ok(BlobStart::Wanted(offset));
            }
            state.in_pieces = true;
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
                state.begun = false;
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
        let mut state = self.state(&blob.digest);
        let upload = state.upload.clone().filter(|upload| upload.offset() == offset);
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
        state.begun = true;
        let in_pieces = state.in_pieces;
        self.set(&blob.digest, Some(state));
        let sent = async {
            let (upload, stream) = match in_pieces {
                true => self.write_pieces(client, errand, upload, stream).await?,
                false => (upload, stream),
            };
            Ok(client.finish_upload(repository, blob, upload, stream).await?)
        };
        let sent: Result<(), TransferError> = sent.await;
        let mut error = match sent {
            Ok(()) => {
                self.set(&blob.digest, None);
                self.forget(errand);
                return Ok(());
            }
            Err(error) => error,
        };
        // The registry is still at the request that broke off, or has got more of it than it said: it is asked again.
        if is_conflict(&error) {
            error.kind = FailureKind::Unreachable;
            return Err(error);
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

    /// Sends all whole pieces, and gives back what is left for the last request.
    async fn write_pieces(
        &self,
        client: &RegistryClient,
        errand: Errand<'_>,
        mut upload: Upload,
        mut stream: BlobStream,
    ) -> Result<(Upload, BlobStream), TransferError> {
        let Errand { repository, blob, .. } = errand;
        let mut waiting = BytesMut::new();
        while let Some(bytes) = stream.next().await {
            waiting.extend_from_slice(&bytes?);
            while waiting.len() >= PIECE {
                let piece = waiting.split_to(PIECE).freeze();
                upload = client
                    .append_to_upload(repository, &blob.digest, &upload, piece)
                    .await?;
                let reached = State {
                    upload: Some(upload.clone()),
                    begun: true,
                    in_pieces: true,
                };
                self.set(&blob.digest, Some(reached));
                self.record(errand, &upload);
            }
        }
        let rest: Bytes = waiting.freeze();
        Ok((upload, Box::pin(stream::iter([Ok(rest)]))))
    }
}

fn is_conflict(error: &TransferError) -> bool {
    let status = match Fault::of(error) {
        Some(Fault::Answer { status, .. }) => *status,
        _ => return false,
    };
    matches!(status, StatusCode::CONFLICT | StatusCode::RANGE_NOT_SATISFIABLE)
}
