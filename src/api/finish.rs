//! `idempotent_complete`, `idempotent_fail`, `idempotent_release`.

use crate::keys::call::Call;
use crate::keys::keyless::Keyless;
use crate::keys::mode;
use crate::keys::stored::Stored;
use crate::pg::arguments::{Args, Returned};
use crate::pg::declaration::arguments;
use crate::pg::snapshot;
use pgrx::pg_sys::Datum;

arguments! {
    FINISH: Finish = "idempotent_complete" {
        operation: Text, key: Text, response: Jsonb, status: Int4, scope: Text, fence: Int8, headers: Jsonb, body: Bytea, retention: Interval,
    }
    RELEASE: Release = "idempotent_release" {
        operation: Text, key: Text, scope: Text, fence: Int8,
    }
}

pub fn idempotent_complete(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_complete()");
    finish(args, false)
}

pub fn idempotent_fail(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_fail()");
    finish(args, true)
}

fn finish(args: &Args, failed: bool) -> Returned {
    let mut call = match Call::of_holder(
        args.get(FINISH.operation),
        args.get(FINISH.key),
        args.get(FINISH.scope),
    ) {
        Ok(call) => call,
        Err(error) => {
            return Keyless::instead_of(error, args.get(FINISH.operation))
                .map(|_| args.get(FINISH.response));
        }
    };
    let retention = args.duration(FINISH.retention, 1)?;
    if let Some(retention) = retention {
        call.policy.check_retention(call.owner.identity.operation(), retention)?;
    }
    let stored = Stored {
        failed,
        status: args.get(FINISH.status),
        headers: args.get(FINISH.headers),
        response: args.get(FINISH.response),
        body: args.get(FINISH.body),
        retention,
    };
    mode::store(&mut call, args.get(FINISH.fence), &stored)?;
    Ok(stored.response)
}

pub fn idempotent_release(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_release()");
    let released = match Call::of_holder(
        args.get(RELEASE.operation),
        args.get(RELEASE.key),
        args.get(RELEASE.scope),
    ) {
        Ok(mut call) => mode::release(&mut call, args.get(RELEASE.fence))?,
        Err(error) => Keyless::instead_of(error, args.get(RELEASE.operation)).map(|_| true)?,
    };
    Ok(Some(Datum::from(released)))
}
