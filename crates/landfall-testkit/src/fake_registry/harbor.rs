//! Harbor's project API, as far as Landfall uses it: a stand-in, since Harbor itself is published only as
//! images.
//!
//! Based on Harbor's API description (`api/v2.0/swagger.yaml`, operations `headProject` and `createProject`):
//!
//! | request | answer |
//! |---|---|
//! | `HEAD /api/v2.0/projects?project_name=P` | 200 when there is a project P, 404 when there is none |
//! | `POST /api/v2.0/projects` with `{"project_name": P, …}` | 201; 409 when it is there; 403 without the permission |
//! | either without a login | 401 |
//! | a push or pull below a project that is not there | 404, code `NOT_FOUND` |
//!
//! Not covered: quotas, robots' scopes, the cross-site token, which only sessions of a browser need.

use http::request::Parts;
use http::{Method, StatusCode};
use serde_json::Value;

pub(super) const PROJECTS: &str = "/api/v2.0/projects";

/// Behaviour of the project API.
#[derive(Debug, Clone, Default)]
pub struct FakeHarbor {
    /// Projects that exist from the start.
    pub projects: Vec<String>,
    /// True if the login may not create projects.
    pub forbids_projects: bool,
}

impl FakeHarbor {
    /// Returns status and error code; `made` are the projects created by this API.
    pub(super) fn answer(
        &self,
        made: &mut Vec<String>,
        is_known: bool,
        parts: &Parts,
        body: &[u8],
    ) -> (StatusCode, &'static str) {
        if !is_known {
            return (StatusCode::UNAUTHORIZED, "UNAUTHORIZED");
        }
        if parts.method == Method::HEAD {
            let wanted = parts.uri.query().and_then(|query| query.strip_prefix("project_name="));
            return match wanted.is_some_and(|wanted| self.has_project(made, wanted)) {
                true => (StatusCode::OK, ""),
                false => (StatusCode::NOT_FOUND, "NOT_FOUND"),
            };
        }
        let project = serde_json::from_slice::<Value>(body).ok();
        match project.and_then(|project| Some(project["project_name"].as_str()?.to_owned())) {
            None => (StatusCode::BAD_REQUEST, "BAD_REQUEST"),
            Some(_) if self.forbids_projects => (StatusCode::FORBIDDEN, "FORBIDDEN"),
            Some(project) if self.has_project(made, &project) => (StatusCode::CONFLICT, "CONFLICT"),
            Some(project) => {
                made.push(project);
                (StatusCode::CREATED, "")
            }
        }
    }

    /// Returns true if the project of a repository exists.
    pub(super) fn has_project_of(&self, made: &[String], repository: &str) -> bool {
        let project = repository.split_once('/').map_or(repository, |(project, _)| project);
        self.has_project(made, project)
    }

    fn has_project(&self, made: &[String], project: &str) -> bool {
        self.projects.iter().chain(made).any(|known| known == project)
    }
}
