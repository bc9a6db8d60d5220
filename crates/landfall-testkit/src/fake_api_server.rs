//! A Kubernetes API server in memory: objects by path, with resource versions, conflicts, selectors, pages and
//! watches.
//!
//! It is a real HTTP server on loopback. It knows no kinds and checks no fields. It is strict in cases in which
//! clients race: a write with an old resource version is a conflict, and so is the creation of an existing
//! object.

mod handler;
mod objects;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use landfall_core::sync::lock;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use objects::Objects;

/// Deadline of a wait.
const PATIENCE: Duration = Duration::from_secs(30);

/// Behaviour of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scenario {
    #[default]
    Healthy,
    /// Every call fails with 503, and open watches end.
    Unavailable,
}

/// The server; it ends on drop.
#[derive(Debug)]
pub struct FakeApiServer {
    address: SocketAddr,
    state: Arc<State>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct State {
    objects: Mutex<Objects>,
    /// Counter of all changes, including changes of the scenario.
    changes: watch::Sender<u64>,
    scenario: Mutex<Scenario>,
}

impl State {
    fn scenario(&self) -> Scenario {
        *lock(&self.scenario)
    }

    fn with_objects<T>(&self, work: impl FnOnce(&mut Objects) -> T) -> T {
        let done = work(&mut lock(&self.objects));
        self.changes.send_modify(|changes| *changes += 1);
        done
    }
}

impl FakeApiServer {
    /// Starts an empty server.
    ///
    /// # Panics
    /// Panics if there is no free port on loopback.
    #[must_use]
    pub fn start() -> FakeApiServer {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        listener.set_nonblocking(true).expect("a socket can be non-blocking");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (changes, _) = watch::channel(0);
        let state = Arc::new(State {
            objects: Mutex::default(),
            changes,
            scenario: Mutex::default(),
        });
        let stop = CancellationToken::new();
        let router = Router::new().fallback(handler::handle).with_state(state.clone());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime starts");
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let serve = async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("the listener is a TCP socket");
                // It serves until the runtime is dropped, with all its connections.
                drop(axum::serve(listener, router).await);
            };
            let _stopped = runtime.block_on(stopped.run_until_cancelled_owned(serve));
        });
        FakeApiServer {
            address,
            state,
            stop,
            thread: Some(thread),
        }
    }

    /// Returns a kubeconfig for this server.
    #[must_use]
    pub fn kubeconfig(&self) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: fake\n\
             clusters: [{{name: fake, cluster: {{server: \"http://{}\"}}}}]\n\
             users: [{{name: fake, user: {{}}}}]\n\
             contexts: [{{name: fake, context: {{cluster: fake, user: fake}}}}]\n",
            self.address
        )
    }

    /// Returns the object at a path, for example `/api/v1/namespaces/web`.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<Value> {
        let objects = lock(&self.state.objects);
        objects.get(path).cloned()
    }

    /// Creates or overwrites an object, like a client with all permissions.
    pub fn put(&self, path: &str, object: Value) {
        self.state.with_objects(|objects| objects.put(path, object));
    }

    /// Changes an existing object.
    ///
    /// # Panics
    /// Panics if it does not exist.
    pub fn edit(&self, path: &str, change: impl FnOnce(&mut Value)) {
        self.state.with_objects(|objects| {
            let mut object = objects.get(path).expect("the object to edit is there").clone();
            change(&mut object);
            objects.put(path, object);
        });
    }

    pub fn delete(&self, path: &str) {
        self.state.with_objects(|objects| objects.delete(path));
    }

    /// Returns the number of objects below a path.
    #[must_use]
    pub fn count(&self, collection: &str) -> usize {
        let objects = lock(&self.state.objects);
        objects.list(collection).count()
    }

    /// Returns the number of writes to an object.
    #[must_use]
    pub fn writes(&self, path: &str) -> usize {
        let objects = lock(&self.state.objects);
        objects.changes_since(0).filter(|change| change.path == path).count()
    }

    /// Switches to another scenario.
    pub fn play(&self, scenario: Scenario) {
        *lock(&self.state.scenario) = scenario;
        self.state.changes.send_modify(|changes| *changes += 1);
    }

    /// Waits until `is` accepts the object at a path.
    ///
    /// # Panics
    /// Panics after half a minute, with the object in the message.
    pub async fn wait_for(&self, what: &str, path: &str, is: impl Fn(Option<&Value>) -> bool) -> Option<Value> {
        let mut changes = self.state.changes.subscribe();
        let seen = tokio::time::timeout(PATIENCE, async {
            loop {
                changes.mark_unchanged();
                let found = self.get(path);
                if is(found.as_ref()) {
                    return found;
                }
                drop(changes.changed().await);
            }
        });
        match seen.await {
            Ok(found) => found,
            Err(_elapsed) => panic!("it never came: {what}; at `{path}` is {:?}", self.get(path)),
        }
    }
}

impl Drop for FakeApiServer {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // The thread has printed its panic on stderr already.
            drop(thread.join());
        }
    }
}
