//! `idempotent_seal`, `idempotent_resolve`, `idempotent_forget`.

use crate::keys::call::Call;
use crate::keys::forget;
use crate::keys::request::{limit, wait};
use crate::keys::settle::{self, Settlement};
use crate::pg::arguments::{Args, Returned};
use crate::pg::declaration::arguments;
use crate::pg::snapshot;
use crate::tables::asked;
use crate::tables::audit::{self, Deed};
use pgrx::pg_sys::Datum;
use rules::claim::Verdict;
use rules::error::{Code, Error};

arguments! {
    SEAL: Seal = "idempotent_seal" {
        operation: Text, key: Text, scope: Text,
    }
    RESOLVE: Resolve = "idempotent_resolve" {
        operation: Text, key: Text, verdict: Text, response: Jsonb, scope: Text,
    }
    FORGET: Forget = "idempotent_forget" {
        operation: Text, key: Text, scope: Text, fence: Int8,
    }
}

pub fn idempotent_seal(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_seal()");
    let limit = limit(None);
    let mut call = Call::new(args.get(SEAL.operation), args.get(SEAL.key), args.get(SEAL.scope))?;
    limit.set(wait(None, &call.policy));
    let records = call.open_to_write()?;
    let decision = settle::seal(&call, &records)?;
    if decision.verdict == Verdict::Sealed {
        audit::note(&Deed { action: "seal", ..deed(&call) })?;
    }
    decision.into_datum(&call, false, args)
}

pub fn idempotent_resolve(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_resolve()");
    let mut call = Call::of_what_is_there(
        args.get(RESOLVE.operation),
        args.get(RESOLVE.key),
        args.get(RESOLVE.scope),
    )?;
    let settlement = match args.get(RESOLVE.verdict).map(|text| text.utf8) {
        Some(b"completed") => Settlement::Completed,
        Some(b"failed") => Settlement::Failed,
        Some(b"absent") => Settlement::Absent,
        _ => {
            return Err(Error::new(
                Code::InvalidParameter,
                "verdict is not one that settles a key",
            )
            .hint("Pass verdict => 'completed', 'failed' or 'absent'."));
        }
    };
    let records = call.open_to_write()?;
    let answer = settle::resolve(&call, &records, settlement, args.get(RESOLVE.response))?;
    let verdict = args.get(RESOLVE.verdict).map(|text| text.datum);
    audit::note(&Deed { action: "resolve", detail: verdict, ..deed(&call) })?;
    answer.into_datum(args)
}

pub fn idempotent_forget(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_forget()");
    // What another node answers for is left behind here, and may be cleared away.
    let mut call =
        Call::of_holder(args.get(FORGET.operation), args.get(FORGET.key), args.get(FORGET.scope))?;
    let records = call.open_to_write()?;
    let forgotten = forget::forget(&call, &records, args.get(FORGET.fence))?;
    if forgotten {
        asked::forget(&call.owner)?;
        audit::note(&Deed { action: "forget", ..deed(&call) })?;
    }
    Ok(Some(Datum::from(forgotten)))
}

/// Something that is done to the key.
fn deed(call: &Call<'_>) -> Deed<'static> {
    Deed {
        operation: Some(call.owner.operation.datum),
        scope: Some(call.owner.scope.datum),
        key: Some(call.owner.key.datum),
        ..Deed::default()
    }
}
