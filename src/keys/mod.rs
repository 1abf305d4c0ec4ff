//! The life of an idempotency key: claim, wait, finish, lease, settle, replay, run.

pub mod answer;
pub mod call;
pub mod claim;
pub mod decision;
pub mod explain;
pub mod finish;
pub mod forget;
pub mod handler;
pub mod held_by;
pub mod http;
pub mod keyless;
pub mod known_handlers;
pub mod lease;
pub mod mode;
pub mod observe;
pub mod replay;
pub mod request;
pub mod run;
pub mod running;
pub mod saga;
pub mod saga_settle;
pub mod settle;
pub mod stored;
pub mod waiting;
