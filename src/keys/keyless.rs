//! A call without a key that could be used, of an operation that is only observed: it goes through.

use crate::keys::answer::Answer;
use crate::keys::call::check_role;
use crate::keys::mode;
use crate::keys::observe::{claimed, holding_nothing, note};
use crate::pg::datum::text::Text;
use crate::stats::Counter;
use crate::tables::operations::{self, Operation};
use rules::Micros;
use rules::error::{Code, Error, Result};
use rules::identity::check_operation;
use rules::observe::Observed;
use rules::policy::Policy;
use std::rc::Rc;

/// A call without a key that could be used.
pub struct Keyless {
    pub policy: Rc<Policy>,
}

impl Keyless {
    /// What `Call::new` has refused, if the operation is only observed.
    ///
    /// # Errors
    /// The refusal, if it is not; 42501 if the caller is no member of the operation's role.
    pub fn instead_of(refusal: Error, operation: Option<Text<'_>>) -> Result<Self> {
        Ok(Self { policy: observed(refusal, operation)?.policy })
    }

    /// As `instead_of`, for a claim, which is counted.
    ///
    /// # Errors
    /// As `instead_of`.
    pub fn claim(
        refusal: Error,
        operation: Option<Text<'_>>,
        scope: Option<Text<'_>>,
        key: Option<Text<'_>>,
    ) -> Result<Self> {
        let found = observed(refusal, operation)?;
        let kind = if key.is_none() { Observed::MissingKey } else { Observed::BadKey };
        let parts = [operation, scope, key].map(|text| text.map_or(&b""[..], |text| text.utf8));
        note(&found.tally, kind, parts);
        found.tally.add(Counter::Claimed, 1);
        Ok(Self { policy: found.policy })
    }

    /// What it is answered.
    pub fn claimed(&self, lease: Option<Micros>) -> Result<Answer> {
        holding_nothing(None, lease.or(self.policy.lease)).map(claimed)
    }
}

fn observed(refusal: Error, operation: Option<Text<'_>>) -> Result<Operation> {
    let named = operation.filter(|name| check_operation(Some(name.utf8)).is_ok());
    let Some(name) = named.filter(|_| refusal.code == Code::BadKey) else {
        return Err(refusal);
    };
    let operation = operations::get(&name)?;
    if mode::is_binding(&operation.policy) {
        return Err(refusal);
    }
    check_role(&operation.policy, name.utf8)?;
    Ok(operation)
}
