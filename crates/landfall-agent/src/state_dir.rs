//! Names of the directories in the state directory that have no module of their own.

/// The journal of unfinished uploads to the primary registry.
pub(crate) const UPLOAD_JOURNAL: &str = "uploads";
/// The certificate of the embedded registry.
pub(crate) const PRIMARY: &str = "primary";
/// The certificate of the webhook.
pub(crate) const WEBHOOK: &str = "webhook";
/// The certificate of the status API.
pub(crate) const STATUS_API: &str = "api";
/// The mount points of sticks.
pub(crate) const STICKS: &str = "sticks";
/// Files for the courier that cannot be written beside their bundle.
pub(crate) const RECEIPTS: &str = "bundles";
