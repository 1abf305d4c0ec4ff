//! Values of variable length, as bytes.

use pgrx::pg_sys;
use pgrx::pg_sys::Datum;

/// The bytes of a value, detoasted if need be.
///
/// # Safety
/// `datum` must be of a varlena type and outlive `'a`, as must the current memory context.
pub unsafe fn slice<'a>(datum: Datum) -> &'a [u8] {
    // SAFETY: as the caller says; what detoasting gives is readable in full.
    unsafe {
        let mut varlena: *mut pg_sys::varlena = datum.cast_mut_ptr();
        if pgrx::varlena::varatt_is_4b_c(varlena) || pgrx::varlena::varatt_is_1b_e(varlena) {
            varlena = pg_sys::pg_detoast_datum_packed(varlena);
        }
        std::slice::from_raw_parts(
            pgrx::varlena::vardata_any(varlena).cast(),
            pgrx::varlena::varsize_any_exhdr(varlena),
        )
    }
}

/// How long a value is when it is neither compressed nor stored out of line, without its header.
///
/// # Safety
/// `datum` must be of a varlena type.
pub unsafe fn raw_size(datum: Datum) -> usize {
    // SAFETY: as the caller says; the size counts a four-byte header (access/detoast.c).
    unsafe { pg_sys::toast_raw_datum_size(datum) }.saturating_sub(size_of::<u32>())
}

/// Whether two values are the same byte for byte.
///
/// # Safety
/// Both must be of a varlena type.
pub unsafe fn equal(left: Datum, right: Datum) -> bool {
    // SAFETY: as the caller says.
    unsafe { slice(left) == slice(right) }
}
