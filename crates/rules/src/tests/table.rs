//! Decision tables for tests, written as tables.

use std::collections::BTreeSet;

/// Rows of words, the last one the outcome. A cell is a word, several with `|` between, or `*` for
/// any; a line of dashes and what is above it is heading.
pub struct Table {
    rows: Vec<Vec<&'static str>>,
    used: BTreeSet<usize>,
}

impl Table {
    pub fn new(text: &'static str) -> Self {
        let (_, body) = text.split_once("---\n").expect("a heading");
        let rows = body.lines().filter(|line| !line.trim().is_empty());
        Self {
            rows: rows.map(|row| row.split_whitespace().collect()).collect(),
            used: BTreeSet::new(),
        }
    }

    /// The outcome of the one row that fits. None fitting, or two, is a hole in the table.
    pub fn outcome(&mut self, facts: &[&str]) -> &'static str {
        let fits = |row: &Vec<&str>| {
            assert_eq!(row.len(), facts.len() + 1, "{row:?}");
            let cells = row.iter().zip(facts);
            cells.fold(true, |all, (cell, fact)| {
                all && (*cell == "*" || cell.split('|').any(|word| word == *fact))
            })
        };
        let fitting: Vec<_> = (0..self.rows.len()).filter(|at| fits(&self.rows[*at])).collect();
        let [at] = fitting[..] else {
            panic!("{} rows fit {facts:?}", fitting.len());
        };
        self.used.insert(at);
        self.rows[at][facts.len()]
    }

    /// Fails when a row never fitted.
    pub fn assert_all_used(&self) {
        for (at, row) in self.rows.iter().enumerate() {
            assert!(self.used.contains(&at), "no case fits {row:?}");
        }
    }
}
