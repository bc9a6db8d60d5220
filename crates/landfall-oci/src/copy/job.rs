//! One copy, and what every part of it needs to know.

use landfall_core::reference::ImageReference;
use landfall_core::status::ProgressSink;

use super::options::CopyOptions;
use crate::image::{ImageSink, ImageSource};

/// One image to copy.
#[derive(Debug, Clone, Copy)]
pub struct ImageCopy<'a> {
    /// Where from.
    pub source: &'a dyn ImageSource,
    /// The tag or digest there.
    pub selector: &'a str,
    /// Where to.
    pub sink: &'a dyn ImageSink,
    /// What it is called there.
    pub name: Option<&'a ImageReference>,
}

/// One copy: what every part of it needs to know.
pub(super) struct Job<'a> {
    pub(super) source: &'a dyn ImageSource,
    pub(super) sink: &'a dyn ImageSink,
    pub(super) options: &'a CopyOptions,
    pub(super) progress: &'a dyn ProgressSink,
    /// What messages and progress call the image.
    pub(super) image: String,
}

/// What messages and progress call an image.
fn display_name(source: &dyn ImageSource, selector: &str, name: Option<&ImageReference>) -> String {
    name.map_or_else(|| format!("{} {selector}", source.describe()), ToString::to_string)
}

impl<'a> Job<'a> {
    pub(super) fn new(copy: &ImageCopy<'a>, options: &'a CopyOptions, progress: &'a dyn ProgressSink) -> Job<'a> {
        Job {
            source: copy.source,
            sink: copy.sink,
            options,
            progress,
            image: display_name(copy.source, copy.selector, copy.name),
        }
    }
}
