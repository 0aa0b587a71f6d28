//! Checksums against accidents: FNV-1a (Fowler, Noll, Vo), of words of 64 bits instead of bytes.
//!
//! Each step can be undone, so a change of a single word always shows.

/// The words of a row of bytes; the last is filled with zeros.
pub fn words(bytes: &[u8]) -> impl Iterator<Item = u64> {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    words.iter().copied().chain([last]).map(u64::from_le_bytes)
}

/// The hash of a row of words.
pub fn fnv1a(words: impl Iterator<Item = u64>) -> u64 {
    words.fold(0xcbf2_9ce4_8422_2325, |hash, word| (hash ^ word).wrapping_mul(0x0100_0000_01b3))
}
