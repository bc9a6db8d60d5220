//! A listening server that a change of the configuration starts, keeps, moves or stops.

use std::net::SocketAddr;

use landfall_core::failure::Explanation;
use landfall_core::reference::RegistryHost;
use landfall_net::serve::transport::Encryption;
use landfall_net::serve::{Http, ServeLimits, listen, serve};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::supervisor::Supervisor;

/// The settings of a server.
#[derive(Debug)]
pub(crate) struct ServerSpec<'a> {
    /// The name of its task.
    pub(crate) name: &'static str,
    pub(crate) address: &'a str,
    /// The keys of the user-data that set the address, for the error message.
    pub(crate) setting: &'static str,
    /// Everything that cannot change while the server runs, the address included.
    pub(crate) fixed: String,
}

/// Answers to requests.
#[derive(Debug)]
pub(crate) struct Routes {
    pub(crate) http: Http,
    pub(crate) encryption: Encryption,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ensured {
    /// The server runs with these settings already.
    Kept,
    Started,
}

/// A server, which runs or not. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct Server {
    /// A socket that the caller of the agent bound, for the first start.
    bound: Option<TcpListener>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    fixed: String,
    local: SocketAddr,
    stop: CancellationToken,
    ended: CancellationToken,
}

impl Server {
    pub(crate) fn new(bound: Option<TcpListener>) -> Server {
        Server { bound, running: None }
    }

    /// Keeps the server if it runs with the same fixed settings. Otherwise stops it, awaits `routes`, and starts anew.
    ///
    /// # Errors
    ///
    /// If `routes` fails or the address cannot be bound. The server is stopped then.
    pub(crate) async fn ensure(
        &mut self,
        supervisor: &Supervisor,
        spec: ServerSpec<'_>,
        routes: impl Future<Output = anyhow::Result<Routes>>,
    ) -> anyhow::Result<Ensured> {
        if self.runs_with(&spec) {
            return Ok(Ensured::Kept);
        }
        // The new address may include the old one (all addresses include loopback): the old socket must be closed
        // first.
        self.stop().await;
        let routes = routes.await?;
        let listener = match self.bound.take() {
            Some(bound) => bound,
            None => bind(spec.address, spec.setting).await?,
        };
        self.running = Some(Running::start(supervisor, spec, listener, routes)?);
        Ok(Ensured::Started)
    }

    /// Returns true if the server runs with the same fixed settings.
    pub(crate) fn runs_with(&self, spec: &ServerSpec<'_>) -> bool {
        self.running.as_ref().is_some_and(|running| running.fixed == spec.fixed)
    }

    /// Returns the address where the server listens, while it runs.
    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        self.running.as_ref().map(|running| running.local)
    }

    /// Stops the server, if it runs, and waits until its address is free.
    pub(crate) async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop.cancel();
            running.ended.cancelled().await;
        }
    }
}

impl Running {
    fn start(
        supervisor: &Supervisor,
        spec: ServerSpec<'_>,
        listener: TcpListener,
        routes: Routes,
    ) -> anyhow::Result<Running> {
        let local = listener.local_addr()?;
        let stop = supervisor.child_token();
        let ended = CancellationToken::new();
        let end = ended.clone().drop_guard();
        supervisor.supervise_until(spec.name, stop.clone(), |stop| async move {
            let _end = end;
            let Routes { http, encryption } = routes;
            let drained = serve(listener, encryption, http, ServeLimits::default(), stop).await;
            if drained.abandoned > 0 {
                tracing::warn!(
                    connections = drained.abandoned,
                    "connections were closed before they were done"
                );
            }
            Ok(())
        });
        Ok(Running {
            fixed: spec.fixed,
            local,
            stop,
            ended,
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Returns true if an address `host:port` is reached from this machine alone.
pub(crate) fn is_loopback(address: &str) -> bool {
    address.parse::<RegistryHost>().is_ok_and(|host| host.is_loopback())
}

/// Binds an address; the error names the key that sets it.
async fn bind(address: &str, setting: &str) -> anyhow::Result<TcpListener> {
    listen(address).await.map_err(|error| {
        let message = format!("cannot listen on `{address}`: {error}");
        anyhow::anyhow!(Explanation::new(
            message,
            format!("free it, or set {setting} in the user-data")
        ))
    })
}
