//! Options of a server that speaks the distribution API, and the service itself: listener, TLS, logins, limits and log.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use landfall_core::quantity::Seconds;
use landfall_core::wording::counted;
use landfall_net::certificate::load_pair;
use landfall_net::serve::tls::CertificateSlot;
use landfall_net::serve::{Http, ServeLimits, listen, serve};
use landfall_registry::{DEFAULT_REQUESTS_MAX, Policy, Users};
use tokio_util::sync::CancellationToken;

use crate::commands::registry::reload::WatchedFiles;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::interrupt;
use crate::logging::{self, LogFormat};
use crate::output::progress::Progress;
use crate::quantity;
use crate::runtime;

/// Listener, TLS, logins, limits and log of a server.
#[derive(Debug, Args)]
pub struct ListenArgs {
    /// Address to listen on; port 0 takes a free one; `:5000` is every address of this host, `5000` is loopback.
    #[arg(long = "listen", value_name = "ADDRESS", default_value = "127.0.0.1:5000",
          value_parser = quantity::listen_address)]
    pub address: SocketAddr,
    /// Users who may use the registry: a file made by `htpasswd -B` [default: no login].
    #[arg(long, value_name = "FILE")]
    pub htpasswd: Option<Utf8PathBuf>,
    /// Certificate chain of the server, PEM [default: plain HTTP].
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_certificate: Option<Utf8PathBuf>,
    /// Key of the certificate, PEM.
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    pub tls_key: Option<Utf8PathBuf>,
    /// Time between two readings of certificate, key and logins; changes apply to new connections and requests.
    #[arg(long, value_name = "TIME", default_value_t = Seconds::new(10),
          value_parser = quantity::seconds_in(1, u64::MAX))]
    pub reload_every: Seconds,
    /// Connections open at once, of which one client address has half; an idle one gives way to a new one.
    #[arg(long, value_name = "NUMBER", default_value_t = ServeLimits::default().connections,
          value_parser = quantity::positive_count)]
    pub max_connections: usize,
    /// Time in which a client must send or take at least 16 KiB; a slower connection is closed.
    #[arg(long, value_name = "TIME", default_value_t = Seconds::new(ServeLimits::default().stall.as_secs()),
          value_parser = quantity::seconds_in(1, u64::MAX))]
    pub stall_timeout: Seconds,
    /// Time in which a client must send the headers of a request; an idle connection is closed after the same time.
    #[arg(long, value_name = "TIME", default_value_t = Seconds::new(ServeLimits::default().header.as_secs()),
          value_parser = quantity::seconds_in(1, u64::MAX))]
    pub header_timeout: Seconds,
    /// Requests in flight at once, of which one client address has half; further ones are answered with 429 and
    /// `Retry-After`.
    #[arg(long, value_name = "NUMBER", default_value_t = DEFAULT_REQUESTS_MAX, value_parser = quantity::positive_count)]
    pub max_requests: usize,
    /// Serve metrics for Prometheus at `/metrics`, to users who may pull.
    #[arg(long)]
    pub metrics: bool,
    /// Log every request.
    #[arg(long)]
    pub access_log: bool,
    /// Format of log lines on stderr.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub log_format: LogFormat,
}

/// Certificate and logins of a server, read from their files.
#[derive(Debug)]
pub(crate) struct ListenFiles {
    certificate: Option<Arc<CertificateSlot>>,
    users: Option<Users>,
}

impl ListenArgs {
    /// Returns true if only this machine can reach the address.
    pub(crate) fn is_loopback(&self) -> bool {
        self.address.ip().is_loopback()
    }

    pub(crate) fn has_tls_and_login(&self) -> bool {
        self.tls_certificate.is_some() && self.htpasswd.is_some()
    }

    /// Runs a server until a signal ends it.
    ///
    /// # Errors
    /// The error of the server.
    pub(crate) fn run_service<F: Future<Output = anyhow::Result<ExitStatus>>>(
        &self,
        context: &Context,
        server: impl FnOnce(CancellationToken) -> F,
    ) -> anyhow::Result<ExitStatus> {
        let progress = Progress::new(context.progress, &context.printer);
        logging::start_service(self.log_format, progress.log, context)?;
        let runtime = runtime::multi_thread(None)?;
        let shutdown = CancellationToken::new();
        runtime.block_on(interrupt::run_service(server(shutdown.clone()), &shutdown, || {
            tracing::info!("SIGHUP: certificate and logins are read again by themselves when they change");
        }))
    }

    /// Reads certificate, key and logins.
    ///
    /// # Errors
    /// If one of them cannot be used.
    pub(crate) fn load_files(&self) -> anyhow::Result<ListenFiles> {
        Ok(ListenFiles {
            users: self.htpasswd.as_deref().map(load_users).transpose()?,
            certificate: self.load_certificate()?,
        })
    }

    /// Returns the policy of these options, which lets those with a login do everything.
    pub(crate) fn policy(&self, files: &ListenFiles) -> Policy {
        Policy {
            login: files.users.clone(),
            requests_max: Some(self.max_requests),
            metrics: self.metrics,
            access_log: self.access_log,
            ..Policy::default()
        }
    }

    /// Serves until `shutdown`, and prints the URL once the listener is there.
    ///
    /// # Errors
    /// If the address cannot be taken, or a connection had to be closed at the end.
    pub(crate) async fn serve(
        &self,
        files: ListenFiles,
        http: Http,
        context: &Context,
        shutdown: CancellationToken,
    ) -> anyhow::Result<ExitStatus> {
        let ListenFiles { certificate, users } = files;
        let listener = listen(self.address)
            .await
            .with_context(|| format!("cannot listen on `{}`", self.address))?;
        let scheme = if certificate.is_some() { "https" } else { "http" };
        context
            .printer
            .data(&format!("{scheme}://{}", listener.local_addr()?))?;
        let watched = WatchedFiles {
            certificate: certificate
                .clone()
                .zip(self.tls_certificate.clone())
                .zip(self.tls_key.clone())
                .map(|((slot, certificate), key)| (slot, certificate, key)),
            users: users.zip(self.htpasswd.clone()),
        };
        let limits = ServeLimits {
            connections: self.max_connections,
            stall: self.stall_timeout.duration(),
            header: self.header_timeout.duration(),
            ..ServeLimits::default()
        };
        let drained = tokio::select! {
            drained = serve(listener, certificate, http, limits, shutdown) => drained,
            never = watched.watch(self.reload_every.duration()) => match never {},
        };
        ensure!(
            drained.abandoned == 0,
            "{} closed before the end",
            counted(drained.abandoned, "connection")
        );
        Ok(ExitStatus::Done)
    }

    fn load_certificate(&self) -> anyhow::Result<Option<Arc<CertificateSlot>>> {
        let (Some(certificate), Some(key)) = (&self.tls_certificate, &self.tls_key) else {
            return Ok(None);
        };
        let slot = load_pair(certificate, key).and_then(|pair| CertificateSlot::new(&pair));
        Ok(Some(slot.with_context(|| {
            format!("cannot use the certificate `{certificate}`")
        })?))
    }
}

fn load_users(path: &Utf8Path) -> anyhow::Result<Users> {
    let text = fs_err::read_to_string(path)?;
    Users::parse_htpasswd(&text).with_context(|| format!("cannot use `{path}`"))
}
