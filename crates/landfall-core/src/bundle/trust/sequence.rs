//! Places of bundles in a series: an old bundle is told from a new one without a clock [spec:bundles.signing.series].

use serde::{Deserialize, Serialize};

/// The place of a bundle in its series, from `landfall/bundle.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edition {
    pub series: String,
    /// A number that grows from bundle to bundle.
    pub sequence: u64,
}

/// Decision about bundles that are older than one that the host has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OlderBundles {
    #[default]
    Refuse,
    /// Allow: someone asked for it explicitly. The caller logs it.
    Allow,
}

/// The highest sequence numbers of a series that the host has taken.
///
/// Numbers of unsigned bundles are kept apart: on a host that gets a key later, they must not lock out signed bundles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HighestSeen {
    pub signed: Option<u64>,
    pub unsigned: Option<u64>,
}

impl HighestSeen {
    /// Returns the number that counts for a bundle that a key of the host signed, or for another one.
    #[must_use]
    pub fn highest(self, signed: bool) -> Option<u64> {
        match signed {
            true => self.signed,
            false => self.signed.max(self.unsigned),
        }
    }

    /// Returns the numbers after the host took a bundle.
    #[must_use]
    pub fn with(self, sequence: u64, signed: bool) -> HighestSeen {
        let raised = |seen: Option<u64>| seen.max(Some(sequence));
        match signed {
            true => HighestSeen {
                signed: raised(self.signed),
                ..self
            },
            false => HighestSeen {
                unsigned: raised(self.unsigned),
                ..self
            },
        }
    }
}
