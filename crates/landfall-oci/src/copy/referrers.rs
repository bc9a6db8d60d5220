//! What belongs to an image without being part of it: signatures, attestations, bills of materials, and what is said about
//! those in turn.

use std::collections::{HashSet, VecDeque};

use landfall_core::failure::FailureKind;
use landfall_core::reference::{Digest, ImageReference};

use super::job::CopyJob;
use super::report::CopyReport;
use crate::image::{ImageSink, Referrer, TransferError};

/// The most that may belong to one image; what a registry lists is bounded by nobody else.
const REFERRERS_MAX: usize = 1000;

impl CopyJob<'_> {
    /// Copies everything that belongs to these manifests, to what belongs to it, and so on. Each is copied once, so that
    /// what refers to itself in a circle comes to an end.
    pub(super) async fn copy_referrers(
        &self,
        subjects: Vec<Digest>,
        report: &mut CopyReport,
    ) -> Result<(), TransferError> {
        let mut subjects = VecDeque::from(subjects);
        let mut asked = HashSet::new();
        let mut copied = HashSet::new();
        while let Some(subject) = subjects.pop_front() {
            if !asked.insert(subject.clone()) {
                continue;
            }
            let found = self.retrying(&self.image, || self.source.find_referrers(&subject));
            for referrer in found.await? {
                if !copied.insert(referrer.selector.clone()) {
                    continue;
                }
                if copied.len() > REFERRERS_MAX {
                    return Err(self.fail(format!(
                        "more than {REFERRERS_MAX} signatures and the like belong to it"
                    )));
                }
                let Some(sink) = self.sink.referrer_sink(referrer.tag.as_ref()) else {
                    return Err(self.fail(format!("{} takes no signatures and the like", self.sink.describe())));
                };
                let (part, below) = self.copy_referrer(&referrer, &*sink).await?;
                report.add_referrer(&part);
                subjects.extend(below);
            }
        }
        Ok(())
    }

    async fn copy_referrer(
        &self,
        referrer: &Referrer,
        sink: &dyn ImageSink,
    ) -> Result<(CopyReport, Vec<Digest>), TransferError> {
        let address = sink.repository_address();
        let name = address.zip(referrer.tag.clone()).map(|(address, tag)| ImageReference {
            host: address.registry,
            repository: address.repository,
            tag: Some(tag),
            digest: None,
        });
        let job = CopyJob {
            sink,
            image: format!("{} of {}", referrer.selector, self.image),
            source: self.source,
            options: self.options,
            progress: self.progress,
        };
        // It is small, and there for all platforms.
        let inspected = Box::pin(job.inspect(&referrer.selector, &[])).await?;
        let root = inspected.root.clone();
        let mut part = CopyReport::new(root.digest.clone());
        let below = Box::pin(job.copy_without_referrers(inspected, name.as_ref(), &mut part)).await?;
        job.finish(&root).await?;
        Ok((part, below))
    }

    fn fail(&self, why: String) -> TransferError {
        TransferError {
            attempt: format!("cannot copy what belongs to `{}`: {why}", self.image),
            kind: FailureKind::Local,
            source: None,
        }
    }
}
