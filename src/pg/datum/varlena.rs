//! Values of variable length, as bytes.

use crate::pg::{raw, subtransaction};
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;

/// The bytes of a value, detoasted if need be.
///
/// # Safety
/// `datum` must be of a varlena type and outlive `'a`, as must the current memory context.
#[inline]
pub unsafe fn slice<'a>(datum: Datum) -> &'a [u8] {
    // SAFETY: `datum` is a varlena that outlives `'a`, which this function demands, and
    // pg_detoast_datum_packed is the function that `slice_by` demands.
    unsafe { slice_by(datum, |varlena| pg_sys::pg_detoast_datum_packed(varlena)) }
}

/// Like [`slice`], for callers that catch its errors themselves.
///
/// # Safety
/// As for [`slice`]. It may raise an error past Rust: call it as `pg::raw` says.
pub unsafe fn slice_raw<'a>(datum: Datum) -> &'a [u8] {
    // SAFETY: `datum` is a varlena that outlives `'a`, which this function demands, and pg_detoast_datum
    // is a function that `slice_by` takes.
    unsafe { slice_by(datum, |varlena| raw::pg_detoast_datum(varlena)) }
}

/// Whether a value is neither compressed nor stored out of line.
///
/// # Safety
/// `varlena` must be one.
#[inline]
unsafe fn is_plain(varlena: *mut pg_sys::varlena) -> bool {
    // SAFETY: `varlena` has a header, which this function demands.
    unsafe { !pgrx::varlena::varatt_is_4b_c(varlena) && !pgrx::varlena::varatt_is_1b_e(varlena) }
}

/// # Safety
/// `datum` must be of a varlena type and outlive `'a`, as must the current memory context; `detoast` must
/// give a copy that is neither compressed nor out of line.
#[inline]
unsafe fn slice_by<'a>(
    datum: Datum,
    detoast: impl FnOnce(*mut pg_sys::varlena) -> *mut pg_sys::varlena,
) -> &'a [u8] {
    // SAFETY: the header says which of its forms a varlena has. One that is neither compressed nor out of
    // line, as after `detoast`, has as many bytes behind the header as that says.
    unsafe {
        let mut varlena: *mut pg_sys::varlena = datum.cast_mut_ptr();
        if !is_plain(varlena) {
            varlena = detoast(varlena);
        }
        std::slice::from_raw_parts(
            pgrx::varlena::vardata_any(varlena).cast(),
            pgrx::varlena::varsize_any_exhdr(varlena),
        )
    }
}

/// The value, fetched if it is stored out of line, where it may be gone by the time that it is looked at.
///
/// # Safety
/// `datum` must be of a varlena type and last as long as the current memory context.
pub unsafe fn whole(datum: Datum) -> Datum {
    // SAFETY: `datum` is a varlena, which this function demands, and its header says whether it is a pointer to
    // one. The closure is Copy, and an error is resumed.
    unsafe {
        let varlena: *mut pg_sys::varlena = datum.cast_mut_ptr();
        if !pgrx::varlena::varatt_is_1b_e(varlena) {
            return datum;
        }
        let fetched = subtransaction::call_keeping_error(|| raw::detoast_attr(varlena));
        Datum::from(fetched.unwrap_or_else(|error| error.resume()))
    }
}

/// How long a value is when it is neither compressed nor stored out of line, without its header.
///
/// # Safety
/// `datum` must be of a varlena type.
pub unsafe fn raw_size(datum: Datum) -> usize {
    // SAFETY: `datum` is a varlena, which this function demands, and its header says in which form.
    // toast_raw_datum_size reads its header, or its toast pointer, and counts a header of four bytes
    // (access/detoast.c).
    unsafe {
        let varlena: *mut pg_sys::varlena = datum.cast_mut_ptr();
        if is_plain(varlena) {
            return pgrx::varlena::varsize_any_exhdr(varlena);
        }
        pg_sys::toast_raw_datum_size(datum).saturating_sub(size_of::<u32>())
    }
}

/// Whether two values are the same byte for byte.
///
/// # Safety
/// Both must be of a varlena type.
pub unsafe fn equal(left: Datum, right: Datum) -> bool {
    // SAFETY: both are varlenas, which this function demands, and outlive the comparison.
    unsafe { slice(left) == slice(right) }
}
