//! What an administrator takes back of a consumer: a message that it has seen, and how far it has come.

use crate::api::consumer::{Consumer, checked};
use crate::pg::arguments::{Args, Returned};
use crate::pg::datum::text::Text as TextValue;
use crate::pg::declaration::arguments;
use crate::pg::snapshot;
use crate::tables::audit::{self, Deed};
use crate::tables::message;
use crate::tables::offsets::{self, Changed};
use pgrx::pg_sys::Datum;
use rules::error::{Code, Error, Result};
use rules::names::{MESSAGE, PARTITION};

arguments! {
    FORGET: ForgetMessage = "idempotent_forget_message" { consumer: Text, message_id: Text, scope: Text }
    REWIND: Rewind = "idempotent_rewind" { consumer: Text, partition: Text, offset: Int8, scope: Text }
    FORGET_OFFSET: ForgetOffset = "idempotent_forget_offset" { consumer: Text, partition: Text, scope: Text }
}

pub fn idempotent_forget_message(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_forget_message()");
    let consumer = Consumer::new(args.get(FORGET.consumer), args.get(FORGET.scope))?;
    let message = checked(&MESSAGE, args.get(FORGET.message_id))?;
    let Some(forgotten) = message::forget(&consumer.name, &consumer.scope, &message)? else {
        let detail = "It may commit or roll back, and the message is then seen or new.";
        return Err(in_use("a transaction is at the message", detail));
    };
    if forgotten {
        note("forget_message", &consumer, &message, None)?;
    }
    Ok(Some(Datum::from(forgotten)))
}

pub fn idempotent_rewind(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_rewind()");
    let consumer = Consumer::new(args.get(REWIND.consumer), args.get(REWIND.scope))?;
    let partition = checked(&PARTITION, args.get(REWIND.partition))?;
    let offset = args.get(REWIND.offset).ok_or_else(|| {
        Error::new(Code::InvalidParameter, "offset must not be null")
            .hint("Pass the offset of the last message that is not to be processed again.")
    })?;
    check_rests(&consumer, &partition)?;
    let before = done(offsets::rewind(&consumer.name, &consumer.scope, &partition, offset)?)?;
    if let Some(before) = before {
        note("rewind", &consumer, &partition, Some(format!("from {before} to {offset}")))?;
    }
    Ok(before.map(Datum::from))
}

pub fn idempotent_forget_offset(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_forget_offset()");
    let consumer = Consumer::new(args.get(FORGET_OFFSET.consumer), args.get(FORGET_OFFSET.scope))?;
    let partition = checked(&PARTITION, args.get(FORGET_OFFSET.partition))?;
    check_rests(&consumer, &partition)?;
    let before = done(offsets::forget(&consumer.name, &consumer.scope, &partition)?)?;
    if let Some(before) = before {
        note("forget_offset", &consumer, &partition, Some(before.to_string()))?;
    }
    Ok(before.map(Datum::from))
}

/// An offset that a transaction moves would be set back, or removed, unseen.
///
/// # Errors
/// 55006 if there is such a transaction.
fn check_rests(consumer: &Consumer<'_>, partition: &TextValue<'_>) -> Result<()> {
    if !offsets::is_moving(&consumer.name, &consumer.scope, partition)? {
        return Ok(());
    }
    let detail = "It may commit or roll back, and the offset is then a later one or not.";
    Err(in_use("a transaction is at the partition", detail))
}

/// What was stored, unless another transaction has locked the row: what that is about to do is unseen, too.
///
/// # Errors
/// 55006 if there is such a transaction.
fn done(changed: Changed) -> Result<Option<i64>> {
    let by = match changed {
        Changed::Done(before) => return Ok(before),
        Changed::Locked(Some(process)) => format!("Process {process}"),
        Changed::Locked(None) => "Another transaction".to_owned(),
    };
    let detail =
        format!("{by} has locked the partition's row in idempotent.offsets, and may change it.");
    Err(in_use("a transaction has locked the partition", &detail))
}

fn in_use(what: &str, detail: &str) -> Error {
    Error::new(Code::ObjectInUse, what)
        .detail(detail)
        .hint("Wait until it has ended, and call again.")
}

/// The message or the partition stands where that of a key does.
fn note(
    action: &str,
    consumer: &Consumer<'_>,
    key: &TextValue<'_>,
    detail: Option<String>,
) -> Result<()> {
    audit::note(&Deed {
        action,
        operation: Some(consumer.name.datum),
        scope: Some(consumer.scope.datum),
        key: Some(key.datum),
        detail: detail.as_deref().map(audit::detail),
    })
}
