//! The SQL functions: arguments in, row out. A file per concern; the decisions are the domain's.

mod check;
mod claim;
mod consumer;
mod finish;
mod forget;
mod forget_all;
mod grants;
mod http;
mod keys;
mod lease;
mod named_lock;
mod nodes;
mod offsets;
mod operation;
mod outbox;
mod replay;
mod run;
mod saga;
mod saga_settle;
mod scope;
mod settle;
mod statistics;
mod sweep;

/// The arguments of every function that has some, for the test that compares them with the catalog.
#[cfg(any(test, feature = "pg_test"))]
pub const DECLARATIONS: &[crate::pg::declaration::Declaration] = &[
    claim::Claim::DECLARED,
    consumer::First::DECLARED,
    consumer::FirstOf::DECLARED,
    consumer::SkipHeld::DECLARED,
    finish::Finish::DECLARED,
    finish::Release::DECLARED,
    http::HttpClaim::DECLARED,
    http::HttpComplete::DECLARED,
    keys::NewKey::DECLARED,
    keys::RequestKey::DECLARED,
    keys::DeriveKey::DECLARED,
    keys::Slot::DECLARED,
    keys::Shard::DECLARED,
    lease::Extend::DECLARED,
    lease::ExtendAll::DECLARED,
    lease::Checkpoint::DECLARED,
    named_lock::Lock::DECLARED,
    named_lock::Unlock::DECLARED,
    offsets::Advance::DECLARED,
    forget::ForgetMessage::DECLARED,
    forget::Rewind::DECLARED,
    forget::ForgetOffset::DECLARED,
    nodes::Own::DECLARED,
    nodes::Import::DECLARED,
    nodes::OwnSlot::DECLARED,
    nodes::Owns::DECLARED,
    nodes::FenceAbove::DECLARED,
    replay::Replay::DECLARED,
    replay::Explain::DECLARED,
    run::Run::DECLARED,
    settle::Seal::DECLARED,
    settle::Resolve::DECLARED,
    settle::Forget::DECLARED,
    forget_all::ForgetAll::DECLARED,
    scope::ForgetScope::DECLARED,
    scope::ExportScope::DECLARED,
    sweep::Sweep::DECLARED,
    grants::Grant::DECLARED,
    grants::Revoke::DECLARED,
    operation::Operation::DECLARED,
    operation::Drop::DECLARED,
    operation::Check::DECLARED,
    operation::Stop::DECLARED,
    operation::Join::DECLARED,
    operation::Audited::DECLARED,
    outbox::Put::DECLARED,
    outbox::Take::DECLARED,
    outbox::Ack::DECLARED,
    outbox::Release::DECLARED,
    outbox::Redrive::DECLARED,
    outbox::Wait::DECLARED,
    outbox::Print::DECLARED,
    outbox::CheckDate::DECLARED,
    outbox::Expires::DECLARED,
    outbox::Count::DECLARED,
    saga::Step::DECLARED,
    saga_settle::Explain::DECLARED,
    saga_settle::Resume::DECLARED,
    saga_settle::Abandon::DECLARED,
    saga_settle::Settle::DECLARED,
    saga_settle::Forget::DECLARED,
    saga::CheckName::DECLARED,
    saga::CheckStep::DECLARED,
];

/// The functions that return `idempotent_result`.
pub static ANSWERING: &[crate::pg::function::Symbol] =
    &[idempotent_claim, idempotent_replay, idempotent_run, idempotent_seal, idempotent_resolve];

crate::pg::function::sql_functions! {
    idempotent_claim => claim::idempotent_claim,
    idempotent_complete => finish::idempotent_complete,
    idempotent_fail => finish::idempotent_fail,
    idempotent_release => finish::idempotent_release,
    idempotent_http_claim => http::idempotent_http_claim,
    idempotent_http_complete => http::idempotent_http_complete,
    idempotent_extend => lease::idempotent_extend,
    idempotent_extend_all => lease::idempotent_extend_all,
    idempotent_check => check::idempotent_check,
    idempotent_checkpoint => lease::idempotent_checkpoint,
    idempotent_replay => replay::idempotent_replay,
    idempotent_run => run::idempotent_run,
    idempotent_first => consumer::idempotent_first,
    idempotent_first_of => consumer::idempotent_first_of,
    idempotent_first_skip_held => consumer::idempotent_first_skip_held,
    idempotent_advance => offsets::idempotent_advance,
    idempotent_forget_message => forget::idempotent_forget_message,
    idempotent_rewind => forget::idempotent_rewind,
    idempotent_forget_offset => forget::idempotent_forget_offset,
    idempotent_lock => named_lock::idempotent_lock,
    idempotent_unlock => named_lock::idempotent_unlock,
    idempotent_explain => replay::idempotent_explain,
    idempotent_new_key => keys::idempotent_new_key,
    idempotent_request_key => keys::idempotent_request_key,
    idempotent_derive_key => keys::idempotent_derive_key,
    idempotent_slot => keys::idempotent_slot,
    idempotent_shard => keys::idempotent_shard,
    idempotent_own_slot => nodes::own_slot,
    idempotent_own => nodes::idempotent_own,
    idempotent_import => nodes::idempotent_import,
    idempotent_owns => nodes::owns,
    idempotent_announce_own => nodes::announce_own,
    idempotent_wait_for_writers => nodes::wait_for_writers,
    idempotent_fence_above => nodes::fence_above,
    idempotent_position_above => nodes::position_above,
    idempotent_lost_before => nodes::lost_before,
    idempotent_operation => operation::idempotent_operation,
    idempotent_operation_changed => operation::idempotent_operation_changed,
    idempotent_operation_drop => operation::idempotent_operation_drop,
    idempotent_check_settings => operation::check_settings,
    idempotent_stop_callers => operation::stop_callers,
    idempotent_join_callers => operation::join_callers,
    idempotent_audited => operation::audited,
    idempotent_is_configuring => operation::is_configuring,
    idempotent_seal => settle::idempotent_seal,
    idempotent_resolve => settle::idempotent_resolve,
    idempotent_forget => settle::idempotent_forget,
    idempotent_forget_all => forget_all::idempotent_forget_all,
    idempotent_forget_scope => scope::idempotent_forget_scope,
    idempotent_export_scope => scope::idempotent_export_scope,
    idempotent_sweep => sweep::idempotent_sweep,
    idempotent_grant => grants::idempotent_grant,
    idempotent_revoke => grants::idempotent_revoke,
    idempotent_counters => statistics::idempotent_counters,
    idempotent_samples => statistics::idempotent_samples,
    idempotent_library => statistics::idempotent_library,
    idempotent_stats_reset => statistics::idempotent_stats_reset,
    idempotent_outbox_put => outbox::idempotent_outbox_put,
    idempotent_outbox_take => outbox::idempotent_outbox_take,
    idempotent_outbox_ack => outbox::idempotent_outbox_ack,
    idempotent_outbox_release => outbox::idempotent_outbox_release,
    idempotent_outbox_redrive => outbox::idempotent_outbox_redrive,
    idempotent_outbox_wait => outbox::outbox_wait,
    idempotent_outbox_fingerprint => outbox::outbox_fingerprint,
    idempotent_outbox_is_same => outbox::outbox_is_same,
    idempotent_outbox_check_date => outbox::outbox_check_date,
    idempotent_outbox_expires => outbox::outbox_expires,
    idempotent_outbox_count => outbox::outbox_count,
    idempotent_saga_step => saga::idempotent_saga_step,
    idempotent_saga_explain => saga_settle::idempotent_saga_explain,
    idempotent_saga_resume => saga_settle::idempotent_saga_resume,
    idempotent_saga_abandon => saga_settle::idempotent_saga_abandon,
    idempotent_saga_settle => saga_settle::idempotent_saga_settle,
    idempotent_saga_forget => saga_settle::idempotent_saga_forget,
    idempotent_check_saga_name => saga::check_saga_name,
    idempotent_check_saga_step => saga::check_saga_step,
}
