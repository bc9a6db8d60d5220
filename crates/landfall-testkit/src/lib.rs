//! Fakes and fixtures for Landfall's tests, and the generated images of its demo. Nothing here is installed on
//! a host.

pub mod closed_port;
pub mod containerd_process;
pub mod fake_api_server;
pub mod fake_content;
pub mod fake_registry;
pub mod host_fixture;
pub mod image_builder;
pub mod memory;
pub mod server;
pub mod signing_key;
pub mod weak_link;
