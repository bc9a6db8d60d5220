//! The commands, one module each.

pub(crate) mod agent;
pub(crate) mod bundle;
pub(crate) mod check;
pub(crate) mod completion;
pub(crate) mod copy;
pub(crate) mod demo;
pub(crate) mod events;
pub(crate) mod explain;
pub(crate) mod images;
pub(crate) mod inventory;
pub(crate) mod login;
pub(crate) mod man;
pub(crate) mod plan;
pub(crate) mod profile;
pub(crate) mod push;
pub(crate) mod redirect;
pub(crate) mod registry;
pub(crate) mod reload;
pub(crate) mod schema;
pub(crate) mod stages;
pub(crate) mod status;
pub(crate) mod uninstall;
pub(crate) mod validate;
pub(crate) mod version;
pub(crate) mod webhook;
