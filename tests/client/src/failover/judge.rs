//! What the clients were told, against what the primary of the latest turn holds.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::ledger::{Key, Ledger, Told, What};
use crate::cluster::Result;
use crate::connect::Server;

/// A business row.
struct Effect {
    token: String,
    turn: String,
}

pub struct Judge {
    told: Vec<Told>,
    keys: BTreeSet<Key>,
    effects: HashMap<Key, Vec<Effect>>,
    /// Outcome and token that a look-up of each logged key gives.
    answers: HashMap<Key, (String, String)>,
}

impl Judge {
    /// Looks at everything, while nobody calls.
    pub fn look(ledger: &Ledger, server: &Server) -> Result<Self> {
        let keys = ledger.keys();
        let by_name: HashMap<_, _> = keys
            .iter()
            .map(|key| ((key.kind.operation().to_owned(), key.key.clone()), key.clone()))
            .collect();
        let mut client = server.client()?;

        let mut effects: HashMap<Key, Vec<Effect>> = HashMap::new();
        for row in client.query("SELECT operation, key, token::text, turn FROM effect", &[])? {
            let key = by_name
                .get(&(row.get(0), row.get(1)))
                .ok_or("a business row of a key that nobody sent")?;
            effects
                .entry(key.clone())
                .or_default()
                .push(Effect { token: row.get(2), turn: row.get(3) });
        }

        let logged: Vec<&str> =
            keys.iter().filter(|key| key.kind.logged).map(|key| key.key.as_str()).collect();
        let rows = client.query(
            "SELECT key, outcome, coalesce(response->>'token', '')
               FROM unnest($1::text[]) AS key, LATERAL idempotent_replay('kept', key)",
            &[&logged],
        )?;
        let answers = rows
            .iter()
            .map(|row| {
                (by_name[&("kept".to_owned(), row.get(0))].clone(), (row.get(1), row.get(2)))
            })
            .collect();
        Ok(Self { told: ledger.all(), keys, effects, answers })
    }

    /// What is promised of every failover, whatever the standby had heard of.
    pub fn promises_hold(&self) {
        self.nothing_ran_twice();
        self.answers_have_their_rows();
        self.answers_agree();
        self.errors_belong_there();
        self.fences_grow();
    }

    /// No key has two effects, but one that carries no date and whose record was lost with the turn.
    fn nothing_ran_twice(&self) {
        for (key, effects) in &self.effects {
            let turns: HashSet<_> = effects.iter().map(|effect| &effect.turn).collect();
            let allowed = if key.kind.logged || key.kind.dated { 1 } else { turns.len() };
            assert!(effects.len() <= allowed, "{key:?} has {} effects in {turns:?}", effects.len());
        }
    }

    /// Of logged operations answer and business row are there together, or neither is.
    fn answers_have_their_rows(&self) {
        for key in self.keys.iter().filter(|key| key.kind.logged) {
            let (outcome, token) = &self.answers[key];
            match self.effects.get(key).map(Vec::as_slice) {
                Some([effect]) => {
                    assert_eq!((outcome.as_str(), token), ("replay", &effect.token), "{key:?}")
                }
                None if key.kind.leased => assert!(
                    ["absent", "in_progress"].contains(&outcome.as_str()),
                    "{key:?}: {outcome}"
                ),
                None => assert_eq!(outcome, "absent", "{key:?}"),
                Some(_) => panic!("{key:?} has several effects"),
            }
        }
    }

    /// Whoever was given an answer in a turn was given the same one.
    fn answers_agree(&self) {
        let mut first: HashMap<_, &String> = HashMap::new();
        for told in &self.told {
            if let Some(token) = token(told) {
                let other = *first.entry((&told.key, told.turn)).or_insert(token);
                assert_eq!(token, other, "two answers in one turn: {told:?}");
            }
        }
    }

    /// How many answers that were given in a turn have a row that is there, and how many have none.
    pub fn acknowledged(&self, turn: usize) -> (usize, usize) {
        let rows: HashSet<&String> =
            self.effects.values().flatten().map(|effect| &effect.token).collect();
        let (there, gone): (BTreeSet<_>, BTreeSet<_>) = self
            .told
            .iter()
            .filter(|told| told.turn == turn)
            .filter_map(token)
            .partition(|token| rows.contains(token));
        (there.len(), gone.len())
    }

    /// What a turn told about unlogged keys of earlier ones: dated ones may have run, nobody can tell; the others run
    /// again. Returns how many of each were told so.
    pub fn unlogged_is_forgotten(&self, turn: usize) -> (usize, usize) {
        let of_before: HashMap<&Key, HashSet<&String>> = self
            .told
            .iter()
            .filter(|told| told.turn < turn && !told.key.kind.logged)
            .map(|told| (&told.key, token(told)))
            .fold(HashMap::new(), |mut all, (key, token)| {
                all.entry(key).or_default().extend(token);
                all
            });
        let (mut unknown, mut again) = (0, 0);
        for told in self.told.iter().filter(|told| told.turn == turn) {
            let Some(tokens) = of_before.get(&told.key) else { continue };
            match &told.what {
                What::Other(outcome) if told.key.kind.dated => {
                    assert_eq!(outcome, "unknown", "{told:?}");
                    unknown += 1;
                }
                What::Executed(token) | What::Replayed(token) => {
                    assert!(!told.key.kind.dated, "ran again, though it says its date: {told:?}");
                    assert!(
                        !tokens.contains(token),
                        "an answer of a record that is lost: {told:?}"
                    );
                    again += usize::from(!tokens.is_empty());
                }
                _ => {}
            }
        }
        (unknown, again)
    }

    /// Fences of a later turn are higher than all of an earlier one.
    fn fences_grow(&self) {
        let fences = |turn: usize| {
            self.told.iter().filter(move |told| told.turn == turn).filter_map(|told| {
                match told.what {
                    What::Leased(fence) => Some(fence),
                    _ => None,
                }
            })
        };
        for turn in 1..=self.told.iter().map(|told| told.turn).max().unwrap_or(0) {
            let before = (0..turn).flat_map(fences).max().expect("leases in every turn");
            let after = fences(turn).min().expect("leases in every turn");
            assert!(
                after > before,
                "fence {before} was granted before failover {turn}, {after} after it"
            );
        }
        let all: Vec<_> =
            (0..).take_while(|turn| fences(*turn).next().is_some()).flat_map(fences).collect();
        assert_eq!(
            all.iter().collect::<HashSet<_>>().len(),
            all.len(),
            "a fence was granted twice"
        );
    }

    /// A standby refuses, and so nobody before the first failover; nothing but waiting too long may come in between.
    fn errors_belong_there(&self) {
        for told in &self.told {
            match &told.what {
                What::Refused(code) => {
                    assert_eq!(code, "25006", "{told:?}");
                    assert!(told.turn > 0, "a primary has refused: {told:?}");
                }
                What::Other(outcome) => {
                    assert!(["unknown", "in_progress"].contains(&outcome.as_str()), "{told:?}")
                }
                _ => {}
            }
        }
    }

    /// Leases of a turn of which nobody has heard since, each with its fence.
    pub fn open_leases(&self, turn: usize) -> Vec<(Key, i64)> {
        let touched: HashSet<&Key> = self
            .told
            .iter()
            .filter(|told| !matches!(told.what, What::Leased(_)))
            .map(|told| &told.key)
            .collect();
        let open =
            self.told.iter().filter(|told| told.turn == turn && !touched.contains(&told.key));
        open.filter_map(|told| match told.what {
            What::Leased(fence) => Some((told.key.clone(), fence)),
            _ => None,
        })
        .collect()
    }
}

fn token(told: &Told) -> Option<&String> {
    match &told.what {
        What::Executed(token) | What::Replayed(token) => Some(token),
        _ => None,
    }
}
