//! The webhook's serving certificate. It is issued under the authority in the state directory, which is the cluster's
//! authority as soon as the agent knows it. An agent that starts while its cluster is down serves with the certificate
//! that it had.

use std::sync::Arc;

use camino::Utf8PathBuf;
use jiff::Timestamp;
use landfall_net::certificate::PemPair;
use landfall_net::serve::tls::CertificateSlot;
use tokio::sync::Mutex;

use crate::certificates::{Authority, IssuedCertificate, ensure_certificate};

/// The name of the authority that issues the certificate until the cluster has one.
pub(crate) const AUTHORITY_NAME: &str = "Landfall webhook";

/// The webhook's certificate. It is replaced in place; open connections keep the old one.
#[derive(Debug)]
pub(crate) struct ServingCertificate {
    directory: Utf8PathBuf,
    names: Vec<String>,
    slot: Arc<CertificateSlot>,
    /// Two tasks that issue at once would mix their files.
    issuing: Mutex<Known>,
}

/// The authorities that this process knows, whatever could be written.
#[derive(Debug)]
struct Known {
    /// The authority of the cluster.
    adopted: Option<PemPair>,
    /// The authority of the last certificate.
    last: PemPair,
}

impl ServingCertificate {
    /// Opens the certificate in this directory for these names, or issues one.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or written.
    pub(crate) async fn open(
        directory: Utf8PathBuf,
        names: Vec<String>,
        now: Timestamp,
    ) -> anyhow::Result<(Arc<ServingCertificate>, IssuedCertificate)> {
        let own = Authority::Own {
            name: AUTHORITY_NAME,
            known: None,
        };
        let issued = issue(directory.clone(), names.clone(), own, now).await?;
        let serving = ServingCertificate {
            slot: CertificateSlot::new(&issued.pair)?,
            issuing: Mutex::new(Known {
                adopted: None,
                last: issued.authority.clone(),
            }),
            directory,
            names,
        };
        Ok((Arc::new(serving), issued))
    }

    /// Returns the slot that the server reads the certificate from.
    pub(crate) fn slot(&self) -> Arc<CertificateSlot> {
        self.slot.clone()
    }

    /// Renews the certificate if it is due.
    ///
    /// # Errors
    ///
    /// As [`ServingCertificate::open`].
    pub(crate) async fn renew(&self, now: Timestamp) -> anyhow::Result<IssuedCertificate> {
        self.reissue(None, now).await
    }

    /// Serves with a certificate of this authority from now on.
    ///
    /// # Errors
    ///
    /// As [`ServingCertificate::open`].
    pub(crate) async fn adopt(&self, authority: PemPair, now: Timestamp) -> anyhow::Result<IssuedCertificate> {
        self.reissue(Some(authority), now).await
    }

    /// Returns the authority of the last certificate, with which a cluster without one begins.
    pub(crate) async fn authority(&self) -> PemPair {
        self.issuing.lock().await.last.clone()
    }

    async fn reissue(&self, adopt: Option<PemPair>, now: Timestamp) -> anyhow::Result<IssuedCertificate> {
        let mut known = self.issuing.lock().await;
        if adopt.is_some() {
            known.adopted = adopt;
        }
        let authority = match &known.adopted {
            Some(adopted) => Authority::Given(adopted.clone()),
            None => Authority::Own {
                name: AUTHORITY_NAME,
                known: Some(known.last.clone()),
            },
        };
        let issued = issue(self.directory.clone(), self.names.clone(), authority, now).await?;
        self.slot.replace(&issued.pair)?;
        known.last = issued.authority.clone();
        Ok(issued)
    }
}

async fn issue(
    directory: Utf8PathBuf,
    names: Vec<String>,
    authority: Authority,
    now: Timestamp,
) -> anyhow::Result<IssuedCertificate> {
    let issue = move || {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        ensure_certificate(&directory, authority, &names, now)
    };
    tokio::task::spawn_blocking(issue).await?
}
