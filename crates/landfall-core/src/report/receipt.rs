//! Files that a host writes for the courier: the receipt of a bundle, and the blobs that a bundle lacks
//! [spec:bundles.adoption].

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::API_VERSION;
use super::inventory::{Inventory, InventoryError};
use crate::bundle::adoption::NeedsMissing;
use crate::bundle::document::{BundleDocument, NeededBlob};
use crate::lenient;
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

/// A receipt as the desk reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawReceipt {
    pub bundle: Digest,
    pub series: Option<String>,
    pub sequence: Option<u64>,
    pub present: BTreeSet<ImageReference>,
    pub missing: BTreeSet<ImageReference>,
    pub bad: BTreeSet<ImageReference>,
    pub inventory: Inventory,
}

impl RawReceipt {
    /// Reads a receipt.
    ///
    /// # Errors
    /// If the bytes are no receipt.
    pub fn parse(bytes: &[u8]) -> Result<RawReceipt, InventoryError> {
        #[derive(Deserialize)]
        struct Fields {
            bundle: Option<Digest>,
            series: Option<String>,
            sequence: Option<u64>,
            #[serde(default)]
            present: BTreeSet<ImageReference>,
            #[serde(default)]
            missing: BTreeSet<ImageReference>,
            #[serde(default)]
            bad: BTreeSet<ImageReference>,
        }
        let inventory = Inventory::parse(bytes)?;
        let fields: Fields = lenient::from_slice(bytes).map_err(InventoryError::Json)?;
        Ok(RawReceipt {
            bundle: fields.bundle.ok_or(InventoryError::NoReceipt)?,
            series: fields.series,
            sequence: fields.sequence,
            present: fields.present,
            missing: fields.missing,
            bad: fields.bad,
            inventory,
        })
    }
}

/// The output of `landfall bundle receipt`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BundleReceiptReport {
    /// Always `landfall.dev/v1alpha1`.
    pub api_version: &'static str,
    /// Always `BundleReceiptReport`.
    pub kind: &'static str,
    /// The path of the receipt.
    pub file: String,
    /// The name of the site or host.
    pub site: String,
    /// The id of the bundle.
    pub bundle: String,
    /// The name of the bundles that replace one another at a site.
    pub series: Option<String>,
    /// The number in the series.
    pub sequence: Option<u64>,
    /// The images that the site has.
    pub present: Vec<String>,
    /// The images that the site lacks.
    pub missing: Vec<String>,
    /// The images whose content in the bundle is wrong.
    pub bad: Vec<String>,
    /// The number of blobs of the site.
    pub blobs: usize,
    /// The keys that signed it, by the SHA-256 of their public halves. They are not verified here.
    pub signed_by: Vec<String>,
    /// The key that signed it; null without `--public-key`.
    pub trusted_key: Option<String>,
}

impl BundleReceiptReport {
    #[must_use]
    pub fn new(file: String, receipt: RawReceipt) -> BundleReceiptReport {
        let names = |images: BTreeSet<ImageReference>| images.iter().map(ToString::to_string).collect();
        BundleReceiptReport {
            api_version: API_VERSION,
            kind: "BundleReceiptReport",
            file,
            site: receipt.inventory.site,
            bundle: receipt.bundle.to_string(),
            series: receipt.series,
            sequence: receipt.sequence,
            present: names(receipt.present),
            missing: names(receipt.missing),
            bad: names(receipt.bad),
            blobs: receipt.inventory.blobs.len() + receipt.inventory.short.len(),
            signed_by: Vec::new(),
            trusted_key: None,
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
        assert_eq!((read.site.as_str(), &read.blobs), ("till-7", &blobs));
        let raw = RawReceipt::parse(&serde_json::to_vec(&receipt).unwrap()).unwrap();
        assert_eq!(raw.inventory, read);
        assert_eq!((raw.bundle, raw.sequence), (receipt.bundle, Some(4)));
        assert_eq!(
            (raw.present, raw.missing, raw.bad),
            (receipt.present, receipt.missing, receipt.bad)
        );
        let inventory = RawReceipt::parse(&serde_json::to_vec(&read).unwrap()).unwrap_err();
        assert_eq!(inventory.to_string(), "it names no bundle: it is no receipt");
    }
}
