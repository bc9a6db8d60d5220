//! Uploads under way: a client opens one, sends what it has in as many requests as it likes, and asks how far it got.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use landfall_core::reference::{Digest, Repository};
use landfall_core::sync::lock;
use landfall_net::random::random_bytes;
use landfall_oci::digest::Algorithm;
use landfall_oci::store::error::StoreError;
use landfall_oci::store::ingest::Upload;
use landfall_oci::store::receive::Receiver;
use tokio::sync::OwnedMutexGuard;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// How long an upload waits for its next request.
const IDLE_MAX: Duration = Duration::from_secs(60 * 60);
/// How many uploads are open at once.
const SESSIONS_MAX: usize = 1024;
/// How long a client that asks how far an upload got waits for the request that is at it.
const RELEASE_WAIT_MAX: Duration = Duration::from_secs(3);

/// An upload session that cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UploadSessionError {
    /// As many are open as may be.
    TooMany,
    /// Another request holds it and does not end.
    Busy,
    Unknown,
}

/// The uploads under way, by the names that clients know them by. Clones are the same ones.
#[derive(Debug, Clone, Default)]
pub(crate) struct UploadSessions {
    sessions: Arc<Mutex<HashMap<String, UploadSession>>>,
}

#[derive(Debug)]
struct UploadSession {
    repository: Repository,
    touched: Instant,
    /// What was there before the request that is at it.
    length: u64,
    /// Locked while a request is at it.
    upload: Arc<tokio::sync::Mutex<Upload>>,
    /// Ends the request that is at it.
    superseded: CancellationToken,
}

impl UploadSessions {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, UploadSession>> {
        lock(&self.sessions)
    }

    /// Opens a session.
    pub(crate) fn open(&self, repository: &Repository, upload: Upload) -> Result<String, UploadSessionError> {
        self.expire();
        let mut sessions = self.lock();
        if sessions.len() >= SESSIONS_MAX {
            return Err(UploadSessionError::TooMany);
        }
        let id = random_id();
        let session = UploadSession {
            repository: repository.clone(),
            touched: Instant::now(),
            length: upload.length(),
            upload: Arc::new(tokio::sync::Mutex::new(upload)),
            superseded: CancellationToken::new(),
        };
        sessions.insert(id.clone(), session);
        Ok(id)
    }

    /// Forgets the uploads that nobody went on with.
    pub(crate) fn expire(&self) {
        let now = Instant::now();
        self.lock().retain(|_, session| {
            if session.upload.try_lock().is_err() {
                session.touched = now;
            }
            now - session.touched < IDLE_MAX
        });
    }

    fn find<'a>(
        sessions: &'a mut HashMap<String, UploadSession>,
        repository: &Repository,
        id: &str,
    ) -> Result<&'a mut UploadSession, UploadSessionError> {
        let session = sessions.get_mut(id);
        session
            .filter(|session| session.repository == *repository)
            .ok_or(UploadSessionError::Unknown)
    }

    /// Takes an upload for a request. One that is still at it is ended, and waited for: its client has given it up, or would
    /// not send another, and a slow link can keep it alive here for long. There are never two at one upload.
    pub(crate) async fn acquire(
        &self,
        repository: &Repository,
        id: &str,
    ) -> Result<AcquiredUpload, UploadSessionError> {
        let (upload, reported_length) = {
            let mut sessions = self.lock();
            let session = UploadSessions::find(&mut sessions, repository, id)?;
            match session.upload.clone().try_lock_owned() {
                Ok(upload) => return Ok(self.hand_out(session, id, upload, None)),
                Err(_locked) => session.superseded.cancel(),
            }
            (session.upload.clone(), session.length)
        };
        let upload = timeout(RELEASE_WAIT_MAX, upload.lock_owned())
            .await
            .map_err(|_elapsed| UploadSessionError::Busy)?;
        let mut sessions = self.lock();
        // The request may have ended the session.
        let session = UploadSessions::find(&mut sessions, repository, id)?;
        Ok(self.hand_out(session, id, upload, Some(reported_length)))
    }

    fn hand_out(
        &self,
        session: &mut UploadSession,
        id: &str,
        upload: OwnedMutexGuard<Upload>,
        reported_length: Option<u64>,
    ) -> AcquiredUpload {
        session.touched = Instant::now();
        session.length = upload.length();
        session.superseded = CancellationToken::new();
        AcquiredUpload {
            upload,
            session: Some((self.clone(), id.to_owned())),
            superseded: session.superseded.clone(),
            reported_length,
        }
    }

    /// At which byte an upload goes on. While a request is at it, that is known only when the request ends, and it does soon
    /// when its client was killed: the next client asks while what the first one sent is still being read.
    pub(crate) async fn wait_for_length(&self, repository: &Repository, id: &str) -> Result<u64, UploadSessionError> {
        let (upload, before) = {
            let mut sessions = self.lock();
            let session = UploadSessions::find(&mut sessions, repository, id)?;
            (session.upload.clone(), session.length)
        };
        let settled = timeout(RELEASE_WAIT_MAX, upload.lock())
            .await
            .map(|upload| upload.length());
        // The request may have ended the session.
        UploadSessions::find(&mut self.lock(), repository, id)?;
        Ok(settled.unwrap_or(before))
    }
}

/// An upload that a request took. It belongs to whoever takes in the bytes, on whatever thread; once that ends, the session
/// has the upload again, with what arrived. The request may be long gone by then, because its client is.
#[derive(Debug)]
pub(crate) struct AcquiredUpload {
    upload: OwnedMutexGuard<Upload>,
    /// `None` for an upload that ends with its request.
    session: Option<(UploadSessions, String)>,
    /// Another request wants to go on with it.
    pub(crate) superseded: CancellationToken,
    /// Where it stood as far as its client could know, when this request ended another that was at it.
    pub(crate) reported_length: Option<u64>,
}

impl AcquiredUpload {
    /// An upload that nobody can go on with in another request.
    pub(crate) async fn without_session(upload: Upload) -> AcquiredUpload {
        AcquiredUpload {
            upload: Arc::new(tokio::sync::Mutex::new(upload)).lock_owned().await,
            session: None,
            superseded: CancellationToken::new(),
            reported_length: None,
        }
    }

    /// Hashes by another algorithm from now on, where that is still possible.
    pub(crate) fn expect_algorithm(&mut self, algorithm: Algorithm) {
        self.upload.expect_algorithm(algorithm);
    }

    /// Makes a blob of it. Whatever comes of that, nobody can go on with the upload afterwards.
    pub(crate) fn commit(mut self, digest: &Digest) -> Result<u64, StoreError> {
        self.end_session();
        self.upload.commit(digest)
    }

    /// Nobody can go on with it any more. Nothing stays of what is not committed.
    pub(crate) fn end_session(&mut self) {
        if let Some((uploads, id)) = self.session.take() {
            uploads.lock().remove(&id);
        }
    }
}

impl Deref for AcquiredUpload {
    type Target = Upload;

    fn deref(&self) -> &Upload {
        &self.upload
    }
}

impl Receiver for AcquiredUpload {
    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let appended = self.upload.append(bytes);
        if appended.is_err() {
            // How much of it is on the disk nobody knows.
            self.end_session();
        }
        appended
    }
}

/// Nobody else can guess it.
fn random_id() -> String {
    format!("{:032x}", u128::from_be_bytes(random_bytes()))
}
