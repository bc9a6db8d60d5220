//! Kubelet credential provider: selects the login for an image [spec:credential-provider].
//!
//! `parse_request` reads the kubelet's request, `lookup_names` lists the files that may hold the login, in order,
//! `parse_login_file` reads one, and `render_answer` writes the kubelet's answer. The program itself reads stdin and
//! the files. Sources of the formats: `credentialprovider.kubelet.k8s.io/v1` of Kubernetes, and the public behaviour of
//! generic-credential-provider 1.0.0, which this program replaces.

mod answer;
mod login_file;
mod lookup;
mod pattern;
mod request;

pub use answer::{ProviderAnswer, render_answer};
pub use login_file::{LoginFile, LoginFileProblem, PathLogin, StoredLogin, parse_login_file, render_login_file};
pub use lookup::{FileName, ParentLookup, lookup_names};
pub use pattern::kubelet_pattern_matches;
pub use request::{ProviderRequest, RequestProblem, WireVersion, parse_request};
