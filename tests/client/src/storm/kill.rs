//! Killing a delivery in flight: its backend is terminated from another connection, and the client throws its own
//! away without having read the answer.

use std::sync::{Mutex, MutexGuard, PoisonError};

use postgres::{Client, Statement};

use super::Result;
use super::plan::{Delivery, Moment, Purchase};
use super::side::{Side, mark};
use crate::connect::Server;
use crate::watch::wait_until;
use crate::wire::Wire;

/// Whether the killed transaction had committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Killed {
    BeforeCommit,
    AfterCommit,
}

/// The connection that looks and terminates, shared by all.
pub struct Killer {
    client: Mutex<Client>,
    terminate: Statement,
    in_state: Statement,
    charged: Statement,
}

impl Killer {
    pub fn new(server: &Server, side: &Side) -> Result<Self> {
        let mut client = server.client()?;
        Ok(Self {
            terminate: client.prepare("SELECT pg_terminate_backend($1)")?,
            in_state: client.prepare(
                "SELECT EXISTS (SELECT FROM pg_stat_activity
                                 WHERE pid = $1 AND state LIKE $2 AND starts_with(query, $3))",
            )?,
            charged: client.prepare(&format!(
                "SELECT EXISTS (SELECT FROM {}.charge WHERE purchase = $1)",
                side.books()
            ))?,
            client: Mutex::new(client),
        })
    }

    /// Delivers and kills. Uses the connection up.
    pub fn kill(
        &self,
        mut wire: Wire,
        side: &Side,
        delivery: &Delivery,
        purchase: &Purchase,
        moment: Moment,
    ) -> Result<Killed> {
        let pid = wire.pid();
        let mark = mark(delivery);
        let call = side.call(purchase);
        match moment {
            Moment::BeforeCommit => {
                wire.send(&format!("{mark} BEGIN; {call}"))?;
                // The handler is through, its transaction is open, COMMIT was not sent.
                self.wait_for(pid, "idle in transaction%", &mark);
                self.terminate(pid)?;
                wire.throw_away();
                Ok(Killed::BeforeCommit)
            }
            Moment::AfterCommit => {
                wire.send(&format!("{mark} {call}"))?;
                // The backend has nothing more to do for this query: its transaction is over, and all of its answer
                // lies unread on our side of the socket. That it committed is seen where everybody can see it: in the
                // books. (A call told to ask later commits nothing.)
                self.wait_for(pid, "idle", &mark);
                let committed = self.client().query_one(&self.charged, &[&purchase.line])?.get(0);
                self.terminate(pid)?;
                wire.throw_away();
                Ok(if committed { Killed::AfterCommit } else { Killed::BeforeCommit })
            }
            Moment::AnyMoment => {
                wire.send(&format!("{mark} {call}"))?;
                self.terminate(pid)?;
                // What is left on the wire is looked at for one thing only: which of the two this was. The server
                // says `SELECT 1` after it has committed, and not otherwise.
                let committed = !wire.receive()?.tags.is_empty();
                wire.throw_away();
                Ok(if committed { Killed::AfterCommit } else { Killed::BeforeCommit })
            }
        }
    }

    fn wait_for(&self, pid: i32, state: &str, mark: &str) {
        wait_until(&format!("backend {pid} is {state} after {mark}"), || {
            self.client()
                .query_one(&self.in_state, &[&pid, &state, &mark])
                .expect("the killer's connection answers")
                .get(0)
        });
    }

    fn terminate(&self, pid: i32) -> Result<()> {
        let done: bool = self.client().query_one(&self.terminate, &[&pid])?.get(0);
        if done { Ok(()) } else { Err(format!("backend {pid} could not be terminated").into()) }
    }

    fn client(&self) -> MutexGuard<'_, Client> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
