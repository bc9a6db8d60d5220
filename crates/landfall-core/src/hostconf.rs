//! The files by which kubelet, containerd, K3s, RKE2 and kubeadm are told what the rules mean (SPEC sections 10.2 and
//! 11): exact text, written by others.
//!
//! Start at [`Rendering`]. Each format is one module; none decides where an image comes from, they ask
//! [`crate::resolve::Resolver`]. What a format cannot say is in [`Rendering::gaps`], never dropped.

pub mod admission_policy;
pub mod containerd;
pub mod core_images;
pub mod kubelet;
pub mod registries;
mod render;
pub mod routes;

use camino::Utf8PathBuf;
use zeroize::Zeroizing;

use crate::reference::RegistryHost;
use crate::settings::{RegistryRole, Settings};

pub use render::render;

/// The first line of every file of ours whose format has comments.
pub const HEADER: &str = "# managed by landfall: changes are overwritten; to keep your own version, remove this line\n";

/// The mark of ours in a file whose format has no comments.
const JSON_MARK: &str = "\"managedBy\": \"landfall\"";

/// A mark is within these first bytes of a file.
const MARK_WITHIN: usize = 200;

/// Everything that one dialect needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rendering {
    /// Files that are ours as a whole.
    pub files: Vec<HostFile>,
    /// Text that belongs into files of the user's.
    pub fragments: Vec<Fragment>,
    /// What this format cannot say, one sentence each.
    pub gaps: Vec<String>,
}

/// A file of the host, whole.
#[derive(Clone, PartialEq, Eq)]
pub struct HostFile {
    /// Absolute.
    pub path: Utf8PathBuf,
    /// Mode bits: 0600 where the content holds a login.
    pub mode: u32,
    /// The text; may hold a login, so that it is not printed.
    pub content: Zeroizing<String>,
}

impl std::fmt::Debug for HostFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "HostFile({} {:04o}, {} bytes)",
            self.path,
            self.mode,
            self.content.len()
        )
    }
}

/// Text for the user to put where it belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fragment {
    /// Where it belongs, in words.
    pub place: String,
    /// The text.
    pub text: String,
}

/// Whether an image that is redirected may never come from its own registry: there is an external one, or only what the
/// primary registry was given counts (SPEC section 5, rule 6).
#[must_use]
pub fn origin_forbidden(settings: &Settings) -> bool {
    let has_external = (settings.registries.iter()).any(|registry| registry.role == RegistryRole::External);
    has_external || settings.primary.as_ref().is_some_and(|primary| !primary.sync)
}

/// Whether a file's content is marked as ours. A user who takes the mark out has made the file theirs.
#[must_use]
pub fn is_ours(content: &[u8]) -> bool {
    let head = String::from_utf8_lossy(&content[..content.len().min(MARK_WITHIN)]).into_owned();
    head.starts_with(HEADER.trim_end()) || head.contains(JSON_MARK)
}

/// The name of a host in a file's path: as it is, IPv6 brackets and ports included.
fn file_stem(host: &RegistryHost) -> &str {
    host.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_ours_by_its_mark() {
        let login = crate::credential::render_login_file(None, &[]);
        for (content, expected) in [
            (format!("{HEADER}server = \"x\"\n"), true),
            (login.to_string(), true),
            ("server = \"x\"\n".to_owned(), false),
            (format!("# mine\n{HEADER}"), false),
            (String::new(), false),
        ] {
            assert_eq!(is_ours(content.as_bytes()), expected, "{content}");
        }
    }
}
