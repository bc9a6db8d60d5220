//! Directories, files and variables of a step: makes the changes, or reports those that would be made.

use camino::Utf8PathBuf;
use landfall_core::stage::diff::{FileState, render_file_diff};
use landfall_core::stage::environment::merge_environment;
use landfall_core::stage::{Environment, StageDirectory, StageFile};

use crate::files::{
    DirectorySpec, FileChange, FileSpec, ensure_directory, ensure_file, inspect_file, preview_directory,
};
use crate::root::HostRoot;

use super::blocking::blocking;
use super::options::StageOptions;
use super::outcome::{EffectOutcome, StageError};
use super::owner;

/// Brings a step's directory into its state.
pub(super) async fn ensure_stage_directory(
    wanted: &StageDirectory,
    root: &HostRoot,
    options: &StageOptions,
) -> EffectOutcome {
    let (owner, group) = owner::effective_owner(root, wanted.owner, wanted.group);
    let directory = DirectorySpec {
        path: wanted.path.clone().into(),
        mode: wanted.mode,
        owner,
        group,
    };
    let (root, dry_run) = (root.clone(), options.dry_run);
    let change = blocking(move || match dry_run {
        true => preview_directory(&root, &directory),
        false => ensure_directory(&root, &directory),
    });
    match change.await {
        Ok(FileChange::Created | FileChange::Updated) if dry_run => EffectOutcome::WouldDo { diff: None },
        other => EffectOutcome::of(other.map_err(StageError::from)),
    }
}

/// Brings a step's file into its state.
pub(super) async fn ensure_stage_file(wanted: &StageFile, root: &HostRoot, options: &StageOptions) -> EffectOutcome {
    let (wanted, root, dry_run) = (wanted.clone(), root.clone(), options.dry_run);
    let write = move || {
        let (owner, group) = match &wanted.owner_name {
            Some(name) => owner::find_owner(&root, name)?,
            None => (wanted.owner, wanted.group),
        };
        let (owner, group) = owner::effective_owner(&root, owner, group);
        let file = FileSpec {
            path: wanted.path.into(),
            mode: wanted.mode,
            owner,
            group,
            content: wanted.content.0,
        };
        write_or_preview(&root, &file, dry_run)
    };
    blocking(write).await.unwrap_or_else(EffectOutcome::Failed)
}

/// Sets variables in their file. Mode and owner of an existing file stay.
pub(super) async fn ensure_environment(wanted: &Environment, root: &HostRoot, options: &StageOptions) -> EffectOutcome {
    let (wanted, root, dry_run) = (wanted.clone(), root.clone(), options.dry_run);
    let write = move || {
        let path = Utf8PathBuf::from(wanted.path);
        let found = inspect_file(&root, &path)?;
        let (owner, group) = owner::effective_owner(&root, 0, 0);
        let (mode, owner, group) = match &found {
            Some(found) => (found.mode, Some(found.owner), Some(found.group)),
            None => (wanted.mode, owner, group),
        };
        let before = found.map(|found| found.content).unwrap_or_default();
        let before = String::from_utf8(before).map_err(|_| StageError::NoText { path: path.clone() })?;
        let file = FileSpec {
            content: merge_environment(&before, &wanted.variables).into_bytes(),
            path,
            mode,
            owner,
            group,
        };
        write_or_preview(&root, &file, dry_run)
    };
    blocking(write).await.unwrap_or_else(EffectOutcome::Failed)
}

fn write_or_preview(root: &HostRoot, file: &FileSpec, dry_run: bool) -> Result<EffectOutcome, StageError> {
    if !dry_run {
        return Ok(EffectOutcome::Ensured(ensure_file(root, file)?));
    }
    let found = inspect_file(root, &file.path)?;
    if found.as_ref().is_some_and(|found| file.fits(found)) {
        return Ok(EffectOutcome::Ensured(FileChange::Unchanged));
    }
    let before = found.as_ref().map(|found| FileState {
        mode: found.mode,
        owner: found.owner,
        group: found.group,
        content: &found.content,
    });
    let after = FileState {
        mode: file.mode,
        owner: file.owner.unwrap_or_else(|| rustix::process::geteuid().as_raw()),
        group: file.group.unwrap_or_else(|| rustix::process::getegid().as_raw()),
        content: &file.content,
    };
    let diff = Some(render_file_diff(file.path.as_str(), before, after));
    Ok(EffectOutcome::WouldDo { diff })
}
