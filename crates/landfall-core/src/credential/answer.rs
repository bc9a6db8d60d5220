//! The kubelet's answer on stdout: `CredentialProviderResponse`.

use std::collections::BTreeMap;

use secrecy::ExposeSecret as _;
use serde::Serialize;
use zeroize::Zeroizing;

use super::{LoginFile, ProviderRequest, WireVersion};

/// Answer to the kubelet, before it is rendered.
#[derive(Debug)]
pub enum ProviderAnswer<'a> {
    /// No login is known for this registry. The answer is valid, and the kubelet pulls without a login. The kubelet
    /// does not cache it, so that a new login file is used at once.
    Nothing(WireVersion),
    /// The login of this file.
    Login {
        request: &'a ProviderRequest,
        file: &'a LoginFile,
    },
}

/// Renders an answer as one line of JSON. It holds the password, so it must go to stdout only.
#[must_use]
pub fn render_answer(answer: &ProviderAnswer<'_>) -> Zeroizing<String> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Response<'a> {
        kind: &'static str,
        api_version: WireVersion,
        cache_key_type: &'static str,
        cache_duration: &'a str,
        auth: BTreeMap<&'a str, Auth<'a>>,
    }
    #[derive(Serialize)]
    struct Auth<'a> {
        username: &'a str,
        password: &'a str,
    }
    let mut response = Response {
        kind: "CredentialProviderResponse",
        api_version: WireVersion::V1,
        cache_key_type: "Registry",
        cache_duration: "0s",
        auth: BTreeMap::new(),
    };
    match answer {
        ProviderAnswer::Nothing(version) => response.api_version = *version,
        ProviderAnswer::Login { request, file } => {
            response.api_version = request.version;
            // The kubelet matches paths by characters, not by segments. With logins for paths, each image needs its own
            // request.
            if !file.paths.is_empty() {
                response.cache_key_type = "Image";
            }
            response.cache_duration = &file.duration;
            response.auth = file
                .login_for(&request.image.repository)
                .into_iter()
                .map(|login| {
                    let auth = Auth {
                        username: &login.username,
                        password: login.password.expose_secret(),
                    };
                    (request.registry.as_str(), auth)
                })
                .collect();
        }
    }
    Zeroizing::new(serde_json::to_string(&response).expect("strings and maps of strings are JSON"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::{kubelet_pattern_matches, parse_login_file, parse_request};

    fn answer(image: &str, file: &str) -> String {
        let request = parse_request(&format!(r#"{{"image":"{image}"}}"#)).unwrap();
        let file = parse_login_file(file).unwrap();
        render_answer(&ProviderAnswer::Login {
            request: &request,
            file: &file,
        })
        .to_string()
    }

    #[test]
    fn the_answer_is_keyed_with_the_port() {
        insta::assert_snapshot!(
            answer("10.10.100.45:30003/spectro-images/x:1", r#"{"username":"ann","password":"secret","duration":"1m"}"#),
            @r#"{"kind":"CredentialProviderResponse","apiVersion":"credentialprovider.kubelet.k8s.io/v1","cacheKeyType":"Registry","cacheDuration":"1m","auth":{"10.10.100.45:30003":{"username":"ann","password":"secret"}}}"#
        );
        assert!(kubelet_pattern_matches(
            "10.10.100.45:30003",
            "10.10.100.45:30003/spectro-images/x"
        ));
    }

    #[test]
    fn with_logins_per_path_the_kubelet_asks_for_each_image() {
        let file = r#"{"paths":{"team":{"username":"t","password":"p"}}}"#;
        insta::assert_snapshot!(answer("reg:5000/team/x", file), @r#"{"kind":"CredentialProviderResponse","apiVersion":"credentialprovider.kubelet.k8s.io/v1","cacheKeyType":"Image","cacheDuration":"0h5m0s","auth":{"reg:5000":{"username":"t","password":"p"}}}"#);
        insta::assert_snapshot!(answer("reg:5000/teamwork/x", file), @r#"{"kind":"CredentialProviderResponse","apiVersion":"credentialprovider.kubelet.k8s.io/v1","cacheKeyType":"Image","cacheDuration":"0h5m0s","auth":{}}"#);
    }

    #[test]
    fn knowing_nothing_is_a_valid_answer_that_is_not_kept() {
        insta::assert_snapshot!(*render_answer(&ProviderAnswer::Nothing(WireVersion::V1)), @r#"{"kind":"CredentialProviderResponse","apiVersion":"credentialprovider.kubelet.k8s.io/v1","cacheKeyType":"Registry","cacheDuration":"0s","auth":{}}"#);
    }
}
