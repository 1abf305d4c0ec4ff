//! When a key says it was first sent: by the caller's `first_sent`, or by itself, as a `UUIDv7`.
//!
//! A date lets a key be refused that is older than anything kept about it, instead of being run
//! again. Layout: RFC 9562, section 5.7.

use crate::policy::{Earlier, KeyDates};
use crate::uuid7;
use crate::{Micros, Timestamp};

/// 1970-01-01 00:00 UTC.
const UNIX_EPOCH: Timestamp = -946_684_800_000_000;
/// The highest millisecond that fits a `UUIDv7`, in the year 10889.
const LAST_MILLISECOND: i64 = (1 << 48) - 1;

/// How old a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// No date is known.
    Undated,
    /// First sent then, within the retention.
    Fresh(Timestamp),
    /// First sent longer ago than its record is kept, or was under earlier settings.
    TooOld {
        /// When it was first sent.
        since: Timestamp,
    },
    /// First sent within the retention, but before records were lost: the one of this key may have
    /// been among them.
    Lost {
        /// When it was first sent.
        since: Timestamp,
    },
}

/// The date that a key carries: that of a `UUIDv7`, in milliseconds, when it is written with
/// hyphens, in either case.
///
/// Thirty-two digits without hyphens are not read as one. They are more often the digest or the
/// random token of a program that knows nothing of UUIDs, and one in 64 of those would look like
/// version 7 and be refused for a date that it never meant.
#[must_use]
pub fn key_date(key: &[u8]) -> Option<Timestamp> {
    let milliseconds = i64::try_from(uuid7::milliseconds(key)?).ok()?;
    Some(UNIX_EPOCH + milliseconds * 1000)
}

/// A `UUIDv7` in lower case: 48 bits of milliseconds, the fraction of the millisecond in the 12
/// bits of `rand_a` (as `uuidv7()` of Postgres 18), and the rest random.
///
/// `unix_micros` counts from 1970-01-01 00:00 UTC; times that the format cannot hold become the
/// nearest that it can. Keys of different microseconds sort by time.
#[must_use]
pub fn new_key(unix_micros: i64, random: [u8; 10]) -> String {
    let micros = unix_micros.clamp(0, LAST_MILLISECOND * 1000 + 999);
    let (milliseconds, fraction) = (micros / 1000, micros % 1000);
    // A microsecond is a little more than four of the 4096 steps of a millisecond, so two of the
    // twelve bits can be random without ever reaching into the next microsecond.
    let rand_a = fraction * 4096 / 1000 + i64::from(random[0] & 0b11);
    let [_, _, rand_b @ ..] = random;
    let rand_b = u64::from_be_bytes(rand_b) & (u64::MAX >> 2);
    format!(
        "{:08x}-{:04x}-7{rand_a:03x}-{:04x}-{:012x}",
        milliseconds >> 16,
        milliseconds & 0xffff,
        0x8000 | (rand_b >> 48),
        rand_b & 0xffff_ffff_ffff,
    )
}

/// How long records are kept, and were.
#[derive(Clone, Copy, Debug)]
pub struct Kept<'a> {
    /// The operation's.
    pub retention: Micros,
    /// How far the clocks that date keys may be off.
    pub skew: Micros,
    /// Settings that kept records for less.
    pub earlier: &'a [Earlier],
    /// Since when no record was lost; `Timestamp::MIN` if none ever was.
    pub lost_before: Timestamp,
}

impl Kept<'static> {
    /// Where the settings were never other ones.
    #[must_use]
    pub fn always(retention: Micros, skew: Micros, lost_before: Timestamp) -> Self {
        Self { retention, skew, earlier: &[], lost_before }
    }
}

impl Kept<'_> {
    /// Whether the record of a key with this date may have been forgotten by `now`.
    fn has_forgotten(&self, date: Timestamp, now: Timestamp) -> bool {
        let age = now.saturating_sub(date);
        age > self.retention.saturating_add(self.skew)
            || self.earlier.iter().any(|earlier| date < earlier.until && age > earlier.kept)
    }
}

/// The dates that a key comes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dates {
    first_sent: Option<Timestamp>,
    own: Option<Timestamp>,
}

impl Dates {
    /// The caller's `first_sent`, and the date in the key itself, if that counts.
    #[must_use]
    pub fn of(first_sent: Option<Timestamp>, key: &[u8], key_dates: KeyDates) -> Self {
        let own = match key_dates {
            KeyDates::Use => key_date(key),
            KeyDates::Ignore => None,
        };
        Self { first_sent, own }
    }

    /// When the key was first sent, as far as that can be: the earlier of the two dates.
    ///
    /// A date further ahead than `skew` is none. It is a wrong clock's, or a digest in the clothes
    /// of a UUID (`md5(...)::uuid` looks like version 7 once in 64 times): no reason to refuse the
    /// work, and nothing to refuse it by later.
    #[must_use]
    pub fn sent(self, now: Timestamp, skew: Micros) -> Option<Timestamp> {
        let earlier = self.first_sent.into_iter().chain(self.own).min();
        earlier.filter(|date| *date <= now.saturating_add(skew))
    }

    /// How old the key is at `now`.
    ///
    /// Too old is a date more than `retention + skew` ago, or one that earlier settings have made
    /// too old. One that is not, but before `lost_before`, is from before a loss of records. The
    /// skew does not count there: it would make new keys pass for lost ones for as long after every
    /// crash.
    #[must_use]
    pub fn age(self, now: Timestamp, kept: &Kept<'_>) -> Age {
        let Some(date) = self.sent(now, kept.skew) else {
            return Age::Undated;
        };
        if kept.has_forgotten(date, now) {
            Age::TooOld { since: date }
        } else if date < kept.lost_before {
            Age::Lost { since: date }
        } else {
            Age::Fresh(date)
        }
    }

    /// Until when the answer of the key is kept: for the retention, and for a key with a date until
    /// that alone refuses it, so that it never runs in between.
    ///
    /// The later date counts, as the next call may bring it alone; and a date ahead of now by no
    /// more than the retention, as it will be one before the answer is gone.
    #[must_use]
    pub fn kept_until(self, now: Timestamp, retention: Micros, skew: Micros) -> Timestamp {
        let furthest = now.saturating_add(retention.max(skew));
        let dates = self.first_sent.into_iter().chain(self.own);
        let refused =
            |date: Timestamp| date.saturating_add(retention).saturating_add(skew).saturating_add(1);
        let dated = dates.filter(|date| *date <= furthest).map(refused).max();
        now.saturating_add(retention).max(dated.unwrap_or(Timestamp::MIN))
    }
}

#[cfg(test)]
#[path = "tests/dating.rs"]
mod tests;
