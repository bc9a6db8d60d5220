//! Tables of text. In a pipe each row is one line. On a terminal text is wrapped between words, and a reference, a path or
//! a digest stays in one piece, so that it can be selected. Tables have no colour and no frame, so that `grep` works.

/// Space between two columns, in characters.
const GAP: usize = 2;
/// Smallest width to which a column is narrowed, in characters.
const NARROWEST: usize = 8;
/// Shortest start of references, in characters, that becomes a note.
const SHORTEST_PREFIX: usize = 12;

/// Form of a table on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableForm {
    /// Width of the terminal; `None` if each row is one line, however long.
    pub width: Option<usize>,
    pub has_headings: bool,
}

impl TableForm {
    #[must_use]
    pub fn of_width(width: Option<usize>) -> TableForm {
        TableForm {
            width,
            has_headings: true,
        }
    }
}

/// Rows of cells under headings, and the notes that cells refer to.
#[derive(Debug, Clone)]
pub struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    notes: Vec<String>,
}

impl Table {
    /// Makes an empty table with these headings.
    #[must_use]
    pub fn new(headings: &[&'static str]) -> Table {
        Table {
            headings: headings.to_vec(),
            rows: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Adds a row; missing cells are empty.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let mut cells: Vec<String> = cells.into_iter().collect();
        cells.resize(self.headings.len(), String::new());
        self.rows.push(cells);
    }

    /// Returns the mark of a note, `[1]`. A note that many rows refer to is written once, below the table.
    pub fn note(&mut self, text: &str) -> String {
        let index = self.notes.iter().position(|note| note == text).unwrap_or_else(|| {
            self.notes.push(text.to_owned());
            self.notes.len() - 1
        });
        mark(index)
    }

    #[must_use]
    pub fn has_notes(&self) -> bool {
        !self.notes.is_empty()
    }

    /// Renders the table with its headings, as [`Table::render_as`] does.
    #[must_use]
    pub fn render(&self, width: Option<usize>) -> String {
        self.render_as(TableForm::of_width(width))
    }

    /// Renders the table, then an empty line and the notes, if it has some.
    ///
    /// If the rows are too long for the width, starts that all references of a column share become notes. Then cells are
    /// wrapped between words. A line is longer than the width only if its words are.
    #[must_use]
    pub fn render_as(&self, form: TableForm) -> String {
        let mut table = self.clone();
        let mut widths = table.natural_widths(form);
        if let Some(width) = form.width {
            table.shorten(form, width);
            widths = table.natural_widths(form);
            narrow(&mut widths, &table.longest_words(form), width);
        }
        let mut text = String::new();
        if form.has_headings {
            render_row(&mut text, &table.headings, &widths);
        }
        for row in &table.rows {
            render_row(&mut text, row, &widths);
        }
        if !table.notes.is_empty() {
            text.push('\n');
        }
        for (index, note) in table.notes.iter().enumerate() {
            text.push_str(&format!("{} {note}\n", mark(index)));
        }
        text
    }

    /// Moves shared starts of references into notes until the rows fit.
    fn shorten(&mut self, form: TableForm, limit: usize) {
        for column in 0..self.headings.len() {
            if total(&self.natural_widths(form)) <= limit {
                return;
            }
            let Some(prefix) = self.shared_prefix(column) else {
                continue;
            };
            let mark = self.note(&format!("{prefix}…"));
            for row in &mut self.rows {
                if let Some(rest) = row[column].strip_prefix(&prefix) {
                    row[column] = format!("{mark}{rest}");
                }
            }
        }
    }

    /// Returns the start, up to a `/`, that all references of a column share, if it is long enough.
    fn shared_prefix(&self, column: usize) -> Option<String> {
        let cells = self.rows.iter().map(|row| row[column].as_str());
        let mut references = cells.filter(|cell| cell.contains('/') && !cell.contains(' '));
        let first = references.next()?;
        let mut shared = first;
        let mut are_several = false;
        for reference in references {
            are_several |= reference != first;
            let same = shared
                .bytes()
                .zip(reference.bytes())
                .take_while(|(a, b)| a == b)
                .count();
            shared = &shared[..shared.floor_char_boundary(same)];
        }
        let prefix = &shared[..=shared.rfind('/')?];
        (are_several && prefix.chars().count() >= SHORTEST_PREFIX).then(|| prefix.to_owned())
    }

    fn natural_widths(&self, form: TableForm) -> Vec<usize> {
        self.widths_by(form, |cell| cell.chars().count())
    }

    fn longest_words(&self, form: TableForm) -> Vec<usize> {
        self.widths_by(form, |cell| {
            let words = cell.split(' ').map(|word| word.chars().count());
            words.max().unwrap_or_default()
        })
    }

    /// Returns the largest measure of each column's cells.
    fn widths_by(&self, form: TableForm, measure: impl Fn(&str) -> usize) -> Vec<usize> {
        let heading = |heading: &&str| if form.has_headings { measure(heading) } else { 0 };
        let mut widths: Vec<usize> = self.headings.iter().map(heading).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(measure(cell));
            }
        }
        widths
    }
}

fn mark(index: usize) -> String {
    format!("[{}]", index + 1)
}

/// Returns the length of a row with these widths.
fn total(widths: &[usize]) -> usize {
    widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1)
}

/// Narrows the widest column that has several words, repeatedly, until the table fits, so that short columns stay whole.
fn narrow(widths: &mut [usize], longest_words: &[usize], limit: usize) {
    while total(widths) > limit {
        let can_shrink = |(width, word): &(&mut usize, &usize)| **width > NARROWEST.max(**word);
        let widest = widths
            .iter_mut()
            .zip(longest_words)
            .filter(can_shrink)
            .map(|(width, _)| width)
            .max();
        match widest {
            Some(widest) => *widest -= 1,
            None => return,
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

/// Cuts a cell between words into pieces of at most `width` characters. No word may be longer.
fn wrap(cell: &str, width: usize) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = cell;
    while let Some((limit, last)) = rest.char_indices().nth(width) {
        let cut = match last {
            ' ' => limit,
            _ => rest[..limit].rfind(' ').unwrap_or(limit),
        };
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

    fn mk_plan() -> Table {
        let mut table = Table::new(&["IMAGE", "PULLED FROM", "WHY"]);
        let why = table.note("the only external registry");
        for image in ["docker.io/library/nginx:1.27", "quay.io/a/b:1"] {
            table.row([
                image.to_owned(),
                format!("harbor.example.com/edge/spectro-images/{image}"),
                why.clone(),
            ]);
        }
        table.row(["docker.io/c:1".to_owned(), "?".to_owned(), String::new()]);
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
    fn a_terminal_gets_cells_wrapped_between_words() {
        insta::assert_snapshot!(mk_table().render(Some(50)), @r"
        #  IMAGE                         WHY
        1  docker.io/library/nginx:1.27  the only external
                                         registry
        2  quay.io/a/b:1
        ");
    }

    #[test]
    fn no_word_is_cut_and_no_line_is_longer_than_the_terminal_unless_its_words_are() {
        let shortest = "1  docker.io/library/nginx:1.27  external".len();
        for width in 10..80 {
            let text = mk_table().render(Some(width));
            assert!(text.contains("docker.io/library/nginx:1.27"), "width {width}:\n{text}");
            let longest = text.lines().map(|line| line.chars().count()).max();
            assert!(longest <= Some(width.max(shortest)), "width {width}:\n{text}");
        }
    }

    #[test]
    fn start_that_all_references_share_becomes_a_note_if_rows_are_too_long() {
        insta::assert_snapshot!(mk_plan().render(Some(80)), @r"
        IMAGE                         PULLED FROM                      WHY
        docker.io/library/nginx:1.27  [2]docker.io/library/nginx:1.27  [1]
        quay.io/a/b:1                 [2]quay.io/a/b:1                 [1]
        docker.io/c:1                 ?

        [1] the only external registry
        [2] harbor.example.com/edge/spectro-images/…
        ");
        for width in [None, Some(200)] {
            insta::allow_duplicates! {
                insta::assert_snapshot!(mk_plan().render(width), @r"
                IMAGE                         PULLED FROM                                                          WHY
                docker.io/library/nginx:1.27  harbor.example.com/edge/spectro-images/docker.io/library/nginx:1.27  [1]
                quay.io/a/b:1                 harbor.example.com/edge/spectro-images/quay.io/a/b:1                 [1]
                docker.io/c:1                 ?

                [1] the only external registry
                ");
            }
        }
    }

    #[test]
    fn table_without_headings_is_as_wide_as_its_cells() {
        let mut table = Table::new(&["REPOSITORY", "TAG"]);
        table.row(["a".to_owned(), "1".to_owned()]);
        let form = TableForm {
            width: None,
            has_headings: false,
        };
        assert_eq!(table.render_as(form), "a  1\n");
    }

    #[test]
    fn cells_of_many_bytes_a_character_share_whole_characters() {
        let mut table = Table::new(&["IMAGE"]);
        for name in ["registry.example/ä/é:1", "registry.example/ä/è:1"] {
            table.row([name.to_owned()]);
        }
        insta::assert_snapshot!(table.render(Some(10)), @r"
        IMAGE
        [1]é:1
        [1]è:1

        [1] registry.example/ä/…
        ");
    }
}
