//! Text of the reasons: one sentence each, with the rule, the file and the line.

use crate::diagnostic::Location;
use crate::reference::ImageReference;
use crate::settings::{MappingRule, RulePrefix};

use super::{Candidate, Resolver, Warning, Why};

impl Resolver<'_> {
    /// Renders the reason for a candidate as one sentence, with rule, file and line.
    #[must_use]
    pub fn explain(&self, candidate: &Candidate) -> String {
        match candidate.why {
            Why::Primary => self.explain_primary(),
            Why::Rule(index) => {
                let rule = &self.settings.rules[index];
                match &rule.from {
                    RulePrefix::All => format!(
                        "rule `all` prepends `{}` ({})",
                        target_of(rule),
                        file_and_line(&rule.location)
                    ),
                    RulePrefix::Path { host, path } => format!(
                        "mapping rule `{}` to `{}` ({})",
                        host_and_path(host.as_str(), path),
                        target_of(rule),
                        file_and_line(&rule.location)
                    ),
                }
            }
            Why::Prepend(index) => {
                let registry = &self.settings.registries[index];
                format!(
                    "external registry `{}` serves every image ({})",
                    registry.address(),
                    file_and_line(&registry.location)
                )
            }
            Why::AlreadyThere => "the image names its target already".to_owned(),
            Why::NoRule => "no mapping rule matches this image: unchanged".to_owned(),
            Why::NotPossible => "the rules turn it into a name that is not a valid repository: unchanged".to_owned(),
            Why::NoExternal => "no external registry is set: the registry written in the profile".to_owned(),
            Why::RedirectionOff => "redirection is off (`stylus.imageRedirectWebhook.enable: false`)".to_owned(),
            Why::Bundle(index) => match self.bundles.name(index) {
                Some(bundle) => format!("the bundle `{bundle}` has it: no network is needed"),
                None => "a bundle has it: no network is needed".to_owned(),
            },
            Why::Peer(number) => match self.peers.host(number) {
                Some(host) => format!("the host `{host}` of this site has it: the uplink is not needed"),
                None => "another host of this site has it: the uplink is not needed".to_owned(),
            },
            Why::SyncFromOrigin => {
                "tried last: no external registry is set, and sync from the origin is allowed".to_owned()
            }
        }
    }

    /// Renders a warning as one sentence that names the image.
    #[must_use]
    pub fn explain_warning(&self, image: &ImageReference, warning: Warning) -> String {
        match warning {
            Warning::NoRuleMatches => format!("no mapping rule matches `{image}`: it is pulled as it is written"),
            Warning::SeveralRegistriesNoRule => format!(
                "there are several external registries and no mapping rule for `{image}`: it is pulled as it is written"
            ),
            Warning::NameNotPossible => format!(
                "`{image}` would get a repository name that no registry accepts (most often longer than 255 \
                 characters): it is pulled as it is written"
            ),
            Warning::PrimaryNameNotPossible => format!(
                "`{image}` would get a repository name that the primary registry does not accept (most often longer \
                 than 255 characters): it is not kept there"
            ),
        }
    }

    fn explain_primary(&self) -> String {
        let Some(primary) = &self.settings.primary else {
            return "the primary registry".to_owned();
        };
        let name = format!("primary registry `{}/{}`", primary.endpoint, primary.project);
        match &primary.location {
            Some(location) => format!("{name} holds application images ({})", file_and_line(location)),
            None => format!("{name} holds application images"),
        }
    }
}

fn file_and_line(location: &Location) -> String {
    format!("{}:{}", location.file, location.line)
}

fn host_and_path(host: &str, path: &str) -> String {
    if path.is_empty() {
        host.to_owned()
    } else {
        format!("{host}/{path}")
    }
}

fn target_of(rule: &MappingRule) -> String {
    host_and_path(rule.to_host.as_str(), &rule.to_path)
}
