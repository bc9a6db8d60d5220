//! Requests in distribution's JSON log: user, method, path, order and outcome.

use std::collections::HashMap;

use serde_json::Value;

/// One request. Line numbers of the log stand for time: the log is written under one lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Log line of the request's arrival.
    pub started: usize,
    /// Log line of the end of the response.
    pub finished: Option<usize>,
    pub method: String,
    /// Path and query, for example `/v2/a/b/manifests/1`.
    pub path: String,
    /// HTTP status; 401 if the log only says that the request was refused.
    pub status: u16,
    /// Bytes of the response body.
    pub written: u64,
    /// The authenticated user.
    pub user: Option<String>,
}

impl Request {
    /// Returns the repository, for example `a/b`; `None` for `/v2/` and the catalog.
    #[must_use]
    pub fn repository(&self) -> Option<&str> {
        let rest = self.path.strip_prefix("/v2/")?;
        ["/manifests/", "/blobs/", "/tags/"]
            .iter()
            .find_map(|part| rest.find(part).map(|end| &rest[..end]))
    }

    /// Returns the digest if the request reads a blob.
    #[must_use]
    pub fn fetched_blob(&self) -> Option<&str> {
        let digest = self.path.split_once("/blobs/")?.1;
        (self.method == "GET" && (200..300).contains(&self.status) && digest.starts_with("sha256:")).then_some(digest)
    }

    /// Returns true if the request changes content.
    #[must_use]
    pub fn writes(&self) -> bool {
        matches!(self.method.as_str(), "PUT" | "POST" | "PATCH" | "DELETE")
    }
}

/// Parses the log. An incomplete last line is left out.
#[must_use]
pub fn parse_access_log(log: &str) -> Vec<Request> {
    let mut requests: Vec<Request> = Vec::new();
    let mut by_id: HashMap<String, usize> = HashMap::new();
    for (number, line) in log.lines().enumerate() {
        // Traces of the storage driver are most of the log and add nothing.
        if line.contains("\"trace.duration\"") {
            continue;
        }
        let Ok(line) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        let text = |key: &str| line.get(key).and_then(Value::as_str);
        let Some(id) = text("http.request.id") else { continue };
        let index = *by_id.entry(id.to_owned()).or_insert_with(|| {
            requests.push(Request {
                started: number,
                finished: None,
                method: text("http.request.method").unwrap_or_default().to_owned(),
                path: text("http.request.uri").unwrap_or_default().to_owned(),
                status: 0,
                written: 0,
                user: None,
            });
            requests.len() - 1
        });
        let request = &mut requests[index];
        if let Some(user) = text("auth.user.name") {
            request.user = Some(user.to_owned());
        }
        let message = text("msg").unwrap_or_default();
        if message.starts_with("response completed") {
            request.finished = Some(number);
            request.status = line
                .get("http.response.status")
                .and_then(Value::as_u64)
                .and_then(|n| u16::try_from(n).ok())
                .unwrap_or(0);
            request.written = line.get("http.response.written").and_then(Value::as_u64).unwrap_or(0);
        } else if message.starts_with("error authorizing context") {
            request.finished = Some(number);
            request.status = 401;
        }
    }
    requests
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = r#"{"level":"info","msg":"listening on 127.0.0.1:1, tls"}
{"http.request.id":"a","http.request.method":"GET","http.request.uri":"/v2/x/y/blobs/sha256:00","msg":"authorized request"}
{"http.request.id":"b","http.request.method":"GET","http.request.uri":"/v2/x/y/manifests/1","msg":"error authorizing context: no"}
{"auth.user.name":"admin","http.request.id":"a","http.request.method":"GET","http.request.uri":"/v2/x/y/blobs/sha256:00","msg":"GetBlob"}
{"http.request.id":"a","http.request.method":"GET","http.request.uri":"/v2/x/y/blobs/sha256:00","http.response.status":206,"http.response.written":7,"msg":"response completed"}
{"http.request.id":"c","http.req"#;

    #[test]
    fn a_request_joins_its_lines() {
        let requests = parse_access_log(LOG);
        assert_eq!(
            requests[0],
            Request {
                started: 1,
                finished: Some(4),
                method: "GET".to_owned(),
                path: "/v2/x/y/blobs/sha256:00".to_owned(),
                status: 206,
                written: 7,
                user: Some("admin".to_owned()),
            }
        );
        assert_eq!(requests[0].repository(), Some("x/y"));
        assert_eq!(requests[0].fetched_blob(), Some("sha256:00"));
    }

    #[test]
    fn a_refused_request_is_a_401_of_nobody() {
        let requests = parse_access_log(LOG);
        assert_eq!(
            (requests.len(), requests[1].status, requests[1].user.as_deref()),
            (2, 401, None)
        );
        assert_eq!(requests[1].fetched_blob(), None);
    }
}
