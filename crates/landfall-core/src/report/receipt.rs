//! Files that a host writes for the courier: the receipt of a bundle, and the blobs that a bundle lacks
//! [spec:bundles.adoption].

use std::collections::BTreeSet;

use serde::Serialize;

use super::API_VERSION;
use super::inventory::Inventory;
use crate::bundle::adoption::NeedsMissing;
use crate::bundle::document::{BundleDocument, NeededBlob};
use crate::reference::{Digest, ImageReference};

/// Receipt of a bundle: what the site has of it. It goes back with the courier, and is the inventory of the next bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BundleReceipt {
    pub api_version: &'static str,
    pub kind: &'static str,
    pub site: String,
    /// Id of the bundle.
    pub bundle: Digest,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub series: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// Images that the site has.
    pub present: BTreeSet<ImageReference>,
    /// Images that the site lacks.
    pub missing: BTreeSet<ImageReference>,
    /// Images whose content in the bundle is wrong.
    pub bad: BTreeSet<ImageReference>,
    /// All blobs of the site.
    pub inventory: Inventory,
}

impl BundleReceipt {
    /// Returns the receipt of a bundle. `has` tells if the site has an image, `bad` holds images that failed.
    #[must_use]
    pub fn new(
        bundle: &Digest,
        document: &BundleDocument,
        has: impl Fn(&ImageReference) -> bool,
        bad: &BTreeSet<ImageReference>,
        inventory: Inventory,
    ) -> BundleReceipt {
        let names = document.images.iter().map(|image| image.name.clone());
        let (present, lacking): (BTreeSet<_>, BTreeSet<_>) = names.partition(has);
        let (bad, missing) = lacking.into_iter().partition(|name| bad.contains(name));
        BundleReceipt {
            api_version: API_VERSION,
            kind: "BundleReceipt",
            site: inventory.site.clone(),
            bundle: bundle.clone(),
            series: document.series.clone(),
            sequence: document.sequence,
            present,
            missing,
            bad,
            inventory,
        }
    }
}

/// Blobs that a bundle lacks at a site: the file `needs.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BundleNeeds<'a> {
    api_version: &'static str,
    kind: &'static str,
    site: &'a str,
    /// Id of the bundle.
    bundle: &'a Digest,
    needs: &'a [NeededBlob],
}

impl<'a> BundleNeeds<'a> {
    #[must_use]
    pub fn new(site: &'a str, bundle: &'a Digest, missing: &'a NeedsMissing) -> BundleNeeds<'a> {
        BundleNeeds {
            api_version: API_VERSION,
            kind: "BundleNeeds",
            site,
            bundle,
            needs: &missing.missing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_is_read_as_the_inventory_of_the_next_bundle() {
        let digest = |digit: char| format!("sha256:{}", digit.to_string().repeat(64));
        let image = |name: &str| serde_json::json!({"name": name, "digest": digest('1'), "mediaType": "m", "size": 3});
        let document = serde_json::json!({
            "format": 1, "series": "store", "sequence": 4, "files": [],
            "images": [image("reg.example/a:1"), image("reg.example/b:1"), image("reg.example/c:1")],
            "blobs": [{"digest": digest('1'), "size": 3, "how": "head"}],
        });
        let document = BundleDocument::parse(document.to_string().as_bytes()).unwrap();
        let name = |text: &str| text.parse::<ImageReference>().unwrap();
        let blobs: BTreeSet<Digest> = [digest('1').parse().unwrap()].into();
        let receipt = BundleReceipt::new(
            &digest('9').parse().unwrap(),
            &document,
            |image| *image == name("reg.example/a:1"),
            &[name("reg.example/c:1")].into(),
            Inventory::new("till-7".to_owned(), blobs.clone()),
        );
        assert_eq!(receipt.present, [name("reg.example/a:1")].into());
        assert_eq!(receipt.missing, [name("reg.example/b:1")].into());
        assert_eq!(receipt.bad, [name("reg.example/c:1")].into());
        let read = Inventory::parse(&serde_json::to_vec(&receipt).unwrap()).unwrap();
        assert_eq!((read.site.as_str(), read.blobs), ("till-7", blobs));
    }
}
