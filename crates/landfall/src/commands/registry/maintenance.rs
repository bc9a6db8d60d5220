//! `landfall registry gc|verify|ls|rm|stats`: maintains the directory of a registry. Commands that only read work with
//! or without a server; the others send an order to the process that serves the directory, if there is one.

use anyhow::Context as _;
use clap::Args;
use landfall_core::failure::Explanation;
use landfall_core::quantity::Seconds;
use landfall_core::reference::{Digest, Repository, Tag};
use landfall_core::wording::counted;
use landfall_registry::GRACE;
use landfall_registry::admin_socket::{AdminCommand, run_admin_command};
use landfall_registry::inspect::{ContentProblem, ListedRepository, RegistryInspector, RegistryStats, Verification};
use serde::Serialize;

use crate::args::{ListOutputArgs, OutputArgs, RegistryRootArgs};
use crate::commands::registry::directories::find_registry;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::output::printer::stdout_width;
use crate::output::size::bytes;
use crate::output::structured::{print_list, print_report};
use crate::output::table::{Table, TableForm};

/// Delete blobs that no manifest needs.
///
/// Blobs that wait for their manifest are kept for a day without pushes to their repository: a push over a slow link may
/// take that long. The time is run time of the registry, so that neither a change of the clock nor a time without power
/// adds to it. A serving registry collects its garbage every hour. This command makes it do so at once; run it as root
/// or as the user of the server. Pushes and pulls continue meanwhile.
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  landfall registry gc --root /srv/images")]
pub struct GcArgs {
    #[command(flatten)]
    pub root: RegistryRootArgs,
    /// Time without pushes to a repository for which its blobs are kept without a manifest; 0 deletes also what a push
    /// in progress has sent, which then sends it again.
    #[arg(long, value_name = "TIME", default_value_t = Seconds::new(GRACE.as_secs()))]
    pub grace: Seconds,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Read all blobs, and report those that are damaged or missing.
///
/// Hashes every blob, and checks that each repository can serve everything that its tags and manifests name; a server may
/// run meanwhile. With `--delete-damaged` damaged blobs are deleted. The registry then answers 404 for the images that
/// need them, so that the next push of such an image uploads them again; its tags stay. The exit status is 1 if
/// something is damaged or missing.
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  landfall registry verify --root /srv/images -o json")]
pub struct VerifyArgs {
    #[command(flatten)]
    pub root: RegistryRootArgs,
    /// Delete damaged blobs.
    #[arg(long)]
    pub delete_damaged: bool,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// List repositories and tags.
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  landfall registry ls --root /srv/images -o name")]
pub struct ListArgs {
    #[command(flatten)]
    pub root: RegistryRootArgs,
    /// List only this repository [default: all].
    #[arg(value_name = "NAME")]
    pub name: Option<Repository>,
    #[command(flatten)]
    pub output: ListOutputArgs,
}

/// Delete a tag, a manifest or a repository.
///
/// A server may run meanwhile. Without access to the directory, use a client of the API (`crane delete`, `regctl tag
/// rm`, `skopeo delete`). The next `gc` frees the space of images that were deleted by digest. An image that only lost
/// its last tag stays. The exit status is 1 if there is no such image.
#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  landfall registry rm --root /srv/images library/nginx:1.27\n  \
                       landfall registry rm --root /srv/images library/nginx@sha256:...\n  \
                       landfall registry rm --root /srv/images library/nginx"
)]
pub struct RegistryRemoveArgs {
    #[command(flatten)]
    pub root: RegistryRootArgs,
    /// `NAME:TAG` deletes the tag, `NAME@DIGEST` the manifest with all its tags, `NAME` the repository.
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    pub target: String,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Count repositories, tags, manifests, blobs and bytes.
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  landfall registry stats --root /srv/images")]
pub struct StatsArgs {
    #[command(flatten)]
    pub root: RegistryRootArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Report of a garbage collection.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Collected {
    deleted: usize,
    bytes: u64,
}

/// Report of a deletion.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Removed {
    tags: usize,
    manifests: usize,
}

pub(super) fn run_gc(args: &GcArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    let command = AdminCommand::CollectGarbage {
        grace_seconds: args.grace.get(),
    };
    let deleted = run_admin_command(&find_registry(&args.root.root)?, &command)
        .with_context(|| format!("cannot collect the garbage of `{}`", args.root.root))?;
    let collected = Collected {
        deleted: deleted.files,
        bytes: deleted.bytes,
    };
    print_report(&context.printer, args.output.output, &collected, |collected| {
        format!(
            "{} deleted, {}",
            counted(collected.deleted, "file"),
            bytes(collected.bytes)
        )
    })?;
    Ok(ExitStatus::Done)
}

pub(super) fn run_verify(args: &VerifyArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    let found = open_inspector(&args.root)?
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
    let directories = find_registry(&args.root.root)?;
    for digest in &found.damaged {
        let command = AdminCommand::DeleteDamaged { digest: digest.clone() };
        let deleted = run_admin_command(&directories, &command).with_context(|| format!("cannot delete `{digest}`"))?;
        if deleted.files > 0 {
            context.printer.note(format_args!("deleted `{digest}`"));
        }
    }
    Ok(())
}

fn render_verification(found: &Verification) -> String {
    let mut lines = vec![format!("{} read, {}", counted(found.blobs, "blob"), bytes(found.bytes))];
    lines.extend(found.damaged.iter().map(|digest| {
        format!("damaged: `{digest}`; delete it with `--delete-damaged` and push an image that has it again")
    }));
    for missing in &found.missing {
        let weight = match missing.problem {
            _ if missing.allowed => "not here",
            ContentProblem::Missing => "missing",
            ContentProblem::Unlisted => "not listed in its repository",
            ContentProblem::Unreadable => "no manifest that can be understood",
        };
        lines.push(format!(
            "{weight}: `{}` of `{}@{}`",
            missing.digest, missing.repository, missing.manifest
        ));
    }
    lines.join("\n")
}

pub(super) fn run_list(args: &ListArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    let mut repositories = open_inspector(&args.root)?
        .repositories()
        .with_context(|| format!("cannot list `{}`", args.root.root))?;
    if let Some(name) = &args.name {
        repositories.retain(|repository| repository.name == *name);
    }
    print_list(
        &context.printer,
        args.output.output,
        &repositories,
        |repositories| repositories.iter().flat_map(names_of).collect(),
        |repositories| match &args.name {
            Some(name) if repositories.is_empty() => format!("there is no repository `{name}`"),
            _ => render_list(repositories, args.output.table_form()),
        },
    )?;
    Ok(if args.name.is_some() && repositories.is_empty() {
        ExitStatus::AnswerIsNo
    } else {
        ExitStatus::Done
    })
}

/// Returns the names by which `rm` takes the images; that of the repository, if it has no tag.
fn names_of(repository: &ListedRepository) -> Vec<String> {
    let name = &repository.name;
    match repository.tags.is_empty() {
        true => vec![name.to_string()],
        false => repository.tags.keys().map(|tag| format!("{name}:{tag}")).collect(),
    }
}

fn render_list(repositories: &[ListedRepository], form: TableForm) -> String {
    let mut table = Table::new(&["REPOSITORY", "TAG", "DIGEST", "REPOSITORY SIZE"]);
    for repository in repositories {
        for (tag, digest) in &repository.tags {
            table.row([
                repository.name.to_string(),
                tag.clone(),
                digest.to_string(),
                bytes(repository.bytes),
            ]);
        }
        if repository.tags.is_empty() {
            table.row([
                repository.name.to_string(),
                "-".to_owned(),
                format!("{} without a tag", repository.untagged),
                bytes(repository.bytes),
            ]);
        }
    }
    table.render_as(form)
}

pub(super) fn run_remove(args: &RegistryRemoveArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    let (name, selector) = split_target(&args.target);
    let name: Repository = name.parse().with_context(|| {
        Explanation::new(
            format!("`{name}` is not a repository"),
            "give its name without the registry's host",
        )
    })?;
    let tag = match selector {
        Some(selector) if args.target.contains('@') => {
            let digest = selector.parse::<Digest>();
            digest.with_context(|| {
                Explanation::new(
                    format!("`{selector}` is not a digest"),
                    "give `NAME@sha256:…`, as `ls` shows it",
                )
            })?;
            None
        }
        Some(selector) => {
            let tag = selector.parse::<Tag>();
            Some(tag.with_context(|| {
                Explanation::new(
                    format!("`{selector}` is not a tag"),
                    "give `NAME:TAG`, as `ls` shows it",
                )
            })?)
        }
        None => None,
    };
    let left = match tag {
        Some(tag) => open_inspector(&args.root)?.find_solely_tagged(&name, &tag)?,
        None => None,
    };
    let command = AdminCommand::Remove {
        repository: name.clone(),
        selector: selector.map(str::to_owned),
    };
    let deleted = run_admin_command(&find_registry(&args.root.root)?, &command)
        .with_context(|| format!("cannot delete `{}`", args.target))?;
    let removed = Removed {
        tags: deleted.tags,
        manifests: deleted.manifests,
    };
    print_report(&context.printer, args.output.output, &removed, |removed| {
        if removed.tags + removed.manifests == 0 {
            return format!("there is no `{}` in the registry", args.target);
        }
        let (tags, manifests) = (counted(removed.tags, "tag"), counted(removed.manifests, "manifest"));
        format!("{tags} and {manifests} deleted")
    })?;
    if let Some(digest) = left {
        context.printer.note(format_args!(
            "the image stays, without a tag; to delete it, give `{name}@{digest}` instead of `{}`",
            args.target
        ));
    }
    Ok(if removed.tags + removed.manifests == 0 {
        ExitStatus::AnswerIsNo
    } else {
        ExitStatus::Done
    })
}

/// Splits a target into the repository's name and the tag or digest. The port of a host, which should not be there,
/// stays in the name.
fn split_target(target: &str) -> (&str, Option<&str>) {
    let at_tag = || {
        let after_host = match target.split_once('/') {
            Some((host, _)) if host.contains(':') => host.len(),
            _ => 0,
        };
        let colon = after_host + target[after_host..].find(':')?;
        Some((&target[..colon], &target[colon + 1..]))
    };
    match target.split_once('@').or_else(at_tag) {
        Some((name, selector)) => (name, Some(selector)),
        None => (target, None),
    }
}

pub(super) fn run_stats(args: &StatsArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    let stats = open_inspector(&args.root)?
        .stats()
        .with_context(|| format!("cannot count what is in `{}`", args.root.root))?;
    print_report(&context.printer, args.output.output, &stats, render_stats)?;
    Ok(ExitStatus::Done)
}

fn render_stats(stats: &RegistryStats) -> String {
    let mut table = Table::new(&["WHAT", "HOW MANY", "SIZE"]);
    let count = |count: usize| count.to_string();
    table.row(["repositories".to_owned(), count(stats.repositories), String::new()]);
    table.row(["tags".to_owned(), count(stats.tags), String::new()]);
    table.row(["manifests".to_owned(), count(stats.manifests), String::new()]);
    table.row(["blobs".to_owned(), count(stats.blobs), bytes(stats.blob_bytes)]);
    table.row(["unfinished".to_owned(), String::new(), bytes(stats.unfinished_bytes)]);
    table.row(["free".to_owned(), String::new(), bytes(stats.free_bytes)]);
    table.row(["disk".to_owned(), String::new(), bytes(stats.disk_bytes)]);
    table.render(stdout_width())
}

fn open_inspector(args: &RegistryRootArgs) -> anyhow::Result<RegistryInspector> {
    let directories = find_registry(&args.root)?;
    Ok(RegistryInspector::new(&directories.store, &directories.records))
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
            ("a/b:../x", ("a/b", Some("../x"))),
            ("host:5000/a/b:v1", ("host:5000/a/b", Some("v1"))),
            ("host:5000/a/b", ("host:5000/a/b", None)),
        ] {
            assert_eq!(split_target(target), expected);
        }
    }
}
