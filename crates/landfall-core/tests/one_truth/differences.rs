//! Differences that a dialect's format forces. The list stands here and, word for word, in the docs. A difference that
//! is not listed fails the test, and so does an entry that explains no difference.

use std::fmt;

use landfall_core::reference::ImageReference;
use landfall_core::resolve::{Resolution, Warning};
use landfall_core::settings::{RegistryRole, RulePrefix, Settings};

const DOCS: &str = include_str!("../../../../docs/limits-and-compat.md");
const HEADING: &str = "## Where a dialect cannot express the rules\n";

/// Names beyond this length are too long below the primary registry's prefix. Another warning may stand in the place of
/// that one.
const LONG_NAME: usize = 225;

/// A mechanism that redirects images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Dialect {
    Webhook,
    Policy,
    HostsToml,
    RegistriesYaml,
    Mirror,
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Dialect::Webhook => "webhook",
            Dialect::Policy => "MutatingAdmissionPolicy",
            Dialect::HostsToml => "`hosts.toml`",
            Dialect::RegistriesYaml => "`registries.yaml`",
            Dialect::Mirror => "node-local mirror",
        })
    }
}

/// An image for which a dialect and the resolver differ.
pub(crate) struct Case<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) image: &'a ImageReference,
    pub(crate) resolution: &'a Resolution,
}

impl Case<'_> {
    fn names_a_target(&self) -> bool {
        let host = &self.image.host;
        let externals = self
            .settings
            .registries
            .iter()
            .filter(|registry| registry.role == RegistryRole::External);
        externals
            .map(|registry| &registry.host)
            .any(|external| external == host)
            || self.settings.rules.iter().any(|rule| rule.to_host == *host)
    }

    fn has_a_source_at_ipv6(&self) -> bool {
        let mut candidates = self.resolution.candidates.iter();
        candidates.any(|candidate| candidate.reference.host.as_str().starts_with('['))
    }

    fn has_too_long_a_name(&self) -> bool {
        let warning = self.resolution.warning;
        matches!(
            warning,
            Some(Warning::NameNotPossible | Warning::PrimaryNameNotPossible)
        ) || self.image.repository.as_str().len() > LONG_NAME
    }

    fn has_a_rule_for_a_part(&self) -> bool {
        self.settings.rules.iter().any(
            |rule| matches!(&rule.from, RulePrefix::Path { host, path } if *host == self.image.host && !path.is_empty()),
        )
    }
}

/// An entry of the list.
pub(crate) struct Difference {
    pub(crate) dialects: &'static [Dialect],
    /// The images that the entry is about.
    pub(crate) images: &'static str,
    /// The dialect's behaviour, with the reason.
    pub(crate) instead: &'static str,
    /// Returns true if this entry explains the case.
    pub(crate) explains: fn(&Case<'_>) -> bool,
}

/// The known differences. The first entry that explains a case counts.
pub(crate) const DIFFERENCES: &[Difference] = &[
    Difference {
        dialects: &[Dialect::Webhook, Dialect::Policy],
        images: "`localhost/…`",
        instead: "stay as they are: they were built on the node",
        explains: |case| case.image.host.as_str() == "localhost",
    },
    Difference {
        dialects: &[Dialect::Policy],
        images: "of a registry at an IPv6 address",
        instead: "stay as they are: CEL would need a replacement for each character of the address",
        explains: |case| case.image.host.as_str().starts_with('['),
    },
    Difference {
        dialects: &[Dialect::HostsToml, Dialect::RegistriesYaml],
        images: "whose name at the target would be longer than 255 characters",
        instead: "are pulled from the target although no registry can hold them; the other dialects leave them as they are",
        explains: |case| case.has_too_long_a_name(),
    },
    Difference {
        dialects: &[Dialect::Policy],
        images: "in the primary registry",
        instead: "come from the next candidate: the API server does not know what the primary registry holds",
        explains: |case| case.resolution.primary().is_some(),
    },
    Difference {
        dialects: &[Dialect::HostsToml, Dialect::RegistriesYaml, Dialect::Mirror],
        images: "of a registry that other images are redirected to",
        instead: "are pulled from that registry: containerd cannot distinguish them from images that a webhook has redirected",
        explains: |case| case.names_a_target(),
    },
    Difference {
        dialects: &[Dialect::HostsToml, Dialect::RegistriesYaml],
        images: "with a source at an IPv6 address",
        instead: "are not looked up there by containerd 1.x, and by a release that is not known, unless it is the last source of \
                  `hosts.toml`: it cannot read the address in the name of a table",
        explains: |case| case.has_a_source_at_ipv6(),
    },
    Difference {
        dialects: &[Dialect::HostsToml],
        images: "of a registry with a rule for a part of it",
        instead: "are all looked up at the target first if the rule keeps the part's name at its end; otherwise they are pulled \
                  as they are written: one file is for a whole registry",
        explains: |case| case.has_a_rule_for_a_part(),
    },
    Difference {
        dialects: &[Dialect::RegistriesYaml],
        images: "of a registry with a rule for a part of it",
        instead: "are looked up at the target as well if no rule matches them; if rules nest or lead to several registries, all \
                  are pulled as they are written: `rewrite` has no order, and one list of endpoints",
        explains: |case| case.has_a_rule_for_a_part(),
    },
];

/// Checks the docs' table, which has one row for each entry.
#[test]
fn the_docs_list_the_same_differences() {
    let (_, section) = DOCS.split_once(HEADING).expect("the docs have the section");
    let section = section.split("\n## ").next().expect("a part");
    let rows = section.lines().filter(|line| line.starts_with('|')).skip(2);
    let rows: Vec<String> = rows.map(ToOwned::to_owned).collect();
    let expected = DIFFERENCES.iter().map(|difference| {
        let dialects: Vec<String> = difference.dialects.iter().map(ToString::to_string).collect();
        format!(
            "| {} | {} | {} |",
            dialects.join(", "),
            difference.images,
            difference.instead
        )
    });
    assert_eq!(
        rows,
        expected.collect::<Vec<_>>(),
        "docs/limits-and-compat.md, {HEADING}"
    );
}
