//! Uploads under way: a client opens one, sends what it has in as many requests as it likes, and asks how far it got.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;
use landfall_core::reference::Repository;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::random::random_bytes;
use crate::server::error::{ApiError, Code};
use crate::store::ingest::Upload;

/// How long an upload waits for its next request.
const IDLE_MAX: Duration = Duration::from_secs(60 * 60);
/// How many uploads are open at once.
const SESSIONS_MAX: usize = 1024;
/// How long a client that asks how far an upload got waits for the request that is at it.
const SETTLE_MAX: Duration = Duration::from_secs(3);

/// The uploads under way, by the names that clients know them by.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    sessions: Mutex<HashMap<String, Session>>,
    /// Tells those who wait that a request has ended which was at an upload.
    returned: Notify,
}

#[derive(Debug)]
struct Session {
    repository: Repository,
    touched: Instant,
    length: u64,
    /// `None` while a request is at it.
    upload: Option<Upload>,
}

impl Uploads {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        // Changes are single steps: a panic cannot leave half of one.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a session.
    pub(super) fn insert(&self, repository: &Repository, upload: Upload) -> Result<String, ApiError> {
        self.expire();
        let mut sessions = self.lock();
        if sessions.len() >= SESSIONS_MAX {
            return Err(ApiError::new(
                StatusCode::TOO_MANY_REQUESTS,
                Code::TooManyRequests,
                "too many uploads are under way",
            ));
        }
        let id = random_id();
        let session = Session {
            repository: repository.clone(),
            touched: Instant::now(),
            length: upload.length(),
            upload: Some(upload),
        };
        sessions.insert(id.clone(), session);
        Ok(id)
    }

    /// Forgets the uploads that nobody went on with.
    pub(super) fn expire(&self) {
        self.lock()
            .retain(|_, session| session.upload.is_none() || session.touched.elapsed() < IDLE_MAX);
    }

    /// Takes an upload for a request; it comes back by [`Uploads::put_back`] or is gone.
    pub(super) fn take(&self, repository: &Repository, id: &str) -> Result<Upload, ApiError> {
        let mut sessions = self.lock();
        let session = sessions
            .get_mut(id)
            .filter(|session| session.repository == *repository)
            .ok_or_else(unknown_upload)?;
        session.upload.take().ok_or_else(|| {
            ApiError::new(
                StatusCode::CONFLICT,
                Code::BlobUploadInvalid,
                "another request is at this upload",
            )
        })
    }

    /// Leaves an upload for its next request.
    pub(super) fn put_back(&self, id: &str, upload: Upload) {
        if let Some(session) = self.lock().get_mut(id) {
            session.touched = Instant::now();
            session.length = upload.length();
            session.upload = Some(upload);
        }
        self.returned.notify_waiters();
    }

    /// Ends a session.
    pub(super) fn remove(&self, id: &str) {
        self.lock().remove(id);
        self.returned.notify_waiters();
    }

    /// Sees to it that a session does not stay taken.
    pub(super) fn watch<'a>(&'a self, id: &'a str) -> Taken<'a> {
        Taken {
            uploads: self,
            id,
            done: false,
        }
    }

    /// At which byte an upload goes on. While a request is at it, that is known only when the request ends, and it does soon
    /// when its client was killed: the next client asks while what the first one sent is still being read.
    pub(super) async fn settled_length(&self, repository: &Repository, id: &str) -> Result<u64, ApiError> {
        let give_up = Instant::now() + SETTLE_MAX;
        loop {
            // Made before the look, so that no end between look and wait is missed.
            let returned = self.returned.notified();
            let length = {
                let sessions = self.lock();
                let session = sessions
                    .get(id)
                    .filter(|session| session.repository == *repository)
                    .ok_or_else(unknown_upload)?;
                if session.upload.is_some() {
                    return Ok(session.length);
                }
                session.length
            };
            if timeout_at(give_up, returned).await.is_err() {
                return Ok(length);
            }
        }
    }
}

/// An upload that a request took. Whatever ends the request, the session does not stay taken.
pub(super) struct Taken<'a> {
    uploads: &'a Uploads,
    id: &'a str,
    pub(super) done: bool,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.uploads.remove(self.id);
        }
    }
}

fn unknown_upload() -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        Code::BlobUploadUnknown,
        "there is no such upload: it is over, was cancelled, or the registry was restarted",
    )
}

/// Nobody else can guess it.
fn random_id() -> String {
    format!("{:032x}", u128::from_be_bytes(random_bytes()))
}
