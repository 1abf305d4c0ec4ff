//! What every call on a key begins with: the key's identity, the operation's policy, and the caller's
//! right to use it.

use crate::keys::request::{Document, Request, is_newer, to_compare};
use crate::pg::datum::make;
use crate::pg::datum::text::Text;
use crate::pg::{rights, snapshot};
use crate::session::claims;
use crate::stats::{Counter, Tally};
use crate::tables::operations::{self, Operation};
use crate::tables::own;
use crate::tables::records::row::{Found, Owner};
use crate::tables::records::table::Records;
use crate::tables::sagas::Sagas;
use crate::tables::{catalog, changing};
use crate::{pg::clock, settings};
use rules::claim::{self, Verdict, judge};
use rules::dating::{Age, Dates, Kept};
use rules::error::{Code, Error, Result};
use rules::identity::Identity;
use rules::outcome::Outcome;
use rules::policy::{AfterReset, Durability, KeyForm, Policy};
use rules::request::fingerprint::Fingerprint;
use rules::{Micros, Timestamp};
use std::rc::Rc;

/// A call on one key.
pub struct Call<'a> {
    pub owner: Owner<'a>,
    pub policy: Rc<Policy>,
    /// The operation's counters.
    pub tally: Rc<Tally>,
    generation: u64,
    /// Whether another transaction is about to change where the records are.
    is_changing: bool,
    /// Whether that one waits for this transaction.
    has_joined: bool,
    /// Whether it begins something, which only the node does that answers for the owner.
    begins: bool,
    /// Whether it needs a scope where the operation demands one.
    needs_scope: bool,
}

impl<'a> Call<'a> {
    /// Checks the identity and that the caller may use the operation, before anything is looked up.
    ///
    /// # Errors
    /// ID006 for a bad operation, scope or key, also one that has not the operation's form, or without a scope that
    /// is demanded; 42501 if the caller is not a member of the operation's role.
    pub fn new(
        operation: Option<Text<'a>>,
        key: Option<Text<'a>>,
        scope: Option<Text<'a>>,
    ) -> Result<Self> {
        let call = Self::of_what_is_there(operation, key, scope)?;
        call.check_scope()?;
        Ok(Self { needs_scope: true, ..call })
    }

    /// The call of a holder, which finishes what it claimed: also without a scope that was not yet demanded then.
    ///
    /// # Errors
    /// ID006 for a bad operation, scope or key; 42501 if the caller is not a member of the operation's role.
    pub fn of_holder(
        operation: Option<Text<'a>>,
        key: Option<Text<'a>>,
        scope: Option<Text<'a>>,
    ) -> Result<Self> {
        Self::of_what_is_there(operation, key, scope).map(Self::finishing)
    }

    /// A call that goes on with what there is, looks at it or decides about it: also without a scope that was not
    /// yet demanded then. Where it would begin something, [`Self::check_scope`] is the caller's.
    ///
    /// # Errors
    /// ID006 for a bad operation, scope or key; 42501 if the caller is not a member of the operation's role.
    pub fn of_what_is_there(
        operation: Option<Text<'a>>,
        key: Option<Text<'a>>,
        scope: Option<Text<'a>>,
    ) -> Result<Self> {
        let utf8 = |text: Option<Text<'a>>| text.map(|text| text.utf8);
        let identity = Identity::new(utf8(operation), utf8(scope), utf8(key))?;
        let (Some(operation), Some(key), Some(scope)) = (operation, key, scope) else {
            // Identity::new has refused every null.
            return Err(Error::new(Code::BadKey, "operation, key and scope must not be null"));
        };
        let generation = catalog::generation();
        let Operation { policy, tally, is_changing } = operations::get(&operation)?;
        check_role(&policy, identity.operation())?;
        let (key, identity) = in_form(policy.key_form, operation, scope, key, identity)?;
        let id = claims::id_of_latest(&identity).unwrap_or_else(|| identity.record_id());
        let owner = Owner { operation, scope, key, identity, id };
        Ok(Self {
            owner,
            policy,
            tally,
            generation,
            is_changing,
            has_joined: false,
            begins: true,
            needs_scope: false,
        })
    }

    /// The call, of a holder that finishes what was begun here, also if another node answers for the owner
    /// since: see `idempotent_own`.
    pub fn finishing(self) -> Self {
        Self { begins: false, ..self }
    }

    /// From here on the call holds the key.
    pub fn has_begun(&mut self) {
        self.begins = false;
    }

    /// # Errors
    /// ID006 without a scope that is demanded.
    pub fn check_scope(&self) -> Result<()> {
        let identity = &self.owner.identity;
        self.policy.check_scope(identity.operation(), identity.scope())
    }

    /// Refuses a call that begins something for an owner of another node, with the table open.
    ///
    /// # Errors
    /// ID010 if another node answers for the owner.
    pub fn check_owner(&self) -> Result<()> {
        if !self.begins {
            return Ok(());
        }
        own::check(self.owner.identity.scope(), self.owner.identity.key())
    }

    /// Opens the operation's table for writing, which also holds off a change of durability until
    /// this transaction ends.
    ///
    /// # Errors
    /// ID001 if something is in the way for longer than the call waits.
    pub fn open_to_write(&mut self) -> Result<Records> {
        loop {
            let durability = self.policy.durability;
            let records = Records::open_to_write(durability)?;
            let is_current = self.is_unchanged()?;
            if is_current && (self.has_joined || !self.is_changing) {
                self.check_owner()?;
                return Ok(records);
            }
            // Kept, the lock could deadlock with the move that made us come here.
            records.give_back();
            if self.is_changing && !self.has_joined {
                changing::join(&self.owner.operation)?;
                // The change may be over, or has waited for us until now.
                self.has_joined = true;
            }
        }
    }

    /// Opens the operation's table for reading. Where a look-up finds nothing, `is_current` tells
    /// whether the records were moved to the other table meanwhile.
    pub fn open_to_read(&mut self) -> Result<Records> {
        loop {
            refuse_unlogged_on_standby(&self.policy)?;
            let records = Records::open_to_read(self.policy.durability)?;
            if self.is_unchanged()? {
                self.check_owner()?;
                return Ok(records);
            }
        }
    }

    /// Whether the records are still where the call began to look for them; settings that may have
    /// changed are read anew.
    ///
    /// With the lock of the right table held, a change of durability waits for us. Any other change
    /// does not make the call begin again, or a storm of them could keep it busy for ever.
    pub fn is_current(&mut self) -> Result<bool> {
        catalog::refresh();
        self.is_unchanged()
    }

    /// The same, as far as the session has learned: opening a table has just done that.
    fn is_unchanged(&mut self) -> Result<bool> {
        let generation = catalog::generation();
        if generation == self.generation {
            return Ok(true);
        }
        self.generation = generation;
        let durability = self.policy.durability;
        let Operation { policy, is_changing, .. } = operations::get(&self.owner.operation)?;
        self.check_form(&policy)?;
        (self.policy, self.is_changing) = (policy, is_changing);
        check_role(&self.policy, self.owner.identity.operation())?;
        if self.begins && self.needs_scope {
            self.check_scope()?;
        }
        Ok(self.policy.durability == durability)
    }

    /// Refuses to go on with a key in the form that the operation had when the call began.
    fn check_form(&self, now: &Policy) -> Result<()> {
        if now.key_form == self.policy.key_form {
            return Ok(());
        }
        let (was, is) = (self.policy.key_form.as_str(), now.key_form.as_str());
        Err(Error::new(Code::SerializationFailure, "key_form of the operation was changed")
            .detail(format!("It was {was} when the call began, and is {is} now."))
            .hint("Retry the transaction."))
    }

    /// Opens the table of sagas, which also holds off a change of the form of their keys until this transaction
    /// ends. What another node answers for is left behind here, and goes on there: nobody may move it on,
    /// whether a caller or an administrator.
    ///
    /// # Errors
    /// ID010 if another node answers for the owner, unless the call is `finishing`; 40001 if the form of the
    /// keys was changed since the call began.
    pub fn open_sagas(&self) -> Result<Sagas> {
        let mut has_joined = false;
        loop {
            let sagas = Sagas::open()?;
            let Operation { policy, is_changing, .. } = operations::got(&self.owner.operation)?;
            self.check_form(&policy)?;
            if has_joined || !is_changing {
                self.check_owner()?;
                return Ok(sagas);
            }
            // Kept, the lock could deadlock with the change.
            sagas.give_back();
            changing::join(&self.owner.operation)?;
            has_joined = true;
        }
    }

    /// Counts an answer that is about to be given.
    pub fn count_answer(&self, outcome: Outcome) {
        if let Some(counter) = Counter::of_outcome(outcome) {
            self.tally.add(counter, 1);
        }
    }
}

impl Call<'_> {
    /// What a claim with this request is answered, by what was found.
    pub fn judge(
        &self,
        records: &Records,
        found: Option<&Found>,
        request: &Request,
    ) -> Result<Verdict> {
        let now = clock::now();
        let stored = found.and_then(|found| found.record.fingerprint);
        let asked = claim::Request {
            fingerprint: self.asked(request.fingerprint, request.document, stored)?,
            attempt_id: request.attempt_id,
            age: self.age(records, request.first_sent, now),
        };
        Ok(self.judge_as(found, &asked, now))
    }

    /// The fingerprint of the request, by the rules by which the stored one was made; also by those that came
    /// while the call waited.
    pub fn asked(
        &self,
        asked: Option<Fingerprint>,
        request: Option<Document<'_>>,
        stored: Option<Fingerprint>,
    ) -> Result<Option<Fingerprint>> {
        if !is_newer(asked, stored, &self.policy) {
            return Ok(to_compare(asked, request, stored, &self.policy));
        }
        catalog::refresh();
        let Operation { policy, .. } = operations::got(&self.owner.operation)?;
        Ok(to_compare(asked, request, stored, &policy))
    }

    /// The lease that the caller asks for, if the operation allows it.
    pub fn allowed_lease(&self, lease: Option<Micros>) -> Result<Option<Micros>> {
        if let Some(lease) = lease {
            self.policy.check_lease(self.owner.identity.operation(), lease)?;
        }
        Ok(lease)
    }

    /// When records of the operation were last lost; `Timestamp::MIN` for never.
    pub fn lost_before(&self, records: &Records) -> Timestamp {
        records.lost_before().max(self.policy.lost_before)
    }

    /// How old the key says it is.
    pub fn age(&self, records: &Records, first_sent: Option<Timestamp>, now: Timestamp) -> Age {
        let lost_before = match self.policy.after_reset {
            AfterReset::Unknown => self.lost_before(records),
            AfterReset::Execute => Timestamp::MIN,
        };
        self.dates(first_sent).age(now, &kept(&self.policy, lost_before))
    }

    /// The dates that the key comes with.
    pub fn dates(&self, first_sent: Option<Timestamp>) -> Dates {
        Dates::of(first_sent, self.owner.identity.key(), self.policy.key_dates)
    }

    /// What a claim with the request of the record itself is answered: for a caller that is shown no
    /// request.
    pub fn judge_same(&self, found: Option<&Found>, age: Age, now: Timestamp) -> Verdict {
        let same = claim::Request::same_as(found.map(|found| &found.record), age);
        self.judge_as(found, &same, now)
    }

    fn judge_as(&self, found: Option<&Found>, asked: &claim::Request, now: Timestamp) -> Verdict {
        judge(found.map(|found| &found.record), asked, now)
    }
}

/// The key as it is kept, and the identity with it.
fn in_form<'a>(
    form: KeyForm,
    operation: Text<'a>,
    scope: Text<'a>,
    key: Text<'a>,
    identity: Identity<'a>,
) -> Result<(Text<'a>, Identity<'a>)> {
    let Some(canonical) = form.respell(&identity)? else {
        return Ok((key, identity));
    };
    // SAFETY: a text that was just made, in the memory of the call, which its arguments do not outlive.
    let key = unsafe { Text::from_datum(make::text(canonical.as_str())) };
    let identity = Identity::new(Some(operation.utf8), Some(scope.utf8), Some(key.utf8))?;
    Ok((key, identity))
}

/// How long the records of an operation are kept, and were; `lost_before` is when some were last lost.
pub fn kept(policy: &Policy, lost_before: Timestamp) -> Kept<'_> {
    let (retention, earlier) = (policy.retention, &policy.earlier);
    Kept { retention, skew: settings::clock_skew(), earlier, lost_before }
}

/// Whether the caller may use the operation, and has named the key's owner if the operation demands one.
///
/// # Errors
/// 42501 if the caller is not a member of the operation's role; ID006 without a scope.
pub fn check_may(policy: &Policy, operation: &[u8], scope: &[u8]) -> Result<()> {
    check_role(policy, operation)?;
    policy.check_scope(operation, scope)
}

/// # Errors
/// 42501 if the caller is not a member of the operation's role.
pub fn check_role(policy: &Policy, operation: &[u8]) -> Result<()> {
    check_member(policy.role.as_deref(), operation)
}

/// # Errors
/// 42501 if there is a role and the caller is no member of it.
pub fn check_member(role: Option<&str>, operation: &[u8]) -> Result<()> {
    let Some(role) = role else { return Ok(()) };
    let is_missing = match rights::is_member(role) {
        Some(true) => return Ok(()),
        is_member => is_member.is_none(),
    };
    let operation = String::from_utf8_lossy(operation).into_owned();
    let error = Error::new(
        Code::InsufficientPrivilege,
        format!("permission denied for operation \"{operation}\""),
    );
    Err(if is_missing {
        error
            .detail("The operation is for members of its role alone, and there is no such role.")
            .hint(format!("Ask an administrator: CREATE ROLE \"{role}\", or name another one: SELECT idempotent_operation(..., role => ...)."))
    } else {
        error
            .detail("The operation is for members of its role alone.")
            .hint("Ask an administrator: GRANT the operation's role to yours.")
    })
}

fn refuse_unlogged_on_standby(policy: &Policy) -> Result<()> {
    if policy.durability == Durability::Logged || !snapshot::in_recovery() {
        return Ok(());
    }
    Err(Error::new(
        Code::ReadOnly,
        "cannot read the records of an unlogged operation during recovery",
    )
    .detail("A standby has no unlogged records.")
    .hint("Ask the primary, or have the operation's records logged: SELECT idempotent_operation(..., durability => 'logged')."))
}
