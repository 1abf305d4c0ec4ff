//! The tables in which rows expire.

use crate::tables::catalog::Catalog;
use crate::tables::records::row::column;
use crate::tables::{asked, audit, locks, messages, outbox, sagas};
use pgrx::pg_sys;
use rules::policy::Durability;

/// A table that is swept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Sweepable {
    /// Of records, from which bodies are evicted, too.
    Records(Durability),
    /// Messages seen: what has expired is deleted, and that is all.
    Messages,
    /// Locks with a key, likewise.
    Locks,
    /// Sagas that are finished, likewise.
    Sagas,
    /// Ids of messages that were put into the outbox and acknowledged, likewise.
    OutboxIds,
    /// What administrators did, likewise.
    Audit,
    /// Claims that were answered unknown, likewise.
    Asked,
}

impl Sweepable {
    pub const ALL: [Self; 8] = [
        Self::Records(Durability::Unlogged),
        Self::Records(Durability::Logged),
        Self::Messages,
        Self::Locks,
        Self::Sagas,
        Self::OutboxIds,
        Self::Audit,
        Self::Asked,
    ];

    pub fn table(self, catalog: &Catalog) -> pg_sys::Oid {
        match self {
            Self::Records(durability) => catalog.records(durability),
            Self::Messages => catalog.messages,
            Self::Locks => catalog.locks,
            Self::Sagas => catalog.sagas,
            Self::OutboxIds => catalog.outbox_ids,
            Self::Audit => catalog.audit,
            Self::Asked => catalog.asked,
        }
    }

    /// Its name, in the schema `idempotent`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Records(Durability::Unlogged) => "record",
            Self::Records(Durability::Logged) => "record_logged",
            Self::Messages => "messages",
            Self::Locks => "locks",
            Self::Sagas => "saga_run",
            Self::OutboxIds => "outbox_id",
            Self::Audit => "audit",
            Self::Asked => "asked",
        }
    }

    /// The types of the columns that this library knows of it.
    pub fn known_columns(self) -> &'static [pg_sys::Oid] {
        match self {
            Self::Records(_) => column::TYPES,
            Self::Messages => messages::column::TYPES,
            Self::Locks => locks::column::TYPES,
            Self::Sagas => sagas::column::TYPES,
            Self::OutboxIds => outbox::column::TYPES,
            Self::Audit => audit::column::TYPES,
            Self::Asked => asked::column::TYPES,
        }
    }

    /// The column that says when a sweep is to look at a row, which is in an index; and its name.
    pub fn due(self) -> (usize, &'static str) {
        match self {
            Self::Records(_) => (column::SWEEP_AT, "sweep_at"),
            Self::Messages => (messages::column::EXPIRES_AT, "expires_at"),
            Self::Locks => (locks::column::EXPIRES_AT, "expires_at"),
            Self::Sagas => (sagas::column::EXPIRES_AT, "expires_at"),
            Self::OutboxIds => (outbox::column::EXPIRES_AT, "expires_at"),
            Self::Audit => (audit::column::EXPIRES_AT, "expires_at"),
            Self::Asked => (asked::column::EXPIRES_AT, "expires_at"),
        }
    }

    /// The column with the name of the operation under which a row is counted, if it is.
    pub fn counted_as(self) -> Option<usize> {
        match self {
            Self::Records(_) => Some(column::OPERATION),
            Self::Messages => Some(messages::column::CONSUMER),
            Self::Locks | Self::Audit | Self::Asked => None,
            Self::Sagas => Some(sagas::column::SAGA),
            Self::OutboxIds => Some(outbox::column::TOPIC),
        }
    }
}
