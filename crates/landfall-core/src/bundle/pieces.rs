//! Pieces of a large file [spec:bundles.pieces]: their names, and the set that belongs to any one of them.
//!
//! | made by | names | first number |
//! |---|---|---|
//! | Landfall, Palette, `split -d` | `X_part00`, any width; `split` writes `_part9000` after `_part89` | 0 |
//! | hauler | `X.001`, of an archive `X` | 1 |
//! | zarf | `X.part001`, and `X.part000` with a description in JSON | 0 |
//!
//! Reads no file: the caller brings the names in a directory, and later the sizes.

mod error;
mod plan;
mod zarf;

use std::collections::BTreeMap;

pub use self::error::PieceSetError;
pub use self::plan::{PlannedPiece, SplitPlanError, SplitSize, SplitSizeError, plan_pieces};
pub use self::zarf::ZarfDescription;

/// Limit of the pieces of a set. Each is an open file, and a process may have 1024 of these by default.
pub const PIECES_MAX: u64 = 512;
/// Limit of the digits of a number, so that it is a `u64`.
const DIGITS_MAX: usize = 18;
/// Endings of the files that hauler splits. Without this rule `app-1.2.345` would be a piece.
const ARCHIVE_ENDINGS: [&str; 7] = [".tar", ".tgz", ".gz", ".zst", ".xz", ".bz2", ".lz4"];

/// Form of the names of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PieceNaming {
    /// `X_part00`, by GNU split.
    Split,
    /// `X.001`, by hauler.
    Hauler,
    /// `X.part001`, by zarf. `X.part000` has no data.
    Zarf,
}

/// A name of a piece, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PieceName<'a> {
    /// The name of the whole file.
    pub whole: &'a str,
    pub naming: PieceNaming,
    /// The number as it is written.
    pub digits: &'a str,
}

/// Names of the files that together are one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PieceSet {
    /// The name of the whole file.
    pub whole: String,
    /// zarf's file with the description of the whole.
    pub description: Option<String>,
    /// The pieces with data, in order.
    pub pieces: Vec<String>,
}

impl PieceNaming {
    const ALL: [PieceNaming; 3] = [PieceNaming::Split, PieceNaming::Hauler, PieceNaming::Zarf];

    fn separator(self) -> &'static str {
        match self {
            PieceNaming::Split => "_part",
            PieceNaming::Hauler => ".",
            PieceNaming::Zarf => ".part",
        }
    }

    fn first_number(self) -> u64 {
        match self {
            PieceNaming::Split | PieceNaming::Zarf => 0,
            PieceNaming::Hauler => 1,
        }
    }
}

/// Takes a file's name apart. Returns `None` if it is not the name of a piece.
#[must_use]
pub fn parse_piece_name(name: &str) -> Option<PieceName<'_>> {
    let before_digits = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
    let digits = &name[before_digits.len()..];
    if digits.is_empty() || digits.len() > DIGITS_MAX {
        return None;
    }
    // zarf's separator ends like that of `split`, and begins like hauler's.
    let naming = PieceNaming::ALL
        .into_iter()
        .rfind(|naming| before_digits.ends_with(naming.separator()))?;
    let whole = before_digits.strip_suffix(naming.separator())?;
    let is_ours = match naming {
        PieceNaming::Split => true,
        PieceNaming::Zarf => is_three_digits(digits),
        PieceNaming::Hauler => is_three_digits(digits) && ARCHIVE_ENDINGS.iter().any(|ending| whole.ends_with(ending)),
    };
    (is_ours && !whole.is_empty()).then_some(PieceName { whole, naming, digits })
}

/// Returns true if `%03d` of Go writes a number like this.
fn is_three_digits(digits: &str) -> bool {
    digits.len() == 3 || digits.len() > 3 && !digits.starts_with('0')
}

/// Finds the set that a file belongs to, among the names in its directory. `name` is any piece, or the name of the whole
/// file if the directory has pieces in its place. Returns `None` if the file is no piece.
///
/// # Errors
/// If pieces are missing, two of them have the same number, or a name does not fit the numbering. A missing last piece
/// is not visible in names: the reader of the whole file finds it.
pub fn find_pieces<'n>(
    name: &str,
    listing: impl IntoIterator<Item = &'n str>,
) -> Result<Option<PieceSet>, PieceSetError> {
    let mut is_there = false;
    let mut by_naming: BTreeMap<PieceNaming, Vec<PieceName<'n>>> = BTreeMap::new();
    let asked = parse_piece_name(name);
    let whole = asked.map_or(name, |asked| asked.whole);
    for listed in listing {
        is_there |= listed == name;
        if let Some(piece) = parse_piece_name(listed).filter(|piece| piece.whole == whole) {
            by_naming.entry(piece.naming).or_default().push(piece);
        }
    }
    let (naming, pieces) = match asked {
        Some(asked) => (asked.naming, by_naming.remove(&asked.naming).unwrap_or_default()),
        None if is_there => return Ok(None),
        None if by_naming.len() > 1 => {
            return Err(PieceSetError::Ambiguous {
                whole: whole.to_owned(),
            });
        }
        None => match by_naming.pop_first() {
            Some(found) => found,
            None => return Ok(None),
        },
    };
    let asked = asked.filter(|_| !is_there).map(|piece| piece.digits);
    order(whole, naming, &pieces, asked).map(Some)
}

/// Orders the pieces of one set. `absent` are the digits of a piece that was asked for and is not there.
fn order(
    whole: &str,
    naming: PieceNaming,
    pieces: &[PieceName<'_>],
    absent: Option<&str>,
) -> Result<PieceSet, PieceSetError> {
    let texts = || pieces.iter().map(|piece| piece.digits).chain(absent);
    let numbering = Numbering::of(naming, texts());
    let name_of = |digits: &str| format!("{whole}{}{digits}", naming.separator());
    let mut by_number: BTreeMap<u64, &str> = BTreeMap::new();
    let foreign = |digits: &str| PieceSetError::Foreign {
        piece: name_of(digits),
        other: name_of(texts().min_by_key(|other| other.len()).unwrap_or_default()),
    };
    for digits in texts() {
        let number = numbering.number(digits).ok_or_else(|| foreign(digits))?;
        if let Some(other) = by_number.insert(number, digits) {
            return Err(PieceSetError::Doubled {
                pieces: [name_of(other), name_of(digits)],
            });
        }
    }
    if let Some((_, digits)) = by_number
        .iter()
        .find(|(number, digits)| numbering.digits(**number) != **digits)
    {
        return Err(foreign(digits));
    }
    let first = naming.first_number();
    if by_number.keys().next_back().is_some_and(|last| *last > PIECES_MAX) {
        return Err(PieceSetError::TooMany {
            whole: whole.to_owned(),
        });
    }
    let end = by_number.keys().next_back().map_or(first, |last| last + 1);
    let is_missing = |number: &u64| by_number.get(number).is_none_or(|digits| absent == Some(*digits));
    let missing: Vec<String> = (first..end)
        .filter(is_missing)
        .map(|number| name_of(&numbering.digits(number)))
        .collect();
    if !missing.is_empty() {
        return Err(PieceSetError::Missing {
            whole: whole.to_owned(),
            missing,
        });
    }
    let mut names: Vec<String> = by_number.range(first..).map(|(_, digits)| name_of(digits)).collect();
    let description = (naming == PieceNaming::Zarf && !names.is_empty()).then(|| names.remove(0));
    if names.is_empty() {
        return Err(PieceSetError::Missing {
            whole: whole.to_owned(),
            missing: vec![name_of(&numbering.digits(1))],
        });
    }
    Ok(PieceSet {
        whole: whole.to_owned(),
        description,
        pieces: names,
    })
}

/// Form of the numbers of one set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Numbering {
    /// At least this many digits, filled with zeros.
    Padded { width: usize },
    /// The numbers of GNU split, which begin with two digits and widen: `89` is followed by `9000`, `9899` by `990000`.
    Widening,
}

/// Width of the first numbers of GNU split.
const SPLIT_WIDTH: usize = 2;

impl Numbering {
    fn of<'d>(naming: PieceNaming, texts: impl Iterator<Item = &'d str> + Clone) -> Numbering {
        if naming != PieceNaming::Split {
            return Numbering::Padded { width: 3 };
        }
        let narrowest = texts.clone().map(str::len).min().unwrap_or(SPLIT_WIDTH);
        // A set of one width with such numbers would have more pieces than are read.
        let is_widened = |digits: &str| digits.len() > SPLIT_WIDTH && Numbering::Widening.number(digits).is_some();
        let begins_with_two = narrowest == SPLIT_WIDTH && texts.clone().any(is_widened);
        match begins_with_two || texts.clone().all(is_widened) {
            true => Numbering::Widening,
            false => Numbering::Padded { width: narrowest },
        }
    }

    /// Returns the number of a piece; `None` if the digits have another form.
    fn number(self, digits: &str) -> Option<u64> {
        match self {
            Numbering::Padded { .. } => digits.parse().ok(),
            Numbering::Widening => {
                let nines = digits.len().checked_sub(SPLIT_WIDTH).filter(|more| more % 2 == 0)? / 2;
                let (lead, rest) = digits.split_at_checked(nines)?;
                if lead.bytes().any(|digit| digit != b'9') || rest.starts_with('9') {
                    return None;
                }
                let before: u64 = (0..nines).map(|level| 9 * 10_u64.pow(level_exponent(level))).sum();
                Some(before + rest.parse::<u64>().ok()?)
            }
        }
    }

    /// Returns the digits of a number; the inverse of [`Numbering::number`].
    fn digits(self, number: u64) -> String {
        match self {
            Numbering::Padded { width } => format!("{number:0width$}"),
            Numbering::Widening => {
                let (mut level, mut rest) = (0, number);
                loop {
                    let size = 9 * 10_u64.pow(level_exponent(level));
                    if rest < size {
                        let width = SPLIT_WIDTH + level;
                        return format!("{}{rest:0width$}", "9".repeat(level));
                    }
                    rest -= size;
                    level += 1;
                }
            }
        }
    }
}

/// Returns the exponent of the count of a level's numbers: 90 have two digits, 900 begin with one more nine, and so on.
fn level_exponent(level: usize) -> u32 {
    u32::try_from(level + SPLIT_WIDTH - 1).unwrap_or(u32::MAX)
}

/// Checks the sizes of the pieces of a set, in order, and returns their sum. All but the last have the same size in
/// every form; `split -n` makes some of them a byte longer.
///
/// # Errors
/// If a piece is empty, or one before the last was cut short or belongs to another set.
pub fn check_piece_sizes(pieces: &[(String, u64)]) -> Result<u64, PieceSetError> {
    let Some((first, expected)) = pieces.first() else {
        return Ok(0);
    };
    let before_last = &pieces[..pieces.len() - 1];
    for (piece, size) in before_last {
        if size.abs_diff(*expected) > 1 || *size == 0 {
            return Err(PieceSetError::Size {
                piece: piece.clone(),
                size: *size,
                other: first.clone(),
                expected: *expected,
            });
        }
    }
    match pieces.last() {
        Some((piece, 0)) if !before_last.is_empty() => Err(PieceSetError::Empty { piece: piece.clone() }),
        _ => {
            let sum = pieces.iter().try_fold(0_u64, |sum, (_, size)| sum.checked_add(*size));
            sum.ok_or_else(|| PieceSetError::TooMany { whole: first.clone() })
        }
    }
}

/// Returns the pieces of another set under the same name, which a reader would take for pieces of the planned one.
#[must_use]
pub fn stale_pieces<'n>(planned: &[PlannedPiece], listing: impl IntoIterator<Item = &'n str>) -> Vec<&'n str> {
    let is_planned = |name: &str| planned.iter().any(|piece| piece.name == name);
    let whole_of = |name: &'n str| parse_piece_name(name).map(|piece| piece.whole);
    let wholes: Vec<&str> = planned
        .iter()
        .filter_map(|piece| parse_piece_name(&piece.name).map(|name| name.whole))
        .collect();
    listing
        .into_iter()
        .filter(|name| !is_planned(name) && whole_of(name).is_some_and(|whole| wholes.contains(&whole)))
        .collect()
}

#[cfg(test)]
mod tests;
