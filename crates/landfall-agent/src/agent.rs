//! One run of the agent, and everything that it does on the host.

mod active_config;
mod apply;
mod baseline;
mod bundles;
mod clients;
mod config_loader;
mod config_source;
mod core_images;
mod host;
mod image_phases;
mod inputs;
mod ledger;
mod reconciler;
mod run;
mod runtime;
mod service_manager;
mod services;
mod stages;
mod stock;
mod transfer;
mod uninstall;

pub use bundles::{Offer, OfferedBundles, configured_keys, preference_of, refuse_image, trust_of};
pub use run::run_agent;
pub use uninstall::{ClusterSide, UninstallOptions, uninstall};
