//! How many bytes a jsonb has as text, without writing it: strings as the escapes make them, numbers digit by digit, and a
//! blank after each comma and colon.

use pgrx::prelude::*;

// Not pgrx's bindings: each of their calls prepares for an error, which costs more than a step of the iteration. An error here
// (out of memory) jumps out of frames in which nothing would have to be dropped.
unsafe extern "C-unwind" {
    fn JsonbIteratorInit(container: *mut pg_sys::JsonbContainer) -> *mut pg_sys::JsonbIterator;
    fn JsonbIteratorNext(
        iterator: *mut *mut pg_sys::JsonbIterator,
        value: *mut pg_sys::JsonbValue,
        skip_nested: bool,
    ) -> pg_sys::JsonbIteratorToken::Type;
    fn numeric_out(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum;
}

/// The bytes of a jsonb as text.
///
/// # Safety
/// It is a jsonb.
pub(super) unsafe fn text_size(jsonb: pg_sys::Datum) -> i64 {
    use pg_sys::JsonbIteratorToken as Token;

    // SAFETY: the caller's promise. The iterator frees itself at its end, and the detoasted copy, if there is one, is ours.
    unsafe {
        let stored = jsonb.cast_mut_ptr::<pg_sys::varlena>();
        let plain = pg_sys::pg_detoast_datum(stored);
        let root = &raw mut (*plain.cast::<pg_sys::Jsonb>()).root;
        let mut iterator = JsonbIteratorInit(root);
        let mut value = pg_sys::JsonbValue::default();
        let mut size = 0;
        loop {
            size += match JsonbIteratorNext(&raw mut iterator, &raw mut value, false) {
                Token::WJB_DONE => break,
                Token::WJB_BEGIN_ARRAY if value.val.array.rawScalar => 0,
                Token::WJB_BEGIN_ARRAY => brackets(value.val.array.nElems),
                Token::WJB_BEGIN_OBJECT => brackets(value.val.object.nPairs),
                Token::WJB_KEY => scalar(&value) + 2,
                Token::WJB_ELEM | Token::WJB_VALUE => scalar(&value),
                _ => 0,
            };
        }
        if plain != stored {
            pg_sys::pfree(plain.cast());
        }
        size
    }
}

/// Brackets, and what is between so many items.
fn brackets(items: core::ffi::c_int) -> i64 {
    2 + 2 * (i64::from(items) - 1).max(0)
}

/// # Safety
/// A scalar that the iterator has just given.
unsafe fn scalar(value: &pg_sys::JsonbValue) -> i64 {
    use pg_sys::jbvType;

    // SAFETY: the field that is read is the one that the type says is set.
    unsafe {
        match value.type_ {
            jbvType::jbvString => {
                let string = value.val.string;
                let bytes = std::slice::from_raw_parts(string.val.cast(), string.len as usize);
                2 + string.len as i64 + escapes(bytes)
            }
            jbvType::jbvNumeric => {
                let text = pg_sys::DirectFunctionCall1Coll(
                    Some(numeric_out),
                    pg_sys::Oid::INVALID,
                    value.val.numeric.into(),
                );
                let text = text.cast_mut_ptr::<core::ffi::c_char>();
                let digits = std::ffi::CStr::from_ptr(text).count_bytes();
                pg_sys::pfree(text.cast());
                digits as i64
            }
            jbvType::jbvBool if !value.val.boolean => 5,
            // true, null
            _ => 4,
        }
    }
}

/// What escapes add to a string.
fn escapes(bytes: &[u8]) -> i64 {
    // Without branches, for the compiler to make wide steps of; most strings have none.
    let some = bytes.iter().fold(false, |some, &byte| {
        some | (byte < 32) | (byte == b'"') | (byte == b'\\')
    });
    if !some {
        return 0;
    }
    let added = |byte: &u8| match byte {
        b'"' | b'\\' | 8 | 9 | 10 | 12 | 13 => 1,
        0..=31 => 5,
        _ => 0,
    };
    bytes.iter().map(added).sum()
}

/// `mire_internal.text_size`.
#[pg_extern(sql = false)]
fn text_size_of(jsonb: pgrx::AnyElement) -> i64 {
    // SAFETY: declared with a jsonb.
    unsafe { text_size(jsonb.datum()) }
}
