//! Arguments as Postgres passes them: detoasted where they must be looked into, and otherwise left alone.
#![allow(unsafe_code)]

use core::ffi::c_char;

use pgrx::pg_sys::{self, Datum, Oid};
use pgrx::varlena::{vardata_any, varsize_any_exhdr};

use crate::raw;

/// The arguments of one call.
#[derive(Clone, Copy)]
pub(crate) struct Arguments(pg_sys::FunctionCallInfo);

impl Arguments {
    /// # Safety
    /// A call that Postgres is making right now.
    pub(crate) unsafe fn of(fcinfo: pg_sys::FunctionCallInfo) -> Self {
        Self(fcinfo)
    }

    /// Argument `n`, from 0; None for NULL.
    ///
    /// # Safety
    /// The function is declared with more than `n` arguments.
    pub(crate) unsafe fn get(self, n: usize) -> Option<Datum> {
        // SAFETY: Postgres allocates the arguments behind the struct.
        let argument = unsafe { *(*self.0).args.as_ptr().add(n) };
        (!argument.isnull).then_some(argument.value)
    }

    /// # Safety
    /// As [`Self::get`], and the argument is a bigint.
    pub(crate) unsafe fn bigint(self, n: usize) -> Option<i64> {
        // SAFETY: passed by value.
        unsafe { self.get(n) }.map(|value| value.value() as i64)
    }

    /// # Safety
    /// As [`Self::get`], and the argument is an integer.
    pub(crate) unsafe fn integer(self, n: usize) -> Option<i32> {
        // SAFETY: passed by value.
        unsafe { self.get(n) }.map(|value| value.value() as i32)
    }

    /// # Safety
    /// As [`Self::get`], and the argument is a text.
    pub(crate) unsafe fn text(self, n: usize) -> Option<Text> {
        // SAFETY: as promised.
        unsafe { self.get(n).map(|value| Text::of(value)) }
    }

    /// # Safety
    /// As [`Self::get`], and the argument is an array, of whatever.
    pub(crate) unsafe fn shape(self, n: usize) -> Option<Shape> {
        // SAFETY: as promised.
        unsafe {
            let array = self.get(n)?;
            Some(Shape::of(
                raw::pg_detoast_datum(array.cast_mut_ptr()).cast(),
            ))
        }
    }

    /// # Safety
    /// As [`Self::get`], and the argument is an array of these elements.
    pub(crate) unsafe fn array(self, n: usize, element: Element) -> Option<Array> {
        // SAFETY: as promised.
        unsafe { self.get(n).map(|value| Array::of(value, element)) }
    }
}

/// A text in memory that lasts as long as the call.
#[derive(Clone, Copy)]
pub(crate) struct Text {
    pub(crate) datum: Datum,
    start: *const u8,
    length: usize,
}

impl Text {
    /// # Safety
    /// The value is a text, or a varlena that is to be seen as bytes.
    pub(crate) unsafe fn of(value: Datum) -> Self {
        // SAFETY: detoasting gives the same pointer or a copy in the call's memory.
        unsafe {
            let varlena = raw::pg_detoast_datum_packed(value.cast_mut_ptr());
            Self {
                datum: varlena.into(),
                start: vardata_any(varlena).cast(),
                length: varsize_any_exhdr(varlena),
            }
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the varlena's own bytes, which nobody changes during the call.
        unsafe { std::slice::from_raw_parts(self.start, self.length) }
    }
}

/// The types of elements that we take.
#[derive(Clone, Copy)]
pub(crate) enum Element {
    Text,
    Jsonb,
    Uuid,
    Bigint,
    Integer,
    Oid,
}

impl Element {
    fn layout(self) -> (Oid, i32, bool, u8) {
        match self {
            Self::Text => (pg_sys::TEXTOID, -1, false, pg_sys::TYPALIGN_INT),
            Self::Jsonb => (pg_sys::JSONBOID, -1, false, pg_sys::TYPALIGN_INT),
            Self::Uuid => (pg_sys::UUIDOID, 16, false, pg_sys::TYPALIGN_CHAR),
            Self::Bigint => (pg_sys::INT8OID, 8, true, pg_sys::TYPALIGN_DOUBLE),
            Self::Integer => (pg_sys::INT4OID, 4, true, pg_sys::TYPALIGN_INT),
            Self::Oid => (pg_sys::OIDOID, 4, true, pg_sys::TYPALIGN_INT),
        }
    }
}

/// An array's elements. Only for arrays of one dimension are they what their index says.
#[derive(Clone, Copy)]
pub(crate) struct Array {
    pub(crate) datum: Datum,
    pub(crate) shape: Shape,
    items: *const Datum,
    nulls: *const bool,
}

/// What an array looks like from outside.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) dimensions: i32,
    /// Of the first dimension; 1 for an empty array.
    pub(crate) lower_bound: i32,
    pub(crate) length: usize,
}

impl Shape {
    /// # Safety
    /// The value is an array, in memory as a whole.
    unsafe fn of(array: *const pg_sys::ArrayType) -> Self {
        // SAFETY: the dimensions' lengths follow the header, and their lower bounds follow those.
        unsafe {
            let dimensions = (*array).ndim.max(0);
            let lengths = array.add(1).cast::<i32>();
            let lengths = std::slice::from_raw_parts(lengths, dimensions as usize * 2);
            let (lengths, bounds) = lengths.split_at(dimensions as usize);
            Self {
                dimensions,
                lower_bound: bounds.first().copied().unwrap_or(1),
                length: match lengths {
                    [] => 0,
                    _ => lengths.iter().map(|length| *length as usize).product(),
                },
            }
        }
    }
}

impl Array {
    /// # Safety
    /// The value is an array of these elements.
    pub(crate) unsafe fn of(value: Datum, element: Element) -> Self {
        // SAFETY: deconstruct_array allocates both results in the call's memory; elements passed by reference point into
        // the array.
        unsafe {
            let array = raw::pg_detoast_datum(value.cast_mut_ptr()).cast::<pg_sys::ArrayType>();
            let (oid, width, by_value, align) = element.layout();
            let (mut items, mut nulls, mut length) =
                (std::ptr::null_mut(), std::ptr::null_mut(), 0);
            raw::deconstruct_array(
                array,
                oid,
                width,
                by_value,
                align as c_char,
                &raw mut items,
                &raw mut nulls,
                &raw mut length,
            );
            Self {
                datum: array.into(),
                shape: Shape::of(array),
                items,
                nulls,
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.shape.length
    }

    /// Element `i`, from 0; None for NULL and beyond the end, as a subscript in SQL.
    pub(crate) fn get(&self, i: usize) -> Option<Datum> {
        // SAFETY: both arrays have so many elements.
        unsafe { (i < self.len() && !*self.nulls.add(i)).then(|| *self.items.add(i)) }
    }
}

/// [`Array::get`] of an array that may be NULL.
pub(crate) fn element(array: &Option<Array>, i: usize) -> Option<Datum> {
    array.as_ref().and_then(|array| array.get(i))
}

/// The events of a call: element `i` of each array is event `i`.
#[derive(Clone, Copy)]
pub(crate) struct Events {
    pub(crate) types: Option<Array>,
    pub(crate) data: Option<Array>,
    pub(crate) metadata: Option<Array>,
    pub(crate) ids: Option<Array>,
}

impl Events {
    /// # Safety
    /// Four arguments from `n` on are text[], jsonb[], jsonb[], uuid[].
    pub(crate) unsafe fn of(arguments: Arguments, n: usize) -> Self {
        // SAFETY: as promised.
        unsafe {
            Self {
                types: arguments.array(n, Element::Text),
                data: arguments.array(n + 1, Element::Jsonb),
                metadata: arguments.array(n + 2, Element::Jsonb),
                ids: arguments.array(n + 3, Element::Uuid),
            }
        }
    }
}

/// A uuid's bytes, which sort as the uuid does.
///
/// # Safety
/// The value is a uuid.
pub(crate) unsafe fn uuid(value: Datum) -> [u8; 16] {
    // SAFETY: 16 bytes, aligned for bytes.
    unsafe { *value.cast_mut_ptr() }
}
