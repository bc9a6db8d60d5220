//! Binding, and servers that a configuration change may move.

use std::sync::Arc;

use landfall_net::serve::tls::CertificateSlot;
use landfall_net::serve::{Http, ServeLimits, serve};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::agent::failure::Explanation;
use crate::supervisor::Supervisor;

/// Binds an address; the error names the key that sets it.
///
/// # Errors
///
/// When the address cannot be bound.
pub(crate) async fn bind(address: &str, key: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let message = format!("cannot listen on `{address}`: {error}");
        anyhow::anyhow!(Explanation::new(
            message,
            format!("free it, or set {key} in the user-data")
        ))
    })
}

/// A server that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    /// The settings that it was started with, in a form that can be compared.
    pub(crate) started_with: String,
    stop: CancellationToken,
    ended: CancellationToken,
}

impl Server {
    /// Starts to serve.
    pub(crate) fn start(
        supervisor: &Supervisor,
        name: &'static str,
        started_with: String,
        listener: TcpListener,
        certificate: Option<Arc<CertificateSlot>>,
        http: Http,
    ) -> Server {
        let stop = supervisor.child_token();
        let ended = CancellationToken::new();
        let end = ended.clone().drop_guard();
        supervisor.supervise_until(name, stop.clone(), |stop| async move {
            let _end = end;
            let drained = serve(listener, certificate, http, ServeLimits::default(), stop).await;
            if drained.abandoned > 0 {
                tracing::warn!(
                    connections = drained.abandoned,
                    "connections were closed before they were done"
                );
            }
            Ok(())
        });
        Server {
            started_with,
            stop,
            ended,
        }
    }

    /// Ends the server and waits until its address is free.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.ended.cancelled().await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
