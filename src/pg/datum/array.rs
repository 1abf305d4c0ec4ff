//! Arrays of text and of numbers.

use crate::pg::datum::text::Text;
use crate::pg::datum::varlena;
use crate::pg::memory;
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;
use rules::error::Result;

/// The elements of a text array, in order; `None` for those that are null.
///
/// # Errors
/// 53200 if there is not enough memory for them.
///
/// # Safety
/// `datum` must be a text[] that outlives `'a`, as must the current memory context.
pub unsafe fn texts<'a>(datum: Datum) -> Result<Vec<Option<Text<'a>>>> {
    let mut elements = std::ptr::null_mut();
    let mut nulls = std::ptr::null_mut();
    let mut count = 0;
    // SAFETY: this function demands a text[], which is a varlena. Several times its size, as each element is kept apart.
    memory::expect(unsafe { varlena::raw_size(datum) }.saturating_mul(8))?;
    // SAFETY: text is of variable length (-1), not passed by value, and int-aligned. deconstruct_array fills
    // both results with `count` elements; one that is not null points into the detoasted array, which
    // outlives `'a`: it is the datum, or was palloc'd in the current context.
    unsafe {
        pg_sys::deconstruct_array(
            pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast(),
            pg_sys::TEXTOID,
            -1,
            false,
            pg_sys::TYPALIGN_INT as std::ffi::c_char,
            &mut elements,
            &mut nulls,
            &mut count,
        );
        Ok((0..usize::try_from(count).unwrap_or(0))
            .map(|index| {
                let is_null = *nulls.add(index);
                (!is_null).then(|| Text::from_datum(*elements.add(index)))
            })
            .collect())
    }
}

/// The elements of a bigint array, in order; `None` for those that are null.
///
/// # Errors
/// 53200 if there is not enough memory for them.
///
/// # Safety
/// `datum` must be a bigint[].
pub unsafe fn int8s(datum: Datum) -> Result<Vec<Option<i64>>> {
    let mut elements = std::ptr::null_mut();
    let mut nulls = std::ptr::null_mut();
    let mut count = 0;
    // SAFETY: this function demands a bigint[], which is a varlena. Several times its size, as each element is kept apart.
    memory::expect(unsafe { varlena::raw_size(datum) }.saturating_mul(4))?;
    // SAFETY: bigint is of eight bytes, passed by value on the platforms that the extension is built
    // for, and double-aligned; deconstruct_array fills both results with `count`
    // elements.
    unsafe {
        pg_sys::deconstruct_array(
            pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast(),
            pg_sys::INT8OID,
            8,
            true,
            pg_sys::TYPALIGN_DOUBLE as std::ffi::c_char,
            &mut elements,
            &mut nulls,
            &mut count,
        );
        Ok((0..usize::try_from(count).unwrap_or(0))
            .map(|index| (!*nulls.add(index)).then(|| (*elements.add(index)).value() as i64))
            .collect())
    }
}

/// The elements of a text array, in UTF-8; null elements are passed over.
///
/// # Errors
/// 53200 if there is not enough memory for them.
///
/// # Safety
/// `datum` must be a text[].
pub unsafe fn owned(datum: Datum) -> Result<Vec<Vec<u8>>> {
    // SAFETY: `datum` is a text[], which this function demands; the elements are copied before it ends.
    let elements = unsafe { texts(datum)? };
    Ok(elements.into_iter().flatten().map(|text| text.utf8.to_vec()).collect())
}
