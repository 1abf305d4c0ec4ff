//! `idempotent_advance`: how far a consumer has come in a partition.

use crate::api::consumer::{Consumer, checked};
use crate::pg::arguments::{Args, Returned};
use crate::pg::snapshot;
use crate::tables::offsets;
use pgrx::pg_sys::Datum;
use rules::error::{Code, Error};
use rules::names::PARTITION;

pub fn idempotent_advance(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_advance()");
    let consumer = Consumer::new(args.text(0), args.text(3))?;
    let partition = checked(&PARTITION, args.text(1))?;
    let offset = args.int8(2).ok_or_else(|| {
        Error::new(Code::InvalidParameter, "offset must not be null")
            .detail("It is the number of the message within its partition.")
            .hint("Pass the offset that came with the message.")
    })?;
    let advanced = offsets::advance(&consumer.name, &consumer.scope, &partition, offset)?;
    consumer.count(usize::from(advanced), usize::from(!advanced));
    Ok(Some(Datum::from(advanced)))
}
