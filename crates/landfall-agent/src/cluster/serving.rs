//! The certificate that the webhook serves with: issued under the authority in the state directory, which is the one of
//! the cluster as soon as that is known. An agent that starts while its cluster is down serves with what it had.

use std::sync::Arc;

use camino::Utf8PathBuf;
use jiff::Timestamp;
use landfall_net::certificate::{PemPair, load_pair, write_pair};
use landfall_net::serve::tls::CertificateSlot;
use tokio::sync::Mutex;

use crate::agent::certificates::{Issued, ensure_certificate};

/// Who issues the certificate while no cluster says otherwise.
pub(crate) const AUTHORITY_NAME: &str = "Landfall webhook";

/// The webhook's certificate: replaced in place, open connections keep theirs.
#[derive(Debug)]
pub(crate) struct ServingCertificate {
    directory: Utf8PathBuf,
    names: Vec<String>,
    slot: Arc<CertificateSlot>,
    /// Two that issue at once would leave the files of both.
    issuing: Mutex<()>,
}

impl ServingCertificate {
    /// The certificate in this directory for these names; made when it has to be.
    ///
    /// # Errors
    ///
    /// When a file cannot be read or written.
    pub(crate) async fn open(
        directory: Utf8PathBuf,
        names: Vec<String>,
        now: Timestamp,
    ) -> anyhow::Result<(Arc<ServingCertificate>, Issued)> {
        let issued = issue(directory.clone(), names.clone(), None, now).await?;
        let serving = ServingCertificate {
            slot: CertificateSlot::new(&issued.pair)?,
            issuing: Mutex::new(()),
            directory,
            names,
        };
        Ok((Arc::new(serving), issued))
    }

    /// What the server answers with.
    pub(crate) fn slot(&self) -> Arc<CertificateSlot> {
        self.slot.clone()
    }

    /// Renews the certificate when it has to be.
    ///
    /// # Errors
    ///
    /// As [`ServingCertificate::open`].
    pub(crate) async fn renew(&self, now: Timestamp) -> anyhow::Result<Issued> {
        self.reissue(None, now).await
    }

    /// Serves with a certificate of this authority from now on.
    ///
    /// # Errors
    ///
    /// As [`ServingCertificate::open`].
    pub(crate) async fn adopt(&self, authority: PemPair, now: Timestamp) -> anyhow::Result<Issued> {
        self.reissue(Some(authority), now).await
    }

    /// The authority in the directory: what a cluster that has none yet begins with.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub(crate) async fn load_authority(&self) -> anyhow::Result<PemPair> {
        let _issuing = self.issuing.lock().await;
        let directory = self.directory.clone();
        let load = move || load_pair(&directory.join("ca.crt"), &directory.join("ca.key"));
        Ok(tokio::task::spawn_blocking(load).await??)
    }

    async fn reissue(&self, authority: Option<PemPair>, now: Timestamp) -> anyhow::Result<Issued> {
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
) -> anyhow::Result<Issued> {
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
