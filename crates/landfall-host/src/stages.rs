//! Execution of the steps of a stage [spec:stages]: in order, and within a step directories, files, commands, users,
//! units and variables, as Kairos' `yip` does. A failure is recorded, and the rest still runs.
//!
//! If the root is not `/`, no command runs unless [`StageOptions::commands_outside_root`] is set, and no unit is
//! started, because both would change the running host (there is no chroot). A step with a condition that therefore
//! cannot be evaluated is skipped.

mod blocking;
mod command;
mod crypt;
mod options;
mod outcome;
mod owner;
mod run;
mod units;
mod users;
mod writes;

pub use options::StageOptions;
pub use outcome::{ConditionOutcome, Effect, EffectOutcome, StageAction, StageError, StageReport, StepReport};
pub use run::run_stage;
