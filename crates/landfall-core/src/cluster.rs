//! The cluster side of the webhook, as decisions: who writes ([`election`]), when the authority is replaced
//! ([`authority`]), and what the API server is told ([`configuration`]) (SPEC section 9, running and certificates).
//!
//! Nothing here talks to a cluster: the agent hands in what it saw and the time, and carries out what it is told.

pub mod authority;
pub mod configuration;
pub mod election;

/// The name of the MutatingWebhookConfiguration.
pub const CONFIGURATION_NAME: &str = "landfall";
/// The name of the webhook in it; the API server puts it in front of audit annotations.
pub const WEBHOOK_NAME: &str = "pods.landfall.dev";
/// The name of the Lease that elects the writer.
pub const LEASE_NAME: &str = "landfall-webhook";
/// The name of the Secret with the authority.
pub const SECRET_NAME: &str = "landfall-webhook-ca";
/// The annotation on that Secret that asks for a new authority, whatever its value is.
pub const ROTATE_ANNOTATION: &str = "landfall.dev/rotate";
/// Who the API server is told to be changing things.
pub const FIELD_MANAGER: &str = "landfall";
