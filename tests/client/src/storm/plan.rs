//! What will be delivered, in which order, and which deliveries die: all from one seed, the same for both sides.

use std::collections::VecDeque;

use postgres::Client;

use super::{DELIVERIES, KILLED_ONE_IN, Result};

/// One line of the shop's record; the line number is what its idempotency key is made of.
#[derive(Clone, Debug)]
pub struct Purchase {
    pub line: i32,
    /// The request body, JSON.
    pub request: String,
}

/// When a doomed delivery loses its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The handler has run, its transaction is open.
    BeforeCommit,
    /// The transaction has committed, the answer is unread.
    AfterCommit,
    /// At once after sending: whatever it is doing then.
    AnyMoment,
}

#[derive(Clone, Copy, Debug)]
pub struct Delivery {
    pub number: i32,
    /// Index into the purchases.
    pub purchase: usize,
    /// 1, then counted up each time it has to be delivered or asked again.
    pub attempt: i32,
    pub doom: Option<Moment>,
}

pub fn purchases(client: &mut Client) -> Result<Vec<Purchase>> {
    let rows =
        client.query("SELECT line, request::text FROM demo_storm.purchase ORDER BY line", &[])?;
    Ok(rows.iter().map(|row| Purchase { line: row.get(0), request: row.get(1) }).collect())
}

pub fn deliveries(purchases: usize, seed: u64) -> VecDeque<Delivery> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut of_purchase: Vec<usize> =
        (0..purchases * DELIVERIES).map(|each| each % purchases).collect();
    rng.shuffle(&mut of_purchase);

    // Exactly a tenth, the moments in equal parts.
    let moments = [Moment::BeforeCommit, Moment::AfterCommit, Moment::AnyMoment];
    let doomed = of_purchase.len() / KILLED_ONE_IN;
    let mut dooms: Vec<Option<Moment>> = (0..of_purchase.len())
        .map(|each| (each < doomed).then(|| moments[each % moments.len()]))
        .collect();
    rng.shuffle(&mut dooms);

    (1..)
        .zip(of_purchase.into_iter().zip(dooms))
        .map(|(number, (purchase, doom))| Delivery { number, purchase, attempt: 1, doom })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_purchase_five_times_a_tenth_doomed_and_the_same_again_from_the_same_seed() {
        let plan = deliveries(1_000, 7);
        assert_eq!(plan.len(), 5_000);
        for purchase in 0..1_000 {
            assert_eq!(
                plan.iter().filter(|delivery| delivery.purchase == purchase).count(),
                DELIVERIES
            );
        }
        let doomed = |moment| plan.iter().filter(|delivery| delivery.doom == Some(moment)).count();
        assert_eq!(
            doomed(Moment::BeforeCommit) + doomed(Moment::AfterCommit) + doomed(Moment::AnyMoment),
            5_000 / KILLED_ONE_IN
        );
        assert!(doomed(Moment::BeforeCommit) >= 166 && doomed(Moment::AfterCommit) >= 166);

        let order = |plan: &VecDeque<Delivery>| {
            plan.iter().map(|delivery| delivery.purchase).collect::<Vec<_>>()
        };
        assert_eq!(order(&plan), order(&deliveries(1_000, 7)));
        assert_ne!(order(&plan), order(&deliveries(1_000, 8)));
    }
}
