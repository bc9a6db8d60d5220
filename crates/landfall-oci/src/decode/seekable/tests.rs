#![expect(clippy::disallowed_methods, reason = "test set-up")]

use camino::Utf8PathBuf;
use landfall_core::bundle::seek_table::render_seek_table;
use proptest::prelude::*;

use super::*;

/// Returns a stored frame; its checksum is not the right one.
fn mk_stored(content: &[u8]) -> Vec<u8> {
    let size = content.len() as u64;
    let mut bytes = frame::render_header(u32::try_from(size).unwrap()).to_vec();
    for (number, block) in content.chunks(usize::try_from(frame::BLOCK_SIZE).unwrap()).enumerate() {
        bytes.extend(frame::render_block_header(size, number as u64 * frame::BLOCK_SIZE));
        bytes.extend(block);
    }
    bytes.extend([0; 4]);
    bytes
}

fn mk_compressed(content: &[u8]) -> Vec<u8> {
    zstd::encode_all(content, 1).unwrap()
}

fn mk_entry(frame: &[u8], content: usize) -> SeekEntry {
    SeekEntry {
        compressed: u32::try_from(frame.len()).unwrap(),
        content: u32::try_from(content).unwrap(),
        checksum: None,
    }
}

fn open(bytes: &[u8]) -> io::Result<Seekable> {
    let directory = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::try_from(directory.path().join("f.zst")).unwrap();
    std::fs::write(&path, bytes).unwrap();
    SeekableZstd::open(FileSet::open_read(&path).unwrap())
}

fn open_seekable(bytes: &[u8]) -> SeekableZstd {
    match open(bytes).unwrap() {
        Seekable::Yes(file) => file,
        Seekable::No(_) => panic!("it has a table"),
    }
}

fn read_from(file: &SeekableZstd, offset: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 50_000];
    loop {
        match file.read_at(&mut buffer, offset + bytes.len() as u64)? {
            0 => return Ok(bytes),
            read => bytes.extend(&buffer[..read]),
        }
    }
}

#[test]
fn stored_and_compressed_frames_are_read_from_any_position() {
    let content: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let skipped = b"\x50\x2a\x4d\x18\x02\x00\x00\x00ab".to_vec();
    let (first, rest) = content.split_at(400_000);
    let (second, third) = rest.split_at(200_000);
    let frames = [
        (mk_compressed(first), first.len()),
        (skipped, 0),
        (mk_stored(second), second.len()),
        (mk_compressed(third), third.len()),
    ];
    let entries: Vec<_> = frames
        .iter()
        .map(|(frame, content)| mk_entry(frame, *content))
        .collect();
    let mut bytes: Vec<u8> = frames.iter().flat_map(|(frame, _)| frame.clone()).collect();
    bytes.extend(render_seek_table(&entries));
    let file = open_seekable(&bytes);
    assert_eq!(file.length().unwrap(), content.len() as u64);
    for offset in [
        0,
        1,
        399_999,
        400_000,
        531_071,
        531_072,
        531_073,
        600_000,
        1_199_999,
        1_200_000,
        u64::MAX / 2,
    ] {
        let from = usize::try_from(offset).unwrap().min(content.len());
        assert!(read_from(&file, offset).unwrap() == content[from..], "{offset}");
    }
}

#[test]
fn a_file_without_a_table_or_with_huge_frames_is_left_to_one_pass() {
    let frame = mk_compressed(b"hello");
    let with_table = |content: u32| {
        let entry = SeekEntry {
            content,
            ..mk_entry(&frame, 0)
        };
        [frame.clone(), render_seek_table(&[entry])].concat()
    };
    for (case, bytes) in [
        ("no table", frame.clone()),
        ("nothing", Vec::new()),
        ("a frame above the limit", with_table(FRAME_MAX + 1)),
    ] {
        assert!(matches!(open(&bytes).unwrap(), Seekable::No(_)), "{case}");
    }
    // Five bytes do not take so many.
    let long = [vec![0; 1 << 20], render_seek_table(&[mk_entry(&[0; 1 << 20], 5)])].concat();
    assert!(matches!(open(&long).unwrap(), Seekable::No(_)));
}

#[test]
fn a_lying_table_is_an_error_and_takes_no_more_memory_than_it_states() {
    let frame = mk_compressed(&[7; 100_000]);
    let whole = [frame.clone(), render_seek_table(&[mk_entry(&frame, 100_000)])].concat();
    let cut = [&whole[..5], &whole[9..]].concat();
    assert_eq!(
        open(&cut).unwrap_err().to_string(),
        format!(
            "its seek table accounts for {} bytes before it, and there are {}",
            frame.len(),
            frame.len() - 4
        )
    );
    // Less and more than the frame has: a bomb does not get out of its entry.
    for claimed in [1, 99_999, 100_001, 1 << 20] {
        let file = open_seekable(&[frame.clone(), render_seek_table(&[mk_entry(&frame, claimed)])].concat());
        assert!(read_from(&file, 0).is_err(), "{claimed}");
    }
    // The border between two frames is wrong.
    let entries = [
        mk_entry(&frame[1..], 100_000),
        mk_entry(&[&frame[..], &[0]].concat(), 100_000),
    ];
    let file = open_seekable(&[frame.clone(), frame.clone(), render_seek_table(&entries)].concat());
    assert!(read_from(&file, 0).is_err());
    // A frame that is as long as a stored one, and is none.
    let content = vec![1; 20];
    let mut stored = mk_stored(&content);
    stored[0] ^= 1;
    let file = open_seekable(&[stored.clone(), render_seek_table(&[mk_entry(&stored, 20)])].concat());
    assert!(read_from(&file, 0).is_err());
}

#[test]
fn kept_frames_are_bounded_and_the_last_used_stay() {
    let mut cache = FrameCache::default();
    let half: Arc<[u8]> = vec![0; CACHE_MAX / 2].into();
    cache.put(0, half.clone());
    cache.put(1, half.clone());
    assert!(cache.get(0).is_some());
    cache.put(2, half);
    assert_eq!(
        (cache.get(1).is_some(), cache.get(0).is_some(), cache.size),
        (false, true, CACHE_MAX)
    );
}

proptest! {
    #[test]
    fn no_file_panics(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..60),
        sizes in proptest::collection::vec((0_u32..70, 0_u32..5_000_000), 0..4),
    ) {
        let entries: Vec<_> = sizes
            .iter()
            .map(|&(compressed, content)| SeekEntry { compressed, content, checksum: None })
            .collect();
        bytes.extend(render_seek_table(&entries));
        if let Ok(Seekable::Yes(file)) = open(&bytes) {
            drop(read_from(&file, 3));
        }
    }
}
