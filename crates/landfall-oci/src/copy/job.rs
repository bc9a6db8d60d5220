//! One copy of an image, with its source, sink and options.

use landfall_core::reference::{Digest, ImageReference};
use landfall_core::status::ProgressSink;

use super::options::CopyOptions;
use crate::image::{ImageSink, ImageSource};

/// One image to copy.
#[derive(Debug, Clone, Copy)]
pub struct ImageCopy<'a> {
    pub source: &'a dyn ImageSource,
    /// The tag or digest in the source.
    pub selector: &'a str,
    pub sink: &'a dyn ImageSink,
    /// The image's name in the sink.
    pub name: Option<&'a ImageReference>,
    /// The digest that the user named in the destination: another image is refused.
    pub expected: Option<&'a Digest>,
}

/// State that all steps of one copy share.
pub(super) struct CopyJob<'a> {
    pub(super) source: &'a dyn ImageSource,
    pub(super) sink: &'a dyn ImageSink,
    pub(super) options: &'a CopyOptions,
    pub(super) progress: &'a dyn ProgressSink,
    /// The image's name in messages and progress.
    pub(super) image: String,
    /// The digest that the user named in the destination.
    pub(super) expected: Option<&'a Digest>,
}

/// Returns the name of an image in messages and progress.
fn display_name(source: &dyn ImageSource, selector: &str, name: Option<&ImageReference>) -> String {
    name.map_or_else(|| format!("{} {selector}", source.describe()), ToString::to_string)
}

impl<'a> CopyJob<'a> {
    pub(super) fn new(copy: &ImageCopy<'a>, options: &'a CopyOptions, progress: &'a dyn ProgressSink) -> CopyJob<'a> {
        CopyJob {
            source: copy.source,
            sink: copy.sink,
            options,
            progress,
            image: display_name(copy.source, copy.selector, copy.name),
            expected: copy.expected,
        }
    }
}
