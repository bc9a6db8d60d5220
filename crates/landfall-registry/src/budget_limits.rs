//! Limits of the registry's budgets [spec:security.budgets]: for all clients together and for each. The same table is in
//! docs/limits-and-compat.md.

use std::time::Duration;

use landfall_net::serve::budget::BudgetLimits;
use landfall_net::serve::slots::SlotLimits;

const MIB: u64 = 1024 * 1024;

/// Upload sessions. An empty one that is not in use may give way, one with bytes never does.
pub(crate) const SESSIONS: SlotLimits = SlotLimits {
    total: 1024,
    share: 256,
    grace: Duration::from_secs(2),
};
/// Requests that send a blob to the disk. One that has waited for its client may give way; its session keeps the bytes.
pub(crate) const UPLOADS: SlotLimits = SlotLimits {
    total: 512,
    share: 256,
    grace: Duration::from_secs(5),
};
/// Threads that read uploads from connections themselves. Tokio has 512 threads for all blocking work. A further upload
/// is received without such a thread, which costs more processor time.
pub(crate) const DIRECT_READS: BudgetLimits = BudgetLimits { total: 64, share: 32 };
/// Bytes of manifests that are being pushed.
pub(crate) const PUSHED_MANIFESTS: BudgetLimits = BudgetLimits {
    total: 32 * MIB,
    share: 16 * MIB,
};
/// Memory for large answers: manifests above [`SMALL_ANSWER_MAX`] and lists of referrers, in bytes.
pub(crate) const ANSWERS: BudgetLimits = BudgetLimits {
    total: 64 * MIB,
    share: 32 * MIB,
};
/// Answers of this size and smaller ones pay nothing, in bytes. The requests in flight bound them.
pub(crate) const SMALL_ANSWER_MAX: u64 = 256 * 1024;

/// Time after which a client may come again for which no budget was left.
pub(crate) const COME_AGAIN: Duration = Duration::from_secs(1);
