//! `landfall registry gc|verify|ls|rm|stats`: on the directory itself. Those that only read do not mind whether it is served;
//! the others leave the work to whoever serves it.

use anyhow::{Context as _, ensure};
use clap::Args;
use landfall_core::reference::Repository;
use landfall_core::wording::counted;
use landfall_registry::GRACE;
use landfall_registry::inventory::{Inventory, ListedRepository, RegistryStats, Verification};
use landfall_registry::orders::{Order, carry_out};
use landfall_registry::places::Places;
use serde::Serialize;

use crate::Context;
use crate::commands::registry::RootArgs;
use crate::exit::ExitStatus;
use crate::output::printer::stdout_width;
use crate::output::structured::{OutputArgs, print_report};
use crate::output::table::Table;

/// Delete what no image needs.
///
/// What was pushed less than an hour ago is kept, since its manifest may be on the way. A registry that is served does
/// this every hour, and at once when it is asked by this command, which must be run by root or by the user that serves;
/// pushes and pulls go on meanwhile.
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  landfall registry gc --root /srv/images")]
pub struct GcArgs {
    /// Which registry.
    #[command(flatten)]
    pub root: RootArgs,
    /// For how many seconds a pushed blob waits for its manifest.
    #[arg(long, value_name = "SECONDS", default_value_t = GRACE.as_secs())]
    pub grace: u64,
    /// How the result is written.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Read everything, and say what is damaged or missing.
///
/// Every blob is hashed, and everything that a manifest names is looked for, while it is served or not. Damaged blobs are
/// deleted with `--delete-damaged`, so that the next push brings them anew; a damaged manifest loses its tags with that.
/// Exits 1 when something is wrong.
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  landfall registry verify --root /srv/images -o json")]
pub struct VerifyArgs {
    /// Which registry.
    #[command(flatten)]
    pub root: RootArgs,
    /// Delete blobs that are damaged.
    #[arg(long)]
    pub delete_damaged: bool,
    /// How the result is written.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// List repositories and tags.
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  landfall registry ls --root /srv/images -o json | jq -r '.[].name'")]
pub struct ListArgs {
    /// Which registry.
    #[command(flatten)]
    pub root: RootArgs,
    /// Only this repository.
    #[arg(value_name = "NAME")]
    pub name: Option<Repository>,
    /// How the list is written.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Delete a tag, an image or a repository.
///
/// While it is served or not; whoever has no access to the directory deletes by the API (`crane delete`, `regctl tag rm`,
/// `skopeo delete`). Room is made by the next `gc`, for images that are gone by digest: one that lost its last tag stays.
/// Exits 1 when there is no such image.
#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  landfall registry rm --root /srv/images library/nginx:1.27\n  \
                       landfall registry rm --root /srv/images library/nginx@sha256:...\n  \
                       landfall registry rm --root /srv/images library/nginx"
)]
pub struct RemoveArgs {
    /// Which registry.
    #[command(flatten)]
    pub root: RootArgs,
    /// `NAME:TAG` takes the tag away, `NAME@DIGEST` the manifest with all its tags, `NAME` everything.
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    pub target: String,
    /// How the result is written.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Count what is there.
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  landfall registry stats --root /srv/images")]
pub struct StatsArgs {
    /// Which registry.
    #[command(flatten)]
    pub root: RootArgs,
    /// How the counts are written.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// What a collection did, as it is written.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Collected {
    deleted: usize,
    bytes: u64,
}

/// What a removal did, as it is written.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Removed {
    tags: usize,
    manifests: usize,
}

pub(super) fn run_gc(args: &GcArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    let order = Order::CollectGarbage {
        grace_seconds: args.grace,
    };
    let deleted = carry_out(&find(&args.root)?, &order)
        .with_context(|| format!("cannot collect the garbage of `{}`", args.root.root))?;
    let collected = Collected {
        deleted: deleted.files,
        bytes: deleted.bytes,
    };
    print_report(&context.printer, args.output.output, &collected, |collected| {
        let (files, bytes) = (counted(collected.deleted, "file"), counted(collected.bytes, "byte"));
        format!("{files} deleted, {bytes}")
    })?;
    Ok(ExitStatus::Done)
}

pub(super) fn run_verify(args: &VerifyArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    let found = look(&args.root)?
        .verify(|_| ())
        .with_context(|| format!("cannot verify `{}`", args.root.root))?;
    if args.delete_damaged && !found.damaged.is_empty() {
        delete_damaged(args, &found, context)?;
    }
    print_report(&context.printer, args.output.output, &found, render_verification)?;
    Ok(if found.is_good() {
        ExitStatus::Done
    } else {
        ExitStatus::AnswerIsNo
    })
}

fn delete_damaged(args: &VerifyArgs, found: &Verification, context: &Context) -> anyhow::Result<()> {
    let places = find(&args.root)?;
    for digest in &found.damaged {
        let order = Order::DeleteDamaged { digest: digest.clone() };
        let deleted = carry_out(&places, &order).with_context(|| format!("cannot delete `{digest}`"))?;
        if deleted.files > 0 {
            context.printer.note(format_args!("deleted `{digest}`"));
        }
    }
    Ok(())
}

fn render_verification(found: &Verification) -> String {
    let (blobs, bytes) = (counted(found.blobs, "blob"), counted(found.bytes, "byte"));
    let mut lines = vec![format!("{blobs} read, {bytes}")];
    lines.extend(found.damaged.iter().map(|digest| {
        format!("damaged: `{digest}`; delete it by `--delete-damaged` and push an image that has it once more")
    }));
    for missing in &found.missing {
        let weight = if missing.allowed { "not here" } else { "missing" };
        lines.push(format!(
            "{weight}: `{}` of `{}@{}`",
            missing.digest, missing.repository, missing.manifest
        ));
    }
    lines.join("\n")
}

pub(super) fn run_list(args: &ListArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    let mut repositories = look(&args.root)?
        .repositories()
        .with_context(|| format!("cannot list `{}`", args.root.root))?;
    if let Some(name) = &args.name {
        repositories.retain(|repository| repository.name == *name);
    }
    print_report(&context.printer, args.output.output, &repositories, |repositories| {
        render_list(repositories)
    })?;
    Ok(if args.name.is_some() && repositories.is_empty() {
        ExitStatus::AnswerIsNo
    } else {
        ExitStatus::Done
    })
}

fn render_list(repositories: &[ListedRepository]) -> String {
    let mut table = Table::new(&["REPOSITORY", "TAG", "DIGEST", "REPOSITORY BYTES"]);
    for repository in repositories {
        for (tag, digest) in &repository.tags {
            table.row([
                repository.name.to_string(),
                tag.clone(),
                digest.to_string(),
                repository.bytes.to_string(),
            ]);
        }
        if repository.tags.is_empty() {
            table.row([
                repository.name.to_string(),
                "-".to_owned(),
                format!("{} without a tag", repository.untagged),
                repository.bytes.to_string(),
            ]);
        }
    }
    table.render(stdout_width())
}

pub(super) fn run_remove(args: &RemoveArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    let (name, selector) = split_target(&args.target);
    let name: Repository = name
        .parse()
        .with_context(|| format!("`{name}` is no repository: give its name without the registry's host"))?;
    let tag = selector.and_then(|selector| selector.parse().ok());
    let left = match tag {
        Some(tag) => look(&args.root)?.tagged_only(&name, &tag)?,
        None => None,
    };
    let order = Order::Remove {
        repository: name.clone(),
        selector: selector.map(str::to_owned),
    };
    let deleted = carry_out(&find(&args.root)?, &order).with_context(|| format!("cannot delete `{}`", args.target))?;
    let removed = Removed {
        tags: deleted.tags,
        manifests: deleted.manifests,
    };
    print_report(&context.printer, args.output.output, &removed, |removed| {
        let (tags, manifests) = (counted(removed.tags, "tag"), counted(removed.manifests, "manifest"));
        format!("{tags} and {manifests} deleted")
    })?;
    if let Some(digest) = left {
        context.printer.note(format_args!(
            "the image itself stays, without a tag; `{name}@{digest}` in place of `{}` takes it away",
            args.target
        ));
    }
    Ok(if removed.tags + removed.manifests == 0 {
        ExitStatus::AnswerIsNo
    } else {
        ExitStatus::Done
    })
}

/// The repository's name, and the tag or digest.
fn split_target(target: &str) -> (&str, Option<&str>) {
    match target.split_once('@').or_else(|| target.split_once(':')) {
        Some((name, selector)) => (name, Some(selector)),
        None => (target, None),
    }
}

pub(super) fn run_stats(args: &StatsArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    let stats = look(&args.root)?
        .stats()
        .with_context(|| format!("cannot count what is in `{}`", args.root.root))?;
    print_report(&context.printer, args.output.output, &stats, render_stats)?;
    Ok(ExitStatus::Done)
}

fn render_stats(stats: &RegistryStats) -> String {
    let mut table = Table::new(&["WHAT", "HOW MANY", "BYTES"]);
    let count = |count: usize| count.to_string();
    table.row(["repositories".to_owned(), count(stats.repositories), String::new()]);
    table.row(["tags".to_owned(), count(stats.tags), String::new()]);
    table.row(["manifests".to_owned(), count(stats.manifests), String::new()]);
    table.row(["blobs".to_owned(), count(stats.blobs), stats.blob_bytes.to_string()]);
    table.row([
        "unfinished".to_owned(),
        String::new(),
        stats.unfinished_bytes.to_string(),
    ]);
    table.row(["free".to_owned(), String::new(), stats.free_bytes.to_string()]);
    table.row(["disk".to_owned(), String::new(), stats.disk_bytes.to_string()]);
    table.render(stdout_width())
}

fn find(args: &RootArgs) -> anyhow::Result<Places> {
    let places = Places::find(&args.root);
    ensure!(
        places.store.join("blobs").is_dir(),
        "there is no registry in `{}`: give the directory that `landfall registry serve --root` was given, or an agent's \
         state directory",
        args.root
    );
    Ok(places)
}

fn look(args: &RootArgs) -> anyhow::Result<Inventory> {
    let places = find(args)?;
    Ok(Inventory::new(&places.store, &places.records))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_name_and_what_of_it() {
        for (target, expected) in [
            ("a/b", ("a/b", None)),
            ("a/b:v1", ("a/b", Some("v1"))),
            ("a/b@sha256:0", ("a/b", Some("sha256:0"))),
        ] {
            assert_eq!(split_target(target), expected);
        }
    }
}
