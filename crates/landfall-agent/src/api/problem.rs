//! Errors of the status API: `{"error": …, "hint": …}`, with figures where there are some.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use landfall_core::bundle::upload::UploadRefusal;
use landfall_core::failure::{Hint as _, error_chain};
use serde_json::json;

use crate::uploads::UploadError;

/// An answer to a request that failed.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    body: serde_json::Value,
    retry_after: Option<Duration>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, error: &str, hint: Option<&str>) -> Problem {
        let mut body = json!({"error": error});
        if let Some(hint) = hint {
            body["hint"] = hint.into();
        }
        Problem {
            status,
            body,
            retry_after: None,
        }
    }

    pub(super) fn retry_after(mut self, wait: Duration) -> Problem {
        self.retry_after = Some(wait);
        self
    }

    /// Returns 500. The detail goes to the log, not to the client.
    pub(super) fn internal(error: &'static str, detail: &str) -> Problem {
        tracing::error!(error = detail, "{error}");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error, None)
    }
}

impl From<UploadRefusal> for Problem {
    fn from(refusal: UploadRefusal) -> Problem {
        let status = match &refusal {
            UploadRefusal::Empty | UploadRefusal::RangeSize { .. } | UploadRefusal::Length { .. } => {
                StatusCode::BAD_REQUEST
            }
            UploadRefusal::Hash { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            UploadRefusal::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            UploadRefusal::NameInUse { .. }
            | UploadRefusal::Exists { .. }
            | UploadRefusal::OtherContent { .. }
            | UploadRefusal::InFlight { .. } => StatusCode::CONFLICT,
            UploadRefusal::TooMany | UploadRefusal::Busy => StatusCode::TOO_MANY_REQUESTS,
            UploadRefusal::NoRoom(_) | UploadRefusal::DiskFull { .. } => StatusCode::INSUFFICIENT_STORAGE,
            UploadRefusal::Unknown { .. } | UploadRefusal::NoSuchRange { .. } => StatusCode::NOT_FOUND,
        };
        let mut problem = Problem::new(status, &refusal.to_string(), refusal.hint().as_deref());
        match refusal {
            UploadRefusal::InFlight { .. } | UploadRefusal::Busy => problem.retry_after(Duration::from_secs(1)),
            UploadRefusal::NoRoom(room) => {
                problem.body["room"] = json!(room);
                problem
            }
            UploadRefusal::DiskFull { free_bytes, kept_bytes } => {
                problem.body["room"] = json!({"freeBytes": free_bytes, "keptBytes": kept_bytes});
                problem
            }
            _ => problem,
        }
    }
}

impl From<UploadError> for Problem {
    fn from(error: UploadError) -> Problem {
        match error {
            UploadError::Refused(refusal) => refusal.into(),
            error => {
                let text = error_chain(&error);
                tracing::error!(error = text, "an upload failed");
                Problem::new(StatusCode::INTERNAL_SERVER_ERROR, &text, error.hint().as_deref())
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body)).into_response();
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        response
    }
}
