//! Stored zstd frames (RFC 8878): frames of raw blocks, whose bytes are those of the content. The place of every byte is
//! arithmetic, so that blobs are written in parallel and read in place.
//!
//! A frame has a header of 10 bytes, then blocks of 128 KiB with a header of 3 bytes each, then the low 32 bits of the
//! content's XXH64. The window is 128 KiB and the frame is no single segment: a decoder needs hardly any memory (K3s gives
//! it 32 MiB).

/// Content of a full block in bytes: the largest that a window of 128 KiB allows.
pub const BLOCK_SIZE: u64 = 128 * 1024;
/// Largest content of one frame in bytes, the limit of the seekable format. Larger blobs take several frames.
pub const FRAME_CONTENT_MAX: u64 = 1024 * 1024 * 1024;
/// Length of a frame's header in bytes.
pub const HEADER_LENGTH: u64 = 10;
/// Length of a block's header in bytes.
pub const BLOCK_HEADER_LENGTH: u64 = 3;
/// Length of a frame's checksum in bytes.
pub const CHECKSUM_LENGTH: u64 = 4;

/// First bytes of a zstd frame.
pub const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Frame header descriptor: a content size of 4 bytes and a checksum.
const DESCRIPTOR: u8 = 0x84;
/// Window descriptor of 128 KiB.
const WINDOW: u8 = 0x38;

/// Returns the header of a stored frame.
#[must_use]
pub fn render_header(content: u32) -> [u8; 10] {
    let [a, b, c, d] = MAGIC;
    let [e, f, g, h] = content.to_le_bytes();
    [a, b, c, d, DESCRIPTOR, WINDOW, e, f, g, h]
}

/// Returns the header of the block that begins at `at` of a content of this size.
#[must_use]
pub fn render_block_header(content: u64, at: u64) -> [u8; 3] {
    let length = (content - at).min(BLOCK_SIZE);
    let is_last = u64::from(at + length == content);
    let [a, b, c, ..] = ((length << 3) | is_last).to_le_bytes();
    [a, b, c]
}

/// Returns the number of blocks of a frame: an empty frame has one.
fn block_count(content: u64) -> u64 {
    content.div_ceil(BLOCK_SIZE).max(1)
}

/// Returns the length of a stored frame in bytes.
#[must_use]
pub fn frame_length(content: u64) -> u64 {
    HEADER_LENGTH + content + BLOCK_HEADER_LENGTH * block_count(content) + CHECKSUM_LENGTH
}

/// Returns the place of a byte of the content, from the frame's beginning.
#[must_use]
pub fn position_in_frame(at: u64) -> u64 {
    HEADER_LENGTH + (at / BLOCK_SIZE + 1) * BLOCK_HEADER_LENGTH + at
}

/// Returns the number of frames that hold a blob.
#[must_use]
pub fn frame_count(size: u64) -> u64 {
    size.div_ceil(FRAME_CONTENT_MAX).max(1)
}

/// Returns the contents of the frames that hold a blob: all but the last are full.
pub fn split_frames(size: u64) -> impl Iterator<Item = u64> {
    (0..frame_count(size)).map(move |number| (size - number * FRAME_CONTENT_MAX).min(FRAME_CONTENT_MAX))
}

/// Returns the content of the frame with this byte of a blob.
#[must_use]
pub fn content_at(size: u64, at: u64) -> u64 {
    (size - at / FRAME_CONTENT_MAX * FRAME_CONTENT_MAX).min(FRAME_CONTENT_MAX)
}

/// Returns the length of all frames that hold a blob. It takes the same time for any size: a document may claim one of
/// exbibytes.
#[must_use]
pub fn stored_length(size: u64) -> u64 {
    let full = frame_count(size) - 1;
    full * frame_length(FRAME_CONTENT_MAX) + frame_length(size - full * FRAME_CONTENT_MAX)
}

/// Returns the place of a blob's byte, from the beginning of its first frame.
#[must_use]
pub fn position_in_frames(at: u64) -> u64 {
    let full = at / FRAME_CONTENT_MAX;
    full * frame_length(FRAME_CONTENT_MAX) + position_in_frame(at % FRAME_CONTENT_MAX)
}

/// Returns the number of bytes from `at` of a blob of this size that are stored without a header between them.
#[must_use]
pub fn contiguous_from(size: u64, at: u64) -> u64 {
    (BLOCK_SIZE - at % BLOCK_SIZE).min(size - at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_stored_frame_has_the_bytes_of_the_specification() {
        assert_eq!(
            render_header(0x0102_0304),
            [0x28, 0xb5, 0x2f, 0xfd, 0x84, 0x38, 4, 3, 2, 1]
        );
        // Raw blocks: type 0, the size from bit 3 on, bit 0 set on the last one.
        assert_eq!(render_block_header(BLOCK_SIZE + 5, 0), [0x00, 0x00, 0x10]);
        assert_eq!(render_block_header(BLOCK_SIZE + 5, BLOCK_SIZE), [(5 << 3) | 1, 0, 0]);
        assert_eq!(render_block_header(0, 0), [1, 0, 0]);
        for (content, length) in [
            (0, 17),
            (1, 18),
            (BLOCK_SIZE, BLOCK_SIZE + 17),
            (BLOCK_SIZE + 1, BLOCK_SIZE + 21),
            (FRAME_CONTENT_MAX, FRAME_CONTENT_MAX + 24_590),
        ] {
            assert_eq!(frame_length(content), length, "{content}");
        }
    }

    #[test]
    fn places_step_over_the_headers() {
        assert_eq!(position_in_frame(0), 13);
        assert_eq!(position_in_frame(BLOCK_SIZE - 1), 13 + BLOCK_SIZE - 1);
        assert_eq!(position_in_frame(BLOCK_SIZE), 16 + BLOCK_SIZE);
        let second = frame_length(FRAME_CONTENT_MAX);
        assert_eq!(position_in_frames(FRAME_CONTENT_MAX), second + 13);
        assert_eq!(stored_length(FRAME_CONTENT_MAX + 1), second + 18);
        assert_eq!(split_frames(0).collect::<Vec<_>>(), [0]);
        assert_eq!(split_frames(FRAME_CONTENT_MAX).collect::<Vec<_>>(), [FRAME_CONTENT_MAX]);
        assert_eq!(
            split_frames(FRAME_CONTENT_MAX * 2 + 7).collect::<Vec<_>>(),
            [FRAME_CONTENT_MAX, FRAME_CONTENT_MAX, 7]
        );
        for size in [0, 1, FRAME_CONTENT_MAX, 5 * FRAME_CONTENT_MAX + 1] {
            assert_eq!(frame_count(size), split_frames(size).count() as u64, "{size}");
            let sum: u64 = split_frames(size).map(frame_length).sum();
            assert_eq!(stored_length(size), sum, "{size}");
        }
        // The largest that a document may claim: no frame is counted one by one.
        assert_eq!(frame_count(1 << 62), 1 << 32);
        assert_eq!(stored_length(1 << 62), frame_length(FRAME_CONTENT_MAX) << 32);
    }

    proptest! {
        #[test]
        fn the_last_byte_is_right_before_the_checksum(size in 1..5_u64 * FRAME_CONTENT_MAX) {
            prop_assert_eq!(position_in_frames(size - 1) + 1 + CHECKSUM_LENGTH, stored_length(size));
        }

        #[test]
        fn bytes_are_contiguous_up_to_the_next_block(size in 1..3_u64 * FRAME_CONTENT_MAX, part in 0.0..1.0_f64) {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss,
                reason = "any place inside the size will do")]
            let at = ((size as f64 * part) as u64).min(size - 1);
            let length = contiguous_from(size, at);
            prop_assert!(length >= 1 && at + length <= size);
            prop_assert_eq!(position_in_frames(at + length - 1), position_in_frames(at) + length - 1);
            if at + length < size {
                prop_assert!(position_in_frames(at + length) > position_in_frames(at) + length);
            }
        }
    }
}
