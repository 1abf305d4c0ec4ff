//! Inserting and replacing a row past the executor, in a table and its indexes.
//!
//! This is what `CatalogTupleInsert` (catalog/indexing.c) does, with the primary key's index open
//! already, the values of the indexes taken from the row instead of a slot, and locks on indexes
//! kept until the transaction ends.

use crate::pg::datum::row::Columns;
use crate::pg::raw;
use crate::pg::table::index::{self, Coverage};
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;
use std::mem::offset_of;

/// Inserts a row. Nothing here has a destructor: an error jumps over these frames.
///
/// # Safety
/// `table` and `primary`, the index of its primary key, must be open to be written; the table must
/// have plain indexes only (`index::is_plain`), and the row a value of the right type for each of
/// its columns. It may raise an error past Rust: call it as `pg::raw` says.
pub unsafe fn insert(table: pg_sys::Relation, primary: pg_sys::Relation, row: &Columns) {
    // SAFETY: table, primary key and row are as this function demands; `tuple` is fresh from `form`.
    unsafe {
        let tuple = form(table, row);
        raw::simple_heap_insert(table, tuple);
        enter_all(table, primary, row, tuple);
        raw::heap_freetuple(tuple);
        raw::CommandCounterIncrement();
    }
}

/// Puts another version in the place of a tuple, as UPDATE does. If no indexed column changes and the page has
/// room, no index gets an entry (heap-only tuples), and what a row leaves behind that is written again and again
/// stays in its page. Nothing here has a destructor: an error jumps over these frames.
///
/// # Safety
/// As for `insert`; the tuple at `tid` must be there, if only as another transaction's delete.
pub unsafe fn replace(
    table: pg_sys::Relation,
    primary: pg_sys::Relation,
    tid: pg_sys::ItemPointerData,
    row: &Columns,
    wait: bool,
) -> pg_sys::TM_Result::Type {
    let mut tid = tid;
    // SAFETY: table, primary key and row are as this function demands, and the old tuple is there; `tuple` is fresh
    // from `form`, and heap_update sets its flags.
    unsafe {
        check_publications(table, pg_sys::CmdType::CMD_UPDATE);
        let tuple = form(table, row);
        let outcome = raw::heap_update(table, &mut tid, tuple, wait);
        let is_heap_only = (*(*tuple).t_data).t_infomask2 & pg_sys::HEAP_ONLY_TUPLE as u16 != 0;
        if outcome == pg_sys::TM_Result::TM_Ok && !is_heap_only {
            enter_all(table, primary, row, tuple);
        }
        raw::heap_freetuple(tuple);
        raw::CommandCounterIncrement();
        outcome
    }
}

/// Refuses what the executor refuses: a write that a publication could not tell of (42P10, 55000). An unlogged table is in none.
///
/// # Safety
/// The table must be open. It may raise an error past Rust: call it as `pg::raw` says.
pub unsafe fn check_publications(table: pg_sys::Relation, command: pg_sys::CmdType::Type) {
    // SAFETY: the table is open, which this function demands.
    unsafe {
        if (*(*table).rd_rel).relpersistence == pg_sys::RELPERSISTENCE_PERMANENT as std::ffi::c_char
        {
            raw::CheckCmdReplicaIdentity(table, command);
        }
    }
}

/// # Safety
/// As for `insert`.
unsafe fn form(table: pg_sys::Relation, row: &Columns) -> pg_sys::HeapTuple {
    // SAFETY: the row has a value of the right type for each column of the table, which this function demands; the
    // tuple is fresh from `form`.
    unsafe {
        let tuple = row.form((*table).rd_att);
        if let Some(columns) = row.set_before_nulls() {
            leave_out_nulls(tuple, columns);
        }
        tuple
    }
}

/// Enters a tuple into every index of its table.
///
/// # Safety
/// As for `insert`; the tuple must be in the table, with the row's values.
unsafe fn enter_all(
    table: pg_sys::Relation,
    primary: pg_sys::Relation,
    row: &Columns,
    tuple: pg_sys::HeapTuple,
) {
    // SAFETY: the table and its primary key are open to be written, and its indexes are plain, which this
    // function demands. RelationGetIndexList lists the table's own indexes; each other one is open and
    // locked while `enter` writes to it.
    unsafe {
        let indexes = raw::RelationGetIndexList(table);
        let count = if indexes.is_null() { 0 } else { (*indexes).length };
        for position in 0..usize::try_from(count).unwrap_or(0) {
            let oid = (*(*indexes).elements.add(position)).oid_value;
            if oid == (*primary).rd_id {
                enter(primary, table, row, tuple);
            } else if !index::leaves_out(oid, row) {
                let lock = pg_sys::RowExclusiveLock as pg_sys::LOCKMODE;
                let index = raw::index_open(oid, lock);
                enter(index, table, row, tuple);
                raw::index_close(index, pg_sys::NoLock as pg_sys::LOCKMODE);
            }
        }
        raw::list_free(indexes);
    }
}

/// Makes a tuple as short as one from before the null columns at its end were added: what is not there
/// reads as null (`heap_deform_tuple` and `getmissingattr`, access/common/heaptuple.c). That saves the bitmap
/// of nulls, eight bytes a record.
///
/// # Safety
/// The tuple must be fresh from `heap_form_tuple`, its first `columns` not null and the others null.
unsafe fn leave_out_nulls(tuple: pg_sys::HeapTuple, columns: usize) {
    const WITHOUT_BITMAP: usize = offset_of!(pg_sys::HeapTupleHeaderData, t_bits)
        .next_multiple_of(pg_sys::MAXIMUM_ALIGNOF as usize);
    // SAFETY: the tuple is fresh and ours, which this function demands. Both offsets are maximally aligned, so
    // the columns stay aligned; they move towards the beginning, within the tuple.
    unsafe {
        let header = (*tuple).t_data;
        let data = usize::from((*header).t_hoff);
        let Some(saved) = data.checked_sub(WITHOUT_BITMAP) else { return };
        let length = (*tuple).t_len as usize - data;
        let bytes: *mut u8 = header.cast();
        std::ptr::copy(bytes.add(data), bytes.add(WITHOUT_BITMAP), length);
        (*tuple).t_len -= saved as u32;
        (*header).t_hoff = WITHOUT_BITMAP as u8;
        (*header).t_infomask &= !(pg_sys::HEAP_HASNULL as u16);
        (*header).t_infomask2 =
            (*header).t_infomask2 & !(pg_sys::HEAP_NATTS_MASK as u16) | columns as u16;
    }
}

/// # Safety
/// The index must be a plain one of the table, and open to be written; the tuple must be in the table,
/// with the row's values. It may raise an error past Rust: call it as `pg::raw` says.
unsafe fn enter(
    index: pg_sys::Relation,
    table: pg_sys::Relation,
    row: &Columns,
    tuple: pg_sys::HeapTuple,
) {
    const MOST: usize = pg_sys::INDEX_MAX_KEYS as usize;
    // SAFETY: the index is open and plain, which this function demands: it has at most MOST columns, and
    // each is a column of the table, counted from 1, as there are no expressions.
    unsafe {
        let form = (*index).rd_index;
        // One that is being made concurrently will see the row when it is filled.
        if !(*form).indisready {
            return;
        }
        let (mut values, mut nulls) = ([Datum::from(0); MOST], [true; MOST]);
        let columns = usize::try_from((*form).indnatts).unwrap_or(0).min(MOST);
        for (position, attribute) in (*form).indkey.values.as_slice(columns).iter().enumerate() {
            let column = usize::try_from(*attribute).unwrap_or(0).saturating_sub(1);
            nulls[position] = row.get(column).is_none();
            values[position] = row.get(column).unwrap_or(Datum::from(0));
        }
        let check = if (*form).indisunique {
            pg_sys::IndexUniqueCheck::UNIQUE_CHECK_YES
        } else {
            pg_sys::IndexUniqueCheck::UNIQUE_CHECK_NO
        };
        let info = raw::BuildIndexInfo(index);
        if Coverage::of((*info).ii_Predicate).has(row) {
            raw::index_insert(
                index,
                values.as_mut_ptr(),
                nulls.as_mut_ptr(),
                &raw mut (*tuple).t_self,
                table,
                check,
                false,
                info,
            );
            #[cfg(any(feature = "pg17", feature = "pg18"))]
            raw::index_insert_cleanup(index, info);
        }
        raw::pfree(info.cast());
    }
}
