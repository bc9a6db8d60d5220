//! Shortcuts: requests that only save work. A registry may refuse any of them, and still serve and take images. So an
//! unexpected answer to a shortcut never ends the work: the plain way follows it ([spec:agent.shortcuts]).
//!
//! This is the list of all shortcuts, and the one rule about their answers. The client carries it out.

/// A request that only saves work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shortcut {
    /// `HEAD` of a manifest before its push.
    ManifestBeforePush,
    /// `HEAD` of a manifest in place of `GET`.
    ManifestHead,
    /// `HEAD` of a blob before its upload.
    BlobBeforeUpload,
    /// `HEAD` of a blob in place of `GET`.
    BlobHead,
    /// `Range` of a blob: the rest after a broken transfer, or a part that a connection lives long enough for.
    BlobRange,
    /// Mount of a blob from the repository itself, which finds a blob that is present.
    MountFromSelf,
    /// Mount of a blob from another repository.
    MountFromOther,
    /// Question for the bytes that an upload session has.
    UploadStatus,
    /// Question how far an upload got, while its bytes are sent.
    UploadProgress,
    /// Proof that the registry verifies uploads.
    UploadVerification,
    /// Upload in several requests.
    ChunkedUpload,
    /// The referrers API.
    ReferrersApi,
    /// `HEAD` of a Harbor project before its creation.
    HarborProject,
}

/// An answer to a shortcut that is not the expected one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unexpected {
    /// A status, e.g. 401, 403, 405, 416, 429 without a time, or 5xx.
    Status(u16),
    /// 429 or 503 with the time before which the registry is not to be asked again.
    Wait,
    /// An answer that is none: HTML, another range, a redirect that is not followed, a failure of the host that the
    /// registry redirects to.
    Unusable,
    /// The connection ended without an answer.
    Silence,
    /// The question did not reach the registry: no connection, no TLS, an open circuit. The plain way would not either.
    Unreached,
}

/// The reaction to an unexpected answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterShortcut {
    /// Take the plain way now.
    PlainWay,
    /// Report the failure: the caller waits and comes again. It is counted.
    Again,
    /// Report the failure: it is not one of the shortcut.
    Fail,
}

impl Shortcut {
    pub const ALL: [Shortcut; 13] = [
        Shortcut::ManifestBeforePush,
        Shortcut::ManifestHead,
        Shortcut::BlobBeforeUpload,
        Shortcut::BlobHead,
        Shortcut::BlobRange,
        Shortcut::MountFromSelf,
        Shortcut::MountFromOther,
        Shortcut::UploadStatus,
        Shortcut::UploadProgress,
        Shortcut::UploadVerification,
        Shortcut::ChunkedUpload,
        Shortcut::ReferrersApi,
        Shortcut::HarborProject,
    ];

    /// Returns the plain way, in words for logs.
    #[must_use]
    pub fn plain_way(self) -> &'static str {
        match self {
            Shortcut::ManifestBeforePush => "push the manifest",
            Shortcut::ManifestHead => "fetch the manifest",
            Shortcut::BlobBeforeUpload => "upload the blob",
            Shortcut::BlobHead => "open the blob",
            Shortcut::BlobRange => "fetch the blob from its first byte",
            Shortcut::MountFromSelf | Shortcut::MountFromOther => "open an upload session",
            Shortcut::UploadStatus => "open a new upload session",
            Shortcut::UploadProgress => "send the bytes without a question",
            Shortcut::UploadVerification => "hash the bytes on this machine",
            Shortcut::ChunkedUpload => "upload the blob in one request",
            Shortcut::ReferrersApi => "use the list under the tag",
            Shortcut::HarborProject => "create the project",
        }
    }

    /// Returns the number of passing failures after which the plain way follows. It is larger where the plain way moves
    /// bytes again.
    #[must_use]
    pub fn patience(self) -> u32 {
        match self {
            Shortcut::BlobRange | Shortcut::MountFromOther | Shortcut::UploadStatus | Shortcut::ChunkedUpload => 2,
            Shortcut::ManifestBeforePush
            | Shortcut::BlobBeforeUpload
            | Shortcut::MountFromSelf
            | Shortcut::ReferrersApi => 1,
            Shortcut::ManifestHead
            | Shortcut::BlobHead
            | Shortcut::HarborProject
            | Shortcut::UploadProgress
            | Shortcut::UploadVerification => 0,
        }
    }

    /// Decides after an unexpected answer. `before` is the number of counted failures of this question.
    #[must_use]
    pub fn after(self, answer: Unexpected, before: u32) -> AfterShortcut {
        match answer {
            Unexpected::Unreached => AfterShortcut::Fail,
            // The plain way must wait too.
            Unexpected::Wait => AfterShortcut::Again,
            Unexpected::Silence | Unexpected::Status(408 | 425 | 429 | 500..) if before < self.patience() => {
                // 501 says that it will not do it: the same question gets the same answer.
                if answer == Unexpected::Status(501) {
                    AfterShortcut::PlainWay
                } else {
                    AfterShortcut::Again
                }
            }
            Unexpected::Silence | Unexpected::Unusable | Unexpected::Status(_) => AfterShortcut::PlainWay,
        }
    }

    /// Returns true if the question is not worth another attempt after this number of counted failures: the caller
    /// takes the plain way without it.
    #[must_use]
    pub fn is_given_up(self, before: u32) -> bool {
        before > self.patience()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the number of questions before the plain way, for a registry that always gives this answer.
    fn questions(shortcut: Shortcut, answer: Unexpected) -> Option<u32> {
        let mut before = 0;
        for asked in 0..10 {
            if shortcut.is_given_up(before) {
                return Some(asked);
            }
            match shortcut.after(answer, before) {
                AfterShortcut::PlainWay => return Some(asked + 1),
                AfterShortcut::Again => before += 1,
                AfterShortcut::Fail => return None,
            }
        }
        None
    }

    #[test]
    fn every_unexpected_answer_to_every_shortcut_leads_to_the_plain_way() {
        let statuses = [
            200, 204, 301, 302, 303, 307, 308, 400, 401, 403, 404, 405, 406, 408, 409, 410, 411, 413, 415, 416, 418,
            425, 429, 500, 501, 502, 503, 504,
        ];
        let others = [Unexpected::Wait, Unexpected::Unusable, Unexpected::Silence];
        for shortcut in Shortcut::ALL {
            for answer in statuses.map(Unexpected::Status).into_iter().chain(others) {
                // A copy has five attempts, and the plain way needs one.
                let asked = questions(shortcut, answer);
                assert!(
                    asked.is_some_and(|asked| (1..=3).contains(&asked)),
                    "{shortcut:?} {answer:?}: {asked:?}"
                );
            }
            assert_eq!(questions(shortcut, Unexpected::Unreached), None, "{shortcut:?}");
        }
    }

    #[test]
    fn a_passing_failure_is_not_repeated_once_the_patience_is_used_up() {
        for shortcut in Shortcut::ALL {
            let patience = shortcut.patience();
            assert_eq!(
                shortcut.after(Unexpected::Silence, patience),
                AfterShortcut::PlainWay,
                "{shortcut:?}"
            );
            for before in 0..patience {
                assert_eq!(
                    shortcut.after(Unexpected::Silence, before),
                    AfterShortcut::Again,
                    "{shortcut:?} {before}"
                );
            }
        }
    }

    #[test]
    fn a_refusal_is_not_repeated_and_a_passing_failure_is() {
        let cases = [
            (Shortcut::ManifestBeforePush, Unexpected::Status(401), 1),
            (Shortcut::ManifestBeforePush, Unexpected::Status(502), 2),
            (Shortcut::BlobRange, Unexpected::Status(416), 1),
            (Shortcut::BlobRange, Unexpected::Status(501), 1),
            (Shortcut::BlobRange, Unexpected::Silence, 3),
            (Shortcut::ReferrersApi, Unexpected::Unusable, 1),
            (Shortcut::ManifestHead, Unexpected::Wait, 1),
        ];
        for (shortcut, answer, expected) in cases {
            assert_eq!(questions(shortcut, answer), Some(expected), "{shortcut:?} {answer:?}");
        }
    }
}
