//! The kubelet's request on stdin: `CredentialProviderRequest`.

use serde::{Deserialize, Serialize};

use crate::reference::{ImageReference, ReferenceError, parse_reference};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderRequest {
    /// The API version that the answer must have.
    pub version: WireVersion,
    /// The image that the kubelet is about to pull.
    pub image: ImageReference,
    /// The registry as the kubelet wrote it: the kubelet compares the answer's key with that text.
    pub registry: String,
}

/// Versions of the API. Requests and answers are the same in all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
pub enum WireVersion {
    /// Since Kubernetes 1.26.
    #[default]
    #[serde(rename = "credentialprovider.kubelet.k8s.io/v1")]
    V1,
    /// Kubernetes 1.24 and 1.25.
    #[serde(rename = "credentialprovider.kubelet.k8s.io/v1beta1")]
    V1Beta1,
    /// Kubernetes 1.20 to 1.23.
    #[serde(rename = "credentialprovider.kubelet.k8s.io/v1alpha1")]
    V1Alpha1,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestProblem {
    #[error("cannot read the request on stdin: line {line}, column {column}: {what}")]
    Json {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
        /// The problem in the parser's words: a request holds no secret.
        what: String,
    },
    #[error("cannot read the image `{image}` of the request")]
    Image {
        image: String,
        #[source]
        source: ReferenceError,
    },
}

#[derive(Deserialize)]
struct RawRequest {
    #[serde(rename = "apiVersion", default)]
    api_version: WireVersion,
    image: String,
}

/// Parses a request. A missing `apiVersion` means v1, as it does for generic-credential-provider, which this program
/// replaces.
///
/// # Errors
/// If it is not JSON of that form, its `apiVersion` is not known, or its image is no valid reference.
pub fn parse_request(text: &str) -> Result<ProviderRequest, RequestProblem> {
    let raw: RawRequest = serde_json::from_str(text).map_err(|error| RequestProblem::Json {
        line: error.line(),
        column: error.column(),
        what: without_place(&error),
    })?;
    let image = parse_reference(&raw.image).map_err(|source| RequestProblem::Image {
        image: raw.image.clone(),
        source,
    })?;
    // A first component that is no host (`library/nginx`) belongs to Docker Hub, whose host the kubelet would have
    // written.
    let written = raw.image.split_once('/').map(|(first, _)| first);
    let registry = match written {
        Some(first)
            if first
                .parse()
                .is_ok_and(|host: crate::reference::RegistryHost| host == image.host || is_alias(first)) =>
        {
            first.to_owned()
        }
        _ => image.host.to_string(),
    };
    Ok(ProviderRequest {
        version: raw.api_version,
        image,
        registry,
    })
}

fn is_alias(first: &str) -> bool {
    crate::reference::DOCKER_HUB_ALIASES.contains(&first)
}

/// Returns the parser's message without the position: serde_json appends it, and our message already begins with it.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(image: &str) -> ProviderRequest {
        parse_request(&format!(r#"{{"image":"{image}"}}"#)).unwrap()
    }

    #[test]
    fn the_registry_is_named_as_the_kubelet_named_it() {
        for (image, registry) in [
            ("docker.io/library/nginx", "docker.io"),
            ("index.docker.io/library/nginx", "index.docker.io"),
            ("nginx", "docker.io"),
            ("library/nginx:1", "docker.io"),
            ("10.10.100.45:30003/spectro-images/a/b:1", "10.10.100.45:30003"),
            (
                "[fd00::1]:5000/a@sha256:0000000000000000000000000000000000000000000000000000000000000000",
                "[fd00::1]:5000",
            ),
            ("localhost/a", "localhost"),
        ] {
            assert_eq!(request(image).registry, registry, "{image}");
        }
    }

    #[test]
    fn the_version_of_the_request_is_the_answers() {
        let of = |text: &str| parse_request(text).map(|request| request.version);
        let known = r#"{"kind":"CredentialProviderRequest","apiVersion":"credentialprovider.kubelet.k8s.io/v1beta1","image":"a"}"#;
        assert_eq!(of(known), Ok(WireVersion::V1Beta1));
        assert_eq!(of(r#"{"image":"a"}"#), Ok(WireVersion::V1));
    }

    #[test]
    fn a_request_that_cannot_be_answered_says_why() {
        let said = |text: &str| parse_request(text).unwrap_err().to_string();
        insta::assert_snapshot!(said(r#"{"apiVersion":"credentialprovider.Kubelet.k8s.io/v1","image":"a"}"#), @"cannot read the request on stdin: line 1, column 52: unknown variant `credentialprovider.Kubelet.k8s.io/v1`, expected one of `credentialprovider.kubelet.k8s.io/v1`, `credentialprovider.kubelet.k8s.io/v1beta1`, `credentialprovider.kubelet.k8s.io/v1alpha1`");
        insta::assert_snapshot!(said(r#"{"image":7}"#), @"cannot read the request on stdin: line 1, column 10: invalid type: integer `7`, expected a string");
        insta::assert_snapshot!(said("{}"), @"cannot read the request on stdin: line 1, column 2: missing field `image`");
        insta::assert_snapshot!(said(""), @"cannot read the request on stdin: line 1, column 0: EOF while parsing a value");
        insta::assert_snapshot!(said(r#"{"image":"A b"}"#), @"cannot read the image `A b` of the request");
    }
}
