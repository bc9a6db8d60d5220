//! Copies of referrers: signatures, attestations, bills of materials, and their own referrers.

use std::collections::{HashSet, VecDeque};

use landfall_core::failure::FailureKind;
use landfall_core::reference::{Digest, ImageReference};

use super::job::CopyJob;
use super::report::CopyReport;
use crate::image::{ImageSink, Referrer, TransferError};

/// Largest number of referrers of one image. The registry's list has no bound of its own.
const REFERRERS_MAX: usize = 1000;

impl CopyJob<'_> {
    /// Copies the referrers of these manifests, their referrers, and so on. Each is copied once, so that a cycle of
    /// referrers ends.
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
                    return Err(self.fail(format!("more than {REFERRERS_MAX} referrers belong to it")));
                }
                let Some(sink) = self.sink.referrer_sink(referrer.tag.as_ref()) else {
                    return Err(self.fail(format!("{} takes no referrers", self.sink.describe())));
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
            expected: None,
        };
        // A referrer is small, and applies to all platforms.
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
