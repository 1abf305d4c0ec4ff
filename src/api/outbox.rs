//! The outbox: the doors, which ask who may put into a topic and who may take from it, and the rules of keys
//! that what is behind them needs (sql/70_outbox.sql).

use crate::api::consumer::checked;
use crate::keys::call::{check_member, kept};
use crate::keys::request::{fingerprint, fingerprints, limit, wait};
use crate::keys::waiting::Waiting;
use crate::pg::arguments::{Args, Returned};
use crate::pg::datum::make;
use crate::pg::datum::text::Text as TextValue;
use crate::pg::declaration::{Argument, Interval, Text, arguments};
use crate::pg::pass_on::{pass_on, pass_on_with};
use crate::pg::{clock, snapshot};
use crate::session::counts;
use crate::settings;
use crate::stats::Counter;
use crate::tables::audit::{self, Deed};
use crate::tables::operations::{self, Operation};
use pgrx::pg_sys::Datum;
use rules::Timestamp;
use rules::dating::{Age, Dates};
use rules::error::{Code, Error, Result};
use rules::names::{LANE, SCOPE, TOPIC};
use rules::policy::Policy;
use rules::retention::answer_expires;
use std::ffi::CStr;
use std::rc::Rc;

arguments! {
    PUT: Put = "idempotent_outbox_put" {
        topic: Text, payload: Jsonb, key: Text, message_id: Uuid, scope: Text,
    }
    TAKE: Take = "idempotent_outbox_take" { topic: Text, batch: Int4, lease: Interval }
    ACK: Ack = "idempotent_outbox_ack" { topic: Text, message_ids: Uuids, fence: Int8 }
    RELEASE: Release = "idempotent_outbox_release" {
        topic: Text, message_ids: Uuids, fence: Int8, delay: Interval,
    }
    REDRIVE: Redrive = "idempotent_outbox_redrive" { topic: Text, message_ids: Uuids }
    WAIT: Wait = "idempotent_outbox_wait" { topic: Text, lock: Int8, shared: Bool }
    FINGERPRINT: Print = "idempotent_outbox_fingerprint" { topic: Text, payload: Jsonb }
    IS_SAME: IsSame = "idempotent_outbox_is_same" { topic: Text, payload: Jsonb, fingerprint: Uuid }
    CHECK_DATE: CheckDate = "idempotent_outbox_check_date" { topic: Text, message_id: Uuid }
    EXPIRES: Expires = "idempotent_outbox_expires" { topic: Text, message_id: Uuid }
    COUNT: Count = "idempotent_outbox_count" { topic: Text, counter: Text, number: Int8 }
}

const SCHEMA: &CStr = c"idempotent";

/// What a caller wants of a topic.
#[derive(Clone, Copy)]
enum Wants {
    Put,
    Take,
}

/// # Errors
/// ID006 for a topic that cannot be one; 42501 if the caller is no member of the role that the operation of
/// the topic's name has for this.
fn check(topic: Option<TextValue<'_>>, wants: Wants) -> Result<Rc<Policy>> {
    let topic = checked(&TOPIC, topic)?;
    let Operation { policy, .. } = operations::get(&topic)?;
    let role = match wants {
        Wants::Put => policy.role.as_deref(),
        Wants::Take => policy.relays(),
    };
    check_member(role, topic.utf8)?;
    Ok(policy)
}

/// A length of time as it is checked, in microseconds: by the calendar a month may be longer, and what is behind the
/// door adds it to a date. What is no length is refused there.
fn counted(args: &Args, argument: Argument<Interval>) -> Option<(usize, Datum)> {
    let micros = args.duration(argument, 0).ok().flatten()?;
    Some((argument.at, make::interval(micros)))
}

/// The name of a topic that is checked.
fn topic(args: &Args, argument: Argument<Text>) -> &[u8] {
    args.get(argument).map_or(&[], |topic| topic.utf8)
}

pub fn idempotent_outbox_put(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_outbox_put()");
    let limit = limit(None);
    let policy = check(args.get(PUT.topic), Wants::Put)?;
    limit.set(wait(None, &policy));
    if let Some(key) = args.get(PUT.key) {
        checked(&LANE, Some(key))?;
    }
    let scope = checked(&SCOPE, args.get(PUT.scope))?;
    policy.check_scope(topic(args, PUT.topic), scope.utf8)?;
    pass_on(args, SCHEMA, c"outbox_put")
}

pub fn idempotent_outbox_take(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_outbox_take()");
    let limit = limit(None);
    let policy = check(args.get(TAKE.topic), Wants::Take)?;
    limit.set(wait(None, &policy));
    if let Some(lease) = args.duration(TAKE.lease, 1).ok().flatten() {
        policy.check_take(topic(args, TAKE.topic), lease)?;
    }
    pass_on_with(args, SCHEMA, c"outbox_take", counted(args, TAKE.lease))
}

pub fn idempotent_outbox_ack(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_outbox_ack()");
    check(args.get(ACK.topic), Wants::Take)?;
    pass_on(args, SCHEMA, c"outbox_ack")
}

pub fn idempotent_outbox_release(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_outbox_release()");
    check(args.get(RELEASE.topic), Wants::Take)?;
    pass_on_with(args, SCHEMA, c"outbox_release", counted(args, RELEASE.delay))
}

pub fn idempotent_outbox_redrive(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_outbox_redrive()");
    check(args.get(REDRIVE.topic), Wants::Put)?;
    let redriven = pass_on(args, SCHEMA, c"outbox_redrive")?;
    let number = redriven.map_or(0, |number| number.value());
    if number > 0 {
        let operation = args.get(REDRIVE.topic).map(|topic| topic.datum);
        let detail = Some(audit::detail(&format!("{number} messages")));
        audit::note(&Deed { action: "redrive", operation, detail, ..Deed::default() })?;
    }
    Ok(redriven)
}

/// What is behind the doors is given a topic that they have checked.
fn operation(args: &Args, topic: Argument<Text>) -> Result<Operation> {
    operations::got(&checked(&TOPIC, args.get(topic))?)
}

/// Takes a lock of the outbox: alone, or with all that share it, for as long as the topic's operation waits.
pub fn outbox_wait(args: &Args) -> Returned {
    let Operation { policy, tally, .. } = operation(args, WAIT.topic)?;
    let waiting = Waiting::for_up_to(wait(None, &policy), &tally);
    let number = args.get(WAIT.lock).unwrap_or(0);
    if waiting.hold_for_outbox(number, args.is_set(WAIT.shared)) {
        return Ok(Some(Datum::from(0)));
    }
    tally.add(Counter::InProgress, 1);
    Err(Error::new(Code::InProgress, "another transaction is putting a message of this key or id")
        .detail("It may yet roll back, and the order of the messages is that of the commits.")
        .hint("Roll back and try again, or let puts wait longer: idempotent_operation(topic, wait => '10 seconds')."))
}

/// The digest of what counts of a payload, as of a request of the topic's operation.
pub fn outbox_fingerprint(args: &Args) -> Returned {
    let Operation { policy, .. } = operation(args, FINGERPRINT.topic)?;
    let print = fingerprint(args.get(FINGERPRINT.payload), &policy);
    Ok(print.map(|print| make::uuid(print.digest)))
}

/// Whether the digest is that of the payload: by what counts now, or by what has counted earlier, when it may have
/// been stored.
pub fn outbox_is_same(args: &Args) -> Returned {
    let Operation { policy, .. } = operation(args, IS_SAME.topic)?;
    let stored = args.get(IS_SAME.fingerprint);
    let is_same =
        fingerprints(args.get(IS_SAME.payload), &policy).any(|print| Some(print.digest) == stored);
    Ok(Some(Datum::from(is_same)))
}

fn dates(args: &Args, id: Argument<crate::pg::declaration::Uuid>, policy: &Policy) -> Dates {
    let id = make::uuid_text(args.get(id).unwrap_or_default());
    Dates::of(None, id.as_bytes(), policy.key_dates)
}

/// Refuses an id whose date says that what was known of it is gone. The outbox is logged, so that nothing else is
/// ever lost.
pub fn outbox_check_date(args: &Args) -> Returned {
    let Operation { policy, tally, .. } = operation(args, CHECK_DATE.topic)?;
    let dates = dates(args, CHECK_DATE.message_id, &policy);
    let age = dates.age(clock::now(), &kept(&policy, Timestamp::MIN));
    let Age::TooOld { .. } = age else { return Ok(Some(Datum::from(0))) };
    tally.add(Counter::Expired, 1);
    Err(Error::new(Code::Expired, "the message id is older than the retention")
        .detail("Whether the message was put and delivered is no longer known: its id dates from longer ago than ids are kept.")
        .hint("Find out whether it was delivered; if not, put it without message_id, or with a new one."))
}

/// Until when the id of a message that is acknowledged now is known.
pub fn outbox_expires(args: &Args) -> Returned {
    let Operation { policy, .. } = operation(args, EXPIRES.topic)?;
    let dates = dates(args, EXPIRES.message_id, &policy);
    let expires = answer_expires(&policy, false, None, dates, clock::now(), settings::clock_skew());
    Ok(Some(Datum::from(expires)))
}

/// Counts what was done with messages, once the transaction has committed.
pub fn outbox_count(args: &Args) -> Returned {
    let Operation { tally, .. } = operation(args, COUNT.topic)?;
    let name = args.get(COUNT.counter).map_or(&[][..], |name| name.utf8);
    let counter = Counter::ALL.into_iter().find(|(_, called)| called.as_bytes() == name);
    let number = args.get(COUNT.number).and_then(|number| u64::try_from(number).ok());
    if let (Some((counter, _)), Some(number)) = (counter, number) {
        counts::count(&tally, counter, number);
    }
    Ok(Some(Datum::from(0)))
}
