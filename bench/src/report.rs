//! What a benchmark answers: rows, as a table and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

/// One measured value against its limit, or against those of other programs. Smaller is better, but for
/// [`Row::at_least`] and [`Row::rate`].
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    /// What was done.
    pub(crate) case: String,
    /// What was measured, with its unit.
    pub(crate) metric: &'static str,
    /// The measured value; `None` when it failed.
    pub(crate) landfall: Option<f64>,
    /// Other programs' values of the same metric; `None` for one that is absent or failed.
    pub(crate) peers: BTreeMap<String, Option<f64>>,
    /// What is to be reached, where there is such a value.
    pub(crate) limit: Option<f64>,
    /// What the others' share of the work takes, or allows, alone, where that was measured: nobody can be faster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bound: Option<f64>,
    /// How many times better than the limit, or than the best of the others where there are others.
    pub(crate) ratio: Option<f64>,
    /// Whether the limit is kept.
    pub(crate) reach: bool,
    /// Why a value is missing, by program.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) remarks: BTreeMap<String, String>,
}

impl Row {
    /// A value against its limit.
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

    /// A value against those of others: it is to be `factor` times better than the best of them. With a factor of 0 the
    /// row only tells.
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
            // Less than the clock can tell is no ratio.
            ratio: best
                .zip(landfall)
                .filter(|(_, landfall)| *landfall > 0.0)
                .map(|(best, landfall)| best / landfall),
            reach: landfall.is_some_and(|landfall| limit.is_none_or(|limit| landfall <= limit)),
            peers,
            remarks: BTreeMap::new(),
        }
    }

    /// A case that cannot be carried out here, and why: nothing is reached, and nothing missed.
    pub(crate) fn left_out(case: impl Into<String>, metric: &'static str, why: &str) -> Row {
        let row = Row::against_peers(case, metric, None, BTreeMap::new(), 0.0);
        Row { reach: true, ..row }.remark("all", &format!("left out: {why}"))
    }

    /// A value that only tells.
    pub(crate) fn told(case: impl Into<String>, metric: &'static str, landfall: f64) -> Row {
        Row::against_peers(case, metric, Some(landfall), BTreeMap::new(), 0.0)
    }

    /// A value of which more is better, against the least that is to be reached.
    pub(crate) fn at_least(case: impl Into<String>, metric: &'static str, landfall: f64, limit: f64) -> Row {
        Row {
            ratio: Some(landfall / limit),
            reach: landfall >= limit,
            ..Row::new(case, metric, landfall, limit)
        }
    }

    /// The row with how long the work takes at least, whoever does it: what a limit below that is worth is to be seen.
    pub(crate) fn with_bound(mut self, bound: f64) -> Row {
        self.bound = Some(bound);
        self
    }

    /// A value of which more is better, against those of others and what is to be reached.
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

    /// The row with a limit of its own, whatever others need; the ratio is to that.
    pub(crate) fn with_limit(mut self, limit: f64) -> Row {
        self.limit = Some(limit);
        self.ratio = self.landfall.filter(|value| *value > 0.0).map(|value| limit / value);
        self.reach = self.landfall.is_some_and(|landfall| landfall <= limit);
        self
    }

    /// The row with a reason why a value of a program is missing.
    pub(crate) fn remark(mut self, program: &str, why: &str) -> Row {
        self.remarks.insert(program.to_owned(), why.to_owned());
        self
    }
}

/// The rows for people.
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
        let _a_string_takes_everything = writeln!(
            table,
            "{:width$}  {:>metric$}  {:>9}  {:>9}  {ratio:>7}{missed}{bound}{peers}",
            row.case,
            row.metric,
            number(row.landfall),
            row.limit.map_or_else(String::new, |limit| format!("{limit:.2}")),
        );
    }
    let mut told = Vec::new();
    for row in rows {
        for (program, why) in &row.remarks {
            let line = format!("{}: {program}: {why}\n", row.case);
            if !told.contains(&line) {
                table.push_str(&line);
                told.push(line);
            }
        }
    }
    table
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"))
}

/// The rows for programs.
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
