//! Where a registry keeps what it has: the blobs in a content store, the records of its repositories in a directory.

use camino::{Utf8Path, Utf8PathBuf};

/// The content store in an agent's state directory.
const STORE: &str = "store";

/// The two directories of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryDirs {
    /// The content store's.
    pub store: Utf8PathBuf,
    /// The records'.
    pub records: Utf8PathBuf,
}

impl RegistryDirs {
    /// Of a registry on its own: the records lie in the store's directory.
    #[must_use]
    pub fn standalone(root: &Utf8Path) -> RegistryDirs {
        RegistryDirs {
            store: root.to_owned(),
            records: root.join("repositories"),
        }
    }

    /// Of the registry in an agent's state directory: its store holds the images of the host as well.
    #[must_use]
    pub fn of_agent(state_dir: &Utf8Path) -> RegistryDirs {
        RegistryDirs {
            store: state_dir.join(STORE),
            records: state_dir.join("registry"),
        }
    }

    /// Of the registry that somebody means by a directory: an agent's when it is the state directory of one, or the store
    /// in it, which is never taken for a registry without records.
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
}
