//! Bounds the bytes of an upload that may be lost. A proxy, or a middlebox that has forgotten the connection, may take
//! everything that is sent and deliver nothing. So the client asks the registry how far it got while it sends, and
//! holds back the rest while too many bytes are unconfirmed.
//!
//! Only registries whose upload IDs are no UUIDs of version 4 are asked: distribution 2 cancels an upload whose status
//! is asked for while bytes arrive.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::task::AtomicWaker;
use http::HeaderValue;
use http::header::HeaderName;
use landfall_core::failure::Shortcut;
use landfall_core::reference::Repository;
use landfall_core::sync::lock;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::session::UploadSession;
use super::{STATUS_ANSWERS, received_bytes, status_request};
use crate::client::error::{Fault, stalled};
use crate::client::registry_client::RegistryClient;
use crate::header_names::PREFER;
use crate::image::{BlobStream, TransferError};

/// Time between two questions whose answers bring nothing new.
const QUESTION_INTERVAL: Duration = Duration::from_millis(200);
/// Time for the answer to one question.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Number of answers without a new byte after which a registry is taken for one that tells nothing while bytes arrive.
const EMPTY_ANSWERS_MAX: u32 = 5;

/// The unconfirmed bytes of one request. Clones share them.
#[derive(Clone)]
pub(super) struct UploadWindow {
    shared: Arc<Shared>,
}

struct Shared {
    /// Maximum of unconfirmed bytes.
    limit: u64,
    counts: Mutex<Counts>,
    /// Wakes the body when bytes are confirmed.
    waker: AtomicWaker,
    /// Wakes the questioner when enough bytes are unconfirmed.
    due: Notify,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    sent: u64,
    confirmed: u64,
    /// True if the limit does not hold: the registry tells nothing.
    unlimited: bool,
}

impl UploadWindow {
    /// Creates a window of `limit` bytes. The registry is asked once half of them are unconfirmed.
    pub(super) fn new(limit: u64) -> UploadWindow {
        UploadWindow {
            shared: Arc::new(Shared {
                limit,
                counts: Mutex::default(),
                waker: AtomicWaker::new(),
                due: Notify::new(),
            }),
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        lock(&self.shared.counts)
    }

    fn is_full(&self) -> bool {
        let counts = self.counts();
        !counts.unlimited && counts.sent - counts.confirmed >= self.shared.limit
    }

    fn is_due(&self) -> bool {
        let counts = self.counts();
        counts.sent - counts.confirmed >= self.shared.limit / 2
    }

    fn count_sent(&self, bytes: u64) {
        self.counts().sent += bytes;
        if self.is_due() {
            self.shared.due.notify_one();
        }
    }

    /// Records that the registry has the first `bytes` bytes of the request. Returns true if that is news.
    fn confirm(&self, bytes: u64) -> bool {
        let mut counts = self.counts();
        let bytes = bytes.min(counts.sent);
        let is_news = bytes > counts.confirmed;
        counts.confirmed = counts.confirmed.max(bytes);
        drop(counts);
        self.shared.waker.wake();
        is_news
    }

    fn lift(&self) {
        self.counts().unlimited = true;
        self.shared.waker.wake();
    }

    /// Returns the bytes of `stream` as far as the window lets them pass.
    pub(super) fn limit(&self, stream: BlobStream) -> BlobStream {
        Box::pin(WindowedBody {
            window: self.clone(),
            inner: stream,
        })
    }
}

struct WindowedBody {
    window: UploadWindow,
    inner: BlobStream,
}

impl Stream for WindowedBody {
    type Item = Result<Bytes, TransferError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.window.is_full() {
            self.window.shared.waker.register(cx.waker());
            // Bytes may have been confirmed before the waker was registered.
            if self.window.is_full() {
                return Poll::Pending;
            }
        }
        let polled = self.inner.as_mut().poll_next(cx);
        if let Poll::Ready(Some(Ok(bytes))) = &polled {
            self.window.count_sent(bytes.len() as u64);
        }
        polled
    }
}

impl RegistryClient {
    /// Asks how far the registry got, whenever half of the window is unconfirmed. Returns when a registry that tells has
    /// told nothing new for `stall`; otherwise never. A registry that tells nothing gets all bytes without a question.
    pub(super) async fn watch_arrival(
        &self,
        repository: &Repository,
        session: &UploadSession,
        window: &UploadWindow,
        stall: Duration,
    ) -> Fault {
        let mut empty_answers = 0;
        let mut last_news = Instant::now();
        loop {
            while !window.is_due() {
                window.shared.due.notified().await;
                last_news = Instant::now();
            }
            let arrived = self.ask_arrived(repository, session).await;
            match arrived {
                Some(arrived) if window.confirm(arrived.saturating_sub(session.offset)) => {
                    self.chunks.told_progress(true);
                    last_news = Instant::now();
                    empty_answers = 0;
                    continue;
                }
                _ if self.chunks.tells_progress() && last_news.elapsed() >= stall => return stalled(stall),
                _ if self.chunks.tells_progress() => {}
                Some(_) if empty_answers < EMPTY_ANSWERS_MAX => empty_answers += 1,
                _ => {
                    self.chunks.told_progress(false);
                    window.lift();
                    return std::future::pending().await;
                }
            }
            sleep(QUESTION_INTERVAL).await;
        }
    }

    /// Returns the bytes of an upload that arrived so far; `None` if the registry does not tell.
    async fn ask_arrived(&self, repository: &Repository, session: &UploadSession) -> Option<u64> {
        const AT_ONCE: (HeaderName, HeaderValue) = (PREFER, HeaderValue::from_static("wait=0"));
        let request = status_request(repository, session).header(AT_ONCE.0, AT_ONCE.1);
        let asked = self.transport.send_expecting(request, &STATUS_ANSWERS);
        let asked = self.try_shortcut(Shortcut::UploadProgress, repository, asked);
        let response = timeout(ANSWER_MAX, asked).await.ok()?.ok().flatten()?;
        received_bytes(response.headers())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt, stream};

    use super::*;

    fn chunks() -> BlobStream {
        Box::pin(stream::repeat_with(|| Ok(Bytes::from_static(b"0123456789"))))
    }

    #[test]
    fn bytes_beyond_the_window_wait_for_a_confirmation() {
        let window = UploadWindow::new(30);
        let mut body = window.limit(chunks());
        let sent = |body: &mut BlobStream| std::iter::from_fn(|| body.next().now_or_never()).count();
        assert_eq!(sent(&mut body), 3);
        assert!(window.is_due());
        assert!(window.confirm(15));
        assert_eq!(sent(&mut body), 2);
        assert!(!window.confirm(15), "an old answer is no news");
        assert!(window.confirm(1000), "not more than was sent counts");
        assert!(!window.is_due());
        assert_eq!(sent(&mut body), 3);
        window.lift();
        assert!(body.next().now_or_never().is_some());
    }
}
