//! Ids of messages in the outbox: `idempotent.outbox_id` (sql/70_outbox.sql). They are written by SQL; a
//! sweep goes past the executor.

/// Columns of the table, in order.
pub mod column {
    use pgrx::pg_sys;

    pub const EXPIRES_AT: usize = 1;
    pub const TOPIC: usize = 4;
    pub const TYPES: &[pg_sys::Oid] = &[
        pg_sys::UUIDOID,
        pg_sys::TIMESTAMPTZOID,
        pg_sys::UUIDOID,
        pg_sys::INT2OID,
        pg_sys::TEXTOID,
        pg_sys::TEXTOID,
        pg_sys::TEXTOID,
    ];
}
