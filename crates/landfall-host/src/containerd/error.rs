//! Failures of calls to containerd, with kind and hint.

use std::borrow::Cow;
use std::io;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use landfall_core::failure::{FailureKind, Hint};
use landfall_core::oci_types::ManifestError;
use landfall_core::reference::Digest;
use tonic::Code;

/// Failure of a call to containerd. Every text names the socket and the operation, with its image or blob.
#[derive(Debug, thiserror::Error)]
pub enum ContainerdError {
    /// No process answers on the socket, or the access is denied.
    #[error("cannot connect to containerd at `{socket}`")]
    Connect {
        socket: Utf8PathBuf,
        #[source]
        source: io::Error,
    },
    /// containerd answered with an error.
    #[error("cannot {attempt} in containerd at `{socket}`")]
    Call {
        /// The operation and its object.
        attempt: String,
        socket: Utf8PathBuf,
        /// containerd's answer.
        #[source]
        status: GrpcStatus,
    },
    /// containerd did not answer in time.
    #[error("cannot {attempt} in containerd at `{socket}`: no answer within {} s", limit.as_secs())]
    Timeout {
        /// The operation and its object.
        attempt: String,
        socket: Utf8PathBuf,
        limit: Duration,
    },
    /// The source of a blob ended early.
    #[error("cannot write blob `{digest}` into containerd: its source ended after {received} of {size} bytes")]
    SourceEnded {
        digest: Digest,
        /// The number of bytes that arrived, including those of earlier attempts.
        received: u64,
        /// The number of bytes in the descriptor.
        size: u64,
    },
    /// The source of a blob has more bytes than the descriptor.
    #[error("cannot write blob `{digest}` into containerd: its source has more than {size} bytes")]
    SourceTooLong {
        digest: Digest,
        /// The number of bytes in the descriptor.
        size: u64,
    },
    /// The caller continues from an offset that containerd has not reached, because it dropped a partial write
    /// meanwhile.
    #[error("cannot write blob `{digest}` into containerd from byte {offset} on: it holds {held} bytes")]
    OffsetLost {
        digest: Digest,
        /// The offset of the caller's bytes.
        offset: u64,
        /// The number of bytes that containerd has.
        held: u64,
    },
    /// The bytes of a manifest are not a manifest.
    #[error("cannot read the children of manifest `{digest}`")]
    Manifest {
        digest: Digest,
        #[source]
        source: ManifestError,
    },
}

/// containerd's answer to a call that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code:?}: {message}")]
pub struct GrpcStatus {
    code: Code,
    message: String,
}

impl From<tonic::Status> for GrpcStatus {
    /// Converts a status. A status with a cause was created on our side by a broken connection; tonic calls that
    /// `Unknown`.
    fn from(status: tonic::Status) -> Self {
        let Some(mut cause) = std::error::Error::source(&status) else {
            return GrpcStatus {
                code: status.code(),
                message: status.message().to_owned(),
            };
        };
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        GrpcStatus {
            code: Code::Unavailable,
            message: cause.to_string(),
        }
    }
}

impl ContainerdError {
    pub(super) fn call(attempt: String, socket: &Utf8Path, status: tonic::Status) -> Self {
        ContainerdError::Call {
            attempt,
            socket: socket.to_owned(),
            status: status.into(),
        }
    }

    /// Returns the kind of the failure, which decides what follows.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            ContainerdError::Connect { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                FailureKind::Forbidden
            }
            ContainerdError::Connect { .. }
            | ContainerdError::Timeout { .. }
            | ContainerdError::SourceEnded { .. }
            | ContainerdError::OffsetLost { .. } => FailureKind::Unreachable,
            ContainerdError::SourceTooLong { .. } | ContainerdError::Manifest { .. } => FailureKind::Corrupt,
            ContainerdError::Call { status, .. } => kind_of_status(status),
        }
    }

    pub(super) fn is(&self, wanted: Code) -> bool {
        matches!(self, ContainerdError::Call { status, .. } if status.code == wanted)
    }

    /// Returns true if another writer holds the requested write. containerd has no status code of its own for that.
    pub(super) fn is_locked(&self) -> bool {
        self.is(Code::Unavailable)
            && matches!(self, ContainerdError::Call { status, .. } if status.message.contains(" locked for "))
    }
}

impl Hint for ContainerdError {
    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            ContainerdError::Connect { socket, source } if source.kind() == io::ErrorKind::PermissionDenied => Some(
                Cow::Owned(format!("run as root, or give this user access to `{socket}`")),
            ),
            ContainerdError::Connect { socket, .. } => Some(Cow::Owned(format!(
                "start containerd (`systemctl start containerd`), or set `landfall.containerd.socket` if it listens \
                 elsewhere than `{socket}`"
            ))),
            ContainerdError::Call { status, .. } if is_disk_full(&status.message) => Some(Cow::Borrowed(
                "make room on the file system of containerd's root, usually /var/lib/containerd",
            )),
            _ => None,
        }
    }
}

fn kind_of_status(status: &GrpcStatus) -> FailureKind {
    match status.code {
        Code::NotFound => FailureKind::NotFound,
        Code::PermissionDenied | Code::Unauthenticated => FailureKind::Forbidden,
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Aborted => FailureKind::Unreachable,
        // containerd answers so if the committed bytes do not have the announced digest or size.
        Code::FailedPrecondition => FailureKind::Corrupt,
        // containerd passes errors of the file system on as text.
        _ if is_disk_full(&status.message) => FailureKind::Local,
        _ => FailureKind::Protocol,
    }
}

fn is_disk_full(message: &str) -> bool {
    message.contains("no space left on device")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_containerd_decides_what_follows() {
        let table = [
            (Code::NotFound, "image \"a\": not found", FailureKind::NotFound),
            (Code::PermissionDenied, "", FailureKind::Forbidden),
            (Code::Unavailable, "ref x locked: unavailable", FailureKind::Unreachable),
            (
                Code::FailedPrecondition,
                "unexpected commit digest",
                FailureKind::Corrupt,
            ),
            (Code::Unknown, "write /x: no space left on device", FailureKind::Local),
            (Code::Unknown, "something else", FailureKind::Protocol),
        ];
        for (code, message, kind) in table {
            let error = ContainerdError::call(
                "write blob `b`".to_owned(),
                Utf8Path::new("/run/c.sock"),
                tonic::Status::new(code, message),
            );
            assert_eq!(error.kind(), kind, "{code:?} {message}");
        }
    }

    #[test]
    fn a_missing_socket_and_a_forbidden_one_differ() {
        let connect = |kind: io::ErrorKind| ContainerdError::Connect {
            socket: Utf8PathBuf::from("/run/c.sock"),
            source: kind.into(),
        };
        assert_eq!(connect(io::ErrorKind::NotFound).kind(), FailureKind::Unreachable);
        assert_eq!(connect(io::ErrorKind::PermissionDenied).kind(), FailureKind::Forbidden);
        insta::assert_snapshot!(
            connect(io::ErrorKind::NotFound),
            @"cannot connect to containerd at `/run/c.sock`"
        );
    }
}
