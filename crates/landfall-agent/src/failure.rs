//! Texts of errors for people: events, status, log lines and the exit message. No hint is lost on the way.

use std::borrow::Cow;
use std::error::Error;
use std::io;

use camino::Utf8Path;
use landfall_core::failure::{self, Explanation, Hint as _, line_with_hint};
use landfall_oci::store::disk_space::DiskSpace;
use landfall_oci::store::error::is_disk_full;

/// Returns the first hint in an error and its causes, from the outside in. All types with advice are known here.
#[must_use]
pub fn find_hint<'a>(error: &'a (dyn Error + 'static)) -> Option<Cow<'a, str>> {
    failure::find_hint(error, |error| {
        failure::hint_of(error)
            .or_else(|| landfall_oci::hints::hint_of(error))
            .or_else(|| landfall_host::hints::hint_of(error))
            .or_else(|| landfall_registry::hints::hint_of(error))
    })
}

/// Returns the hint of an error. The advice of a context comes first: `anyhow` hides the types of contexts from the
/// chain of causes and shows them by [`anyhow::Error::downcast_ref`] alone.
#[must_use]
pub fn find_hint_in_context(error: &anyhow::Error) -> Option<Cow<'_, str>> {
    let of_context = error.downcast_ref::<Explanation>();
    of_context.map_or_else(|| find_hint(error.as_ref()), Explanation::hint)
}

/// Renders an error, its causes and its hint on one line.
#[must_use]
pub fn error_line(error: &anyhow::Error) -> String {
    line_with_hint(format_args!("{error:#}"), find_hint_in_context(error))
}

/// Explains that the state directory cannot be used, by the cause.
pub(crate) fn explain_unusable_state_dir(state_dir: &Utf8Path, error: anyhow::Error) -> anyhow::Error {
    let explanation = match is_full(error.as_ref()) {
        true => Explanation::new(
            format!("cannot use `{state_dir}`{}", describe_space(state_dir)),
            "free space on its disk, or set `landfall.stateDir` in the user-data to a directory on another one",
        ),
        false => Explanation::new(
            format!("cannot use `{state_dir}`"),
            "set `landfall.stateDir` in the user-data",
        ),
    };
    error.context(explanation)
}

/// Returns true if an error or one of its causes means that the disk has no room.
pub(crate) fn is_full(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(current) = cause {
        if current.downcast_ref::<io::Error>().is_some_and(is_disk_full) {
            return true;
        }
        cause = current.source();
    }
    false
}

/// Describes the free space of a disk: ", 0 of 67108864 bytes are free".
pub(crate) fn describe_space(path: &Utf8Path) -> String {
    DiskSpace::of(path).map_or_else(
        |_| String::new(),
        |DiskSpace { free, total }| format!(", {free} of {total} bytes are free"),
    )
}

#[cfg(test)]
mod tests {
    use landfall_core::failure::FailureKind;
    use landfall_host::containerd::ContainerdError;
    use landfall_host::managed::ManagedError;
    use landfall_oci::client::{ConnectionProblem, Fault};
    use landfall_oci::image::TransferError;

    use super::*;

    fn transfer(source: impl Error + Send + Sync + 'static) -> TransferError {
        TransferError {
            attempt: "cannot copy".to_owned(),
            kind: FailureKind::Unreachable,
            source: Some(Box::new(source)),
        }
    }

    #[test]
    fn the_hints_of_all_crates_reach_the_text() {
        let error = anyhow::Error::from(transfer(Fault::from(ConnectionProblem::Name))).context("cannot start");
        assert_eq!(
            error_line(&error),
            "cannot start: cannot copy: the name cannot be resolved; hint: check the registry's name and this machine's DNS"
        );
        let error = transfer(ContainerdError::Connect {
            socket: "/run/c.sock".into(),
            source: io::Error::from(io::ErrorKind::PermissionDenied),
        });
        assert_eq!(
            find_hint(&error).as_deref(),
            Some("run as root, or give this user access to `/run/c.sock`")
        );
        let error = ManagedError::Manifest {
            path: "/state/managed-files.json".into(),
            source: serde_json::from_str::<u8>("").unwrap_err(),
        };
        assert_eq!(
            find_hint(&error).as_deref(),
            Some("remove it, files with the mark are found again")
        );
    }

    #[test]
    fn the_advice_of_a_context_is_found_below_another_context() {
        let error = anyhow::Error::from(io::Error::other("the disk is gone"));
        let error = explain_unusable_state_dir("/state".into(), error).context("cannot start");
        assert_eq!(
            error_line(&error),
            "cannot start: cannot use `/state`: the disk is gone; hint: set `landfall.stateDir` in the user-data"
        );
        let full = anyhow::Error::from(io::Error::from(io::ErrorKind::StorageFull)).context("cannot open the store");
        assert_eq!(
            error_line(&explain_unusable_state_dir("/no/such/state".into(), full)),
            "cannot use `/no/such/state`: cannot open the store: no storage space; hint: free space on its disk, or set \
             `landfall.stateDir` in the user-data to a directory on another one"
        );
    }
}
