//! Tables of text: full width in a pipe, wrapped on a terminal. They have no colour and no frame, so that `grep` works.

/// Space between two columns, in characters.
const GAP: usize = 2;
/// Smallest width to which a column is narrowed, in characters.
const NARROWEST: usize = 8;

/// Rows of cells under headings.
#[derive(Debug, Clone)]
pub struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Makes an empty table with these headings.
    #[must_use]
    pub fn new(headings: &[&'static str]) -> Table {
        Table {
            headings: headings.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; missing cells are empty.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let mut cells: Vec<String> = cells.into_iter().collect();
        cells.resize(self.headings.len(), String::new());
        self.rows.push(cells);
    }

    /// Renders the table. With a width, cells are wrapped so that no line is longer, as far as the narrowest columns
    /// allow. Without one, each row is one line.
    #[must_use]
    pub fn render(&self, width: Option<usize>) -> String {
        let mut widths = self.natural_widths();
        if let Some(width) = width {
            narrow(&mut widths, width);
        }
        let mut text = String::new();
        render_row(&mut text, &self.headings, &widths);
        for row in &self.rows {
            render_row(&mut text, row, &widths);
        }
        text
    }

    fn natural_widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = self.headings.iter().map(|heading| heading.chars().count()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        widths
    }
}

/// Narrows the widest column repeatedly until the table fits, so that short columns stay whole.
fn narrow(widths: &mut [usize], limit: usize) {
    let gaps = GAP * widths.len().saturating_sub(1);
    while widths.iter().sum::<usize>() + gaps > limit {
        match widths.iter_mut().max() {
            Some(widest) if *widest > NARROWEST => *widest -= 1,
            _ => return,
        }
    }
}

fn render_row(text: &mut String, cells: &[impl AsRef<str>], widths: &[usize]) {
    let wrapped: Vec<Vec<&str>> = cells
        .iter()
        .zip(widths)
        .map(|(cell, width)| wrap(cell.as_ref(), *width))
        .collect();
    let height = wrapped.iter().map(Vec::len).max().unwrap_or(0);
    for line in 0..height {
        let mut pending = 0;
        for (column, pieces) in wrapped.iter().enumerate() {
            let piece = pieces.get(line).copied().unwrap_or("");
            if !piece.is_empty() {
                text.extend(std::iter::repeat_n(' ', pending));
                text.push_str(piece);
                pending = 0;
            }
            pending += widths[column] - piece.chars().count() + GAP;
        }
        text.push('\n');
    }
}

/// Cuts a cell into pieces of at most `width` characters: after a blank or a separator of an image reference if there
/// is one after the first quarter, else anywhere.
fn wrap(cell: &str, width: usize) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = cell;
    while let Some((limit, _)) = rest.char_indices().nth(width) {
        let cut = rest[..limit]
            .rfind([' ', '/', '@', ':', ','])
            .map(|separator| separator + 1)
            .filter(|cut| *cut * 4 > limit)
            .unwrap_or(limit);
        pieces.push(rest[..cut].trim_end());
        rest = rest[cut..].trim_start();
    }
    pieces.push(rest);
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mk_table() -> Table {
        let mut table = Table::new(&["#", "IMAGE", "WHY"]);
        table.row([
            "1".into(),
            "docker.io/library/nginx:1.27".into(),
            "the only external registry".into(),
        ]);
        table.row(["2".into(), "quay.io/a/b:1".into()]);
        table
    }

    #[test]
    fn a_pipe_gets_each_row_on_one_line() {
        insta::assert_snapshot!(mk_table().render(None), @r"
        #  IMAGE                         WHY
        1  docker.io/library/nginx:1.27  the only external registry
        2  quay.io/a/b:1
        ");
    }

    #[test]
    fn a_terminal_gets_wrapped_cells_cut_at_separators() {
        insta::assert_snapshot!(mk_table().render(Some(40)), @r"
        #  IMAGE               WHY
        1  docker.io/library/  the only
           nginx:1.27          external registry
        2  quay.io/a/b:1
        ");
    }

    #[test]
    fn no_line_is_longer_than_the_terminal_while_columns_can_shrink() {
        for width in 24..80 {
            let text = mk_table().render(Some(width));
            assert!(
                text.lines().all(|line| line.chars().count() <= width),
                "width {width}:\n{text}"
            );
        }
    }

    #[test]
    fn a_word_without_separators_is_cut_anywhere() {
        assert_eq!(wrap("abcdefghij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(wrap("äöüäöü", 4), ["äöüä", "öü"]);
    }
}
