//! Bundles that a host is to have: the desk takes images from them in the agent's order, after the agent's decisions
//! [spec:resolution.bundles].

use std::sync::Arc;

use anyhow::Context as _;
use camino::Utf8Path;
use landfall_agent::{Offer, OfferedBundles, configured_keys, preference_of, refuse_image, trust_of};
use landfall_core::bundle::trust::HighestSeen;
use landfall_core::failure::Explanation;
use landfall_core::reference::Digest;
use landfall_core::resolve::{Candidate, Resolver};
use landfall_core::settings::{BundleSettings, KeySource, Settings};
use landfall_core::wording::counted;
use landfall_host::root::HostRoot;
use landfall_oci::bundle::{BundleError, BundleFile};
use landfall_oci::image::{ImageSource, TransferError};

use crate::args::{HostBundleArgs, InputArgs};
use crate::context::Context;
use crate::inputs::{CheckedInputs, LoadedInputs, load_text};

/// The bundles that a host is to have, opened.
#[derive(Debug)]
pub(crate) struct HostBundles {
    offered: OfferedBundles,
    /// Public keys of the command line, in place of those of the user-data.
    keys: Vec<KeySource>,
    root: HostRoot,
}

/// Reads the input files and checks them, together with the bundles that the host is to have.
///
/// # Errors
/// If an input file or a bundle cannot be read, or the host would refuse a bundle.
pub(crate) fn load_settings_with_bundles(
    inputs: &InputArgs,
    args: &HostBundleArgs,
    context: &Context,
) -> anyhow::Result<(CheckedInputs, HostBundles)> {
    let (loaded, bundles) = load_inputs_with_bundles(inputs, args, context)?;
    Ok((loaded.check(), bundles))
}

/// Reads the input files, and the bundles that the host is to have.
///
/// # Errors
/// If an input file or a bundle cannot be read, or the host would refuse a bundle.
pub(crate) fn load_inputs_with_bundles(
    inputs: &InputArgs,
    args: &HostBundleArgs,
    context: &Context,
) -> anyhow::Result<(LoadedInputs, HostBundles)> {
    let mut loaded = LoadedInputs::load(inputs)?;
    let mut bundles = HostBundles {
        offered: OfferedBundles::default(),
        keys: load_keys(args)?,
        root: HostRoot::new("/"),
    };
    if args.bundles.is_empty() {
        return Ok((loaded, bundles));
    }
    let checked = loaded.check();
    // The keys of the user-data decide which bundles are taken, and these bundles have a part in the findings.
    let no_settings = Settings::default();
    let settings = checked.settings.as_ref().unwrap_or(&no_settings);
    let files = bundles.open(args, settings, context)?;
    bundles.offered = OfferedBundles::new(files.iter().map(Offer::of));
    loaded.inputs.bundles = bundles.offered.offers().clone();
    Ok((loaded, bundles))
}

fn load_keys(args: &HostBundleArgs) -> anyhow::Result<Vec<KeySource>> {
    let load = |path| anyhow::Ok(KeySource::Pem(Arc::from(load_text(path)?.text.as_ref())));
    args.public_keys.iter().map(|path| load(path)).collect()
}

impl HostBundles {
    /// Opens the bundles and decides about them as the host does. Returns them in the order in which images are taken
    /// from them.
    fn open(
        &self,
        args: &HostBundleArgs,
        settings: &Settings,
        context: &Context,
    ) -> anyhow::Result<Vec<Arc<BundleFile>>> {
        let mut files: Vec<Arc<BundleFile>> = Vec::new();
        for path in &args.bundles {
            let file = match BundleFile::open(path) {
                Err(error @ BundleError::Foreign { .. }) => {
                    let found = Explanation::new(
                        error.to_string(),
                        "an agent takes bundles only: make one with `landfall bundle create --image oci-archive:…`, or \
                         load the file on the host with `landfall bundle load`",
                    );
                    return Err(found.into());
                }
                opened => opened?,
            };
            if files.iter().any(|known| known.id() == file.id()) {
                continue;
            }
            if !settings.ignores_bundles() {
                self.decide(&file, settings, context)?;
            }
            files.push(file);
        }
        files.sort_by_key(|file| preference_of(file.document(), file.path()));
        Ok(files)
    }

    fn decide(&self, file: &BundleFile, settings: &Settings, context: &Context) -> anyhow::Result<()> {
        let settings = self.settings_of(settings);
        for key in &settings.public_keys {
            self.require_key(key)?;
        }
        let keys = configured_keys(&settings, &self.root)?;
        trust_of(&settings, &keys, file, HighestSeen::default())
            .with_context(|| format!("the host refuses the bundle `{}`", file.path()))?;
        let needs = &file.document().needs;
        if !needs.is_empty() {
            context.printer.note(format_args!(
                "the bundle `{}` counts on {} that the host must have already",
                file.path(),
                counted(needs.len(), "blob")
            ));
        }
        Ok(())
    }

    /// Refuses a key that lies on the host, and not here.
    fn require_key(&self, key: &KeySource) -> anyhow::Result<()> {
        match key {
            KeySource::File(path) if !self.has_file(path) => Err(Explanation::new(
                format!("the public key `{path}` of the user-data lies on the host, not here"),
                "name the file with this key by `--public-key`",
            )
            .into()),
            KeySource::File(_) | KeySource::Pem(_) => Ok(()),
        }
    }

    fn has_file(&self, path: &Utf8Path) -> bool {
        matches!(self.root.read(path), Ok(Some(_)))
    }

    /// Returns the host's settings with the keys of the command line, if there are any.
    fn settings_of(&self, settings: &Settings) -> BundleSettings {
        let mut settings = settings.landfall.bundles.clone();
        if !self.keys.is_empty() {
            settings.public_keys.clone_from(&self.keys);
        }
        settings
    }

    /// Returns a resolver that knows the bundles.
    pub(crate) fn resolver<'s>(&self, settings: &'s Settings) -> Resolver<'s> {
        Resolver::new(settings).offering(self.offered.offers().clone())
    }

    /// Returns the source of a candidate that is a bundle, with the digest of the image in it.
    ///
    /// # Errors
    /// If the host's policy requires a signature of the image, and there is none.
    pub(crate) async fn source(
        &self,
        settings: &Settings,
        candidate: &Candidate,
    ) -> Result<(Arc<dyn ImageSource>, Digest), TransferError> {
        let (source, image) = self.offered.source(candidate)?;
        refuse_image(&settings.landfall.bundles, &self.root, &*source, &image).await?;
        Ok((source, image))
    }
}
