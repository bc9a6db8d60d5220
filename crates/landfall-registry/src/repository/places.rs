//! Where a registry keeps what it has: the blobs in a content store, the records of its repositories in a directory.

use camino::{Utf8Path, Utf8PathBuf};

/// The content store in an agent's state directory.
const STORE: &str = "store";

/// The two directories of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The content store's.
    pub store: Utf8PathBuf,
    /// The records'.
    pub records: Utf8PathBuf,
}

impl Places {
    /// Of a registry on its own: the records lie in the store's directory.
    #[must_use]
    pub fn on_its_own(root: &Utf8Path) -> Places {
        Places {
            store: root.to_owned(),
            records: root.join("repositories"),
        }
    }

    /// Of the registry in an agent's state directory: its store holds the images of the host as well.
    #[must_use]
    pub fn of_agent(state_dir: &Utf8Path) -> Places {
        Places {
            store: state_dir.join(STORE),
            records: state_dir.join("registry"),
        }
    }

    /// Of the registry that somebody means by a directory: an agent's when it is the state directory of one, or the store
    /// in it, which is never taken for a registry without records.
    #[must_use]
    pub fn find(root: &Utf8Path) -> Places {
        let own = Places::on_its_own(root);
        let within = root.parent().filter(|_| root.file_name() == Some(STORE));
        let agents = [Some(root), within].into_iter().flatten().map(Places::of_agent);
        agents
            .filter(|_| !own.records.is_dir())
            .find(|places| places.records.is_dir())
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
            (&own, Places::on_its_own(&own)),
            (&new, Places::on_its_own(&new)),
            (&state, Places::of_agent(&state)),
            (&state.join("store"), Places::of_agent(&state)),
            (&state.join("registry"), Places::on_its_own(&state.join("registry"))),
        ] {
            assert_eq!(Places::find(root), expected, "{root}");
        }
    }
}
