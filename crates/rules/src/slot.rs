//! Whose data a row is, as a number: what is of one owner has one slot, whatever the operation, and a
//! slot is on one node.
//!
//! Shards are by jump consistent hash: John Lamping and Eric Veach, "A Fast, Minimal Memory,
//! Consistent Hash Algorithm", 2014, <https://arxiv.org/abs/1406.2294>.

use sha2::{Digest, Sha256};

/// How many slots there are.
pub const SLOTS: u16 = 16_384;

/// Whose data it is: the scope's, where there is one, and else the key's own.
#[must_use]
pub fn owner<'a>(scope: &'a [u8], key: &'a [u8]) -> &'a [u8] {
    if scope.is_empty() { key } else { scope }
}

/// The slot of an owner, `0..SLOTS`: the first two bytes of SHA-256 over its bytes in UTF-8, big
/// endian, without the two highest bits.
#[must_use]
pub fn of(owner: &[u8]) -> u16 {
    let digest = Sha256::digest(owner);
    u16::from_be_bytes([digest[0], digest[1]]) % SLOTS
}

/// The shard of a slot, `0..shards`; 0 shards answer like 1. More shards than slots leave some empty.
#[must_use]
pub fn shard(slot: u16, shards: u32) -> u32 {
    jump(u64::from(slot), shards)
}

/// The bucket, `0..shards`, that `key` belongs to.
///
/// When `shards` grows from n to n + 1, about 1/(n + 1) of the keys move, all of them to the new
/// bucket; nothing moves between the old ones.
///
/// The paper's arithmetic is one division and one multiplication of IEEE doubles, which are the
/// same on every machine, so an answer may be stored.
#[must_use]
// The product is the paper's own truncation, and stays under 2^32 * 2^31, far inside an i64.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
fn jump(mut key: u64, shards: u32) -> u32 {
    let mut shard = 0;
    let mut next: i64 = 0;
    while let Ok(candidate) = u32::try_from(next)
        && candidate < shards
    {
        shard = candidate;
        key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        let draw = (key >> 33) + 1;
        next = ((next + 1) as f64 * ((1_u64 << 31) as f64 / draw as f64)) as i64;
    }
    shard
}

#[cfg(test)]
#[path = "tests/slot.rs"]
mod tests;
