//! What the failover suite is made of: a primary with its standby, clients that do not stop when one of them dies, and
//! a judgement of what they were told against what is there.

mod judge;
mod ledger;
mod pair;
mod traffic;

pub use judge::Judge;
pub use ledger::{Key, Kind, Ledger, Told, What};
pub use pair::Pair;
pub use traffic::{Traffic, finish};

/// The tables and settings that the clients work with. Business rows are in an ordinary table, whatever the records are
/// in; each has the name of the server's turn as primary that it was written in.
pub const INSTALL: &str = "
    CREATE EXTENSION pg_idempotent;
    SELECT idempotent_operation('kept', durability => 'logged');
    SELECT idempotent_operation('light', durability => 'unlogged');
    CREATE TABLE effect (
        token uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        operation text NOT NULL,
        key text NOT NULL,
        turn text NOT NULL DEFAULT current_setting('application_name')
    );
    CREATE INDEX ON effect (operation, key);
    CREATE FUNCTION work(request jsonb) RETURNS jsonb LANGUAGE sql AS $$
        INSERT INTO public.effect (operation, key) VALUES (request->>'operation', request->>'key')
        RETURNING pg_catalog.jsonb_build_object('token', token)
    $$";
