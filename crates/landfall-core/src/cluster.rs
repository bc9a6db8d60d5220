//! Cluster side of the webhook, as pure decisions: the agent that writes ([`election`]), the rotation of the
//! certificate authority ([`authority`]), and the MutatingWebhookConfiguration ([`configuration`])
//! [spec:webhook.certificates].
//!
//! No function here talks to a cluster: the agent passes in the cluster's state and the time, and carries out the
//! decision.

pub mod authority;
pub mod configuration;
pub mod election;

pub const CONFIGURATION_NAME: &str = "landfall";
/// The name of the webhook in the configuration. The API server prefixes audit annotations with it.
pub const WEBHOOK_NAME: &str = "pods.landfall.dev";
/// The name of the Lease that elects the agent that writes.
pub const LEASE_NAME: &str = "landfall-webhook";
/// The name of the Secret with the certificate authority.
pub const SECRET_NAME: &str = "landfall-webhook-ca";
/// The annotation on that Secret that requests a new certificate authority. Its value does not matter.
pub const ROTATE_ANNOTATION: &str = "landfall.dev/rotate";
/// The field manager that the API server records for our changes.
pub const FIELD_MANAGER: &str = "landfall";
