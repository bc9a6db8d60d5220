//! The change that an update brings to the hosts, and its reasons.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::reference::{Digest, ImageReference};

/// The change that an update brings to each host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Change {
    /// Another provider image [spec:updates.sequence].
    Upgrade {
        image: SystemImage,
        /// The image before, for the way back.
        previous: Option<SystemImage>,
    },
    /// A reboot for changed stages [spec:updates.reboots].
    Reboot,
}

/// A provider image with the digest that all hosts of the site have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SystemImage {
    pub reference: ImageReference,
    pub digest: Digest,
}

impl Change {
    /// Returns the wanted image; `None` for a reboot.
    #[must_use]
    pub fn image(&self) -> Option<&SystemImage> {
        match self {
            Change::Upgrade { image, .. } => Some(image),
            Change::Reboot => None,
        }
    }
}

/// A reason for an update: the key that changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reason {
    pub code: ReasonCode,
    /// The key in the profile or the user-data.
    pub key: String,
    /// The value that the hosts came up with; `None` if there was none, or if it is not shown.
    pub from: Option<String>,
    pub to: Option<String>,
}

/// Kind of a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ReasonCode {
    ProviderImage,
    InitramfsStage,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
        match self.code {
            ReasonCode::ProviderImage => write!(
                f,
                "`{}` changed from `{}` to `{}`: the hosts are repaved",
                self.key,
                value(&self.from),
                value(&self.to)
            ),
            ReasonCode::InitramfsStage => write!(f, "`{}` changed: the hosts are rebooted", self.key),
        }
    }
}

/// The key of the provider image in the OS pack.
const PROVIDER_KEY: &str = "options.\"system.uri\"";

/// Returns the reasons for an update, and the change that they ask for; `None` if there is none. `provider` has the
/// image that the hosts came up with and the wanted one, `stages` the keys of the stages that changed and need a boot. A
/// repave contains a reboot.
#[must_use]
pub fn plan_reasons(
    provider: (Option<&SystemImage>, &SystemImage),
    stages: &[String],
) -> Option<(Change, Vec<Reason>)> {
    let (before, wanted) = provider;
    let is_new = before.is_none_or(|before| before.digest != wanted.digest);
    let name = |image: &SystemImage| format!("{}@{}", image.reference, image.digest);
    let of_provider = is_new.then(|| Reason {
        code: ReasonCode::ProviderImage,
        key: PROVIDER_KEY.to_owned(),
        from: before.map(name),
        to: Some(name(wanted)),
    });
    let of_stages = stages.iter().map(|key| Reason {
        code: ReasonCode::InitramfsStage,
        key: key.clone(),
        // A stage may hold a password.
        from: None,
        to: None,
    });
    let change = match is_new {
        true => Change::Upgrade {
            image: wanted.clone(),
            previous: before.cloned(),
        },
        false => Change::Reboot,
    };
    let reasons: Vec<Reason> = of_provider.into_iter().chain(of_stages).collect();
    (!reasons.is_empty()).then_some((change, reasons))
}
