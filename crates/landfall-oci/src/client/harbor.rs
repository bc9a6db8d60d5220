//! Harbor's addition to the distribution protocol: a project must exist before the first push to it.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, StatusCode};
use landfall_core::failure::{FailureKind, Shortcut};
use reqwest::Url;
use serde_json::json;

use super::auth::scope::Scope;
use super::error::{Fault, RegistryAction, RegistryError};
use super::problem::ProtocolProblem;
use super::request::{RegistryRequest, RequestBody};
use crate::client::registry_client::RegistryClient;

impl RegistryClient {
    /// Ensures that a Harbor project exists. A new project is private and has no quota. Returns true if the project was
    /// created.
    ///
    /// # Errors
    /// Fails if the login may not create projects, or the registry is not a Harbor.
    pub async fn ensure_project(&self, project: &str) -> Result<bool, RegistryError> {
        let ensured = self.ensure_project_inner(project).await;
        ensured.map_err(|fault| {
            let project = project.to_owned();
            self.error(RegistryAction::EnsureProject { project }, fault)
        })
    }

    async fn ensure_project_inner(&self, project: &str) -> Result<bool, Fault> {
        let path = format!("/api/v2.0/projects?{}", query(project)?);
        let head = async {
            let expected = [StatusCode::OK, StatusCode::NOT_FOUND];
            let request = RegistryRequest::new(Method::HEAD, path, Scope::Login);
            let found = self.transport.send_expecting(request, &expected).await?;
            Ok(found.status() == StatusCode::OK)
        };
        let found = self.try_shortcut(Shortcut::HarborProject, project, head).await?;
        if found == Some(true) {
            return Ok(false);
        }
        let body = json!({"project_name": project, "metadata": {"public": "false"}, "storage_limit": -1});
        let mut request = RegistryRequest::new(Method::POST, "/api/v2.0/projects", Scope::Login)
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request.body = RequestBody::Bytes(Bytes::from(body.to_string()));
        // 409: another client created the project first.
        let expected = [StatusCode::CREATED, StatusCode::CONFLICT];
        match self.transport.send_expecting(request, &expected).await {
            Ok(made) => Ok(made.status() == StatusCode::CREATED),
            // The login may neither ask for the project nor create it, and still push to it: the push decides.
            Err(fault) if found.is_none() && fault.kind() == FailureKind::Forbidden => Ok(false),
            Err(fault) => Err(fault),
        }
    }
}

/// Renders the question for a project as a query.
fn query(project: &str) -> Result<String, Fault> {
    let url = Url::parse_with_params("http://harbor", [("project_name", project)]);
    let query = url.ok().and_then(|url| url.query().map(str::to_owned));
    query.ok_or(Fault::from(ProtocolProblem::BadRedirect))
}
