//! The two ways to charge: through the extension, and without it. The same handler, the same deliveries; the
//! `search_path` says into whose books the handler writes.

use super::plan::{Delivery, Purchase};
use crate::wire::quote;

#[derive(Clone, Debug)]
pub enum Side {
    /// `scope` sets this run's keys apart from those of earlier runs.
    With {
        scope: String,
    },
    Without,
}

impl Side {
    pub fn name(&self) -> &'static str {
        match self {
            Self::With { .. } => "with",
            Self::Without => "without",
        }
    }

    pub fn title(&self) -> &'static str {
        match self {
            Self::With { .. } => "with pg_idempotent",
            Self::Without => "without",
        }
    }

    /// The schema of this side's books.
    pub fn books(&self) -> &'static str {
        match self {
            Self::With { .. } => "demo_storm_with",
            Self::Without => "demo_storm_without",
        }
    }

    /// Startup options of this side's connections.
    pub fn options(&self) -> String {
        format!("-c search_path={},public", self.books())
    }

    /// The call: one row of outcome and response.
    pub fn call(&self, purchase: &Purchase) -> String {
        let request = quote(&purchase.request);
        match self {
            Self::With { scope } => format!(
                "SELECT outcome, response FROM idempotent_run('demo_storm.charge', 'purchase-{}', {request}, \
                 'demo_storm.charge(jsonb)', scope => {})",
                purchase.line,
                quote(scope),
            ),
            Self::Without => format!("SELECT 'executed', demo_storm.charge({request})"),
        }
    }
}

/// The first words of every query, by which it is recognised in `pg_stat_activity`.
pub fn mark(delivery: &Delivery) -> String {
    format!("/* storm {}.{} */", delivery.number, delivery.attempt)
}
