//! Missing content, refused requests, and their error responses.

use landfall_tests_interop::raw_http::RawHttp;
use serde_json::json;

use crate::checks::{Checks, sha256};
use crate::{REPOSITORY, REPOSITORY_2};

const OCI_IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// Checks an empty registry.
pub(crate) fn check_empty(http: &RawHttp, checks: &mut Checks) {
    let tags = http.get(&format!("/v2/{REPOSITORY}/tags/list"));
    checks.error("tags of an unknown repository", &tags, 404, "NAME_UNKNOWN");
    let subject = sha256(b"nobody");
    let referrers = http.get(&format!("/v2/{REPOSITORY}/referrers/{subject}"));
    checks.status("referrers of nothing", &referrers, 200);
    checks.header("referrers of nothing", &referrers, "content-type", OCI_INDEX);
    checks.same("referrers of nothing", referrers.json()["manifests"].clone(), json!([]));
    let catalog = http.get("/v2/_catalog");
    checks.same("an empty catalog", catalog.json(), json!({"repositories": []}));
}

/// Checks missing and invalid manifests.
pub(crate) fn check_manifests(http: &RawHttp, checks: &mut Checks) {
    let path = |selector: &str| format!("/v2/{REPOSITORY}/manifests/{selector}");
    let missing = sha256(b"no such manifest");
    for selector in [missing.as_str(), "no-such-tag"] {
        checks.error(
            "a missing manifest",
            &http.get(&path(selector)),
            404,
            "MANIFEST_UNKNOWN",
        );
        checks.status(
            "HEAD of a missing manifest",
            &http.send("HEAD", &path(selector), &[], ""),
            404,
        );
    }
    let bad = http.get(&path("sha256:baddigeststring"));
    checks.that("GET by half a digest", [400, 404].contains(&bad.status), bad.status);
    let config = json!({"mediaType": OCI_CONFIG, "size": 2, "digest": sha256(b"{}")});
    let image = json!({"schemaVersion": 2, "mediaType": OCI_IMAGE, "config": config, "layers": []}).to_string();
    for (what, selector, media_type, body, status, code) in [
        (
            "half a digest",
            "sha256:baddigeststring",
            OCI_IMAGE,
            image.as_str(),
            400,
            "DIGEST_INVALID",
        ),
        (
            "another digest",
            missing.as_str(),
            OCI_IMAGE,
            &image,
            400,
            "DIGEST_INVALID",
        ),
        ("a bad tag", ".tag", OCI_IMAGE, &image, 400, "TAG_INVALID"),
        ("no JSON", "v1", OCI_IMAGE, "{", 400, "MANIFEST_INVALID"),
        ("no manifest", "v1", OCI_IMAGE, "{}", 400, "MANIFEST_INVALID"),
        ("another type", "v1", OCI_INDEX, &image, 400, "MANIFEST_INVALID"),
    ] {
        let response = http.send("PUT", &path(selector), &[("content-type", media_type)], body.to_owned());
        checks.error(format!("PUT of a manifest: {what}"), &response, status, code);
    }
    let large = vec![b' '; 5 << 20];
    let response = http.send("PUT", &path("v1"), &[("content-type", OCI_IMAGE)], large);
    checks.error("PUT of 5 MiB", &response, 413, "SIZE_INVALID");
    for (what, method, target, status, code) in [
        ("a bad name", "GET", "/v2/UPPER/tags/list", 400, "NAME_INVALID"),
        (
            "a name that climbs",
            "GET",
            "/v2/a%2f..%2fb/tags/list",
            400,
            "NAME_INVALID",
        ),
        ("no address", "GET", "/v2/a/b/c", 404, "UNSUPPORTED"),
        ("no method", "PATCH", "/v2/a/tags/list", 405, "UNSUPPORTED"),
        (
            "a bad number",
            "GET",
            "/v2/_catalog?n=many",
            400,
            "PAGINATION_NUMBER_INVALID",
        ),
        ("a bad digest", "GET", "/v2/a/blobs/sha256:short", 400, "DIGEST_INVALID"),
    ] {
        checks.error(what, &http.send(method, target, &[], ""), status, code);
    }
}

/// Checks the list of repositories, page by page.
pub(crate) fn check_catalog(http: &RawHttp, checks: &mut Checks) {
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}).to_string();
    let names = [REPOSITORY, REPOSITORY_2, "checks/third"];
    for name in names {
        let target = format!("/v2/{name}/manifests/v1");
        let response = http.send("PUT", &target, &[("content-type", OCI_INDEX)], index.clone());
        checks.status("PUT of an empty index", &response, 201);
    }
    checks.same(
        "the catalog",
        http.get("/v2/_catalog").json(),
        json!({"repositories": names}),
    );
    let mut next = "/v2/_catalog?n=1".to_owned();
    for name in names {
        let page = http.get(&next);
        checks.same("a page of the catalog", page.json(), json!({"repositories": [name]}));
        let link = page.header("link");
        next = link
            .trim_start_matches('<')
            .split('>')
            .next()
            .unwrap_or_default()
            .to_owned();
    }
    checks.same("the last page of the catalog", next.as_str(), "");
}

/// Checks requests of a client without any permission.
pub(crate) fn check_refused(http: &RawHttp, checks: &mut Checks) {
    let digest = sha256(b"{}");
    for (method, target) in [
        ("GET", "/v2/".to_owned()),
        ("GET", "/v2/_catalog".to_owned()),
        ("GET", format!("/v2/{REPOSITORY}/tags/list")),
        ("GET", format!("/v2/{REPOSITORY}/manifests/v1")),
        ("GET", format!("/v2/{REPOSITORY}/blobs/{digest}")),
        ("GET", format!("/v2/{REPOSITORY}/referrers/{digest}")),
        ("POST", format!("/v2/{REPOSITORY}/blobs/uploads/")),
        ("PUT", format!("/v2/{REPOSITORY}/manifests/v1")),
        ("DELETE", format!("/v2/{REPOSITORY}/manifests/v1")),
    ] {
        let response = http.send(method, &target, &[], "");
        checks.error(
            format!("{method} {target} without a login"),
            &response,
            401,
            "UNAUTHORIZED",
        );
        let asked = response.header("www-authenticate").starts_with("Basic ");
        checks.that("what to log in with", asked, &response.headers);
    }
}
