//! The SQL functions: arguments in, row out. A file per concern; the decisions are the domain's.

mod grants;
mod keys;
mod named_lock;
mod offsets;
mod operation;
mod saga;
mod statistics;
mod sweep;

crate::pg::function::sql_functions! {
    idempotent_claim => crate::keys::claim::idempotent_claim,
    idempotent_complete => crate::keys::finish::idempotent_complete,
    idempotent_fail => crate::keys::finish::idempotent_fail,
    idempotent_release => crate::keys::finish::idempotent_release,
    idempotent_extend => crate::keys::lease::idempotent_extend,
    idempotent_checkpoint => crate::keys::lease::idempotent_checkpoint,
    idempotent_replay => crate::keys::replay::idempotent_replay,
    idempotent_run => crate::keys::run::idempotent_run,
    idempotent_first => crate::keys::consumer::idempotent_first,
    idempotent_first_of => crate::keys::consumer::idempotent_first_of,
    idempotent_advance => offsets::idempotent_advance,
    idempotent_lock => named_lock::idempotent_lock,
    idempotent_unlock => named_lock::idempotent_unlock,
    idempotent_explain => crate::keys::explain::idempotent_explain,
    idempotent_new_key => keys::idempotent_new_key,
    idempotent_request_key => keys::idempotent_request_key,
    idempotent_derive_key => keys::idempotent_derive_key,
    idempotent_shard => keys::idempotent_shard,
    idempotent_operation => operation::idempotent_operation,
    idempotent_operation_changed => operation::idempotent_operation_changed,
    idempotent_seal => crate::keys::settle::idempotent_seal,
    idempotent_resolve => crate::keys::settle::idempotent_resolve,
    idempotent_forget => crate::keys::settle::idempotent_forget,
    idempotent_sweep => sweep::idempotent_sweep,
    idempotent_grant => grants::idempotent_grant,
    idempotent_revoke => grants::idempotent_revoke,
    idempotent_counters => statistics::idempotent_counters,
    idempotent_samples => statistics::idempotent_samples,
    idempotent_library => statistics::idempotent_library,
    idempotent_stats_reset => statistics::idempotent_stats_reset,
    idempotent_refuse_transaction_block => saga::refuse_transaction_block,
}
