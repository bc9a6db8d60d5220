//! Invitations to a site [spec:site.join]: the leader's side of a join token. It is used once, within minutes of run
//! time: the clocks of the hosts do not take part.

use std::borrow::Cow;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretBox};

use super::token::SECRET_BYTES;
use crate::failure::Hint;

/// Validity of a token.
pub const VALIDITY: Duration = Duration::from_secs(600);
/// Wrong secrets after which the token is worth nothing.
pub const WRONG_MAX: u32 = 5;

/// A token that was given and not used yet.
#[derive(Debug)]
pub struct Invitation {
    secret: SecretBox<[u8; SECRET_BYTES]>,
    /// Run time of the agent when the token was given.
    given: Duration,
    wrong: u32,
    is_used: bool,
}

/// Reason to refuse a host that wants to join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JoinRefusal {
    #[error("the token is older than {} minutes", VALIDITY.as_secs() / 60)]
    Expired,
    #[error("the token was used before")]
    Used,
    #[error("the token was tried with wrong secrets")]
    Locked,
    #[error("the secret is not that of the token")]
    Wrong,
}

impl Hint for JoinRefusal {
    fn hint(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(
            "get a new token with `landfall site token` on the leader",
        ))
    }
}

impl Invitation {
    #[must_use]
    pub fn new(secret: SecretBox<[u8; SECRET_BYTES]>, now: Duration) -> Invitation {
        Invitation {
            secret,
            given: now,
            wrong: 0,
            is_used: false,
        }
    }

    /// Uses the token. The caller makes that durable before it signs a certificate. The time of the comparison does not
    /// depend on the secret.
    ///
    /// # Errors
    /// If the host must not join.
    pub fn redeem(&mut self, offered: &[u8; SECRET_BYTES], now: Duration) -> Result<(), JoinRefusal> {
        if self.is_used {
            return Err(JoinRefusal::Used);
        }
        if now.saturating_sub(self.given) >= VALIDITY {
            return Err(JoinRefusal::Expired);
        }
        if self.wrong >= WRONG_MAX {
            return Err(JoinRefusal::Locked);
        }
        let pairs = self.secret.expose_secret().iter().zip(offered);
        let difference = pairs.fold(0, |difference, (own, other)| difference | (own ^ other));
        if difference != 0 {
            self.wrong += 1;
            return Err(JoinRefusal::Wrong);
        }
        self.is_used = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mk_invitation() -> Invitation {
        Invitation::new(SecretBox::new(Box::new([7; SECRET_BYTES])), Duration::from_secs(100))
    }

    #[test]
    fn token_is_used_once_within_ten_minutes() {
        let at = Duration::from_secs;
        let mut invitation = mk_invitation();
        assert_eq!(invitation.redeem(&[7; SECRET_BYTES], at(699)), Ok(()));
        assert_eq!(invitation.redeem(&[7; SECRET_BYTES], at(699)), Err(JoinRefusal::Used));
        assert_eq!(
            mk_invitation().redeem(&[7; SECRET_BYTES], at(700)),
            Err(JoinRefusal::Expired)
        );
    }

    #[test]
    fn wrong_secrets_end_a_token() {
        let now = Duration::from_secs(101);
        let mut invitation = mk_invitation();
        let mut almost = [7; SECRET_BYTES];
        almost[SECRET_BYTES - 1] = 6;
        for _ in 0..WRONG_MAX {
            assert_eq!(invitation.redeem(&almost, now), Err(JoinRefusal::Wrong));
        }
        assert_eq!(invitation.redeem(&[7; SECRET_BYTES], now), Err(JoinRefusal::Locked));
    }
}
