//! Configuration files for kubelet, containerd, K3s, RKE2 and kubeadm that express the redirection rules
//! [spec:mirror-files]. The formats are defined by those programs.
//!
//! The entry point is [`Rendering`]. Each format is one module. No module decides which source an image has: they ask
//! [`crate::resolve::Resolver`]. A rule that a format cannot express is listed in [`Rendering::gaps`] and never dropped
//! silently.

pub mod admission_policy;
pub mod containerd;
pub mod containerd_config;
pub mod core_images;
pub mod kubelet;
pub mod kubelet_plugin;
pub mod kubelet_pulls;
pub mod registries;
mod render;
pub mod routes;

use std::fmt;

use camino::Utf8PathBuf;
use zeroize::Zeroizing;

use crate::failure::line_with_hint;
use crate::reference::RegistryHost;
use crate::settings::{RegistryRole, Settings};

pub use render::{HostFacts, render, render_for};

/// The first line of our files in formats with comments.
pub const HEADER: &str = "# managed by landfall: changes are overwritten; to keep your own version, remove this line\n";

/// The mark of our files in formats without comments.
const JSON_MARK: &str = "\"managedBy\": \"landfall\"";

/// The mark stands within this many bytes from the start of a file.
const MARK_WITHIN: usize = 200;

/// Files and texts for one dialect.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rendering {
    /// Files that Landfall owns as a whole.
    pub files: Vec<HostFile>,
    /// Text that belongs into files that the user owns.
    pub fragments: Vec<Fragment>,
    /// Rules that this format cannot express.
    pub gaps: Vec<Gap>,
}

/// A rule that a format cannot express.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// One sentence.
    pub text: String,
    /// A setting that closes the gap.
    pub hint: Option<&'static str>,
}

impl From<String> for Gap {
    fn from(text: String) -> Gap {
        Gap { text, hint: None }
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&line_with_hint(&self.text, self.hint))
    }
}

/// A complete file of the host.
#[derive(Clone, PartialEq, Eq)]
pub struct HostFile {
    /// The absolute path.
    pub path: Utf8PathBuf,
    /// The mode bits: 0600 if the content holds a login.
    pub mode: u32,
    /// The text. It may hold a login, so `Debug` does not print it.
    pub content: Zeroizing<String>,
}

fn unnamed_registries() -> Gap {
    Gap {
        text: "images of registries that neither the profiles nor the rules name are pulled as they are written"
            .to_owned(),
        hint: Some("`landfall.mirror.hosts` names more, `landfall.mirror.enable` covers all"),
    }
}

impl fmt::Debug for HostFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "HostFile({} {:04o}, {} bytes)",
            self.path,
            self.mode,
            self.content.len()
        )
    }
}

/// Text that the user has to insert into a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fragment {
    /// The file or setting that the text belongs into, in words.
    pub place: String,
    pub text: String,
}

/// Returns true if a redirected image must never come from its own registry: an external registry exists, or the
/// primary registry is not synchronised and only its given content counts [spec:resolution.primary].
#[must_use]
pub fn origin_forbidden(settings: &Settings) -> bool {
    let has_external = settings
        .registries
        .iter()
        .any(|registry| registry.role == RegistryRole::External);
    has_external || settings.primary.as_ref().is_some_and(|primary| !primary.sync)
}

/// Returns true if a file's content has our mark. A user who removes the mark takes over the file.
#[must_use]
pub fn is_ours(content: &[u8]) -> bool {
    let head = String::from_utf8_lossy(&content[..content.len().min(MARK_WITHIN)]).into_owned();
    head.starts_with(HEADER.trim_end()) || head.contains(JSON_MARK)
}

/// Returns a host's name in a path: unchanged, with IPv6 brackets and port.
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
