//! Upload sessions: a client opens one, sends its bytes in any number of requests, and may ask for the upload's length.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use landfall_core::reference::{Digest, Repository};
use landfall_core::sync::lock;
use landfall_net::random::random_bytes;
use landfall_net::serve::budget::ClientAddress;
use landfall_net::serve::slots::{Slot, Slots, TakenSlot};
use landfall_oci::digest::Algorithm;
use landfall_oci::store::error::StoreError;
use landfall_oci::store::ingest::Upload;
use landfall_oci::store::receive::ByteReceiver;
use tokio::sync::OwnedMutexGuard;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::budget_limits::SESSIONS;

/// Time after which a session without requests expires: a client was told of its bytes, and its link may be down for
/// hours.
const IDLE_MAX: Duration = crate::repository::age_clock::GRACE;
/// Time that a request waits for the request that holds the upload.
const RELEASE_WAIT_MAX: Duration = Duration::from_secs(3);

/// Error of opening or acquiring an upload session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UploadSessionError {
    /// The client has its share of sessions, or all clients have all of them, and none gives way.
    TooMany,
    /// Another request holds the upload and does not release it.
    Busy,
    Unknown,
}

/// Open upload sessions by id. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct UploadSessions {
    sessions: Arc<Mutex<HashMap<String, UploadSession>>>,
    slots: Slots,
}

impl Default for UploadSessions {
    fn default() -> UploadSessions {
        UploadSessions {
            sessions: Arc::default(),
            slots: Slots::new(SESSIONS),
        }
    }
}

#[derive(Debug)]
struct UploadSession {
    repository: Repository,
    touched: Instant,
    /// Length before the request that holds the upload.
    length: u64,
    /// Length so far, while a request holds the upload.
    arrived: Arc<AtomicU64>,
    /// Locked while a request holds the upload.
    upload: Arc<tokio::sync::Mutex<Upload>>,
    /// Cancels the request that holds the upload.
    superseded: CancellationToken,
    /// Waits while the session is empty and no request holds the upload.
    taken: TakenSlot,
}

impl UploadSessions {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, UploadSession>> {
        lock(&self.sessions)
    }

    /// Opens a session of a client and returns its id. At the limit, an empty session gives way.
    pub(crate) fn open(
        &self,
        repository: &Repository,
        upload: Upload,
        client: ClientAddress,
    ) -> Result<String, UploadSessionError> {
        self.expire();
        let taken = self.slots.take(client).map_err(|_| UploadSessionError::TooMany)?;
        let mut sessions = self.lock();
        let id = random_id();
        let session = UploadSession {
            repository: repository.clone(),
            touched: Instant::now(),
            length: upload.length(),
            arrived: Arc::new(AtomicU64::new(upload.length())),
            upload: Arc::new(tokio::sync::Mutex::new(upload)),
            superseded: CancellationToken::new(),
            taken,
        };
        sessions.insert(id.clone(), session);
        Ok(id)
    }

    /// Returns the number of sessions that were refused.
    pub(crate) fn refusals(&self) -> u64 {
        self.slots.refusals()
    }

    /// Drops sessions that were idle for too long, or that gave way.
    pub(crate) fn expire(&self) {
        let now = Instant::now();
        self.lock().retain(|_, session| {
            if session.upload.try_lock().is_err() {
                session.touched = now;
            }
            now - session.touched < IDLE_MAX && !session.taken.slot().has_given_way()
        });
    }

    /// Returns true if a repository has a session with a request in flight, or with one in the last `within`.
    pub(crate) fn are_active(&self, repository: &Repository, within: Duration) -> bool {
        let now = Instant::now();
        self.lock()
            .values()
            .filter(|session| session.repository == *repository)
            .any(|session| session.upload.try_lock().is_err() || now - session.touched < within)
    }

    fn find<'a>(
        sessions: &'a mut HashMap<String, UploadSession>,
        repository: &Repository,
        id: &str,
    ) -> Result<&'a mut UploadSession, UploadSessionError> {
        let session = sessions.get_mut(id);
        session
            .filter(|session| session.repository == *repository && !session.taken.slot().has_given_way())
            .ok_or(UploadSessionError::Unknown)
    }

    /// Acquires the upload. A request still holding it is cancelled first: its client has reconnected, and over a slow
    /// link the old connection can stay open for long. At most one request holds an upload.
    pub(crate) async fn acquire(
        &self,
        repository: &Repository,
        id: &str,
    ) -> Result<AcquiredUpload, UploadSessionError> {
        let (upload, reported_length) = {
            let mut sessions = self.lock();
            let session = UploadSessions::find(&mut sessions, repository, id)?;
            match session.upload.clone().try_lock_owned() {
                Ok(upload) => return self.hand_out(session, id, upload, None),
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
        self.hand_out(session, id, upload, Some(reported_length))
    }

    fn hand_out(
        &self,
        session: &mut UploadSession,
        id: &str,
        upload: OwnedMutexGuard<Upload>,
        reported_length: Option<u64>,
    ) -> Result<AcquiredUpload, UploadSessionError> {
        let slot = session.taken.slot().clone();
        if !slot.begin() {
            return Err(UploadSessionError::Unknown);
        }
        session.touched = Instant::now();
        session.length = upload.length();
        session.arrived.store(upload.length(), Ordering::Relaxed);
        session.superseded = CancellationToken::new();
        Ok(AcquiredUpload {
            upload,
            arrived: session.arrived.clone(),
            session: Some(HeldSession {
                sessions: self.clone(),
                id: id.to_owned(),
                slot,
            }),
            superseded: session.superseded.clone(),
            reported_length,
        })
    }

    /// Returns the length of an upload so far, also while a request holds it.
    pub(crate) fn length_so_far(&self, repository: &Repository, id: &str) -> Result<u64, UploadSessionError> {
        let mut sessions = self.lock();
        let session = UploadSessions::find(&mut sessions, repository, id)?;
        Ok(session.arrived.load(Ordering::Relaxed))
    }

    /// Returns the length of an upload. While a request holds the upload, waits for it to end, because only then is the
    /// length final. A killed client's request ends soon: its next request arrives while the bytes of the earlier one
    /// are still being read. A request on a dead connection does not end: its bytes so far count.
    pub(crate) async fn wait_for_length(&self, repository: &Repository, id: &str) -> Result<u64, UploadSessionError> {
        let (upload, arrived) = {
            let mut sessions = self.lock();
            let session = UploadSessions::find(&mut sessions, repository, id)?;
            session.touched = Instant::now();
            (session.upload.clone(), session.arrived.clone())
        };
        let settled = timeout(RELEASE_WAIT_MAX, upload.lock())
            .await
            .map(|upload| upload.length());
        // The request may have ended the session.
        UploadSessions::find(&mut self.lock(), repository, id)?;
        Ok(settled.unwrap_or_else(|_elapsed| arrived.load(Ordering::Relaxed)))
    }
}

/// An upload that a request has acquired. The thread that receives the bytes owns it. When the owner drops it, the
/// session has the upload back, with the bytes that arrived. The request may have ended earlier, with its client.
#[derive(Debug)]
pub(crate) struct AcquiredUpload {
    upload: OwnedMutexGuard<Upload>,
    /// The session's length so far.
    arrived: Arc<AtomicU64>,
    /// `None` for an upload that ends with its request.
    session: Option<HeldSession>,
    /// Cancelled when another request acquires the upload.
    pub(crate) superseded: CancellationToken,
    /// Length that was last reported to the client, if this request cancelled another one that held the upload.
    pub(crate) reported_length: Option<u64>,
}

/// Session of an upload that a request has acquired.
#[derive(Debug)]
struct HeldSession {
    sessions: UploadSessions,
    id: String,
    slot: Arc<Slot>,
}

impl AcquiredUpload {
    /// Returns an upload that no other request can continue.
    pub(crate) async fn without_session(upload: Upload) -> AcquiredUpload {
        AcquiredUpload {
            upload: Arc::new(tokio::sync::Mutex::new(upload)).lock_owned().await,
            arrived: Arc::default(),
            session: None,
            superseded: CancellationToken::new(),
            reported_length: None,
        }
    }

    /// Hashes with another algorithm from now on, if the upload has not been hashed yet.
    pub(crate) fn expect_algorithm(&mut self, algorithm: Algorithm) {
        self.upload.expect_algorithm(algorithm);
    }

    /// Commits the upload as a blob. The session ends, even if this fails.
    pub(crate) fn commit(mut self, digest: &Digest) -> Result<u64, StoreError> {
        self.end_session();
        self.upload.commit(digest)
    }

    /// Ends the session. Bytes that are not committed are deleted.
    pub(crate) fn end_session(&mut self) {
        if let Some(HeldSession { sessions, id, .. }) = self.session.take() {
            sessions.lock().remove(&id);
        }
    }
}

impl Drop for AcquiredUpload {
    fn drop(&mut self) {
        // A session with bytes never gives way: its client was told that they are here.
        if let Some(session) = &self.session
            && self.upload.length() == 0
        {
            session.slot.wait();
        }
    }
}

impl Deref for AcquiredUpload {
    type Target = Upload;

    fn deref(&self) -> &Upload {
        &self.upload
    }
}

impl ByteReceiver for AcquiredUpload {
    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let appended = self.upload.append(bytes);
        self.arrived.store(self.upload.length(), Ordering::Relaxed);
        if appended.is_err() {
            // The number of bytes on the disk is unknown after an error.
            self.end_session();
        }
        appended
    }
}

/// Returns an id that nobody can guess.
fn random_id() -> String {
    format!("{:032x}", u128::from_be_bytes(random_bytes()))
}

#[cfg(test)]
mod tests;
