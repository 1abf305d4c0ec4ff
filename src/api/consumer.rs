//! `idempotent_first`, `idempotent_first_of` and `idempotent_first_skip_held`: whether a consumer sees a message
//! for the first time.

use crate::keys::call::{check_may, kept};
use crate::keys::request::{limit, wait};
use crate::keys::waiting::Waiting;
use crate::pg::arguments::{Args, Returned};
use crate::pg::datum::text::Text;
use crate::pg::declaration::{Argument, Texts, arguments};
use crate::pg::{clock, memory, snapshot};
use crate::session::counts;
use crate::settings;
use crate::stats::{Counter, Tally};
use crate::tables::messages::{Arriving, Batch, Marked, mark};
use crate::tables::operations::{self, Operation};
use pgrx::pg_sys::Datum;
use rules::dating::{Age, Dates, Kept};
use rules::error::{Code, Error, Result};
use rules::names::{self, CONSUMER, MESSAGE, SCOPE};
use rules::policy::Policy;
use rules::{Micros, Timestamp};
use std::rc::Rc;

arguments! {
    FIRST: First = "idempotent_first" {
        consumer: Text, message_id: Text, scope: Text, retention: Interval, wait: Interval,
    }
    FIRST_OF: FirstOf = "idempotent_first_of" {
        consumer: Text, message_ids: Texts, scope: Text, retention: Interval, wait: Interval,
    }
    SKIP_HELD: SkipHeld = "idempotent_first_skip_held" {
        consumer: Text, message_ids: Texts, scope: Text, retention: Interval, wait: Interval,
    }
}

/// The receiver of messages. Its settings and counters are those of the operation of its name.
pub struct Consumer<'a> {
    pub name: Text<'a>,
    pub scope: Text<'a>,
    pub policy: Rc<Policy>,
    pub tally: Rc<Tally>,
}

impl<'a> Consumer<'a> {
    /// Checks the names and that the caller may, before anything is looked up.
    ///
    /// # Errors
    /// ID006 for a bad consumer or scope; 42501 if the caller is no member of the operation's role.
    pub fn new(name: Option<Text<'a>>, scope: Option<Text<'a>>) -> Result<Self> {
        let name = checked(&CONSUMER, name)?;
        let scope = checked(&SCOPE, scope)?;
        let Operation { policy, tally, .. } = operations::get(&name)?;
        check_may(&policy, name.utf8, scope.utf8)?;
        Ok(Self { name, scope, policy, tally })
    }

    /// Counts what is answered: how often it was new, known, and older than what is kept.
    pub fn count(&self, new: usize, known: usize, expired: usize) {
        let number = |n: usize| u64::try_from(n).unwrap_or(0);
        self.tally.add(Counter::Claimed, number(new));
        self.tally.add(Counter::Replayed, number(known));
        self.tally.add(Counter::Expired, number(expired));
        counts::count(&self.tally, Counter::Completed, number(new));
    }
}

/// A part of a name that keeps the rules.
///
/// # Errors
/// ID006 for the first rule that it breaks.
pub fn checked<'a>(part: &names::Part, text: Option<Text<'a>>) -> Result<Text<'a>> {
    names::check(part, text.map(|text| text.utf8))?;
    text.ok_or_else(|| Error::new(Code::BadKey, "a name must not be null"))
}

pub fn idempotent_first(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_first()");
    let limit = limit(args.duration(FIRST.wait, 0).ok().flatten());
    let consumer = Consumer::new(args.get(FIRST.consumer), args.get(FIRST.scope))?;
    let message = checked(&MESSAGE, args.get(FIRST.message_id))?;
    let retention = args.duration(FIRST.retention, 1)?;
    let wait = wait(args.duration(FIRST.wait, 0)?, &consumer.policy);
    limit.set(wait);
    let first = new_to(&consumer, &[message], retention, wait)?;
    Ok(Some(Datum::from(first == [Marked::First])))
}

pub fn idempotent_first_of(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_first_of()");
    let limit = limit(args.duration(FIRST_OF.wait, 0).ok().flatten());
    let consumer = Consumer::new(args.get(FIRST_OF.consumer), args.get(FIRST_OF.scope))?;
    let retention = args.duration(FIRST_OF.retention, 1)?;
    let wait = wait(args.duration(FIRST_OF.wait, 0)?, &consumer.policy);
    limit.set(wait);
    let messages = messages(args, FIRST_OF.message_ids)?;
    let marked = new_to(&consumer, &messages, retention, wait)?;
    let new = messages.iter().zip(marked).filter(|(_, marked)| *marked == Marked::First);
    args.return_rows(new.map(|(message, _)| [message.datum]))
}

pub fn idempotent_first_skip_held(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_first_skip_held()");
    let _limit = limit(Some(args.duration(SKIP_HELD.wait, 0).ok().flatten().unwrap_or(0)));
    let consumer = Consumer::new(args.get(SKIP_HELD.consumer), args.get(SKIP_HELD.scope))?;
    let retention = args.duration(SKIP_HELD.retention, 1)?;
    let wait = args.duration(SKIP_HELD.wait, 0)?.unwrap_or(0);
    let messages = messages(args, SKIP_HELD.message_ids)?;
    let marked = mark_all(&consumer, &messages, retention, wait)?;
    let told = messages.iter().zip(marked).filter(|(_, marked)| *marked != Marked::Seen);
    args.return_rows(
        told.map(|(message, marked)| [message.datum, Datum::from(marked == Marked::Held)]),
    )
}

fn messages<'a>(args: &'a Args, argument: Argument<Texts>) -> Result<Vec<Text<'a>>> {
    let Some(messages) = args.texts(argument)? else {
        return Err(Error::new(Code::BadKey, "message_ids must not be null")
            .detail("It is an array of ids, which may be empty.")
            .hint("Pass an array of ids: SELECT * FROM idempotent_first_of('billing', ARRAY['m1', 'm2'])."));
    };
    messages.into_iter().map(|message| checked(&MESSAGE, message)).collect()
}

/// As `mark_all`, for a caller that is told of all messages or of none.
///
/// # Errors
/// ID001 if another transaction is still at one of them when the wait is over.
fn new_to(
    consumer: &Consumer<'_>,
    messages: &[Text<'_>],
    retention: Option<Micros>,
    wait: Micros,
) -> Result<Vec<Marked>> {
    let marked = mark_all(consumer, messages, retention, wait)?;
    if !marked.contains(&Marked::Held) {
        return Ok(marked);
    }
    consumer.tally.add(Counter::InProgress, 1);
    let name = |text: &Text<'_>| String::from_utf8_lossy(text.utf8).into_owned();
    Err(Error::new(Code::InProgress, "another transaction has the message")
        .detail(format!(
            "A message of consumer \"{}\", scope \"{}\" was marked by a transaction that may yet roll back.",
            name(&consumer.name),
            name(&consumer.scope)
        ))
        .hint("Retry the transaction, or wait longer: pass wait. To go on without such messages, call idempotent_first_skip_held()."))
}

/// What each of the messages is, in the order given; of equal ones the first alone can be new.
fn mark_all(
    consumer: &Consumer<'_>,
    messages: &[Text<'_>],
    retention: Option<Micros>,
    wait: Micros,
) -> Result<Vec<Marked>> {
    if let Some(retention) = retention {
        consumer.policy.check_retention(consumer.name.utf8, retention)?;
    }
    // For the order, the sorted ones, and the answers, each of which is some words long.
    memory::expect(messages.len().saturating_mul(4 * size_of::<Arriving<'_>>()))?;
    let mut order: Vec<usize> = (0..messages.len()).collect();
    // By their bytes, as every caller goes through them: see `messages`. Stable, so that the first of
    // equal ones stays the first.
    order.sort_by_key(|index| messages[*index].server);
    order.dedup_by_key(|index| messages[*index].server);
    let now = clock::now();
    let (retention, skew) =
        (retention.unwrap_or(consumer.policy.retention), settings::clock_skew());
    let dates = |index: &usize| Dates::of(None, messages[*index].utf8, consumer.policy.key_dates);
    // Older than what is kept of it: whether it was seen is unknown, so it is not new.
    let sorted = order.len();
    let kept = Kept { retention, ..kept(&consumer.policy, Timestamp::MIN) };
    let age = |index: &usize| dates(index).age(now, &kept);
    order.retain(|index| !matches!(age(index), Age::TooOld { .. }));
    let expired = sorted - order.len();
    let arriving: Vec<Arriving<'_>> = order
        .iter()
        .map(|index| Arriving {
            message: messages[*index],
            expires_at: dates(index).kept_until(now, retention, skew),
        })
        .collect();
    let waiting = Waiting::for_up_to(wait, &consumer.tally);
    let (name, scope) = (consumer.name, consumer.scope);
    let found = mark(&Batch { consumer: name, scope, messages: &arriving, now }, &waiting)?;
    let mut marked = vec![Marked::Seen; messages.len()];
    for (index, what) in order.into_iter().zip(found) {
        marked[index] = what;
    }
    let number = |what| marked.iter().filter(|marked| **marked == what).count();
    let (new, held) = (number(Marked::First), number(Marked::Held));
    consumer.count(new, marked.len() - new - held - expired, expired);
    Ok(marked)
}
