//! Random operations, scopes and keys, and which of them are none.

use proptest::prelude::*;

/// Texts around every limit, of letters of one to four bytes, with controls here and there, and bytes
/// that are no text.
pub fn parts() -> BoxedStrategy<Vec<u8>> {
    let length =
        prop_oneof![4 => 0..6_usize, 1 => 60..66_usize, 1 => 250..260_usize, 1 => 0..1000_usize];
    let letters = prop_oneof![
        8 => Just(vec!["a", "Z", "0", " ", "-"]),
        4 => Just(vec!["ä", "€", "😀", "a", "'", "\"", "\\", "{"]),
        2 => Just(vec!["a", "\u{1f}", "\u{7f}", "\u{80}", "\u{9f}", "\u{a0}", "\u{2028}", "\u{202e}", "\u{ad}"]),
    ];
    let text = (letters, length).prop_flat_map(|(letters, length)| {
        prop::collection::vec(prop::sample::select(letters), length)
            .prop_map(|pieces| pieces.concat().into_bytes())
    });
    prop_oneof![8 => text, 1 => any::<Vec<u8>>(), 1 => prop::collection::vec(0x20..=0xff_u8, 0..9)]
        .boxed()
}

/// The rule of a part, said once more: its length in bytes, and no control characters, as far as it is
/// text.
pub fn allowed(part: &[u8], least: usize, most: usize) -> bool {
    let controls = match std::str::from_utf8(part) {
        Ok(text) => text.chars().any(|c| matches!(c, '\0'..='\x1f' | '\x7f'..='\u{9f}')),
        Err(_) => part.iter().any(|byte| *byte < 0x20 || *byte == 0x7f),
    };
    (least..=most).contains(&part.len()) && !controls
}
