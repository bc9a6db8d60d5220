//! Where an image comes from, in what order, and why: the only place that knows (SPEC section 5).

use serde::Serialize;

use crate::config::{ImageRole, Settings};
use crate::reference::ImageReference;

/// The resolution rules of one [`Settings`], compiled for fast look-up.
#[derive(Debug)]
pub struct Resolver<'a> {
    settings: &'a Settings,
}

/// The answer: candidates in the order in which they are to be tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolution {
    /// At least one; primary first, then external or mapped, then the origin where that is allowed.
    pub candidates: Vec<Candidate>,
    /// A finding that the user should see, e.g. that no rule matches this image.
    pub warning: Option<Warning>,
}

/// One place to fetch an image from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The kind of place.
    pub place: Place,
    /// The reference to pull there. Tag and digest are those of the source, as written.
    pub reference: ImageReference,
    /// Why this is a candidate.
    pub why: Why,
    /// Index into [`Settings::registries`] of the credentials and trust to use; `None` is anonymous, system trust.
    pub registry: Option<usize>,
}

/// The kind of place that a candidate names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// The primary registry.
    Primary,
    /// An external registry, by prepending or by a mapping rule.
    External,
    /// The registry written in the profile.
    Origin,
}

/// Why a candidate is one. [`Resolver::explain`] says it in words, with file and line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The primary registry holds application images.
    Primary,
    /// The mapping rule with this index in [`Settings::rules`].
    Rule(usize),
    /// The only external registry: index into [`Settings::registries`].
    Prepend(usize),
    /// The image names its target already.
    AlreadyThere,
    /// There are rules or several registries, and none is for this image.
    NoRule,
    /// No external registry is configured.
    NoExternal,
    /// `imageRedirectWebhook.enable: false`: nothing is redirected (SPEC section 10).
    RedirectionOff,
    /// The source as written is tried last: no external registry is set and sync is allowed.
    SyncFromOrigin,
}

/// A finding about one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warning {
    /// Rules exist and none matches.
    NoRuleMatches,
    /// Several registries and no rule.
    SeveralRegistriesNoRule,
}

impl<'a> Resolver<'a> {
    /// Compiles the rules.
    #[must_use]
    pub fn new(settings: &'a Settings) -> Resolver<'a> {
        Resolver { settings }
    }

    /// Where this image comes from. Pure and fast: no allocation beyond the answer.
    #[must_use]
    pub fn resolve(&self, source: &ImageReference, role: ImageRole) -> Resolution {
        let _ = (source, role, self.settings);
        unimplemented!("contract")
    }

    /// Says a reason in one sentence, with rule, file and line.
    #[must_use]
    pub fn explain(&self, candidate: &Candidate) -> String {
        let _ = candidate;
        unimplemented!("contract")
    }
}
