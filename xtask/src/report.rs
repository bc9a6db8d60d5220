//! Renders the figures of the code's structure: one row for each crate.

use crate::circles::find_circles;
use crate::crates::CrateSources;
use crate::folders::count_upward_imports;
use crate::layers::{Member, count_upward_dependencies};

const HEAD: [&str; 9] = [
    "crate",
    "code",
    "comment",
    "modules",
    "circles",
    "largest",
    "in circles",
    "upward",
    "dependencies up",
];

const LEGEND: &str = "\
code, comment    lines of product code and of comment alone, without tests and generated code
modules          files of the module tree
circles          groups of modules that import each other; largest: modules of the largest one
in circles       imports between the modules of one circle
upward           imports between folders that go against the best order found of the folders beside each other
dependencies up  direct dependencies on a crate of the workspace that lies above or beside
";

/// Figures of one crate, in the order of [`HEAD`] without the name.
type Figures = [usize; 8];

/// Renders the table of all crates, with their sum.
pub(crate) fn render_report(crates: &[CrateSources<'_>], members: &[Member]) -> String {
    let rows: Vec<(&str, Figures)> = crates
        .iter()
        .map(|sources| (sources.name(), measure(sources, members)))
        .collect();
    render_table(&rows)
}

fn measure(sources: &CrateSources<'_>, members: &[Member]) -> Figures {
    let lines = sources.lines();
    let imports = sources.imports();
    let circles = find_circles(&imports);
    let member = members.iter().find(|member| member.folder == sources.folder);
    [
        lines.code,
        lines.comment,
        sources.modules().len(),
        circles.len(),
        circles.iter().map(|circle| circle.modules.len()).max().unwrap_or(0),
        circles.iter().map(|circle| circle.imports).sum(),
        count_upward_imports(&imports),
        member.map_or(0, |member| count_upward_dependencies(member, members)),
    ]
}

fn render_table(rows: &[(&str, Figures)]) -> String {
    let mut sum = Figures::default();
    for (_, figures) in rows {
        for (at, figure) in figures.iter().enumerate() {
            // `largest` shows the maximum over all crates, not a sum.
            sum[at] = if HEAD[at + 1] == "largest" {
                sum[at].max(*figure)
            } else {
                sum[at] + figure
            };
        }
    }
    let mut text = format!("| {} |\n|---|{}\n", HEAD.join(" | "), "---:|".repeat(sum.len()));
    for (name, figures) in rows.iter().chain([&("all", sum)]) {
        let figures: Vec<String> = figures.iter().map(ToString::to_string).collect();
        text.push_str(&format!("| {name} | {} |\n", figures.join(" | ")));
    }
    text + "\n" + LEGEND
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crates::group_crates;
    use crate::sources::SourceFile;

    #[test]
    fn a_crate_with_a_circle_is_reported_with_its_figures() {
        let files = [
            ("crates/a/src/lib.rs", "//! A.\nmod b;\nmod c;"),
            ("crates/a/src/b.rs", "use crate::c::C;"),
            ("crates/a/src/c.rs", "use crate::b::B;"),
        ]
        .map(|(path, text)| SourceFile {
            path: path.to_owned(),
            text: text.to_owned(),
        });
        let table = render_report(&group_crates(&files), &[]);
        assert!(table.contains("| a | 4 | 1 | 3 | 1 | 2 | 2 | 1 | 0 |\n"), "{table}");
    }

    #[test]
    fn the_last_row_adds_up_and_takes_the_largest_circle_of_all() {
        let table = render_table(&[("a", [1, 1, 1, 1, 5, 1, 1, 1]), ("b", [2, 2, 2, 2, 3, 2, 2, 2])]);
        assert!(table.contains("| all | 3 | 3 | 3 | 3 | 5 | 3 | 3 | 3 |\n"), "{table}");
    }
}
