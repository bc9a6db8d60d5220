//! Ages of upload sessions, and sessions that give way.

use std::net::{IpAddr, Ipv4Addr};

use camino::Utf8Path;
use landfall_oci::store::ContentStore;

use super::*;

struct Fixture {
    _directory: tempfile::TempDir,
    store: ContentStore,
    sessions: UploadSessions,
}

impl Fixture {
    fn open(&self) -> Result<String, UploadSessionError> {
        let client = IpAddr::from(Ipv4Addr::LOCALHOST).into();
        self.sessions
            .open(&repository(), self.store.upload(Algorithm::Sha256), client)
    }

    /// Returns the number of sessions after those that expired are dropped.
    fn left(&self) -> usize {
        self.sessions.expire();
        self.sessions.lock().len()
    }
}

fn mk_fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let root = Utf8Path::from_path(directory.path()).unwrap();
    Fixture {
        store: ContentStore::open(&root.join("store")).unwrap(),
        _directory: directory,
        sessions: UploadSessions::default(),
    }
}

fn repository() -> Repository {
    "a/b".parse().unwrap()
}

async fn advance(time: Duration) {
    tokio::time::advance(time).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_without_requests_expires_and_one_that_is_held_does_not() {
    const SECOND: Duration = Duration::from_secs(1);
    let fixture = mk_fixture();
    let id = fixture.open().unwrap();
    advance(IDLE_MAX - SECOND).await;
    assert_eq!(fixture.left(), 1);
    let held = fixture.sessions.acquire(&repository(), &id).await.unwrap();
    advance(IDLE_MAX * 2).await;
    assert_eq!(fixture.left(), 1);
    drop(held);
    advance(IDLE_MAX - SECOND).await;
    assert_eq!(fixture.left(), 1);
    advance(SECOND).await;
    assert_eq!(fixture.left(), 0);
    assert_eq!(
        fixture.sessions.length_so_far(&repository(), &id),
        Err(UploadSessionError::Unknown)
    );
}

#[tokio::test(start_paused = true)]
async fn a_session_is_active_for_the_time_after_its_last_request_and_while_it_is_held() {
    const MINUTE: Duration = Duration::from_secs(60);
    let fixture = mk_fixture();
    let id = fixture.open().unwrap();
    let are_active = || fixture.sessions.are_active(&repository(), MINUTE);
    assert!(are_active() && !fixture.sessions.are_active(&"other".parse().unwrap(), MINUTE));
    advance(MINUTE - Duration::from_millis(1)).await;
    assert!(are_active());
    advance(Duration::from_millis(1)).await;
    assert!(!are_active());
    let held = fixture.sessions.acquire(&repository(), &id).await.unwrap();
    advance(MINUTE * 2).await;
    assert!(are_active());
    drop(held);
    assert!(!are_active());
}

#[tokio::test(start_paused = true)]
async fn beyond_the_share_of_a_client_a_session_is_refused_or_the_oldest_gives_way() {
    let fixture = mk_fixture();
    let oldest = fixture.open().unwrap();
    advance(Duration::from_millis(1)).await;
    for _ in 1..SESSIONS.share {
        fixture.open().unwrap();
    }
    assert_eq!(fixture.sessions.refusals(), 0);
    for refusals in [1, 2] {
        assert_eq!(fixture.open(), Err(UploadSessionError::TooMany));
        assert_eq!(fixture.sessions.refusals(), refusals);
    }
    advance(SESSIONS.grace).await;
    fixture.open().unwrap();
    assert_eq!(fixture.left(), SESSIONS.share);
    assert_eq!(
        fixture.sessions.acquire(&repository(), &oldest).await.err(),
        Some(UploadSessionError::Unknown)
    );
}

#[tokio::test(start_paused = true)]
async fn a_session_gives_way_after_an_empty_request_and_never_with_bytes() {
    let fixture = mk_fixture();
    for is_empty in [true, false] {
        for _ in 0..SESSIONS.share {
            let id = fixture.open().unwrap();
            let mut held = fixture.sessions.acquire(&repository(), &id).await.unwrap();
            if !is_empty {
                held.append(b"x").unwrap();
            }
        }
        advance(SESSIONS.grace).await;
    }
    assert_eq!(fixture.left(), SESSIONS.share);
    assert_eq!(fixture.open(), Err(UploadSessionError::TooMany));
}
