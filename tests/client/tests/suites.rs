//! The suites that need real connections to a real server. They are told where it is by PGHOST (the directory of its
//! Unix socket), PGPORT and PGUSER, a superuser; it wants max_connections of 150, max_prepared_transactions above 0 and
//! otherwise default settings. Every test has a database of its own.

mod backlog;
mod concurrency;
mod consumer;
mod exhausted_disk;
mod exhausted_memory;
mod exhausted_server;
mod failover;
mod history;
mod in_the_way;
mod isolation_levels;
mod lease;
mod lease_races;
mod lifecycle;
mod many_keys;
mod memory;
mod named_locks;
mod outbox;
mod pooler;
mod prepared;
mod resets;
mod saga;
mod security;
mod statistics;
mod sweeper;
mod sweeper_lifecycle;
mod sweeper_snapshot;
mod sweeper_trouble;
mod waiting;
