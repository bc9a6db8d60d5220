//! Directories of a registry: a content store with the blobs, and the records of the repositories.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;

/// Name of the content store in an agent's state directory.
const STORE: &str = "store";

/// Directories of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryDirs {
    /// Directory of the content store.
    pub store: Utf8PathBuf,
    /// Directory of the records.
    pub records: Utf8PathBuf,
}

impl RegistryDirs {
    /// Returns the directories of a registry of its own. The records lie in the store's directory.
    #[must_use]
    pub fn standalone(root: &Utf8Path) -> RegistryDirs {
        RegistryDirs {
            store: root.to_owned(),
            records: root.join("repositories"),
        }
    }

    /// Returns the directories of the registry in an agent's state directory. Its store also holds the images of the
    /// host.
    #[must_use]
    pub fn of_agent(state_dir: &Utf8Path) -> RegistryDirs {
        RegistryDirs {
            store: state_dir.join(STORE),
            records: state_dir.join("registry"),
        }
    }

    /// Finds the registry as [`RegistryDirs::find`] does; a directory with none gets the directories of an agent, which
    /// finds its content there when it starts.
    ///
    /// # Errors
    /// If they cannot be made.
    pub fn find_or_make_agents(root: &Utf8Path) -> io::Result<RegistryDirs> {
        let found = RegistryDirs::find(root);
        if found.records.is_dir() || found.store.join("blobs").is_dir() {
            return Ok(found);
        }
        let agents = RegistryDirs::of_agent(root);
        fs::create_dir_all(&agents.records)?;
        Ok(agents)
    }

    /// Finds the registry that a user means by a directory. An agent's registry is found by the agent's state directory
    /// and by the store in it. That store alone is never a registry of its own, because it has no records.
    #[must_use]
    pub fn find(root: &Utf8Path) -> RegistryDirs {
        let own = RegistryDirs::standalone(root);
        let within = root.parent().filter(|_| root.file_name() == Some(STORE));
        let agents = [Some(root), within].into_iter().flatten().map(RegistryDirs::of_agent);
        agents
            .filter(|_| !own.records.is_dir())
            .find(|directories| directories.records.is_dir())
            .unwrap_or(own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_found_by_its_directory_and_an_agents_by_either_of_two() {
        let directory = tempfile::tempdir().unwrap();
        let directory = Utf8Path::from_path(directory.path()).unwrap();
        let (own, state, new) = (directory.join("own"), directory.join("state"), directory.join("new"));
        for made in [
            own.join("blobs"),
            own.join("repositories"),
            state.join("store/blobs"),
            state.join("registry"),
        ] {
            std::fs::create_dir_all(made).unwrap();
        }
        for (root, expected) in [
            (&own, RegistryDirs::standalone(&own)),
            (&new, RegistryDirs::standalone(&new)),
            (&state, RegistryDirs::of_agent(&state)),
            (&state.join("store"), RegistryDirs::of_agent(&state)),
            (
                &state.join("registry"),
                RegistryDirs::standalone(&state.join("registry")),
            ),
        ] {
            assert_eq!(RegistryDirs::find(root), expected, "{root}");
        }
    }

    #[test]
    fn a_directory_without_a_registry_becomes_that_of_an_agent() {
        let directory = tempfile::tempdir().unwrap();
        let directory = Utf8Path::from_path(directory.path()).unwrap();
        let (own, store, new) = (
            directory.join("own"),
            directory.join("store-only"),
            directory.join("new"),
        );
        fs::create_dir_all(own.join("repositories")).unwrap();
        fs::create_dir_all(store.join("blobs")).unwrap();
        for (root, expected) in [
            (&own, RegistryDirs::standalone(&own)),
            (&store, RegistryDirs::standalone(&store)),
            (&new, RegistryDirs::of_agent(&new)),
        ] {
            assert_eq!(RegistryDirs::find_or_make_agents(root).unwrap(), expected, "{root}");
            assert_eq!(RegistryDirs::find(root), expected, "{root}");
        }
    }
}
