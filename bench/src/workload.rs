//! Workloads: sets of OCI images whose layers are as incompressible as real ones, generated from a seed.

use std::collections::HashMap;

use serde_json::json;

use crate::content::{Content, Numbers, digest_of};

/// Tag of every image.
pub(crate) const TAG: &str = "v1";

const MIB: u64 = 1024 * 1024;
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Sizes in MiB of the layers that images of a profile share.
const BASES: [u64; 8] = [3, 6, 12, 20, 29, 37, 45, 80];
const PROFILE_IMAGES: usize = 40;
const SMALL_IMAGES: usize = 200;
const CHANGED_IMAGES: usize = 6;

/// Images in repositories of one registry.
#[derive(Debug, Clone)]
pub(crate) struct Workload {
    pub(crate) images: Vec<Image>,
}

#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub(crate) repository: String,
    pub(crate) layers: Vec<Layer>,
    /// The bytes of the configuration.
    pub(crate) config: Vec<u8>,
    /// The bytes of the manifest.
    pub(crate) manifest: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layer {
    pub(crate) content: Content,
    pub(crate) digest: String,
}

impl Image {
    fn new(repository: String, layers: Vec<Layer>) -> Image {
        let digests: Vec<&str> = layers.iter().map(|layer| layer.digest.as_str()).collect();
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": {"Labels": {"name": &repository}},
            "rootfs": {"type": "layers", "diff_ids": digests},
        });
        let config = config.to_string().into_bytes();
        let described: Vec<_> = layers
            .iter()
            .map(|layer| json!({"mediaType": LAYER_TYPE, "digest": layer.digest, "size": layer.content.size}))
            .collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": CONFIG_TYPE, "digest": digest_of(&config), "size": config.len()},
            "layers": described,
        });
        Image {
            repository,
            layers,
            config,
            manifest: manifest.to_string().into_bytes(),
        }
    }

    /// Returns the media type of the manifest.
    pub(crate) fn media_type(&self) -> &'static str {
        MANIFEST_TYPE
    }

    /// Returns `NAME:TAG`.
    pub(crate) fn name(&self) -> String {
        format!("{}:{TAG}", self.repository)
    }

    /// Returns digest and size of every blob that the manifest names.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = (String, u64)> {
        let config = (digest_of(&self.config), self.config.len() as u64);
        let layers = self
            .layers
            .iter()
            .map(|layer| (layer.digest.clone(), layer.content.size));
        layers.chain([config])
    }
}

impl Workload {
    /// Returns the bytes of the blobs: first with each blob counted once, then counted once per image.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        let all: Vec<_> = self.images.iter().flat_map(Image::blobs).collect();
        let logical = all.iter().map(|(_, size)| size).sum();
        let unique: HashMap<_, _> = all.into_iter().collect();
        (unique.values().sum(), logical)
    }
}

/// Returns W1, a profile: 40 images of 6 layers, of which 2 are shared bases of 3 to 80 MiB, 3 are the image's
/// own (lognormal around 6 MiB, at most 96 MiB) and one is tiny. `divisor` divides the size of every layer.
pub(crate) fn profile(divisor: u64) -> Workload {
    profile_with_changes(divisor, 0)
}

/// Returns W5, the same profile some days later: 6 of its images have another top layer under the same tag.
pub(crate) fn updated_profile() -> Workload {
    profile_with_changes(1, CHANGED_IMAGES)
}

fn profile_with_changes(divisor: u64, changed: usize) -> Workload {
    let mut layers = Layers::default();
    let mut numbers = Numbers(40);
    let images = (0..PROFILE_IMAGES)
        .map(|index| {
            let bases = [index % BASES.len(), (index / BASES.len() + index + 1) % BASES.len()];
            let mut mine: Vec<Layer> = bases
                .iter()
                .map(|&base| layers.get(base as u64, BASES[base] * MIB / divisor))
                .collect();
            for own in 0..3 {
                let size = numbers.draw_lognormal(6.0 * MIB as f64, 1.05).min(96.0 * MIB as f64);
                mine.push(layers.get(100 + index as u64 * 10 + own, whole(size) / divisor + 1));
            }
            let is_changed = index * changed / PROFILE_IMAGES != (index + 1) * changed / PROFILE_IMAGES;
            let top = if is_changed { 9 } else { 8 };
            let size = 1000 + numbers.draw() % 3000;
            mine.push(layers.get(100 + index as u64 * 10 + top, if is_changed { 6 * MIB } else { size }));
            Image::new(format!("p/app-{index}"), mine)
        })
        .collect();
    Workload { images }
}

/// Returns W2, one image with one layer of 2 GiB.
pub(crate) fn big() -> Workload {
    let layer = Layers::default().get(2, 2048 * MIB);
    Workload {
        images: vec![Image::new("p/big".to_owned(), vec![layer])],
    }
}

/// Returns one image with one layer of `size` bytes.
pub(crate) fn single(size: u64) -> Workload {
    let layer = Layers::default().get(3, size);
    Workload {
        images: vec![Image::new("p/single".to_owned(), vec![layer])],
    }
}

/// Returns the same small layer in many repositories.
pub(crate) fn many_repositories(count: usize) -> Workload {
    let layer = Layers::default().get(4, 1024);
    let images = (0..count).map(|index| Image::new(format!("p/many-{index}"), vec![layer.clone()]));
    Workload {
        images: images.collect(),
    }
}

/// Returns W3, 200 images of 5 layers of 1 to 64 KiB, none shared.
pub(crate) fn small() -> Workload {
    many_small(SMALL_IMAGES)
}

/// Returns images of 5 layers of 1 to 64 KiB, none shared.
pub(crate) fn many_small(count: usize) -> Workload {
    let mut layers = Layers::default();
    let mut numbers = Numbers(200);
    let images = (0..count as u64)
        .map(|index| {
            let mine = (0..5)
                .map(|layer| layers.get(10_000 + index * 10 + layer, 1024 + numbers.draw() % (63 * 1024)))
                .collect();
            Image::new(format!("p/small-{index}"), mine)
        })
        .collect();
    Workload { images }
}

/// Layers by seed, so that shared ones are hashed once.
#[derive(Default)]
struct Layers(HashMap<u64, Layer>);

impl Layers {
    fn get(&mut self, seed: u64, size: u64) -> Layer {
        let made = self.0.entry(seed).or_insert_with(|| {
            let content = Content { seed, size };
            Layer {
                digest: content.digest(),
                content,
            }
        });
        made.clone()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sizes are positive and below 2^53"
)]
fn whole(size: f64) -> u64 {
    size as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_of_a_profile_share_their_bases_and_nothing_else() {
        let workload = profile(1000);
        let blobs: Vec<_> = workload.images.iter().flat_map(Image::blobs).collect();
        let unique: HashMap<_, _> = blobs.iter().cloned().collect();
        assert_eq!((workload.images.len(), blobs.len()), (40, 40 * 7));
        assert_eq!(unique.len(), 8 + 40 * 5);
    }

    #[test]
    fn an_update_changes_the_top_layer_of_six_images() {
        let [before, after] = [0, CHANGED_IMAGES].map(|changed| profile_with_changes(1000, changed));
        let pairs = before.images.iter().zip(&after.images);
        let changed = pairs.filter(|(before, after)| before.manifest != after.manifest);
        let layers: Vec<_> = changed
            .map(|(before, after)| {
                (0..6)
                    .filter(|&at| before.layers[at] != after.layers[at])
                    .collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(layers, vec![vec![5]; 6]);
    }
}
