use proptest::prelude::*;

use super::*;

/// The paper's code, word for word but for the language.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn paper(mut key: u64, buckets: i32) -> i32 {
    let (mut b, mut j): (i64, i64) = (-1, 0);
    while j < i64::from(buckets) {
        b = j;
        key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        j = ((b + 1) as f64 * ((1_i64 << 31) as f64 / ((key >> 33) + 1) as f64)) as i64;
    }
    b as i32
}

#[test]
fn golden() {
    // The first five are known of other implementations, the last two go to the limits.
    let golden = [
        (1, 1, 0),
        (42, 57, 43),
        (0xdead_10cc, 1, 0),
        (0xdead_10cc, 666, 361),
        (256, 1024, 520),
        (0, u32::MAX, 2_147_483_648),
        (u64::MAX, u32::MAX, 2_680_453_518),
    ];
    for (key, shards, shard) in golden {
        assert_eq!(jump(key, shards), shard, "jump({key}, {shards})");
    }
}

#[test]
fn no_shards_answer_like_one() {
    assert_eq!(jump(42, 0), 0);
    assert_eq!(jump(u64::MAX, 0), 0);
}

#[test]
fn the_owner_is_the_scope_where_there_is_one() {
    assert_eq!(owner(b"", b"k"), b"k");
    assert_eq!(owner(b"tenant", b"k"), b"tenant");
}

/// By sha256sum: ba7816bf... of "abc", e3b0c442... of nothing.
#[test]
fn slots_are_the_first_fourteen_bits_but_two() {
    assert_eq!(of(b"abc"), 0x3a78);
    assert_eq!(of(b""), 0x23b0);
}

/// All slots: what every node agrees on.
#[test]
fn growing_moves_one_nth_of_the_slots_and_only_to_the_new_shard() {
    for shards in [1_u32, 2, 3, 4, 5, 9, 16, 99] {
        let mut filled = vec![0_u32; shards as usize];
        let mut moved = 0_u32;
        for slot in 0..SLOTS {
            let (before, after) = (shard(slot, shards), shard(slot, shards + 1));
            filled[before as usize] += 1;
            if before != after {
                assert_eq!(after, shards, "a slot moved between old shards");
                moved += 1;
            }
        }
        let (each, expected) = (u32::from(SLOTS) / shards, u32::from(SLOTS) / (shards + 1));
        let off = |count: u32, of: u32| count.abs_diff(of) * 100 / of;
        assert!(off(moved, expected) < 15, "{moved} of {SLOTS} moved to shard {shards}");
        let worst = filled.into_iter().map(|count| off(count, each)).max();
        assert!(worst < Some(20), "{shards} shards are {worst:?} % off");
    }
}

/// Well mixed keys, as the bytes of a digest are.
fn keys(count: u64) -> impl Iterator<Item = u64> {
    (0..count).map(|n| {
        let mixed = (n ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb)
    })
}

#[test]
fn growing_moves_one_nth_and_only_to_the_new_shard() {
    const KEYS: u64 = 100_000;
    for shards in [1_u32, 2, 3, 9, 16, 99, 500] {
        let mut moved = 0_u64;
        for key in keys(KEYS) {
            let (before, after) = (jump(key, shards), jump(key, shards + 1));
            assert!(before < shards);
            if before != after {
                assert_eq!(after, shards, "a key moved between old shards");
                moved += 1;
            }
        }
        let expected = KEYS / u64::from(shards + 1);
        // Six standard deviations of a binomial draw, and not a random test: the keys are fixed.
        let tolerance = 6 * expected.isqrt();
        assert!(
            moved.abs_diff(expected) < tolerance,
            "{moved} moved to shard {shards}, about {expected} should"
        );
    }
}

#[test]
fn shards_are_evenly_filled() {
    const SHARDS: u32 = 16;
    let mut filled = [0_u64; SHARDS as usize];
    for key in keys(160_000) {
        filled[jump(key, SHARDS) as usize] += 1;
    }
    for (shard, count) in filled.into_iter().enumerate() {
        assert!(count.abs_diff(10_000) < 600, "{count} keys in shard {shard}");
    }
}

proptest! {
    #[test]
    fn agrees_with_the_paper(key: u64, shards in 1..i32::MAX) {
        let expected = paper(key, shards).cast_unsigned();
        prop_assert_eq!(jump(key, shards.cast_unsigned()), expected);
    }

    #[test]
    fn stays_in_range_whatever_is_asked(key: u64, shards in prop_oneof![1..9_u32, 1..=u32::MAX]) {
        prop_assert!(jump(key, shards) < shards);
    }
}
