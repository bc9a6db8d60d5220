//! Files that a served registry goes on with when they change: certificate, key and logins. They are read again on a timer
//! and compared by content, which works on every file system and with every way to replace a file.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use camino::Utf8PathBuf;
use landfall_net::certificate::load_pair;
use landfall_net::serve::tls::CertificateSlot;
use landfall_registry::Users;
use tokio::time::{MissedTickBehavior, interval};

/// What is followed.
#[derive(Debug, Default)]
pub(super) struct Followed {
    /// The certificate in force, and the files that it is from.
    pub(super) certificate: Option<(Arc<CertificateSlot>, Utf8PathBuf, Utf8PathBuf)>,
    /// The logins in force, and the file that they are from.
    pub(super) users: Option<(Users, Utf8PathBuf)>,
}

impl Followed {
    /// Follows the files for ever. What cannot be used is told and changes nothing.
    pub(super) async fn follow(self, every: Duration) -> Infallible {
        let mut tick = interval(every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = None;
        loop {
            tick.tick().await;
            let now = self.read();
            if seen.as_ref().is_some_and(|seen| *seen != now) {
                self.put_in_force();
            }
            seen = Some(now);
        }
    }

    /// What the files hold; nothing where one cannot be read, which is a change as well.
    fn read(&self) -> [Option<Vec<u8>>; 3] {
        let read = |path: Option<&Utf8PathBuf>| path.and_then(|path| fs_err::read(path).ok());
        let certificate = self.certificate.as_ref();
        [
            read(certificate.map(|(_, certificate, _)| certificate)),
            read(certificate.map(|(_, _, key)| key)),
            read(self.users.as_ref().map(|(_, file)| file)),
        ]
    }

    fn put_in_force(&self) {
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
                    %file, error = format!("{error:#}"),
                    "the new logins cannot be used; those before stay in force"
                ),
            }
        }
    }
}
