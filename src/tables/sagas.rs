//! Where sagas stand: `idempotent.saga_run`, a row each, through SPI with the rights of the table's
//! owner. A step takes a transaction of its own, so that the executor is no cost that counts. The
//! search_path is the caller's, for the handlers, so every operator is qualified.

use crate::pg::datum::make::{self, text};
use crate::pg::datum::text::Text;
use crate::pg::datum::{array, varlena};
use crate::pg::rights::OwnerRights;
use crate::pg::snapshot;
use crate::pg::spi::{self, Parameter};
use crate::pg::table::lookup::{self, Key};
use crate::pg::table::relation::Relation;
use crate::tables::open;
use crate::tables::records::row::Owner;
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;
use rules::Timestamp;
use rules::error::{Code, Error, Result};
use rules::request::fingerprint::Fingerprint;
use rules::saga::{Known, Position, State};

/// Columns of the table, in order (sql/74_saga_run.sql), as far as a sweep reads them: by position, past
/// the executor. All others are read by name.
pub mod column {
    use pgrx::pg_sys;

    pub const EXPIRES_AT: usize = 2;
    pub const SAGA: usize = 6;
    pub const SCOPE: usize = 7;
    pub const KEY: usize = 8;
    pub const TYPES: &[pg_sys::Oid] = &[
        pg_sys::TIMESTAMPTZOID,
        pg_sys::TIMESTAMPTZOID,
        pg_sys::TIMESTAMPTZOID,
        pg_sys::INT4OID,
        pg_sys::INT2OID,
        pg_sys::TEXTOID,
        pg_sys::TEXTOID,
        pg_sys::TEXTOID,
        pg_sys::TEXTOID,
    ];
}

/// The row of a saga, and the step at which it stands.
pub struct SagaRow {
    pub known: Known,
    pub at: Position,
    pub answers: Option<Datum>,
    pub failure: Option<Datum>,
    /// Of each step, whether it has a compensation.
    pub can_undo: Vec<bool>,
    /// The name of the step, and its handler or compensation; `None` where nothing is left to do.
    pub step: Option<Datum>,
    pub handler: Option<Datum>,
    pub argument: Option<Datum>,
    /// The SQLSTATEs and classes by which the step fails for good.
    pub last: Vec<Vec<u8>>,
}

impl SagaRow {
    /// The name of the step that is next.
    pub fn next(&self) -> Option<Text<'_>> {
        // SAFETY: the column of the name is a text of FIND, and `spi::row` has copied it into the memory context
        // of the call, which the row does not outlive.
        self.step.map(|name| unsafe { Text::from_datum(name) })
    }
}

/// What a step did, to be written down.
#[derive(Clone, Copy)]
pub struct Done {
    pub from: Position,
    pub to: Position,
    pub step: Option<Datum>,
    /// `None`: it answered null, or not at all.
    pub answer: Option<Datum>,
    /// What it failed with for good.
    pub failure: Option<Datum>,
    /// Whether it is a compensation that will not be done.
    pub is_given_up: bool,
    pub at: Timestamp,
    pub expires_at: Option<Timestamp>,
}

/// What there is to say of a saga, as it is written.
pub struct Written {
    pub answers: Option<Datum>,
    pub failure: Option<Datum>,
    /// The name of the step that is next; `None` where nothing is left to do.
    pub next_step: Option<Datum>,
}

const FIND: &str = "
SELECT r.state, r.step, r.fingerprint, r.fingerprint_version, r.expires_at, r.answers, r.failure,
       (SELECT pg_catalog.string_agg(CASE WHEN e.value OPERATOR(pg_catalog.->>) 'compensation' IS NULL
                                          THEN '-' ELSE 'c' END, '' ORDER BY e.ordinality)
          FROM pg_catalog.jsonb_array_elements(r.steps) WITH ORDINALITY AS e),
       s.step OPERATOR(pg_catalog.->>) 'name',
       s.step OPERATOR(pg_catalog.->>) CASE WHEN r.state OPERATOR(pg_catalog.=) 'running'
                                            THEN 'handler' ELSE 'compensation' END,
       pg_catalog.jsonb_build_object('saga', r.saga, 'scope', r.scope, 'key', r.key,
           'step', s.step OPERATOR(pg_catalog.->) 'name', 'request', r.request, 'answers', r.answers)
       OPERATOR(pg_catalog.||)
       CASE WHEN r.state OPERATOR(pg_catalog.=) 'running' THEN '{}'
            ELSE pg_catalog.jsonb_build_object('failure', r.failure, 'answer',
                r.answers OPERATOR(pg_catalog.->) (s.step OPERATOR(pg_catalog.->>) 'name')) END,
       ARRAY(SELECT pg_catalog.jsonb_array_elements_text(s.step OPERATOR(pg_catalog.->) 'final'))
  FROM idempotent.saga_run AS r
 CROSS JOIN LATERAL (SELECT r.steps OPERATOR(pg_catalog.->)
                            (r.step OPERATOR(pg_catalog.-) 1) AS step) AS s
 WHERE r.saga OPERATOR(pg_catalog.=) $1 AND r.scope OPERATOR(pg_catalog.=) $2
   AND r.key OPERATOR(pg_catalog.=) $3";

const FOR_UPDATE: &str = " FOR UPDATE OF r SKIP LOCKED";

const DELETE: &str = "
DELETE FROM idempotent.saga_run AS r
 WHERE r.saga OPERATOR(pg_catalog.=) $1 AND r.scope OPERATOR(pg_catalog.=) $2
   AND r.key OPERATOR(pg_catalog.=) $3";

/// Another row is in the way only if the transaction's snapshot does not show it, which is 40001.
const START: &str = "
INSERT INTO idempotent.saga_run AS r
       (started_at, changed_at, step, slot, state, saga, scope, key, steps, request, fingerprint,
        fingerprint_version, answers)
SELECT $4, $4, 1, $8, 'running', s.name, $2, $3, s.steps, $5, $6, $7, '{}'
  FROM idempotent.saga AS s WHERE s.name OPERATOR(pg_catalog.=) $1
    ON CONFLICT ON CONSTRAINT saga_run_pkey DO NOTHING";

const WRITE: &str = "
UPDATE idempotent.saga_run AS r
   SET changed_at = $4, expires_at = $5, state = $6, step = $7,
       answers = CASE WHEN r.state OPERATOR(pg_catalog.=) 'running' AND $10 IS NULL
                      THEN r.answers OPERATOR(pg_catalog.||) pg_catalog.jsonb_build_object($8, $9)
                      ELSE r.answers END,
       failure = CASE WHEN $13 THEN r.failure OPERATOR(pg_catalog.||) pg_catalog.jsonb_build_object('uncompensated',
                                    COALESCE(r.failure OPERATOR(pg_catalog.->) 'uncompensated', '[]')
                                    OPERATOR(pg_catalog.||) pg_catalog.to_jsonb($8))
                      WHEN $10 IS NULL THEN r.failure
                      ELSE pg_catalog.jsonb_build_object('step', $8) OPERATOR(pg_catalog.||) $10 END
 WHERE r.saga OPERATOR(pg_catalog.=) $1 AND r.scope OPERATOR(pg_catalog.=) $2
   AND r.key OPERATOR(pg_catalog.=) $3
   AND r.state OPERATOR(pg_catalog.=) $11 AND r.step OPERATOR(pg_catalog.=) $12
RETURNING r.answers, r.failure,
          CASE WHEN r.expires_at IS NULL
               THEN r.steps OPERATOR(pg_catalog.->) (r.step OPERATOR(pg_catalog.-) 1)
                    OPERATOR(pg_catalog.->>) 'name' END";

/// The table, open for writing.
pub struct Sagas(Relation);

impl Sagas {
    /// # Errors
    /// 42P01 and 55000 if the extension is not what it was made as.
    pub fn open() -> Result<Self> {
        open::to_write(column::TYPES, |catalog| catalog.sagas).map(Self)
    }

    /// Gives its lock back, before anything was written.
    pub fn give_back(self) {
        self.0.give_back();
    }

    /// The row as the statement's snapshot shows it.
    pub fn find(&self, owner: &Owner<'_>) -> Result<Option<SagaRow>> {
        self.found(FIND, owner)
    }

    /// The row, locked until the transaction ends; `None` also while another transaction has locked it, past the lock
    /// of the saga.
    pub fn find_locked(&self, owner: &Owner<'_>) -> Result<Option<SagaRow>> {
        self.found(&[FIND, FOR_UPDATE].concat(), owner)
    }

    /// That there is none, where the statement's snapshot shows none.
    ///
    /// # Errors
    /// 40001 under REPEATABLE READ and above for a row that is newer than the transaction's snapshot.
    pub fn check_absent(&self, owner: &Owner<'_>) -> Result<()> {
        let key = Key::texts(&[
            (column::KEY, owner.key.datum),
            (column::SAGA, owner.operation.datum),
            (column::SCOPE, owner.scope.datum),
        ]);
        if !snapshot::is_frozen() || lookup::current(&self.0, key).is_null() {
            return Ok(());
        }
        Err(snapshot::is_too_old("saga", &owner.identity.describe()))
    }

    fn found(&self, sql: &str, owner: &Owner<'_>) -> Result<Option<SagaRow>> {
        let columns = {
            let _rights = self.rights();
            spi::row::<12>(sql, &names(owner))?
        };
        columns.map(|columns| read(&columns)).transpose()
    }

    /// Deletes the row.
    pub fn delete(&self, owner: &Owner<'_>) -> Result<()> {
        let _rights = self.rights();
        spi::execute(DELETE, &names(owner)).map(drop)
    }

    /// A new row, with the steps as they are defined now; false if no such saga is defined.
    pub fn start(
        &self,
        owner: &Owner<'_>,
        request: Option<Datum>,
        fingerprint: Option<Fingerprint>,
        now: Timestamp,
    ) -> Result<bool> {
        let _rights = self.rights();
        let digest = fingerprint.map(|fingerprint| make::uuid(fingerprint.digest));
        let version = fingerprint.map(|fingerprint| Datum::from(fingerprint.version));
        let [saga, scope, key] = names(owner);
        let parameters = [
            saga,
            scope,
            key,
            (pg_sys::TIMESTAMPTZOID, Some(Datum::from(now))),
            (pg_sys::JSONBOID, request),
            (pg_sys::UUIDOID, digest),
            (pg_sys::INT2OID, version),
            (pg_sys::INT2OID, Some(make::slot(owner.identity.slot()))),
        ];
        Ok(spi::execute(START, &parameters)? == 1)
    }

    /// Writes down what a step did, in its transaction.
    ///
    /// # Errors
    /// ID007 if the saga is not at this step any more.
    pub fn write(&self, owner: &Owner<'_>, done: &Done) -> Result<Written> {
        let _rights = self.rights();
        let [saga, scope, key] = names(owner);
        let parameters = [
            saga,
            scope,
            key,
            (pg_sys::TIMESTAMPTZOID, Some(Datum::from(done.at))),
            (pg_sys::TIMESTAMPTZOID, done.expires_at.map(Datum::from)),
            (pg_sys::TEXTOID, Some(text(done.to.state.name()))),
            (pg_sys::INT4OID, Some(number(done.to.step))),
            (pg_sys::TEXTOID, done.step),
            (pg_sys::JSONBOID, done.answer),
            (pg_sys::JSONBOID, done.failure),
            (pg_sys::TEXTOID, Some(text(done.from.state.name()))),
            (pg_sys::INT4OID, Some(number(done.from.step))),
            (pg_sys::BOOLOID, Some(Datum::from(done.is_given_up))),
        ];
        let [answers, failure, next_step] = spi::row(WRITE, &parameters)?.ok_or_else(|| {
            Error::new(Code::NoClaim, "the saga is not at this step any more")
                .detail("Its row was changed while the handler ran.")
                .hint("CALL idempotent_saga_run() again: it does what is next.")
        })?;
        Ok(Written { answers, failure, next_step })
    }

    fn rights(&self) -> OwnerRights {
        // SAFETY: `open` has opened the relation, and `self` keeps it open.
        unsafe { OwnerRights::of(self.0.raw) }
    }
}

fn names(owner: &Owner<'_>) -> [Parameter; 3] {
    [owner.operation, owner.scope, owner.key].map(|name| (pg_sys::TEXTOID, Some(name.datum)))
}

fn number(step: usize) -> Datum {
    Datum::from(i32::try_from(step).unwrap_or(i32::MAX))
}

fn read(columns: &[Option<Datum>; 12]) -> Result<SagaRow> {
    let [
        state,
        step,
        digest,
        version,
        expires_at,
        answers,
        failure,
        can_undo,
        name,
        handler,
        argument,
        last,
    ] = *columns;
    // SAFETY: `found` passes the columns of FIND, each read as the type that it has there: text, integer, uuid,
    // smallint, timestamptz, jsonb, jsonb, text, text, text, jsonb, text[]. `spi::row` has copied them into the
    // memory context of the call.
    unsafe {
        let bytes = |column: Option<Datum>| column.map_or(&[][..], |datum| varlena::slice(datum));
        let state = State::parse(bytes(state)).ok_or_else(unknown_state)?;
        let fingerprint = digest.map(|digest| Fingerprint {
            version: version.map_or(0, |datum| datum.value() as i16),
            digest: *digest.cast_mut_ptr::<[u8; 16]>(),
        });
        let last = last.map_or(Ok(Vec::new()), |last| array::texts(last))?;
        Ok(SagaRow {
            known: Known {
                fingerprint,
                state,
                expires_at: expires_at.map(|datum| datum.value() as i64),
            },
            at: Position { state, step: step.map_or(0, |datum| datum.value()) },
            answers,
            failure,
            can_undo: bytes(can_undo).iter().map(|mark| *mark == b'c').collect(),
            step: name,
            handler,
            argument,
            last: last.into_iter().flatten().map(|code: Text<'_>| code.utf8.to_vec()).collect(),
        })
    }
}

fn unknown_state() -> Error {
    Error::new(Code::ObjectNotReady, "a saga is in a state that this library does not know")
        .hint("Update the library, or the row in idempotent.saga_run.")
}
