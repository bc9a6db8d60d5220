//! What belongs to an image without being part of it: signatures, attestations, bills of materials, and what is said about
//! those in turn.

use std::collections::{HashSet, VecDeque};

use landfall_core::failure::FailureKind;
use landfall_core::reference::{Digest, ImageReference};

use super::job::Job;
use super::report::CopyReport;
use crate::image::{Companion, ImageSink, TransferError};

/// The most that may belong to one image; what a registry lists is bounded by nobody else.
const COMPANIONS_MAX: usize = 1000;

impl Job<'_> {
    /// Copies everything that belongs to these manifests, to what belongs to it, and so on. Each is copied once, so that
    /// what refers to itself in a circle comes to an end.
    pub(super) async fn copy_companions(
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
            let found = self.retrying(&self.image, || self.source.find_companions(&subject));
            for companion in found.await? {
                if !copied.insert(companion.selector.clone()) {
                    continue;
                }
                if copied.len() > COMPANIONS_MAX {
                    return Err(self.fail(format!("more than {COMPANIONS_MAX} referrers belong to it")));
                }
                let Some(sink) = self.sink.companion_sink(companion.tag.as_ref()) else {
                    return Err(self.fail(format!("{} takes no referrers", self.sink.describe())));
                };
                let (part, below) = self.copy_companion(&companion, &*sink).await?;
                report.add_companion(&part);
                subjects.extend(below);
            }
        }
        Ok(())
    }

    async fn copy_companion(
        &self,
        companion: &Companion,
        sink: &dyn ImageSink,
    ) -> Result<(CopyReport, Vec<Digest>), TransferError> {
        let place = sink.place();
        let name = place.zip(companion.tag.clone()).map(|(place, tag)| ImageReference {
            host: place.registry,
            repository: place.repository,
            tag: Some(tag),
            digest: None,
        });
        let job = Job {
            sink,
            image: format!("{} of {}", companion.selector, self.image),
            source: self.source,
            options: self.options,
            progress: self.progress,
        };
        // It is small, and there for all platforms.
        let looked = Box::pin(job.look(&companion.selector, &[])).await?;
        let root = looked.root.clone();
        let mut part = CopyReport::new(root.digest.clone());
        let below = Box::pin(job.carry_out_alone(looked, name.as_ref(), &mut part)).await?;
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
