//! Options of a transfer. They are resolved from the command line once, before anything is opened.

use std::sync::Arc;

use camino::Utf8PathBuf;
use landfall_core::settings::Settings;
use landfall_oci::client::UploadJournal;
use landfall_oci::copy::{BandwidthLimit, CopyOptions, UploadHash};

use crate::args::TransferArgs;
use crate::context::Context;
use crate::output::structured::OutputFormat;
use crate::registries::{Registries, RegistryAccess};

/// Options that hold for all images of a run.
#[derive(Debug)]
pub(crate) struct TransferOptions {
    /// True if nothing is to be written.
    pub(crate) dry_run: bool,
    pub(crate) copy: CopyOptions,
    pub(crate) access: RegistryAccess,
    pub(crate) output: OutputFormat,
    /// True if an image goes to stdout: the report goes to stderr then.
    pub(crate) image_to_stdout: bool,
    /// Directory of the upload journal; none for a dry run, or where no home directory is known.
    journal: Option<Utf8PathBuf>,
}

impl TransferOptions {
    /// Resolves the arguments of the command line.
    pub(crate) fn resolve(args: &TransferArgs) -> TransferOptions {
        let mut copy = CopyOptions::new(args.concurrency);
        copy.platforms = args.platforms.as_slice().into();
        copy.referrers = args.referrers;
        copy.upload_hash = UploadHash::WhereUnverified;
        copy.force = args.force;
        copy.bandwidth = args.bandwidth.map(|limit| Arc::new(BandwidthLimit::new(limit)));
        let state_dir = args.state_dir.clone().or_else(usual_state_dir);
        TransferOptions {
            dry_run: args.dry_run,
            copy,
            access: args.access.resolve(),
            output: args.output.output,
            image_to_stdout: false,
            journal: state_dir
                .filter(|_| !args.dry_run)
                .map(|directory| directory.join("uploads")),
        }
    }

    /// Returns the registries of these settings. Without a journal, a later run cannot resume the uploads of this one;
    /// nothing else is lost.
    pub(crate) fn registries<'a>(&self, settings: &'a Settings, context: &Context) -> Registries<'a> {
        let mut registries = Registries::new(settings, self.access.clone());
        let Some(directory) = &self.journal else {
            return registries;
        };
        match UploadJournal::open(directory) {
            Ok(Some(journal)) => registries.journal = Some(journal),
            Ok(None) => context.printer.detail(format_args!(
                "another run uses `{directory}`: a later run cannot resume the uploads of this one"
            )),
            Err(error) => context.printer.note(format_args!(
                "a later run cannot resume uploads: the journal `{directory}` cannot be opened: {error}"
            )),
        }
        registries
    }
}

/// Returns Landfall's directory below the state directory of the XDG base directory specification.
fn usual_state_dir() -> Option<Utf8PathBuf> {
    let variable = |name| std::env::var(name).ok().map(Utf8PathBuf::from);
    let base = variable("XDG_STATE_HOME").filter(|path| path.is_absolute());
    let base = base.or_else(|| variable("HOME").map(|home| home.join(".local/state")));
    base.map(|base| base.join("landfall"))
}
