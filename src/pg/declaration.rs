//! The arguments of a function, declared once: their names, in the order of its SQL declaration, and
//! their types. A test compares them with `pg_proc`.

use crate::pg::datum::text::Text as TextValue;
use crate::pg::datum::varlena;
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;
use rules::Timestamp;
use std::marker::PhantomData;

/// A type of SQL, and how its values are read.
pub trait Kind {
    const OID: pg_sys::Oid;
    type Value<'a>;

    /// # Safety
    /// The datum must be of this type, and live as long as `'a`.
    unsafe fn read<'a>(datum: Datum) -> Self::Value<'a>;
}

/// One argument of a function.
pub struct Argument<K> {
    pub at: usize,
    pub name: &'static str,
    kind: PhantomData<K>,
}

impl<K> Clone for Argument<K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for Argument<K> {}

impl<K> Argument<K> {
    pub const fn new(at: usize, name: &'static str) -> Self {
        Self { at, name, kind: PhantomData }
    }
}

/// What a function is declared with.
#[allow(dead_code, reason = "what no function of this build reads, the test of the catalog does")]
pub struct Declaration {
    pub function: &'static str,
    pub names: &'static [&'static str],
    pub types: &'static [pg_sys::Oid],
}

/// Where an argument stands; evaluated while compiling.
pub const fn position(names: &[&str], name: &str) -> usize {
    let mut at = 0;
    while at < names.len() {
        if equal(names[at].as_bytes(), name.as_bytes()) {
            return at;
        }
        at += 1;
    }
    names.len()
}

const fn equal(left: &[u8], right: &[u8]) -> bool {
    if left.len() != right.len() {
        return false;
    }
    let mut at = 0;
    while at < left.len() {
        if left[at] != right[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// Declares the arguments of functions: `arguments! { CLAIM: Claim = "idempotent_claim" { key: Text } }` makes
/// `CLAIM.key`, which `Args::get` reads as a text, and `Claim::DECLARED`.
macro_rules! arguments {
    ($($constant:ident: $name:ident = $function:literal { $($argument:ident: $kind:ident),+ $(,)? })+) => {
        $(
            #[allow(dead_code, reason = "a declaration names every argument")]
            pub struct $name {
                $($argument: $crate::pg::declaration::Argument<$crate::pg::declaration::$kind>,)+
            }

            impl $name {
                const NAMES: &'static [&'static str] = &[$(stringify!($argument)),+];

                #[allow(dead_code, reason = "the test of the catalog reads it")]
                pub const DECLARED: $crate::pg::declaration::Declaration =
                    $crate::pg::declaration::Declaration {
                        function: $function,
                        names: Self::NAMES,
                        types: &[$(
                            <$crate::pg::declaration::$kind as $crate::pg::declaration::Kind>::OID
                        ),+],
                    };
            }

            const $constant: $name = $name {
                $($argument: $crate::pg::declaration::Argument::new(
                    $crate::pg::declaration::position($name::NAMES, stringify!($argument)),
                    stringify!($argument),
                ),)+
            };
        )+
    };
}
pub(crate) use arguments;

/// Declares a kind whose values are read from their datum by an expression.
macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $oid:ident: $value:ty, |$datum:ident| $read:expr;)+) => {
        $(
            $(#[$doc])*
            pub struct $name;

            impl Kind for $name {
                const OID: pg_sys::Oid = pg_sys::$oid;
                type Value<'a> = $value;

                unsafe fn read<'a>($datum: Datum) -> Self::Value<'a> {
                    $read
                }
            }
        )+
    };
}

kinds! {
    /// `text`.
    Text = TEXTOID: TextValue<'a>, |datum| {
        // SAFETY: `Kind::read` demands a text that lives as long as `'a`.
        unsafe { TextValue::from_datum(datum) }
    };
    /// `jsonb`, which passes through as it is.
    Jsonb = JSONBOID: Datum, |datum| datum;
    /// `bytea`, which passes through as it is.
    Bytea = BYTEAOID: Datum, |datum| datum;
    /// `bytea`, to be looked into.
    Bytes = BYTEAOID: &'a [u8], |datum| {
        // SAFETY: `Kind::read` demands a bytea that lives as long as `'a`.
        unsafe { varlena::slice(datum) }
    };
    /// `text[]`, read by `Args::texts`.
    Texts = TEXTARRAYOID: Datum, |datum| datum;
    /// `uuid[]`, which passes through as it is.
    Uuids = UUIDARRAYOID: Datum, |datum| datum;
    /// `int4multirange`, which passes through as it is.
    Slots = INT4MULTIRANGEOID: Datum, |datum| datum;
    /// `bigint[]`, read by `Args::int8s`.
    Int8s = INT8ARRAYOID: Datum, |datum| datum;
    /// `interval`, read by `Args::duration`.
    Interval = INTERVALOID: Datum, |datum| datum;
    /// `boolean`.
    Bool = BOOLOID: bool, |datum| datum.value() != 0;
    /// `smallint`.
    Int2 = INT2OID: i16, |datum| datum.value() as i16;
    /// `integer`.
    Int4 = INT4OID: i32, |datum| datum.value() as i32;
    /// `bigint`.
    Int8 = INT8OID: i64, |datum| datum.value() as i64;
    /// `timestamptz`.
    TimestampTz = TIMESTAMPTZOID: Timestamp, |datum| datum.value() as i64;
    /// `regrole`.
    Regrole = REGROLEOID: pg_sys::Oid, |datum| pg_sys::Oid::from(datum.value() as u32);
    /// `uuid`.
    Uuid = UUIDOID: [u8; 16], |datum| {
        // SAFETY: `Kind::read` demands a uuid, whose datum points to 16 bytes without a header.
        unsafe { *datum.cast_mut_ptr::<[u8; 16]>() }
    };
}
