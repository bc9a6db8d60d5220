//! Paths of keys and indices to a value of YAML.

use std::fmt;
use std::sync::Arc;

/// The keys and indices that lead to a node. Neighbours share their common part.
#[derive(Clone, Default)]
pub(crate) struct KeyPath(Option<Arc<PathStep>>);

struct PathStep {
    parent: KeyPath,
    part: Part,
}

enum Part {
    Key(Arc<str>),
    Index(usize),
}

impl KeyPath {
    /// Returns the path of a key below this one.
    pub(crate) fn key(&self, key: &str) -> KeyPath {
        self.step(Part::Key(Arc::from(key)))
    }

    /// Returns the path of an item below this one.
    pub(crate) fn index(&self, index: usize) -> KeyPath {
        self.step(Part::Index(index))
    }

    fn step(&self, part: Part) -> KeyPath {
        KeyPath(Some(Arc::new(PathStep {
            parent: self.clone(),
            part,
        })))
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(step) = &self.0 else { return Ok(()) };
        step.parent.fmt(f)?;
        match &step.part {
            Part::Index(index) => write!(f, "[{index}]"),
            Part::Key(key) => {
                if step.parent.0.is_some() {
                    f.write_str(".")?;
                }
                // Without quotes, a key with a dot looks like two keys. A key that ends in `]` names a pack.
                if key.contains('.') && !key.ends_with(']') {
                    write!(f, "\"{key}\"")
                } else {
                    f.write_str(key)
                }
            }
        }
    }
}
