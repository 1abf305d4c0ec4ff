//! `idempotent_advance`: how far a consumer has come in a partition.

use crate::api::consumer::{Consumer, checked};
use crate::keys::request::{limit, wait};
use crate::pg::arguments::{Args, Returned};
use crate::pg::declaration::arguments;
use crate::pg::snapshot;
use crate::tables::offsets;
use pgrx::pg_sys::Datum;
use rules::error::{Code, Error};
use rules::names::PARTITION;

arguments! {
    ADVANCE: Advance = "idempotent_advance" {
        consumer: Text, partition: Text, offset: Int8, scope: Text,
    }
}

pub fn idempotent_advance(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_advance()");
    let limit = limit(None);
    let consumer = Consumer::new(args.get(ADVANCE.consumer), args.get(ADVANCE.scope))?;
    let partition = checked(&PARTITION, args.get(ADVANCE.partition))?;
    let offset = args.get(ADVANCE.offset).ok_or_else(|| {
        Error::new(Code::InvalidParameter, "offset must not be null")
            .detail("It is the number of the message within its partition.")
            .hint("Pass the offset that came with the message.")
    })?;
    limit.set_for_sql(wait(None, &consumer.policy));
    let advanced = offsets::advance(&consumer.name, &consumer.scope, &partition, offset)?;
    consumer.count(usize::from(advanced), usize::from(!advanced), 0);
    Ok(Some(Datum::from(advanced)))
}
