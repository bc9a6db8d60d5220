use crate::api::users::Users;

/// Access rules and limits of a registry.
#[derive(Debug, Default)]
pub struct Policy {
    /// Users that may push and pull. `None` allows both to everybody.
    pub login: Option<Users>,
    /// Allows pulls without a login.
    pub anonymous_pull: bool,
    /// Rejects all changes through the API.
    pub read_only: bool,
    /// Accepts images whose configuration or layers are missing. An index may always name missing manifests, because a
    /// copy of one platform keeps the index and its digest.
    pub incomplete_images: bool,
    /// Requests in flight at most, of which one client has half. Further ones get 429 (Too Many Requests). `None` means
    /// [`DEFAULT_REQUESTS_MAX`].
    pub requests_max: Option<usize>,
    /// Serves `/metrics` to clients that may pull.
    pub metrics: bool,
    /// Logs each request.
    pub access_log: bool,
}

/// Default of [`Policy::requests_max`].
pub const DEFAULT_REQUESTS_MAX: usize = 1024;
