//! Reloads certificate, key and logins of a serving registry. The files are read on a timer and compared by content,
//! which works on every file system and with every way to replace a file.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use camino::Utf8PathBuf;
use landfall_agent::failure::error_line;
use landfall_net::certificate::load_pair;
use landfall_net::serve::tls::CertificateSlot;
use landfall_registry::Users;
use tokio::time::{MissedTickBehavior, interval};

/// Files of a serving registry, each with the value that is in use.
#[derive(Debug, Default)]
pub(super) struct WatchedFiles {
    /// Certificate in use, certificate file and key file.
    pub(super) certificate: Option<(Arc<CertificateSlot>, Utf8PathBuf, Utf8PathBuf)>,
    /// Logins in use, and their file.
    pub(super) users: Option<(Users, Utf8PathBuf)>,
}

impl WatchedFiles {
    /// Reads the files at this interval until the future is dropped. A file that cannot be used is logged and changes
    /// nothing.
    pub(super) async fn watch(self, every: Duration) -> Infallible {
        let mut tick = interval(every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = None;
        loop {
            tick.tick().await;
            let now = self.read();
            if seen.as_ref().is_some_and(|seen| *seen != now) {
                self.reload();
            }
            seen = Some(now);
        }
    }

    /// Reads the files. A file that cannot be read is `None`, which counts as a change too.
    fn read(&self) -> [Option<Vec<u8>>; 3] {
        let read = |path: Option<&Utf8PathBuf>| path.and_then(|path| fs_err::read(path).ok());
        let certificate = self.certificate.as_ref();
        [
            read(certificate.map(|(_, certificate, _)| certificate)),
            read(certificate.map(|(_, _, key)| key)),
            read(self.users.as_ref().map(|(_, file)| file)),
        ]
    }

    fn reload(&self) {
        if let Some((slot, certificate, key)) = &self.certificate {
            match load_pair(certificate, key).and_then(|pair| slot.replace(&pair)) {
                Ok(()) => tracing::info!(%certificate, "certificate read again"),
                Err(error) => tracing::error!(
                    %certificate, error = %anyhow::Error::from(error),
                    "the new certificate cannot be used; the one before stays in force"
                ),
            }
        }
        if let Some((users, file)) = &self.users {
            let replaced = fs_err::read_to_string(file)
                .map_err(anyhow::Error::from)
                .and_then(|text| Ok(users.replace(&text)?));
            match replaced {
                Ok(()) => tracing::info!(%file, "logins read again"),
                Err(error) => tracing::error!(
                    %file, error = error_line(&error),
                    "the new logins cannot be used; those before stay in force"
                ),
            }
        }
    }
}
