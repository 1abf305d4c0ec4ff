//! Where a table of records has its columns.
//!
//! By name and not by position: tables that version 0.1 has made keep the order they were made in, and an
//! update, which waits for no claim, does not write them anew.

use crate::pg::datum::row::{self, Columns};
use crate::pg::table::relation::Relation;
use crate::tables::catalog;
use crate::tables::records::row::column;
use pgrx::pg_sys;
use rules::error::Result;
use std::borrow::Cow;
use std::cell::Cell;

#[derive(Clone, Copy)]
pub struct Layout {
    /// For each column of a record (`column`) its place in the table, from 0.
    places: [u8; column::COUNT],
    /// Each is where `column` says: there is nothing to arrange.
    in_order: bool,
}

/// A table and what is known of it, until something about the tables changes.
type Known = (pg_sys::Oid, u64, Layout);

thread_local! {
    static KNOWN: Cell<[Option<Known>; 2]> = const { Cell::new([None; 2]) };
}

impl Layout {
    /// That of a table that has its columns in the order in which the library knows them.
    pub const IN_ORDER: Self = Self { places: in_order(), in_order: true };

    /// # Errors
    /// 55000 if a column is missing.
    pub fn of(table: &Relation) -> Result<Self> {
        let (oid, generation) = (table.oid(), catalog::generation());
        let known = KNOWN.get();
        for (of, since, layout) in known.into_iter().flatten() {
            if (of, since) == (oid, generation) {
                return Ok(layout);
            }
        }
        let layout = look_up(oid)?;
        KNOWN.set([Some((oid, generation, layout)), known[0]]);
        Ok(layout)
    }

    /// The place of a column in the table, from 0.
    pub fn place(&self, column: usize) -> usize {
        usize::from(self.places[column])
    }

    /// A record's columns as the table has them.
    pub fn arrange<'a>(&self, row: &'a Columns) -> Cow<'a, Columns> {
        if self.in_order {
            return Cow::Borrowed(row);
        }
        let mut arranged = Columns::null();
        for column in 0..column::COUNT {
            arranged.set(self.place(column), row.get(column));
        }
        Cow::Owned(arranged)
    }

    /// The columns of a tuple, as a record has them.
    ///
    /// # Safety
    /// The tuple must be of the table. What is read points into it.
    pub unsafe fn read(&self, tuple: pg_sys::HeapTuple, table: &Relation) -> Columns {
        // SAFETY: as the caller says; whoever opened the table has looked how many columns it has.
        let there = unsafe { Columns::of(tuple, table.descriptor()) };
        if self.in_order {
            return there;
        }
        let mut row = Columns::null();
        for column in 0..column::COUNT {
            row.set(column, there.get(self.place(column)));
        }
        row
    }
}

fn look_up(table: pg_sys::Oid) -> Result<Layout> {
    let mut places = [0; column::COUNT];
    for (place, name) in places.iter_mut().zip(column::NAMES) {
        // SAFETY: a syscache look-up; 0 if there is no such column, negative for a system's.
        let attribute = unsafe { pg_sys::get_attnum(table, name.as_ptr()) };
        *place = u8::try_from(attribute - 1)
            .ok()
            .filter(|place| usize::from(*place) < row::ROOM)
            .ok_or_else(row::do_not_fit)?;
    }
    Ok(Layout { places, in_order: places == in_order() })
}

const fn in_order() -> [u8; column::COUNT] {
    let mut places = [0; column::COUNT];
    let mut column = 0;
    while column < column::COUNT {
        places[column] = column as u8;
        column += 1;
    }
    places
}
