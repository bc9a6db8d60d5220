//! Builder of the asynchronous runtime. A command builds one only when it needs one.

use anyhow::Context as _;
use tokio::runtime::{Builder, Runtime};

/// Builds a runtime on this thread, for a command that waits for the network and ends.
///
/// # Errors
/// If the system gives no event queue or no descriptor.
pub(crate) fn current_thread() -> anyhow::Result<Runtime> {
    build(&mut Builder::new_current_thread())
}

/// Builds a runtime with this number of worker threads, or one for each core, for a command that stays up.
///
/// # Errors
/// If the system gives no event queue, no descriptor or no thread.
pub(crate) fn multi_thread(workers: Option<usize>) -> anyhow::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    if let Some(workers) = workers {
        builder.worker_threads(workers);
    }
    build(&mut builder)
}

fn build(builder: &mut Builder) -> anyhow::Result<Runtime> {
    builder
        .enable_all()
        .build()
        .context("cannot start the asynchronous runtime")
}
