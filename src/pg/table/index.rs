//! Open indexes, and which of them an insert of ours can maintain.

use crate::pg::datum::row::Columns;
use crate::pg::raw;
use pgrx::pg_sys;
use rules::error::{Code, Error};
use std::cell::Cell;
use std::ffi::CStr;

/// An open index.
pub struct Index {
    pub raw: pg_sys::Relation,
}

impl Index {
    /// # Safety
    /// The index must exist, and its table be locked.
    pub unsafe fn open(index: pg_sys::Oid, lock: pg_sys::LOCKMODE) -> Self {
        // SAFETY: the index exists, which this function demands. The lock is kept until the transaction
        // ends, so that taking it again is a matter of this backend alone.
        Self { raw: unsafe { pg_sys::index_open(index, lock) } }
    }

    pub fn oid(&self) -> pg_sys::Oid {
        // SAFETY: `open` has opened the index, and only `drop` closes it.
        unsafe { (*self.raw).rd_id }
    }

    /// Whether a walk along it goes by this column of the table, upwards, and by nothing else.
    pub fn orders_by(&self, column: usize) -> bool {
        // SAFETY: `open` has opened the index, so its rd_index and rd_indoption are there, with at least one element
        // in indkey and options. Attributes count from 1.
        unsafe {
            let first = (*(*self.raw).rd_index).indkey.values.as_slice(1).first().copied();
            (*(*self.raw).rd_rel).relam == pg_sys::BTREE_AM_OID
                && (*(*self.raw).rd_index).indisvalid
                && (*(*self.raw).rd_index).indnkeyatts == 1
                && *(*self.raw).rd_indoption & pg_sys::INDOPTION_DESC as i16 == 0
                && pg_sys::RelationGetIndexPredicate(self.raw).is_null()
                && first.is_some_and(|attribute| usize::try_from(attribute) == Ok(column + 1))
        }
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        // While an error unwinds, Postgres' resource owner closes what is open.
        if !std::thread::panicking() {
            // SAFETY: `open` took the reference that this gives back; nothing uses it any more.
            unsafe { raw::index_close(self.raw, pg_sys::NoLock as pg_sys::LOCKMODE) };
        }
    }
}

/// The only kind of predicate that `insert` and `replace` know: a column of type "char" has this value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CharPredicate {
    column: usize,
    value: u8,
}

/// Which rows of its table an index has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Coverage {
    All,
    Some(CharPredicate),
    /// Those of a predicate that is not known here.
    Unknown,
}

impl Coverage {
    /// # Safety
    /// The list must be a predicate as the relation cache has it, or null.
    pub unsafe fn of(predicate: *mut pg_sys::List) -> Self {
        // SAFETY: a predicate is a list of conditions that are all to hold (RelationGetIndexPredicate), each a valid
        // node, which this function demands; nodes are read as what their tags say.
        unsafe {
            if predicate.is_null() {
                return Self::All;
            }
            if (*predicate).length != 1 {
                return Self::Unknown;
            }
            let node: *mut pg_sys::OpExpr = (*(*predicate).elements).ptr_value.cast();
            if (*node).xpr.type_ != pg_sys::NodeTag::T_OpExpr
                || (*node).opno != pg_sys::Oid::from(CHAR_EQUALS)
            {
                return Self::Unknown;
            }
            let sides = (*(*node).args).elements;
            let left: *mut pg_sys::Var = (*sides).ptr_value.cast();
            let right: *mut pg_sys::Const = (*sides.add(1)).ptr_value.cast();
            if (*left).xpr.type_ != pg_sys::NodeTag::T_Var
                || (*right).xpr.type_ != pg_sys::NodeTag::T_Const
                || (*right).constisnull
            {
                return Self::Unknown;
            }
            match usize::try_from((*left).varattno) {
                Ok(number) if number > 0 => Self::Some(CharPredicate {
                    column: number - 1,
                    value: (*right).constvalue.value() as u8,
                }),
                _ => Self::Unknown,
            }
        }
    }

    /// Whether the index is to have an entry for the row.
    pub fn has(self, row: &Columns) -> bool {
        match self {
            Self::All | Self::Unknown => true,
            Self::Some(CharPredicate { column, value }) => {
                row.get(column).is_some_and(|datum| datum.value() as u8 == value)
            }
        }
    }
}

/// pg_operator.dat: "char" = "char".
const CHAR_EQUALS: u32 = 92;

thread_local! {
    // Of each of the two tables of records.
    static PARTIAL: Cell<[(pg_sys::Oid, Coverage); 2]> =
        const { Cell::new([(pg_sys::InvalidOid, Coverage::All); 2]) };
}

/// Whether an index that was checked is known to have no entry for the row, so that it need not be opened.
pub fn leaves_out(index: pg_sys::Oid, row: &Columns) -> bool {
    PARTIAL.get().iter().any(|(known, coverage)| *known == index && !coverage.has(row))
}

/// Whether `insert` and `replace` can maintain an index: no expressions, no other predicate than a
/// [`CharPredicate`], nothing deferred, and an entry for each row. (A summary, as BRIN makes, must be told of rows
/// that are replaced in place.)
///
/// # Safety
/// The index must exist, and its table be locked.
pub unsafe fn is_plain(index: pg_sys::Oid) -> bool {
    // SAFETY: the index exists and its table is locked, which this function demands, so it stays; it is
    // read while it is open.
    let (plain, coverage) = unsafe {
        let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
        let open = pg_sys::index_open(index, lock);
        let coverage = Coverage::of(pg_sys::RelationGetIndexPredicate(open));
        let plain = pg_sys::RelationGetIndexExpressions(open).is_null()
            && (*(*open).rd_index).indimmediate
            && !(*(*open).rd_index).indisexclusion
            && (*(*open).rd_rel).relam != pg_sys::BRIN_AM_OID;
        pg_sys::index_close(open, lock);
        (plain, coverage)
    };
    if let Coverage::Some(_) = coverage {
        let [latest, _] = PARTIAL.get();
        PARTIAL.set([(index, coverage), latest]);
    }
    plain && coverage != Coverage::Unknown
}

/// An administrator's index is in the way: 55000.
pub fn unfit(index: pg_sys::Oid) -> Error {
    let name = name(index);
    Error::new(Code::ObjectNotReady, format!("index \"{name}\" cannot be maintained"))
        .detail("Records are written past the executor, into plain indexes only: no expressions, no WHERE but of a state, nothing deferred, not BRIN.")
        .hint(format!("DROP INDEX idempotent.{name}; or index the columns themselves."))
}

/// A table of ours has lost its primary key: 55000.
pub fn no_primary_key(table: pg_sys::Oid) -> Error {
    let name = name(table);
    Error::new(Code::ObjectNotReady, format!("idempotent.{name} has no primary key"))
        .detail("Nothing is looked up without it, and nothing is unique.")
        .hint("SELECT * FROM idempotent_doctor() shows the statement that restores it.")
}

fn name(relation: pg_sys::Oid) -> String {
    // SAFETY: get_rel_name takes any OID and returns null or a palloc'd, NUL-terminated copy.
    unsafe {
        let name = pg_sys::get_rel_name(relation);
        if name.is_null() {
            String::new()
        } else {
            CStr::from_ptr(name).to_string_lossy().into_owned()
        }
    }
}
