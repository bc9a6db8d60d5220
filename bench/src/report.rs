//! The result of a benchmark: rows, as a table and as JSON.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

/// One measured value with its limit, or with the values of other programs. Smaller is better, except for
/// [`Row::at_least`] and [`Row::rate`].
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) case: String,
    /// The metric with its unit.
    pub(crate) metric: &'static str,
    /// The measured value; `None` if the measurement failed.
    pub(crate) landfall: Option<f64>,
    /// Values of the same metric for other programs; `None` for a program that is absent or failed.
    pub(crate) peers: BTreeMap<String, Option<f64>>,
    pub(crate) limit: Option<f64>,
    /// Measured lower bound of the work (for rates: upper bound), which no program can beat.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bound: Option<f64>,
    /// Factor by which the value is better than the limit, or than the best peer if there are peers.
    pub(crate) ratio: Option<f64>,
    /// True if the limit is met.
    pub(crate) reach: bool,
    /// Reasons of missing values, by program.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) remarks: BTreeMap<String, String>,
}

impl Row {
    /// Returns a row for a value with its limit.
    pub(crate) fn new(case: impl Into<String>, metric: &'static str, landfall: f64, limit: f64) -> Row {
        Row {
            case: case.into(),
            metric,
            landfall: Some(landfall),
            peers: BTreeMap::new(),
            limit: Some(limit),
            bound: None,
            ratio: Some(limit / landfall),
            reach: landfall <= limit,
            remarks: BTreeMap::new(),
        }
    }

    /// Returns a row with peers: the value must be better than the best of them by `factor`. A factor of 0 sets
    /// no limit.
    pub(crate) fn against_peers(
        case: impl Into<String>,
        metric: &'static str,
        landfall: Option<f64>,
        peers: BTreeMap<String, Option<f64>>,
        factor: f64,
    ) -> Row {
        let best = peers.values().copied().flatten().min_by(f64::total_cmp);
        let limit = best.filter(|_| factor > 0.0).map(|best| best / factor);
        Row {
            case: case.into(),
            metric,
            landfall,
            limit,
            bound: None,
            // A value below the resolution of the clock has no ratio.
            ratio: best
                .zip(landfall)
                .filter(|(_, landfall)| *landfall > 0.0)
                .map(|(best, landfall)| best / landfall),
            reach: landfall.is_some_and(|landfall| limit.is_none_or(|limit| landfall <= limit)),
            peers,
            remarks: BTreeMap::new(),
        }
    }

    /// Returns a row for a case that cannot run here, with the reason. Its limit counts as met.
    pub(crate) fn skipped(case: impl Into<String>, metric: &'static str, why: &str) -> Row {
        let row = Row::against_peers(case, metric, None, BTreeMap::new(), 0.0);
        Row { reach: true, ..row }.remark("all", &format!("left out: {why}"))
    }

    /// Returns a row without a limit.
    pub(crate) fn without_limit(case: impl Into<String>, metric: &'static str, landfall: f64) -> Row {
        Row::against_peers(case, metric, Some(landfall), BTreeMap::new(), 0.0)
    }

    /// Returns a row for a value with a lower limit; more is better.
    pub(crate) fn at_least(case: impl Into<String>, metric: &'static str, landfall: f64, limit: f64) -> Row {
        Row {
            ratio: Some(landfall / limit),
            reach: landfall >= limit,
            ..Row::new(case, metric, landfall, limit)
        }
    }

    /// Adds the minimum time of the work, to judge a limit below it.
    pub(crate) fn with_bound(mut self, bound: f64) -> Row {
        self.bound = Some(bound);
        self
    }

    /// Returns a row with peers and a limit in which more is better.
    pub(crate) fn rate(
        case: impl Into<String>,
        metric: &'static str,
        landfall: Option<f64>,
        peers: BTreeMap<String, Option<f64>>,
        limit: Option<f64>,
    ) -> Row {
        let best = peers.values().copied().flatten().max_by(f64::total_cmp);
        Row {
            case: case.into(),
            metric,
            landfall,
            limit,
            ratio: best.zip(landfall).map(|(best, landfall)| landfall / best),
            reach: landfall.is_some_and(|landfall| limit.is_none_or(|limit| landfall >= limit)),
            peers,
            bound: None,
            remarks: BTreeMap::new(),
        }
    }

    /// Sets a limit that does not depend on the peers; the ratio is to that limit.
    pub(crate) fn with_limit(mut self, limit: f64) -> Row {
        self.limit = Some(limit);
        self.ratio = self.landfall.filter(|value| *value > 0.0).map(|value| limit / value);
        self.reach = self.landfall.is_some_and(|landfall| landfall <= limit);
        self
    }

    /// Adds the reason why the value of a program is missing.
    pub(crate) fn remark(mut self, program: &str, why: &str) -> Row {
        self.remarks.insert(program.to_owned(), why.to_owned());
        self
    }
}

/// Renders the rows as a table.
pub(crate) fn render_table(rows: &[Row]) -> String {
    let widest = |of: fn(&Row) -> &str| rows.iter().map(|row| of(row).chars().count()).max().unwrap_or_default();
    let (width, metric) = (widest(|row| &row.case), widest(|row| row.metric));
    let mut table = format!(
        "{:width$}  {:>metric$}  {:>9}  {:>9}  {:>7}\n",
        "CASE", "METRIC", "LANDFALL", "LIMIT", "RATIO"
    );
    for row in rows {
        let ratio = row.ratio.map_or_else(String::new, |ratio| format!("{ratio:.1}x"));
        let missed = if row.reach { "" } else { "  MISSED" };
        let bound = row
            .bound
            .map_or_else(String::new, |bound| format!("  bound {bound:.2}"));
        let peers: String = row
            .peers
            .iter()
            .map(|(name, value)| format!("  {name} {}", number(*value)))
            .collect();
        table.push_str(&format!(
            "{:width$}  {:>metric$}  {:>9}  {:>9}  {ratio:>7}{missed}{bound}{peers}\n",
            row.case,
            row.metric,
            number(row.landfall),
            row.limit.map_or_else(String::new, |limit| format!("{limit:.2}")),
        ));
    }
    let mut printed = Vec::new();
    for row in rows {
        for (program, why) in &row.remarks {
            let line = format!("{}: {program}: {why}\n", row.case);
            if !printed.contains(&line) {
                table.push_str(&line);
                printed.push(line);
            }
        }
    }
    table
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"))
}

/// Writes the rows as JSON.
pub(crate) fn write_json(rows: &[Row], path: &Path) -> anyhow::Result<()> {
    if let Some(directory) = path.parent() {
        fs_err::create_dir_all(directory)?;
    }
    let json = serde_json::to_string_pretty(rows).context("cannot write the rows as JSON")?;
    fs_err::write(path, json + "\n")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_what_is_missed_and_what_is_missing() {
        let peers = |values: &[(&str, Option<f64>)]| {
            values
                .iter()
                .map(|(name, value)| ((*name).to_owned(), *value))
                .collect()
        };
        let rows = [
            Row::new("start", "time, ms", 5.0, 10.0),
            Row::against_peers(
                "copy",
                "wall, s",
                Some(3.0),
                peers(&[("a", Some(4.0)), ("b", Some(9.0))]),
                1.5,
            ),
            Row::against_peers("weak link", "wall, s", Some(3.0), peers(&[("a", None)]), 1.0).remark("a", "hangs"),
        ];
        assert_eq!(
            render_table(&rows),
            "CASE         METRIC   LANDFALL      LIMIT    RATIO\n\
             start      time, ms       5.00      10.00     2.0x\n\
             copy        wall, s       3.00       2.67     1.3x  MISSED  a 4.00  b 9.00\n\
             weak link   wall, s       3.00                      a -\n\
             weak link: a: hangs\n"
        );
    }
}
