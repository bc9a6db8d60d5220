//! Receipts in the state directory of a host: the last of each series are kept [spec:bundles.receipt.kept].

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};

use crate::reference::Digest;

/// Receipts of one series that are kept, and of bundles without a series.
pub const RECEIPTS_KEPT: usize = 8;

/// A receipt in the state directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptReceipt {
    /// Id of its bundle.
    pub bundle: Digest,
    pub series: Option<String>,
    pub sequence: Option<u64>,
    /// Time of its last change, in nanoseconds since 1970. It orders receipts of one number alone.
    pub modified: i64,
}

/// Returns the bundles whose receipts are deleted: all but the last of each series. `here` are the bundles that the host
/// has now; their receipts stay.
#[must_use]
pub fn select_old_receipts<'a>(receipts: &'a [KeptReceipt], here: &HashSet<Digest>) -> Vec<&'a Digest> {
    let mut by_series: BTreeMap<Option<&str>, Vec<&KeptReceipt>> = BTreeMap::new();
    for receipt in receipts {
        by_series.entry(receipt.series.as_deref()).or_default().push(receipt);
    }
    let mut old = Vec::new();
    for mut series in by_series.into_values() {
        series.sort_by_key(|receipt| Reverse((receipt.sequence, receipt.modified, &receipt.bundle)));
        let beyond = series.into_iter().skip(RECEIPTS_KEPT);
        old.extend(
            beyond
                .map(|receipt| &receipt.bundle)
                .filter(|bundle| !here.contains(bundle)),
        );
    }
    old
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mk_receipt(number: u64, series: Option<&str>, sequence: Option<u64>, modified: i64) -> KeptReceipt {
        KeptReceipt {
            bundle: format!("sha256:{number:064x}").parse().unwrap(),
            series: series.map(str::to_owned),
            sequence,
            modified,
        }
    }

    #[test]
    fn last_receipts_of_each_series_stay_and_those_of_bundles_that_are_here() {
        // The clock of the host was set back after the first bundles.
        let of_shop = (0..12).map(|number| mk_receipt(number, Some("shop"), Some(number), -(number as i64)));
        let of_kiosk = (20..23).map(|number| mk_receipt(number, Some("kiosk"), Some(number), 0));
        let alone = (40..50).map(|number| mk_receipt(number, None, None, number as i64));
        let receipts: Vec<_> = of_shop.chain(of_kiosk).chain(alone).collect();
        let here = HashSet::from([receipts[1].bundle.clone()]);
        let old = select_old_receipts(&receipts, &here);
        let numbers: Vec<_> = old
            .iter()
            .map(|bundle| u64::from_str_radix(bundle.hex(), 16).unwrap())
            .collect();
        assert_eq!(numbers, [41, 40, 3, 2, 0]);
    }
}
