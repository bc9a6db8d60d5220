//! Harbor's addition to the distribution protocol: a project must exist before the first push to it.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, StatusCode};
use serde_json::json;

use super::auth::scope::Scope;
use super::error::{Fault, RegistryAction, RegistryError};
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
        let path = format!("/api/v2.0/projects?project_name={project}");
        let expected = [StatusCode::OK, StatusCode::NOT_FOUND];
        let found = self
            .transport
            .send_expecting(RegistryRequest::new(Method::HEAD, path, Scope::Login), &expected)
            .await?;
        if found.status() == StatusCode::OK {
            return Ok(false);
        }
        let body = json!({"project_name": project, "metadata": {"public": "false"}, "storage_limit": -1});
        let mut request = RegistryRequest::new(Method::POST, "/api/v2.0/projects", Scope::Login)
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request.body = RequestBody::Bytes(Bytes::from(body.to_string()));
        // 409: another client created the project first.
        let expected = [StatusCode::CREATED, StatusCode::CONFLICT];
        let made = self.transport.send_expecting(request, &expected).await?;
        Ok(made.status() == StatusCode::CREATED)
    }
}
