//! One run of the agent.

mod api_server;
mod apply;
mod baseline;
mod clients;
mod configuration;
mod core_images;
mod host;
mod host_files;
mod inputs;
mod ledger;
mod listeners;
mod mirror;
mod phases;
mod primary;
mod reconciler;
mod redirect;
mod run;
mod runtime;
mod schedule;
mod service_manager;
mod stages;
mod survey;
mod transfer;

pub use run::run_agent;
