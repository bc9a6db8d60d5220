//! What a benchmark answers: rows, as a table and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

/// One measured value against its limit.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    /// What was done.
    pub(crate) case: &'static str,
    /// What was measured, with its unit.
    pub(crate) metric: &'static str,
    /// The measured value; smaller is better.
    pub(crate) landfall: f64,
    /// Other programs' values of the same metric.
    pub(crate) peers: BTreeMap<&'static str, f64>,
    /// The limit.
    pub(crate) limit: f64,
    /// Limit by value: 2 is twice as good as required.
    pub(crate) ratio: f64,
    /// Whether the limit is kept.
    pub(crate) reach: bool,
}

impl Row {
    /// A value against its limit.
    pub(crate) fn new(case: &'static str, metric: &'static str, landfall: f64, limit: f64) -> Row {
        Row {
            case,
            metric,
            landfall,
            peers: BTreeMap::new(),
            limit,
            ratio: limit / landfall,
            reach: landfall <= limit,
        }
    }
}

/// The rows for people.
pub(crate) fn render_table(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.case.len()).max().unwrap_or_default();
    let mut table = format!(
        "{:width$}  {:>16}  {:>9}  {:>9}  {:>7}\n",
        "CASE", "METRIC", "LANDFALL", "LIMIT", "RATIO"
    );
    for row in rows {
        let missed = if row.reach { "" } else { "  MISSED" };
        let _a_string_takes_everything = writeln!(
            table,
            "{:width$}  {:>16}  {:>9.2}  {:>9.2}  {:>6.1}x{missed}",
            row.case, row.metric, row.landfall, row.limit, row.ratio
        );
    }
    table
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
