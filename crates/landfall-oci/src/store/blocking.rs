//! Disk work for async callers.

use crate::store::error::StoreError;

/// Runs work that touches the disk on a blocking thread.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_runtime_is_shutting_down) => Err(StoreError::Stopping),
        },
    }
}
