//! Rules of a registry: who may do what, and how much at once.

use crate::api::users::Users;

/// Who may do what.
#[derive(Debug, Default)]
pub struct Policy {
    /// Who may push, and pull; `None` lets everybody do both.
    pub login: Option<Users>,
    /// Whether pulling needs no login.
    pub anonymous_pull: bool,
    /// Whether nothing may be changed through the API.
    pub read_only: bool,
    /// Whether images are taken of which a layer or the configuration is not here. An index may always name manifests that
    /// are not: that is how one platform of many is copied under the image's own digest.
    pub incomplete_images: bool,
    /// How many requests are under way at once; more are asked to come again. `None`: [`DEFAULT_REQUESTS_MAX`].
    pub requests_max: Option<usize>,
    /// Whether `/metrics` is served, to whoever may pull.
    pub metrics: bool,
    /// Whether each request is logged.
    pub access_log: bool,
}

/// How many requests are under way at once, when nothing else is said.
pub const DEFAULT_REQUESTS_MAX: usize = 1024;
