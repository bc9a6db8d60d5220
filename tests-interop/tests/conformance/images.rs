//! Manifests of every kind: push, list, read, referrers, delete.

use landfall_tests_interop::raw_http::{RawHttp, RawResponse};
use serde_json::Value;

use crate::REPOSITORY;
use crate::blobs::{self, PUSH_METHODS};
use crate::checks::Checks;
use crate::content::{Content, Manifest, OCI_INDEX};

fn path(selector: &str) -> String {
    format!("/v2/{REPOSITORY}/manifests/{selector}")
}

/// Pushes, reads, lists and deletes some content.
pub(crate) fn check_life(http: &RawHttp, checks: &mut Checks, content: &Content) {
    push(http, checks, content);
    check_tags(http, checks, content);
    for manifest in &content.manifests {
        check_present(http, checks, &manifest.digest, manifest);
    }
    for (tag, manifest) in &content.tags {
        check_present(http, checks, tag, &content.manifests[*manifest]);
    }
    for (digest, bytes) in &content.blobs {
        blobs::check_present(http, checks, REPOSITORY, digest, bytes);
    }
    check_referrers(http, checks, content);
    delete(http, checks, content);
}

fn push(http: &RawHttp, checks: &mut Checks, content: &Content) {
    for (number, (digest, bytes)) in content.blobs.iter().enumerate() {
        let response = blobs::push(
            http,
            checks,
            REPOSITORY,
            PUSH_METHODS[number % PUSH_METHODS.len()],
            digest,
            bytes,
        );
        checks.status(format!("{}: push of a blob", content.name), &response, 201);
    }
    for (number, manifest) in content.manifests.iter().enumerate() {
        let tags: Vec<&str> = content
            .tags
            .iter()
            .filter(|(_, tagged)| content.tags_by_parameter && *tagged == number)
            .map(|(tag, _)| tag.as_str())
            .collect();
        let query: String = tags.iter().map(|tag| format!("&tag={tag}")).collect();
        let selector = format!("{}?{}", manifest.digest, query.trim_start_matches('&'));
        let response = put(http, checks, content, &selector, manifest);
        let told: Vec<&str> = response
            .headers
            .get_all("oci-tag")
            .iter()
            .filter_map(|value| value.to_str().ok())
            .collect();
        checks.same(format!("{}: `OCI-Tag`", content.name), told, tags);
    }
    if !content.tags_by_parameter {
        for (tag, manifest) in &content.tags {
            drop(put(http, checks, content, tag, &content.manifests[*manifest]));
        }
    }
}

fn put(http: &RawHttp, checks: &mut Checks, content: &Content, selector: &str, manifest: &Manifest) -> RawResponse {
    let what = format!("{}: PUT of a manifest", content.name);
    let headers = [("content-type", manifest.media_type.as_str())];
    let response = http.send("PUT", &path(selector), &headers, manifest.bytes.clone());
    checks.status(&what, &response, 201);
    checks.header(&what, &response, "docker-content-digest", &manifest.digest);
    let subject = manifest.refers.as_ref().map_or("", |(subject, _)| subject);
    checks.header(&what, &response, "oci-subject", subject);
    let located = http.get(response.header("location"));
    checks.status(format!("{what}: location"), &located, 200);
    checks.that(
        format!("{what}: location"),
        located.body == manifest.bytes,
        located.body.len(),
    );
    response
}

fn check_present(http: &RawHttp, checks: &mut Checks, selector: &str, manifest: &Manifest) {
    for method in ["HEAD", "GET"] {
        let what = format!("{method} of the manifest `{selector}`");
        let response = http.send(method, &path(selector), &[("accept", manifest.media_type.as_str())], "");
        checks.status(&what, &response, 200);
        checks.header(&what, &response, "content-type", &manifest.media_type);
        checks.header(&what, &response, "content-length", &manifest.bytes.len().to_string());
        checks.header(&what, &response, "docker-content-digest", &manifest.digest);
        let expected = if method == "GET" {
            manifest.bytes.as_slice()
        } else {
            b""
        };
        checks.that(format!("{what}: body"), response.body == expected, response.body.len());
        let tag = format!("\"{}\"", manifest.digest);
        checks.header(&what, &response, "etag", &tag);
        let again = http.send(method, &path(selector), &[("if-none-match", &tag)], "");
        checks.status(format!("{what}: again"), &again, 304);
    }
}

fn check_tags(http: &RawHttp, checks: &mut Checks, content: &Content) {
    let list = |query: &str| http.get(&format!("/v2/{REPOSITORY}/tags/list{query}"));
    let tags = |response: &RawResponse| -> Vec<String> {
        serde_json::from_value(response.json()["tags"].clone()).unwrap_or_default()
    };
    let all = list("");
    checks.status("the list of tags", &all, 200);
    checks.same("the list's name", all.json()["name"].as_str(), Some(REPOSITORY));
    let mut expected: Vec<String> = content.tags.iter().map(|(tag, _)| tag.clone()).collect();
    expected.sort();
    checks.same("the list of tags", tags(&all), expected.clone());
    for (number, tag) in expected.iter().enumerate() {
        checks.same(
            format!("tags after `{tag}`"),
            tags(&list(&format!("?last={tag}"))),
            expected[number + 1..].to_vec(),
        );
    }
    let mut paged = Vec::new();
    let mut next = "?n=1".to_owned();
    for _ in 0..=expected.len() {
        let page = list(&next);
        checks.that("a page of one tag", tags(&page).len() <= 1, tags(&page));
        paged.extend(tags(&page));
        match page.header("link").split_once('?') {
            Some((_, query)) => next = format!("?{}", query.split_once('>').map_or("", |(query, _)| query)),
            None => break,
        }
    }
    checks.same("tags page by page", paged, expected);
    checks.same("a page of nothing", tags(&list("?n=0")), Vec::new());
}

fn check_referrers(http: &RawHttp, checks: &mut Checks, content: &Content) {
    let referring: Vec<(&String, &Value)> = content
        .manifests
        .iter()
        .filter_map(|manifest| manifest.refers.as_ref().map(|(subject, shown)| (subject, shown)))
        .collect();
    for (subject, shown) in &referring {
        let list = |query: &str| http.get(&format!("/v2/{REPOSITORY}/referrers/{subject}{query}"));
        let all = list("");
        check_index(checks, &all);
        checks.that("referrers", listed(&all).contains(shown), all.json());
        checks.same("referrers", listed(&all).len(), referring.len());
        checks.header("referrers", &all, "oci-filters-applied", "");
        let Some(kind) = shown["artifactType"].as_str() else {
            continue;
        };
        let filtered = list(&format!("?artifactType={}", kind.replace('+', "%2B")));
        check_index(checks, &filtered);
        checks.header("referrers of a kind", &filtered, "oci-filters-applied", "artifactType");
        checks.same("referrers of a kind", listed(&filtered), vec![(*shown).clone()]);
        let other = list("?artifactType=application%2Fother");
        checks.same("referrers of another kind", listed(&other), Vec::new());
    }
}

fn listed(response: &RawResponse) -> Vec<Value> {
    response.json()["manifests"].as_array().cloned().unwrap_or_default()
}

fn check_index(checks: &mut Checks, response: &RawResponse) {
    checks.status("referrers", response, 200);
    checks.header("referrers", response, "content-type", OCI_INDEX);
    checks.same("referrers", response.json()["mediaType"].as_str(), Some(OCI_INDEX));
    checks.same("referrers", response.json()["schemaVersion"].as_u64(), Some(2));
}

fn delete(http: &RawHttp, checks: &mut Checks, content: &Content) {
    let gone = |checks: &mut Checks, what: &str, selector: &str| {
        let response = http.send("DELETE", &path(selector), &[], "");
        checks.status(format!("{}: DELETE of {what}", content.name), &response, 202);
        checks.status(
            "HEAD of what was deleted",
            &http.send("HEAD", &path(selector), &[], ""),
            404,
        );
        checks.error(
            "GET of what was deleted",
            &http.get(&path(selector)),
            404,
            "MANIFEST_UNKNOWN",
        );
        checks.error(
            "DELETE, twice",
            &http.send("DELETE", &path(selector), &[], ""),
            404,
            "MANIFEST_UNKNOWN",
        );
    };
    for (tag, _) in &content.tags {
        gone(checks, "a tag", tag);
    }
    for manifest in content.manifests.iter().rev() {
        let present = http.send("HEAD", &path(&manifest.digest), &[], "");
        checks.status("a manifest whose tag was deleted", &present, 200);
        gone(checks, "a manifest", &manifest.digest);
        if let Some((subject, _)) = &manifest.refers {
            let response = http.get(&format!("/v2/{REPOSITORY}/referrers/{subject}"));
            let shown = listed(&response)
                .iter()
                .any(|entry| entry["digest"] == manifest.digest.as_str());
            checks.that("referrers without the deleted one", !shown, &response.body);
        }
    }
    for (digest, _) in &content.blobs {
        blobs::delete(http, checks, REPOSITORY, digest);
    }
}
