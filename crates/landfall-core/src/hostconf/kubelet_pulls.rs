//! The kubelet's rule about images that are on the node already: does it ask their registry before a pod may use them?
//! Since Kubernetes 1.35 `imagePullCredentialsVerificationPolicy` decides. A rule that covers preloaded images keeps pods
//! from starting on a host without a network [spec:bundles.preloaded].

use camino::Utf8PathBuf;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Field of the `KubeletConfiguration`.
const POLICY: &str = "imagePullCredentialsVerificationPolicy";
/// Images that the policy `NeverVerifyAllowlistedImages` exempts.
const ALLOWLIST: &str = "preloadedImagesVerificationAllowlist";
/// Feature without which the field has no effect.
const FEATURE: &str = "KubeletEnsureSecretPulledImages";

/// A file of the kubelet's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubeletConfigFile {
    pub path: Utf8PathBuf,
    pub text: String,
}

/// The effect of the kubelet's rule on preloaded images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreloadRefusal {
    /// The policy of the kubelet.
    pub policy: String,
    /// The file that sets it.
    pub file: String,
    /// The preloaded images that the kubelet does not start without their registry.
    pub images: Vec<String>,
}

impl PreloadRefusal {
    /// Returns the sentence for status and event.
    #[must_use]
    pub fn message(&self) -> String {
        let others = match self.images.len().saturating_sub(1) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let first = self.images.first().map_or("", String::as_str);
        format!(
            "the kubelet asks the registry about preloaded images, as `{POLICY}: {}` in `{}` says: without the network, \
             pods with `{first}`{others} do not start",
            self.policy, self.file
        )
    }

    /// Returns the one thing to do.
    #[must_use]
    pub fn hint(&self) -> String {
        format!("set `{POLICY}: NeverVerifyPreloadedImages` there, or leave the field out, and restart the kubelet")
    }
}

/// Decides if the kubelet refuses preloaded images. `files` are in the order of the kubelet, in which the last one
/// counts; `preloaded` are names of images with tag or digest. Returns `None` if it starts all of them.
#[must_use]
pub fn find_refusal(files: &[KubeletConfigFile], preloaded: &[String]) -> Option<PreloadRefusal> {
    let last = |key: &str| {
        let mut files = files.iter().rev();
        files.find_map(|file| Some((file, value_of(&file.text, key)?)))
    };
    if last(FEATURE).is_some_and(|(_, value)| value == "false") {
        return None;
    }
    let (file, policy) = last(POLICY)?;
    let images: Vec<String> = match policy.as_str() {
        "AlwaysVerify" => preloaded.to_vec(),
        "NeverVerifyAllowlistedImages" => {
            let listed = files.iter().rev().find_map(|file| list_of(&file.text, ALLOWLIST));
            let listed = listed.unwrap_or_default();
            let is_covered = |image: &&String| listed.iter().any(|pattern| covers(pattern, image));
            preloaded.iter().filter(|image| !is_covered(image)).cloned().collect()
        }
        // `NeverVerify`, `NeverVerifyPreloadedImages`, and what a later version may bring.
        _ => return None,
    };
    (!images.is_empty()).then(|| PreloadRefusal {
        policy,
        file: file.path.to_string(),
        images,
    })
}

/// Returns true if a pattern of the list covers an image: a repository, or a path with `/*` at its end.
fn covers(pattern: &str, image: &str) -> bool {
    let (name, _digest) = image.split_once('@').unwrap_or((image, ""));
    // A colon behind the last slash is that of a tag.
    let repository = match name.rfind(':') {
        Some(at) if !name[at..].contains('/') => &name[..at],
        _ => name,
    };
    match pattern.strip_suffix("/*") {
        Some(path) => repository.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')),
        None => repository == pattern,
    }
}

/// Returns the text behind a key, in YAML or JSON; the rest of its line.
fn text_behind<'t>(text: &'t str, key: &str) -> Option<(&'t str, &'t str)> {
    let mut from = 0;
    while let Some(at) = text[from..].find(key).map(|at| from + at) {
        from = at + key.len();
        let line_start = text[..at].rfind('\n').map_or(0, |end| end + 1);
        let before = text[line_start..at].trim_start();
        let is_key = before.chars().all(|letter| "\"'{, ".contains(letter)) || before.ends_with(['"', '\'']);
        let rest = text[from..].trim_start_matches(['"', '\'']).trim_start_matches(' ');
        if let (true, Some(rest)) = (is_key && !before.starts_with('#'), rest.strip_prefix(':')) {
            let (line, below) = rest.split_once('\n').unwrap_or((rest, ""));
            return Some((line, below));
        }
    }
    None
}

fn value_of(text: &str, key: &str) -> Option<String> {
    let (line, _) = text_behind(text, key)?;
    let value = line.split(['#', ',', '}']).next().unwrap_or_default();
    let value = value.trim().trim_matches(['"', '\'']);
    (!value.is_empty()).then(|| value.to_owned())
}

/// Returns the items of a list, on one line or with a line each.
fn list_of(text: &str, key: &str) -> Option<Vec<String>> {
    let (line, below) = text_behind(text, key)?;
    let clean = |item: &str| item.trim().trim_matches(['"', '\'']).to_owned();
    if let Some((_, rest)) = line.split_once('[') {
        let rest = format!("{rest}\n{below}");
        let inside = rest.split(']').next().unwrap_or_default().to_owned();
        let items = inside.split(',').map(clean);
        return Some(items.filter(|item| !item.is_empty()).collect());
    }
    let items = below
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    Some(items.map_while(|line| line.strip_prefix("- ")).map(clean).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mk_file(path: &str, text: &str) -> KubeletConfigFile {
        KubeletConfigFile {
            path: path.into(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn the_policy_decides_which_preloaded_images_start() {
        let preloaded = ["registry.k8s.io/pause:3.9", "localhost:5000/cni/calico@sha256:00"].map(str::to_owned);
        let all = &preloaded[..];
        let cases: [(&str, &[&str], &[String]); 12] = [
            ("no file", &[], &[]),
            ("not set", &["kind: KubeletConfiguration\n"], &[]),
            ("never", &["imagePullCredentialsVerificationPolicy: NeverVerify\n"], &[]),
            (
                "the default",
                &["imagePullCredentialsVerificationPolicy: NeverVerifyPreloadedImages"],
                &[],
            ),
            (
                "always",
                &["a: b\nimagePullCredentialsVerificationPolicy: AlwaysVerify # why\n"],
                all,
            ),
            (
                "JSON",
                &[r#"{"kind": "x", "imagePullCredentialsVerificationPolicy": "AlwaysVerify"}"#],
                all,
            ),
            (
                "a comment",
                &["# imagePullCredentialsVerificationPolicy: AlwaysVerify\n"],
                &[],
            ),
            (
                "the last file counts",
                &[
                    "imagePullCredentialsVerificationPolicy: AlwaysVerify\n",
                    "imagePullCredentialsVerificationPolicy: 'NeverVerify'\n",
                ],
                &[],
            ),
            (
                "the feature is off",
                &[
                    "featureGates:\n  KubeletEnsureSecretPulledImages: false\nimagePullCredentialsVerificationPolicy: AlwaysVerify\n",
                ],
                &[],
            ),
            (
                "no list",
                &["imagePullCredentialsVerificationPolicy: NeverVerifyAllowlistedImages\n"],
                all,
            ),
            (
                "a list by lines",
                &[
                    "preloadedImagesVerificationAllowlist:\n  - registry.k8s.io/pause\n  - \"localhost:5000/other/*\"\n\
                   imagePullCredentialsVerificationPolicy: NeverVerifyAllowlistedImages\n",
                ],
                &preloaded[1..],
            ),
            (
                "a list on one line",
                &["imagePullCredentialsVerificationPolicy: NeverVerifyAllowlistedImages\n\
                   preloadedImagesVerificationAllowlist: [registry.k8s.io/pause, 'localhost:5000/*']\n"],
                &[],
            ),
        ];
        for (case, texts, refused) in cases {
            let files = texts.iter().enumerate();
            let files: Vec<_> = files
                .map(|(number, text)| mk_file(&format!("/etc/{number}"), text))
                .collect();
            let found = find_refusal(&files, &preloaded);
            let images = found.as_ref().map(|found| found.images.clone()).unwrap_or_default();
            assert_eq!(images, refused, "{case}: {found:?}");
        }
    }

    #[test]
    fn the_advice_names_file_image_and_setting() {
        let text = "imagePullCredentialsVerificationPolicy: AlwaysVerify\n";
        let preloaded = ["a/b:1".to_owned(), "a/c:1".to_owned()];
        let found = find_refusal(&[mk_file("/var/lib/kubelet/config.yaml", text)], &preloaded).unwrap();
        insta::assert_snapshot!(
            format!("{}; {}", found.message(), found.hint()),
            @"the kubelet asks the registry about preloaded images, as `imagePullCredentialsVerificationPolicy: AlwaysVerify` in `/var/lib/kubelet/config.yaml` says: without the network, pods with `a/b:1` and 1 more do not start; set `imagePullCredentialsVerificationPolicy: NeverVerifyPreloadedImages` there, or leave the field out, and restart the kubelet"
        );
        assert_eq!(find_refusal(&[mk_file("/c", text)], &[]), None, "nothing is preloaded");
    }
}
