//! Jump consistent hash: John Lamping and Eric Veach, "A Fast, Minimal Memory, Consistent Hash
//! Algorithm", 2014, <https://arxiv.org/abs/1406.2294>.

/// The shard, `0..shards`, that `key` belongs to.
///
/// When `shards` grows from n to n + 1, about 1/(n + 1) of the keys move, all of them to the new
/// shard; nothing moves between the old ones. Without shards there is nothing to choose, so 0
/// answers like 1: callers refuse it before.
///
/// The paper's arithmetic is one division and one multiplication of IEEE doubles, which are the
/// same on every machine, so an answer may be stored.
#[must_use]
// The product is the paper's own truncation, and stays under 2^32 * 2^31, far inside an i64.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
pub fn jump(mut key: u64, shards: u32) -> u32 {
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
