//! Where a backend counts an operation: its row, remembered.

use super::table::{Name, Table};
use super::{Counter, TABLE, this_database};
use std::cell::Cell;

/// The counters of an operation in the current database.
pub struct Tally {
    name: Name,
    /// The row, and the table's epoch in which it was found.
    place: Cell<Option<(usize, u32)>>,
}

/// Counts for an operation that the caller keeps no tally of. `name` is in UTF-8.
pub fn add(name: &[u8], counter: Counter, n: u64) {
    Tally::new(name).add(counter, n);
}

impl Tally {
    /// `name` is in UTF-8.
    pub fn new(name: &[u8]) -> Self {
        Self { name: Name::new(name), place: Cell::new(None) }
    }

    /// Counts: one atomic addition, once the row is known.
    #[inline]
    pub fn add(&self, counter: Counter, n: u64) {
        if let Some(table) = TABLE.get() {
            self.add_in(table, counter, n);
        }
    }

    #[inline]
    pub(super) fn add_in(&self, table: &Table, counter: Counter, n: u64) {
        let epoch = table.epoch();
        match self.place.get() {
            Some((row, then)) if then == epoch => table.count(row, counter, n),
            _ => self.find_and_add(table, epoch, counter, n),
        }
    }

    /// An epoch that ends meanwhile ends for what is found, too: it was read before.
    #[cold]
    fn find_and_add(&self, table: &Table, epoch: u32, counter: Counter, n: u64) {
        // What is connected to no database has no operations.
        let database = Some(this_database()).filter(|database| *database != 0);
        let row = database.and_then(|database| table.row(database, &self.name));
        // Where there is no room, the next call need not look again: no row has that number.
        self.place.set(Some((row.unwrap_or(usize::MAX), epoch)));
        if let Some(row) = row {
            table.count(row, counter, n);
        }
    }
}
