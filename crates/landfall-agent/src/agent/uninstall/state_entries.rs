//! The owner of each entry of the state directory, by its name. A user may have set a directory with other content.

use camino::Utf8Path;
use landfall_host::managed::MANIFEST;
use landfall_registry::directories::RegistryDirs;

use crate::agent::{inputs, ledger};
use crate::{events, host_key, run_lock, state_dir, status, uploads};

/// The owner of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// State of the agent.
    State,
    /// The content store, or the records of the embedded registry.
    Images,
    User,
}

const STATE: [&str; 16] = [
    run_lock::FILE_NAME,
    status::FILE_NAME,
    events::FILE_NAME,
    events::LOCK_NAME,
    ledger::FILE_NAME,
    inputs::LAST_GOOD,
    host_key::PRIVATE,
    host_key::PUBLIC,
    uploads::TOKEN_FILE,
    MANIFEST,
    state_dir::UPLOAD_JOURNAL,
    state_dir::PRIMARY,
    state_dir::WEBHOOK,
    state_dir::STATUS_API,
    state_dir::STICKS,
    state_dir::RECEIPTS,
];
/// Endings of files that were set aside or are being written; a number may follow after a dot.
const ENDINGS: [&str; 3] = [".damaged", ".newer", ".new"];

/// Returns the owner of an entry.
pub(super) fn owner_of(name: &str) -> Owner {
    let whole = base_name(name);
    let images = RegistryDirs::of_agent(Utf8Path::new(""));
    if STATE.contains(&whole) {
        Owner::State
    } else if [images.store, images.records].iter().any(|path| path == whole) {
        Owner::Images
    } else {
        Owner::User
    }
}

/// Returns the name of the file that a file replaces or that was set aside.
fn base_name(name: &str) -> &str {
    // `.NAME.PROCESS-COUNT.landfall` is a file that was being written.
    let unfinished = name.strip_prefix('.').and_then(|rest| rest.strip_suffix(".landfall"));
    if let Some((base, _)) = unfinished.and_then(|rest| rest.rsplit_once('.')) {
        return base;
    }
    let is_number = |rest: &str| rest.is_empty() || rest.strip_prefix('.').is_some_and(|n| n.parse::<u32>().is_ok());
    let mut found = ENDINGS.iter().filter_map(|ending| name.rsplit_once(ending));
    found.find(|(_, rest)| is_number(rest)).map_or(name, |(base, _)| base)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_told_by_their_names() {
        for (name, expected) in [
            ("status.json", Owner::State),
            ("ledger.json.damaged", Owner::State),
            ("ledger.json.newer.2", Owner::State),
            ("host-key.pem.new", Owner::State),
            (".status.json.17-3.landfall", Owner::State),
            ("primary", Owner::State),
            ("store", Owner::Images),
            ("registry", Owner::Images),
            ("store.damaged", Owner::Images),
            ("status.json.bak", Owner::User),
            ("status.json.damaged.mine", Owner::User),
            ("notes.new", Owner::User),
            (".status.json", Owner::User),
            ("holiday.jpg", Owner::User),
        ] {
            assert_eq!(owner_of(name), expected, "{name}");
        }
    }
}
