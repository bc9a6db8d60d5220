//! The webhook's serving certificate. It is issued under the authority in the state directory, which is the cluster's
//! authority as soon as the agent knows it. An agent that starts while its cluster is down serves with the certificate
//! that it had.

use std::sync::Arc;

use camino::Utf8PathBuf;
use jiff::Timestamp;
use landfall_net::certificate::{PemPair, load_pair, write_pair};
use landfall_net::serve::tls::CertificateSlot;
use tokio::sync::Mutex;

use crate::certificates::{IssuedCertificate, ensure_certificate};

/// The name of the authority that issues the certificate until the cluster has one.
pub(crate) const AUTHORITY_NAME: &str = "Landfall webhook";

/// The webhook's certificate. It is replaced in place; open connections keep the old one.
#[derive(Debug)]
pub(crate) struct ServingCertificate {
    directory: Utf8PathBuf,
    names: Vec<String>,
    slot: Arc<CertificateSlot>,
    /// Two tasks that issue at once would mix their files.
    issuing: Mutex<()>,
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
        let issued = issue(directory.clone(), names.clone(), None, now).await?;
        let serving = ServingCertificate {
            slot: CertificateSlot::new(&issued.pair)?,
            issuing: Mutex::new(()),
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

    /// Loads the authority in the directory, with which a cluster without one begins.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub(crate) async fn load_authority(&self) -> anyhow::Result<PemPair> {
        let _issuing = self.issuing.lock().await;
        let directory = self.directory.clone();
        let load = move || load_pair(&directory.join("ca.crt"), &directory.join("ca.key"));
        Ok(tokio::task::spawn_blocking(load).await??)
    }

    async fn reissue(&self, authority: Option<PemPair>, now: Timestamp) -> anyhow::Result<IssuedCertificate> {
        let _issuing = self.issuing.lock().await;
        let issued = issue(self.directory.clone(), self.names.clone(), authority, now).await?;
        self.slot.replace(&issued.pair)?;
        Ok(issued)
    }
}

async fn issue(
    directory: Utf8PathBuf,
    names: Vec<String>,
    authority: Option<PemPair>,
    now: Timestamp,
) -> anyhow::Result<IssuedCertificate> {
    let issue = move || {
        if let Some(authority) = authority {
            fs_err::create_dir_all(&directory)?;
            write_pair(&authority, &directory.join("ca.crt"), &directory.join("ca.key"))?;
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        ensure_certificate(&directory, AUTHORITY_NAME, &names, now)
    };
    tokio::task::spawn_blocking(issue).await?
}
