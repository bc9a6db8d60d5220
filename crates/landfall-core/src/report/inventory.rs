//! The inventory of a site: the digests of the blobs that it has. A bundle that is made for it leaves them out
//! [spec:bundles.delta].

mod qr;

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::API_VERSION;
use crate::failure::Hint;
use crate::lenient;
use crate::reference::Digest;

pub use self::qr::TooManyBlobs;

/// Largest inventory in bytes: 100,000 digests take 8 MB.
pub const INVENTORY_SIZE_MAX: u64 = 32 * 1024 * 1024;
/// Hexadecimal digits of a short digest: 8 bytes. Of 10,000 wanted and 10,000 known blobs, one is taken for another with a
/// probability below 10^-11; the site then refuses the bundle, because it checks its needs by whole digests.
const SHORT_LENGTH: usize = 16;

/// The blobs of a site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inventory {
    pub api_version: &'static str,
    pub kind: &'static str,
    /// The name of the site or host.
    pub site: String,
    pub blobs: BTreeSet<Digest>,
    /// First digits of SHA-256 digests, for inventories that are carried by hand.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub short: BTreeSet<String>,
}

/// A file that is no inventory.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    #[error("it is no inventory and no receipt")]
    Json(#[source] serde_json::Error),
    #[error("it is of the kind `{0}`, and neither an inventory nor a receipt")]
    Kind(String),
    #[error("it lists no blobs")]
    NoBlobs,
    #[error("it begins as the text of a QR code, and the rest is not whole")]
    QrText,
    #[error("it names no bundle: it is no receipt")]
    NoReceipt,
}

impl Hint for InventoryError {
    fn hint(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            InventoryError::QrText => "read the code again; all of its text belongs into the file".into(),
            InventoryError::NoReceipt => "take the file `FILE.receipt.json` that the host wrote for the bundle".into(),
            _ => "write one at the site: `landfall inventory export`".into(),
        })
    }
}

/// Fields of an inventory, or of a receipt with an inventory in it.
#[derive(Deserialize)]
struct RawInventory {
    kind: String,
    #[serde(default)]
    site: String,
    blobs: Option<BTreeSet<Digest>>,
    #[serde(default)]
    short: BTreeSet<String>,
    inventory: Option<Box<RawInventory>>,
}

impl Inventory {
    #[must_use]
    pub fn new(site: String, blobs: BTreeSet<Digest>) -> Inventory {
        Inventory {
            api_version: API_VERSION,
            kind: "Inventory",
            site,
            blobs,
            short: BTreeSet::new(),
        }
    }

    /// Returns the same inventory with short digests, to be carried by hand.
    #[must_use]
    pub fn shortened(self) -> Inventory {
        let (short, whole): (Vec<_>, Vec<_>) = self
            .blobs
            .into_iter()
            .partition(|digest| digest.algorithm() == "sha256");
        Inventory {
            short: short.iter().map(|digest| short_digest(digest).to_owned()).collect(),
            blobs: whole.into_iter().collect(),
            ..Inventory::new(self.site, BTreeSet::new())
        }
    }

    /// Reads an inventory, the text of its QR code, or the receipt of a bundle.
    ///
    /// # Errors
    /// If the bytes are none of them.
    pub fn parse(bytes: &[u8]) -> Result<Inventory, InventoryError> {
        if let Some(text) = bytes.trim_ascii().strip_prefix(qr::PREFIX.as_bytes()) {
            return Inventory::parse_qr_text(text);
        }
        let raw: RawInventory = lenient::from_slice(bytes).map_err(InventoryError::Json)?;
        let raw = match (raw.kind.as_str(), raw.inventory) {
            ("Inventory", None) => RawInventory { inventory: None, ..raw },
            ("BundleReceipt", Some(inventory)) => *inventory,
            _ => return Err(InventoryError::Kind(raw.kind)),
        };
        let blobs = raw.blobs.unwrap_or_default();
        if blobs.is_empty() && raw.short.is_empty() {
            return Err(InventoryError::NoBlobs);
        }
        Ok(Inventory {
            short: raw.short,
            ..Inventory::new(raw.site, blobs)
        })
    }

    /// Returns true if the site has a blob.
    #[must_use]
    pub fn has(&self, digest: &Digest) -> bool {
        self.blobs.contains(digest) || (digest.algorithm() == "sha256" && self.short.contains(short_digest(digest)))
    }
}

fn short_digest(digest: &Digest) -> &str {
    let hex = digest.hex();
    &hex[..hex.len().min(SHORT_LENGTH)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mk_digest(digit: char) -> Digest {
        format!("sha256:{}", digit.to_string().repeat(64)).parse().unwrap()
    }

    #[test]
    fn an_inventory_is_read_back_whole_short_and_from_a_receipt() {
        let inventory = Inventory::new("shop 7".to_owned(), BTreeSet::from([mk_digest('a'), mk_digest('b')]));
        let short = inventory.clone().shortened();
        assert_eq!(short.short, BTreeSet::from(["a".repeat(16), "b".repeat(16)]));
        let receipt = serde_json::json!({"kind": "BundleReceipt", "bundle": "x", "inventory": inventory});
        for text in [
            serde_json::to_string(&inventory).unwrap(),
            serde_json::to_string(&short).unwrap(),
            receipt.to_string(),
        ] {
            let read = Inventory::parse(text.as_bytes()).unwrap();
            assert!(read.has(&mk_digest('a')) && read.has(&mk_digest('b')) && !read.has(&mk_digest('c')));
            assert_eq!(read.site, "shop 7");
        }
    }

    #[test]
    fn other_files_are_refused() {
        for (text, message) in [
            ("", "it is no inventory and no receipt"),
            (
                r#"{"kind":"Plan"}"#,
                "it is of the kind `Plan`, and neither an inventory nor a receipt",
            ),
            (r#"{"kind":"Inventory","site":"x"}"#, "it lists no blobs"),
            (
                r#"{"kind":"Inventory","blobs":["x"]}"#,
                "it is no inventory and no receipt",
            ),
        ] {
            assert_eq!(
                Inventory::parse(text.as_bytes()).unwrap_err().to_string(),
                message,
                "{text}"
            );
        }
    }
}
