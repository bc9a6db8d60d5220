use proptest::prelude::*;

use super::*;
use crate::failure::Hint;

fn find(name: &str, listing: &[&str]) -> Result<Option<PieceSet>, String> {
    find_pieces(name, listing.iter().copied()).map_err(|error| error.to_string())
}

fn pieces_of(name: &str, listing: &[&str]) -> Vec<String> {
    find(name, listing).expect("a set").expect("pieces").pieces
}

fn mk_size(bytes: u64) -> SplitSize {
    bytes.to_string().parse().unwrap()
}

#[test]
fn any_piece_names_the_whole_set_in_its_order() {
    let many: Vec<String> = (0..90)
        .map(|number| format!("X.zst_part{number:02}"))
        .chain((0..3).map(|number| format!("X.zst_part9{number:03}")))
        .collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let hundred: Vec<String> = (0..150).map(|number| format!("X_part{number:03}")).collect();
    let hundred: Vec<&str> = hundred.iter().map(String::as_str).collect();
    for set in [
        &["c.zst_part00"][..],
        &["c.zst_part00", "c.zst_part01", "c.zst_part02"],
        &many,
        &hundred,
        &["X_part0", "X_part1"],
        &["haul.tar.zst.001", "haul.tar.zst.002"],
    ] {
        let mut listing = set.to_vec();
        listing.reverse();
        listing.extend([
            "other_part07",
            "c.zst_part00.partial",
            "X.zst",
            "haul.tar.zst.foo",
            "x_part",
        ]);
        for name in set {
            assert_eq!(pieces_of(name, &listing), set, "{name}");
        }
    }
    let zarf = ["p.tar.zst.part000", "p.tar.zst.part002", "p.tar.zst.part001"];
    let found = find("p.tar.zst.part002", &zarf).unwrap().unwrap();
    assert_eq!(found.description.as_deref(), Some("p.tar.zst.part000"));
    assert_eq!(found.pieces, ["p.tar.zst.part001", "p.tar.zst.part002"]);
    assert_eq!(found.whole, "p.tar.zst");
}

#[test]
fn the_name_of_the_whole_file_finds_pieces_only_in_its_place() {
    let pieces = ["X_part00", "X_part01"];
    assert_eq!(pieces_of("X", &pieces), pieces);
    for (name, listing) in [
        ("X", &["X", "X_part00"][..]),
        ("X", &["Y_part00"]),
        ("app-1.2.345", &["app-1.2.345", "app-1.2.346"]),
        ("X.tar.zst", &[]),
        ("_part00", &["_part00"]),
        ("X_part1234567890123456789", &[]),
    ] {
        assert_eq!(find(name, listing), Ok(None), "{name}");
    }
    assert_eq!(
        find("X.tar", &["X.tar_part00", "X.tar.001"]).unwrap_err(),
        "`X.tar` is there in pieces of several tools"
    );
}

#[test]
fn a_set_with_gaps_or_doubles_names_them() {
    let far: Vec<String> = (30..60).map(|number| format!("X_part{number}")).collect();
    let far: Vec<&str> = far.iter().map(String::as_str).collect();
    let without_first: Vec<&str> = vec!["X_part9000", "X_part9001"];
    for (name, listing, expected) in [
        (
            "X_part00",
            &["X_part00", "X_part02"][..],
            "`X` is not complete: `X_part01` is missing",
        ),
        (
            "X_part02",
            &["X_part02"],
            "`X` is not complete: `X_part00`, `X_part01` are missing",
        ),
        (
            "X_part03",
            &["X_part00"],
            "`X` is not complete: `X_part01`, `X_part02`, `X_part03` are missing",
        ),
        ("X_part00", &[], "`X` is not complete: `X_part00` is missing"),
        (
            "X_part30",
            &far,
            "`X` is not complete: `X_part00`, `X_part01`, `X_part02`, `X_part03`, `X_part04`, `X_part05`, `X_part06`, \
             `X_part07` and 22 more are missing",
        ),
        (
            "X_part9001",
            &without_first,
            "`X` is not complete: `X_part00`, `X_part01`, `X_part02`, `X_part03`, `X_part04`, `X_part05`, `X_part06`, \
             `X_part07` and 82 more are missing",
        ),
        (
            "h.tar.002",
            &["h.tar.002"],
            "`h.tar` is not complete: `h.tar.001` is missing",
        ),
        (
            "p.part001",
            &["p.part001"],
            "`p` is not complete: `p.part000` is missing",
        ),
        (
            "p.part000",
            &["p.part000"],
            "`p` is not complete: `p.part001` is missing",
        ),
        (
            "X_part01",
            &["X_part00", "X_part01", "X_part001"],
            "`X_part01`, `X_part001` are the same piece",
        ),
        (
            "X_part00",
            &["X_part00", "X_part01", "X_part002"],
            "`X_part002` is no piece of the set of `X_part00`: it is numbered in another way",
        ),
        (
            "X_part00",
            &["X_part00", "X_part90", "X_part9000"],
            "`X_part90` is no piece of the set of `X_part00`: it is numbered in another way",
        ),
        (
            "X_part00",
            &["X_part00", "X_part999999"],
            "`X` has more than 512 pieces",
        ),
        (
            "h.tar.001",
            &["h.tar.001", "h.tar.999999999999999999"],
            "`h.tar` has more than 512 pieces",
        ),
    ] {
        assert_eq!(find(name, listing).unwrap_err(), expected, "{name} of {listing:?}");
    }
}

/// Names that `split --numeric-suffixes` of coreutils 9.1 writes.
#[test]
fn numbers_widen_as_those_of_split() {
    for (number, digits) in [
        (0, "00"),
        (89, "89"),
        (90, "9000"),
        (189, "9099"),
        (989, "9899"),
        (990, "990000"),
        (9_989, "998999"),
        (9_990, "99900000"),
    ] {
        assert_eq!(Numbering::Widening.digits(number), digits);
        assert_eq!(Numbering::Widening.number(digits), Some(number));
    }
    for digits in ["90", "9900", "89000", "900", "8000", ""] {
        assert_eq!(Numbering::Widening.number(digits), None, "{digits}");
    }
}

#[test]
fn sizes_show_a_piece_that_was_cut_short() {
    let sized = |sizes: &[u64]| {
        let pieces = sizes
            .iter()
            .enumerate()
            .map(|(number, size)| (format!("p{number}"), *size));
        check_piece_sizes(&pieces.collect::<Vec<_>>()).map_err(|error| error.to_string())
    };
    for (sizes, total) in [
        (&[][..], 0),
        (&[0], 0),
        (&[5], 5),
        (&[5, 5, 2], 12),
        (&[4, 3, 3], 10),
        (&[3, 3, 5], 11),
    ] {
        assert_eq!(sized(sizes), Ok(total), "{sizes:?}");
    }
    for (sizes, expected) in [
        (
            &[5, 2, 5][..],
            "`p1` has 2 bytes where `p0` has 5: it was cut short, or belongs to another set",
        ),
        (&[5, 5, 0], "`p2` is empty: it was cut short"),
        (
            &[0, 0, 5],
            "`p0` has 0 bytes where `p0` has 0: it was cut short, or belongs to another set",
        ),
        (&[u64::MAX, u64::MAX], "`p0` has more than 512 pieces"),
    ] {
        assert_eq!(sized(sizes), Err(expected.to_owned()), "{sizes:?}");
    }
}

#[test]
fn the_description_of_zarf_is_compared_with_its_pieces() {
    let parse = |text: &str| ZarfDescription::parse("p.part000", text.as_bytes());
    let described = parse(r#"{"sha256Sum":"ab","bytes":20,"count":2}"#).unwrap();
    assert_eq!(described.sha256, "ab");
    let check = |pieces, bytes| {
        described
            .check("p.part000", pieces, bytes)
            .map_err(|error| error.to_string())
    };
    assert_eq!(check(2, 20), Ok(()));
    assert_eq!(
        check(1, 20),
        Err("`p.part000` states 2 pieces, and 1 are there".to_owned())
    );
    assert_eq!(
        check(2, 19),
        Err("`p.part000` states 20 bytes, and the pieces have 19".to_owned())
    );
    let refused = PieceSetError::Description {
        file: "p.part000".to_owned(),
    };
    assert_eq!(parse("data").unwrap_err(), refused);
    assert_eq!(parse("{}").unwrap().check("p.part000", 0, 0), Err(refused));
}

#[test]
fn sizes_of_pieces_have_units() {
    for (text, bytes) in [
        ("3GB", 3_000_000_000),
        ("fat32", 4_294_967_295),
        ("FAT32", 4_294_967_295),
        ("700MiB", 734_003_200),
        (" 64 kB ", 64_000),
        ("1TiB", 1 << 40),
        ("12", 12),
        ("12B", 12),
        ("3G", 3_000_000_000),
        ("1.5GB", 1_500_000_000),
    ] {
        assert_eq!(text.parse::<SplitSize>().map(SplitSize::bytes), Ok(bytes), "{text}");
    }
    for text in [
        "",
        "0",
        "GB",
        "-1",
        "1.0000000001GB",
        "99999999999TB",
        "3 G B",
        "\u{663}GB",
    ] {
        let error = text.parse::<SplitSize>().unwrap_err();
        assert_eq!(error.text, text);
    }
}

#[test]
fn planned_pieces_are_found_again() {
    for (total, size, names) in [(0, 5, &["f"][..]), (5, 5, &["f"]), (6, 5, &["f_part00", "f_part01"])] {
        let planned = plan_pieces("f", total, mk_size(size)).unwrap();
        let planned_names: Vec<&str> = planned.iter().map(|piece| piece.name.as_str()).collect();
        assert_eq!(planned_names, names, "{total} by {size}");
    }
    for count in [2, 90, 91, 100, 101, PIECES_MAX] {
        let planned = plan_pieces("f.tar.zst", count * 10 - 3, mk_size(10)).unwrap();
        let names: Vec<&str> = planned.iter().map(|piece| piece.name.as_str()).collect();
        assert!(names.is_sorted(), "{count}");
        assert_eq!(pieces_of(names[0], &names), names, "{count}");
        assert_eq!(planned.iter().map(|piece| piece.size).sum::<u64>(), count * 10 - 3);
    }
    let error = plan_pieces("f", 5_000_000_000, mk_size(1)).unwrap_err();
    assert_eq!(error.hint().as_deref(), Some("use pieces of at least 10 MB"));
    let planned = plan_pieces("f", 20, mk_size(10)).unwrap();
    let there = ["f", "f_part00", "f_part02", "f_part0003", "f.zst.001", "g_part00"];
    assert_eq!(stale_pieces(&planned, there), ["f_part02", "f_part0003"]);
}

proptest! {
    #[test]
    fn no_listing_panics_and_a_found_set_is_in_the_listing(
        names in proptest::collection::vec("(a|a.tar)(_part|.part|.)[0-9]{1,6}", 0..12),
    ) {
        let listing: Vec<&str> = names.iter().map(String::as_str).collect();
        for name in &listing {
            if let Ok(Some(set)) = find_pieces(name, listing.iter().copied()) {
                prop_assert!(set.pieces.iter().chain(&set.description).all(|piece| names.contains(piece)));
                prop_assert!(set.pieces.iter().chain(&set.description).any(|piece| piece == name));
            }
        }
    }

    #[test]
    fn widening_numbers_are_ordered_as_their_texts(left in 0_u64..200_000, right in 0_u64..200_000) {
        let texts = [left, right].map(|number| Numbering::Widening.digits(number));
        prop_assert_eq!(texts[0].cmp(&texts[1]), left.cmp(&right));
        prop_assert_eq!(Numbering::Widening.number(&texts[0]), Some(left));
    }
}
