//! Request bodies that a handler needs whole in memory: bounded each, for each client, and in all.

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use hyper::body::Body as _;

use crate::serve::budget::{Budget, BudgetPart, ClientAddress};
use crate::serve::stall::is_slow_client;

/// Granularity of the budget, in bytes. A body takes this much at once, so that a small one takes the lock once.
const STEP: usize = 64 * 1024;

/// A body in memory. Its part of the budget is free again once it is dropped.
#[derive(Debug)]
pub struct BufferedBody {
    pub bytes: Bytes,
    _part: BudgetPart,
}

/// Reason why a body was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BufferError {
    #[error("the body is too long")]
    TooLong,
    /// The bytes in memory of this client, or of all clients, are at their limit.
    #[error("too many bodies are being received")]
    OverBudget,
    #[error("the body did not arrive whole")]
    Incomplete,
    #[error("the body arrived too slowly")]
    TooSlow,
}

/// Reads a body of at most `limit` bytes. The budget counts the memory of the bytes that have arrived, not those that
/// the client announces.
///
/// # Errors
/// See [`BufferError`]. Nothing stays in memory.
pub async fn buffer_body(
    body: Body,
    limit: usize,
    budget: &Budget,
    client: ClientAddress,
) -> Result<BufferedBody, BufferError> {
    let announced = body.size_hint().exact().and_then(|length| usize::try_from(length).ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(BufferError::TooLong);
    }
    let mut part = budget.take(client, 0).map_err(|_| BufferError::OverBudget)?;
    let mut paid = 0;
    let mut buffer = BytesMut::new();
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| match is_slow_client(&error) {
            true => BufferError::TooSlow,
            false => BufferError::Incomplete,
        })?;
        let needed = buffer.len() + chunk.len();
        if needed > limit {
            return Err(BufferError::TooLong);
        }
        if needed > buffer.capacity() {
            // The capacity doubles, as far as the body can be as long. It is reserved after it is paid for.
            let most = announced.unwrap_or(limit).max(needed);
            let capacity = (2 * buffer.capacity())
                .max(needed)
                .max(STEP.min(most))
                .min(most.max(needed));
            let price = capacity.next_multiple_of(STEP);
            part.grow((price - paid) as u64).map_err(|_| BufferError::OverBudget)?;
            paid = price;
            buffer.reserve(capacity - buffer.len());
        }
        buffer.extend_from_slice(&chunk);
    }
    Ok(BufferedBody {
        bytes: buffer.freeze(),
        _part: part,
    })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::net::{IpAddr, Ipv4Addr};

    use futures_util::stream;

    use super::*;
    use crate::serve::budget::BudgetLimits;

    const LIMIT: usize = 1024 * 1024;

    fn client() -> ClientAddress {
        IpAddr::V4(Ipv4Addr::LOCALHOST).into()
    }

    fn mk_chunked(pieces: usize, length: usize) -> Body {
        let piece = move || Ok::<_, Infallible>(vec![b'x'; length]);
        Body::from_stream(stream::iter((0..pieces).map(move |_| piece())))
    }

    #[tokio::test]
    async fn a_body_is_read_whole_and_pays_while_it_is_in_memory() {
        let budget = Budget::new(BudgetLimits {
            total: 4 * LIMIT as u64,
            share: 2 * LIMIT as u64,
        });
        for (body, length) in [
            (Body::empty(), 0),
            (Body::from(vec![b'x'; 10]), 10),
            (Body::from(vec![b'x'; LIMIT]), LIMIT),
            (mk_chunked(0, 0), 0),
            (mk_chunked(1000, 100), 100_000),
            (mk_chunked(16, LIMIT / 16), LIMIT),
        ] {
            let read = buffer_body(body, LIMIT, &budget, client()).await.unwrap();
            assert_eq!(read.bytes.len(), length);
            let spent = usize::try_from(budget.spent()).unwrap();
            assert!((length..=2 * length + STEP).contains(&spent), "{spent} for {length}");
            drop(read);
            assert_eq!(budget.spent(), 0);
        }
        for body in [Body::from(vec![b'x'; LIMIT + 1]), mk_chunked(17, LIMIT / 16)] {
            let read = buffer_body(body, LIMIT, &budget, client()).await;
            assert_eq!(read.map(|_| ()), Err(BufferError::TooLong));
        }
        assert_eq!(budget.spent(), 0);
    }

    #[tokio::test]
    async fn bodies_that_never_end_hold_no_more_than_the_budget() {
        let budget = Budget::new(BudgetLimits {
            total: 8 * STEP as u64,
            share: 4 * STEP as u64,
        });
        let endless = || {
            let first = stream::iter([Ok::<_, Infallible>(vec![b'x'; STEP])]);
            Body::from_stream(first.chain(stream::pending()))
        };
        let mut open = Vec::new();
        for number in 0..100u8 {
            let client = ClientAddress::from(IpAddr::V4(Ipv4Addr::new(10, 0, 0, number % 2)));
            let mut reading = Box::pin(buffer_body(endless(), LIMIT, &budget, client));
            let polled = futures_util::poll!(reading.as_mut());
            match polled {
                std::task::Poll::Pending => open.push(reading),
                std::task::Poll::Ready(read) => assert_eq!(read.map(|_| ()), Err(BufferError::OverBudget)),
            }
        }
        assert_eq!((open.len(), budget.spent()), (8, 8 * STEP as u64));
        drop(open);
        assert_eq!(budget.spent(), 0);
    }
}
