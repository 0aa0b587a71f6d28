//! Whether a JPEG file is whole.
//!
//! The decoder fills what is missing with gray and says nothing, so a picture cut short would be
//! trained on. The markers tell (ITU-T T.81, annex B).

const RST0: u8 = 0xd0;
const RST7: u8 = 0xd7;
const END_OF_IMAGE: u8 = 0xd9;
const TEMPORARY: u8 = 0x01;

/// Whether the file, which starts with the start marker, goes on to its end marker.
///
/// Segments are stepped over by their length: a thumbnail inside one has an end marker of its own.
pub fn is_whole(bytes: &[u8]) -> bool {
    let mut at = 2;
    while let Some(found) = bytes.get(at..).and_then(|rest| rest.iter().position(|&b| b == 0xff)) {
        at += found;
        match bytes.get(at + 1).copied() {
            Some(END_OF_IMAGE) => return true,
            // A fill byte, which may stand before any marker.
            Some(0xff) => at += 1,
            // A byte of data that happens to be 0xff, or a marker without a segment.
            Some(0 | TEMPORARY | RST0..=RST7) => at += 2,
            Some(_) => {
                let Some(&[high, low]) = bytes.get(at + 2..at + 4) else { return false };
                at += 2 + usize::from(u16::from_be_bytes([high, low])).max(2);
            }
            None => return false,
        }
    }
    false
}
