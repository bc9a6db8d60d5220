//! Which credential the kubelet gets for an image: the decisions of the credential provider (SPEC section 11).
//!
//! The way through: `parse_request` reads what the kubelet asks, `lookup_names` says which files may hold the login and
//! in what order, `parse_login_file` reads one, and `render_answer` writes what the kubelet gets. Reading stdin and files
//! is the program's. Source of the formats: `credentialprovider.kubelet.k8s.io/v1` of Kubernetes, and the public
//! behaviour of generic-credential-provider 1.0.0, whose place this takes.

mod answer;
mod login_file;
mod lookup;
mod pattern;
mod request;

pub use answer::{Answer, render_answer};
pub use login_file::{LoginFile, LoginFileProblem, PathLogin, StoredLogin, parse_login_file, render_login_file};
pub use lookup::{FileName, Reach, lookup_names};
pub use pattern::kubelet_pattern_matches;
pub use request::{ProviderRequest, RequestProblem, WireVersion, parse_request};
