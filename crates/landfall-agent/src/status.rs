//! The agent's status: held in memory, and written to `status.json` soon after each change.

mod client;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;
use landfall_core::status::{AgentStatus, FailedPhase, ImageStatus, Phase};
use landfall_host::files::write_atomic;
use landfall_net::state_file::clear_for_writing;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use crate::run_lock::is_running;
use crate::write_health::WriteHealth;

/// The name of the status file in the state directory.
pub const FILE_NAME: &str = "status.json";

/// The shortest time between two writes of the file, except for phase changes. Progress changes the status many times a
/// second.
const WRITE_INTERVAL: Duration = Duration::from_millis(500);

/// The status of a running agent, for many readers and writers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct StatusStore {
    path: Utf8PathBuf,
    health: WriteHealth,
    status: Arc<watch::Sender<AgentStatus>>,
    /// A writer of the file holds this lock: an older status must not replace a newer one.
    writing: Arc<Mutex<()>>,
}

impl StatusStore {
    /// Returns a store that writes into this state directory.
    #[must_use]
    pub fn new(state_dir: &Utf8Path, health: WriteHealth) -> StatusStore {
        let (status, _) = watch::channel(AgentStatus {
            pid: Some(std::process::id()),
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            ..AgentStatus::starting(Timestamp::now())
        });
        let path = state_dir.join(FILE_NAME);
        // The file itself is replaced whatever it holds.
        if let Some(aside) = clear_for_writing(&path) {
            tracing::warn!(%aside, "the status file was damaged");
        }
        StatusStore {
            path,
            health,
            status: Arc::new(status),
            writing: Arc::default(),
        }
    }

    #[must_use]
    pub fn get(&self) -> AgentStatus {
        AgentStatus {
            state_error: self.health.problem(),
            ..self.status.borrow().clone()
        }
    }

    /// Returns the status of one image.
    #[must_use]
    pub fn image(&self, image: &str) -> Option<ImageStatus> {
        self.status.borrow().images.get(image).cloned()
    }

    /// Returns a receiver of every change.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<AgentStatus> {
        self.status.subscribe()
    }

    /// Changes the status. The file follows within half a second.
    pub fn update(&self, change: impl FnOnce(&mut AgentStatus)) {
        self.status.send_modify(|status| {
            change(status);
            status.updated = Timestamp::now();
        });
    }

    /// Changes the status of one image.
    pub fn update_image(&self, image: &str, change: impl FnOnce(&mut ImageStatus)) {
        self.update(|status| change(status.images.entry(image.to_owned()).or_default()));
    }

    /// Enters a phase. The failures of this pass stay. The file is written before this returns.
    pub async fn enter(&self, phase: Phase) {
        self.update(|status| {
            status.phase = phase;
            status.failed_phase = None;
            status.message = None;
            if phase == Phase::Running || phase == Phase::Validating {
                status.failures.clear();
            }
            status.since = Timestamp::now();
        });
        self.flush().await;
    }

    /// Adds a failure of a phase, after which the others go on.
    pub fn add_failure(&self, failure: FailedPhase) {
        self.update(|status| {
            status.failures.retain(|known| known.phase != failure.phase);
            status.failures.push(failure);
        });
    }

    /// Enters `Degraded`, because these phases failed. The file is written before this returns. `since` stays as long as
    /// the same phases fail.
    pub async fn degrade(&self, failures: Vec<FailedPhase>) {
        self.update(|status| {
            let phases = |failures: &[FailedPhase]| failures.iter().map(|failure| failure.phase).collect::<Vec<_>>();
            if status.phase != Phase::Degraded || phases(&status.failures) != phases(&failures) {
                status.since = Timestamp::now();
            }
            status.phase = Phase::Degraded;
            status.failed_phase = failures.first().map(|failure| failure.phase);
            status.message = failures.first().map(|failure| failure.message.clone());
            status.failures = failures;
        });
        self.flush().await;
    }

    /// Writes the file. A full disk must not stop the agent: the status API shows the status all the same.
    pub async fn flush(&self) {
        let turn = Arc::clone(&self.writing).lock_owned().await;
        let status = self.get();
        let path = self.path.clone();
        let written = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            write_status(&path, &status)
        })
        .await;
        let written = written.map_err(anyhow::Error::from).flatten();
        self.health.note("the status", written);
    }

    /// Keeps the file up to date until `stop` is cancelled, then writes it a last time.
    pub async fn keep_written(self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut changes = self.subscribe();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                changed = changes.changed() => changed.context("the status store is gone")?,
            }
            self.flush().await;
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(WRITE_INTERVAL) => {}
            }
        }
        self.flush().await;
        Ok(())
    }
}

fn write_status(path: &Utf8Path, status: &AgentStatus) -> anyhow::Result<()> {
    Ok(write_atomic(path, 0o600, &serde_json::to_vec_pretty(status)?)?)
}

/// Reads the status that the agent last wrote into this state directory, and checks whether the agent still runs.
/// Returns `None` if no agent ever ran there.
///
/// # Errors
///
/// If the file exists and cannot be read, or is not a status.
pub fn read_status(state_dir: &Utf8Path) -> anyhow::Result<Option<AgentStatus>> {
    let path = state_dir.join(FILE_NAME);
    let bytes = match fs_err::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut status: AgentStatus =
        serde_json::from_slice(&bytes).with_context(|| format!("`{path}` is not a status of the agent"))?;
    // An agent that was killed could not record its end.
    status.running = is_running(state_dir)?;
    Ok(Some(status))
}

/// The status of an agent, and where it is from.
#[derive(Debug)]
pub enum FoundStatus {
    /// No agent ever ran with this state directory.
    None,
    /// The status of the running agent, from its API; or the last status of an agent that does not run, from the file.
    Current(AgentStatus),
    /// The file's status of a running agent whose API does not answer, and the reason. The agent may have been unable to
    /// replace it.
    Doubtful(AgentStatus, String),
    /// An agent runs, has written no status, and its API does not answer.
    Unknown(String),
}

/// The status API of an agent whose address is not known.
const DEFAULT_API: &str = "http://127.0.0.1:5080";

/// Finds the status of the agent with this state directory. A running agent is asked: on a full disk, its file is not what
/// it knows. Blocks for up to some seconds.
///
/// # Errors
///
/// If the file exists and cannot be read, or is not a status, and no agent runs.
pub fn find_status(state_dir: &Utf8Path) -> anyhow::Result<FoundStatus> {
    let kept = read_status(state_dir);
    if !is_running(state_dir)? {
        return Ok(kept?.map_or(FoundStatus::None, FoundStatus::Current));
    }
    let kept = kept.ok().flatten();
    let api = kept
        .as_ref()
        .and_then(|kept| kept.api.as_deref())
        .unwrap_or(DEFAULT_API);
    let answered = client::fetch_status(api).and_then(|status| {
        // A port may have gone over to the agent of another state directory.
        let other = kept
            .as_ref()
            .and_then(|kept| kept.pid)
            .filter(|pid| Some(*pid) != status.pid);
        anyhow::ensure!(
            !other.is_some_and(|pid| Utf8Path::new("/proc").join(pid.to_string()).exists()),
            "another agent answers at {api}"
        );
        Ok(status)
    });
    Ok(match (answered, kept) {
        (Ok(status), _) => FoundStatus::Current(status),
        (Err(error), Some(kept)) => FoundStatus::Doubtful(kept, format!("{error:#}")),
        (Err(error), None) => FoundStatus::Unknown(format!("{error:#}")),
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "test set-up")]

    use super::*;

    fn mk_store() -> (tempfile::TempDir, Utf8PathBuf, StatusStore) {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(dir.path().to_owned()).unwrap();
        let store = StatusStore::new(&path, WriteHealth::new(&path));
        (dir, path, store)
    }

    #[tokio::test]
    async fn phase_is_on_disk_when_it_is_entered() {
        let (_dir, path, store) = mk_store();
        assert_eq!(read_status(&path).unwrap(), None);
        store.enter(Phase::Images).await;
        assert_eq!(read_status(&path).unwrap().unwrap().phase, Phase::Images);
    }

    #[tokio::test]
    async fn degraded_status_says_which_phase_failed_and_why() {
        let (_dir, path, store) = mk_store();
        let failure = |phase, message: &str| FailedPhase {
            phase,
            message: message.to_owned(),
        };
        let failures = vec![
            failure(Phase::Images, "1 of 3 images cannot be fetched"),
            failure(Phase::Redirect, "the port is taken"),
        ];
        store.degrade(failures.clone()).await;
        let status = read_status(&path).unwrap().unwrap();
        assert_eq!(
            (status.phase, status.failed_phase, status.message.as_deref()),
            (
                Phase::Degraded,
                Some(Phase::Images),
                Some("1 of 3 images cannot be fetched")
            )
        );
        assert!(!status.is_ready());
        assert_eq!(status.failures, failures);
        store.degrade(failures).await;
        assert_eq!(store.get().since, status.since, "it is the same trouble");
        store.enter(Phase::Running).await;
        assert_eq!(store.get().failures, []);
    }

    #[tokio::test]
    async fn status_that_cannot_be_written_is_shown_with_the_reason() {
        let (_dir, path, _) = mk_store();
        let health = WriteHealth::new(&path);
        let store = StatusStore::new(&path.join("gone"), health);
        store.enter(Phase::Images).await;
        let shown = store.get();
        assert_eq!(shown.phase, Phase::Images);
        assert!(
            shown
                .state_error
                .is_some_and(|error| error.starts_with("the status cannot be written: "))
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn running_agent_is_asked_because_its_file_may_be_old() {
        let (_dir, path, store) = mk_store();
        let find = async || {
            let path = path.clone();
            tokio::task::spawn_blocking(move || find_status(&path))
                .await
                .unwrap()
                .unwrap()
        };
        assert!(matches!(find().await, FoundStatus::None));
        store.enter(Phase::Images).await;
        assert!(matches!(find().await, FoundStatus::Current(status) if !status.running));

        let _lock = crate::run_lock::RunLock::acquire(&path).await.unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = format!("http://{}", listener.local_addr().unwrap());
        store.update(|status| status.api = Some(api));
        store.flush().await;
        // The disk is full from now on.
        store.update(|status| status.phase = Phase::Redirect);
        let router = crate::api::api_router(crate::api::ApiState {
            receipts: crate::api::mk_receipts(&path, store.clone()),
            status: store.clone(),
            metrics: crate::metrics::Metrics::new(),
            events: crate::events::EventLog::open(&path).unwrap(),
            uploads: None,
        });
        let served = tokio::spawn(async { axum::serve(listener, router).await });
        assert!(matches!(find().await, FoundStatus::Current(status) if status.phase == Phase::Redirect));
        served.abort();
        drop(served.await);
        let FoundStatus::Doubtful(status, reason) = find().await else {
            panic!("an old status is taken for the current one")
        };
        assert_eq!(status.phase, Phase::Images);
        assert!(reason.starts_with("http://127.0.0.1:"), "{reason}");
    }

    #[tokio::test]
    async fn last_change_is_written_at_the_stop() {
        let (_dir, path, store) = mk_store();
        let stop = CancellationToken::new();
        store.update_image("a", |image| image.stored = true);
        stop.cancel();
        store.clone().keep_written(stop).await.unwrap();
        assert!(read_status(&path).unwrap().unwrap().images["a"].stored);
    }
}
