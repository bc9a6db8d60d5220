//! The listener: TCP or TLS, one task for each connection, all in one thread.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{FakeTls, State, handler};

pub(super) fn serve_in_thread(listener: TcpListener, state: Arc<State>, stop: CancellationToken) -> JoinHandle<()> {
    listener.set_nonblocking(true).expect("a socket can be non-blocking");
    let clients = state.options.client_authority.as_deref();
    let acceptor = state.options.tls.as_ref().map(|tls| mk_acceptor(tls, clients));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime starts");
    std::thread::spawn(move || {
        runtime
            .block_on(stop.run_until_cancelled_owned(serve(listener, acceptor, state)))
            .unwrap_or(())
    })
}

async fn serve(listener: TcpListener, acceptor: Option<TlsAcceptor>, state: Arc<State>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("the listener is a TCP socket");
    let mut connections = JoinSet::new();
    loop {
        // A failed accept concerns only the client.
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let (acceptor, state) = (acceptor.clone(), state.clone());
        connections.spawn(async move {
            match acceptor {
                None => serve_connection(stream, state).await,
                // A client that rejects the certificate ends here: the test observes the client.
                Some(acceptor) => match acceptor.accept(stream).into_fallible().await {
                    Ok(stream) => serve_connection(stream, state).await,
                    Err((_, stream)) => hang_up(stream).await,
                },
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Closes a connection after a failed handshake. Reads the client's bytes first: unread bytes would turn the
/// close into a reset, which can overtake the alert with the reason.
async fn hang_up(mut stream: TcpStream) {
    drop(stream.shutdown().await);
    drop(tokio::io::copy(&mut stream, &mut tokio::io::sink()).await);
}

async fn serve_connection(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, state: Arc<State>) {
    let service = service_fn(move |request| {
        let state = state.clone();
        async move {
            handler::handle(&state, request)
                .await
                .ok_or_else(|| io::Error::other("an injected fault"))
        }
    });
    let connection = auto::Builder::new(TokioExecutor::new());
    // Faults end connections on purpose, so an error is no news.
    drop(connection.serve_connection(TokioIo::new(stream), service).await);
}

fn mk_acceptor(tls: &FakeTls, client_authority: Option<&str>) -> TlsAcceptor {
    let certificates = CertificateDer::pem_slice_iter(tls.certificates.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .expect("the certificates are PEM");
    let key = PrivateKeyDer::from_pem_slice(tls.key.as_bytes()).expect("the key is PEM");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("the provider supports the default protocol versions");
    let builder = match client_authority {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let authority = CertificateDer::from_pem_slice(authority.as_bytes()).expect("the authority is PEM");
            let mut roots = RootCertStore::empty();
            roots.add(authority).expect("the authority is a certificate");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.expect("there is a root"))
        }
    };
    let config = builder
        .with_single_cert(certificates, key)
        .expect("the key belongs to the certificate");
    TlsAcceptor::from(Arc::new(config))
}
