//! Budgets of the registry: what they bound, and how a request pays. [`crate::budget_limits`] has the amounts.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http_body_util::BodyExt;
use landfall_net::serve::budget::{Budget, BudgetPart, ClientAddress};
use landfall_net::serve::slots::{NoSlot, Slots, TakenSlot};

use crate::api::error::{ApiError, too_many};
use crate::budget_limits::{ANSWERS, COME_AGAIN, DIRECT_READS, PUSHED_MANIFESTS, SMALL_ANSWER_MAX, UPLOADS};

#[derive(Debug)]
pub(crate) struct Budgets {
    uploads: Slots,
    direct_reads: Budget,
    pub(crate) pushed_manifests: Budget,
    answers: Budget,
}

impl Default for Budgets {
    fn default() -> Budgets {
        Budgets {
            uploads: Slots::new(UPLOADS),
            direct_reads: Budget::new(DIRECT_READS),
            pushed_manifests: Budget::new(PUSHED_MANIFESTS),
            answers: Budget::new(ANSWERS),
        }
    }
}

/// Memory of an answer. `None` for a small answer.
pub(crate) type AnswerPart = Option<BudgetPart>;

impl Budgets {
    pub(crate) fn take_upload(&self, client: ClientAddress) -> Result<TakenSlot, ApiError> {
        self.uploads.take(client).map_err(|no_slot| {
            let message = match no_slot {
                NoSlot::OverShare => "too many uploads of your address are under way",
                NoSlot::AllBusy => "too many uploads are under way",
            };
            too_many(message, COME_AGAIN)
        })
    }

    /// Takes a thread that reads an upload from its connection. `None` if none is left: the upload goes on without one.
    pub(crate) fn take_direct_read(&self, client: ClientAddress) -> Option<BudgetPart> {
        self.direct_reads.take(client, 1).ok()
    }

    /// Takes the memory for an answer.
    pub(crate) fn take_answer(&self, client: ClientAddress, bytes: u64) -> Result<AnswerPart, ApiError> {
        if bytes <= SMALL_ANSWER_MAX {
            return Ok(None);
        }
        let part = self.answers.take(client, bytes);
        part.map(Some).map_err(|_| over_budget())
    }

    /// Returns the number of refusals, by the name of the budget.
    pub(crate) fn refusals(&self) -> [(&'static str, u64); 3] {
        [
            ("uploads", self.uploads.refusals()),
            ("manifests", self.pushed_manifests.refusals()),
            ("answers", self.answers.refusals()),
        ]
    }
}

/// Returns 429 for a request for which there is no memory now.
pub(crate) fn over_budget() -> ApiError {
    too_many("too much is being sent to your address or to all clients", COME_AGAIN)
}

/// Keeps an answer's part of the budget until its last byte has been sent.
pub(crate) fn paid(response: Response, part: AnswerPart) -> Response {
    let Some(part) = part else {
        return response;
    };
    let part = std::sync::Arc::new(part);
    response.map(|body| {
        Body::new(body.map_frame(move |frame| {
            let part = part.clone();
            frame.map_data(|bytes| Bytes::from_owner(PaidBytes { bytes, _part: part }))
        }))
    })
}

struct PaidBytes {
    bytes: Bytes,
    _part: std::sync::Arc<BudgetPart>,
}

impl AsRef<[u8]> for PaidBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
