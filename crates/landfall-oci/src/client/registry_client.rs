//! The client type: the state that its clones share, and the ping.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use landfall_core::reference::RegistryHost;
use tokio::sync::OnceCell;

use crate::client::auth::scope::Scope;
use crate::client::chunking::{ChunkPolicy, RangePolicy};
use crate::client::endpoint::Endpoint;
use crate::client::error::{Fault, RegistryAction, RegistryError};
use crate::client::request::RegistryRequest;
use crate::client::shortcut_counts::ShortcutCounts;
use crate::client::transport::Transport;

/// A client for one registry. Cheap to clone; clones share connections, tokens and learnt chunk lengths.
#[derive(Clone)]
pub struct RegistryClient {
    pub(super) transport: Arc<Transport>,
    pub(super) chunks: Arc<ChunkPolicy>,
    pub(super) ranges: Arc<RangePolicy>,
    /// True if the registry verifies uploads; empty before it is asked.
    pub(super) verifies: Arc<OnceCell<bool>>,
    pub(super) shortcuts: Arc<ShortcutCounts>,
}

impl fmt::Debug for RegistryClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryClient")
            .field("endpoint", self.transport.endpoint())
            .finish_non_exhaustive()
    }
}

impl RegistryClient {
    /// Creates a client and sends nothing.
    ///
    /// # Errors
    /// Fails if a certificate or a proxy's URL is unusable.
    pub fn new(endpoint: Endpoint) -> Result<RegistryClient, RegistryError> {
        let registry = endpoint.host.clone();
        let chunks = ChunkPolicy::new(endpoint.upload_chunk_size);
        match Transport::new(endpoint) {
            Ok(transport) => Ok(RegistryClient {
                transport: Arc::new(transport),
                chunks: Arc::new(chunks),
                ranges: Arc::default(),
                verifies: Arc::default(),
                shortcuts: Arc::default(),
            }),
            Err(fault) => Err(RegistryError {
                action: RegistryAction::Prepare,
                registry,
                fault: Box::new(fault),
            }),
        }
    }

    #[must_use]
    pub fn host(&self) -> &RegistryHost {
        &self.transport.endpoint().host
    }

    /// Returns the time from now before which the registry asked for no request; `None` if it may be asked now. All
    /// clones know it. A request before that time fails without being sent ([spec:agent.retry]).
    #[must_use]
    pub fn not_before(&self) -> Option<Duration> {
        self.transport.not_before()
    }

    /// Checks that the registry responds and accepts the login (`GET /v2/`).
    ///
    /// # Errors
    /// Fails if it does not.
    pub async fn ping(&self) -> Result<(), RegistryError> {
        let request = RegistryRequest::new(Method::GET, "/v2/", Scope::Ping);
        let response = self.transport.send_expecting(request, &[StatusCode::OK]).await;
        response
            .map(drop)
            .map_err(|fault| self.error(RegistryAction::Reach, fault))
    }

    pub(crate) fn error(&self, action: RegistryAction, fault: Fault) -> RegistryError {
        RegistryError {
            action,
            registry: self.host().clone(),
            fault: Box::new(fault),
        }
    }
}
