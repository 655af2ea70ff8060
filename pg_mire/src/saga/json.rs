//! JSON as Postgres stores it, read where it stands.
#![allow(unsafe_code)]

use core::ffi::CStr;

use pgrx::pg_sys::{self, Datum, JsonbContainer, JsonbValue, jbvType};

use crate::raw;

/// A JSON object in memory that lasts as long as the call.
#[derive(Clone, Copy)]
pub(super) struct Object(*mut JsonbContainer);

/// A value in one; what it holds lies in the object's memory.
#[derive(Clone, Copy)]
pub(super) struct Value(JsonbValue);

/// A jsonb, in memory as a whole.
#[derive(Clone, Copy)]
pub(super) struct Json(*mut pg_sys::Jsonb);

impl Json {
    /// # Safety
    /// The value is a jsonb; nothing to drop (see [`raw`]), of this and all other functions here.
    pub(super) unsafe fn of(value: Datum) -> Self {
        // SAFETY: detoasting gives the same pointer or a copy in the call's memory.
        Self(unsafe { raw::pg_detoast_datum(value.cast_mut_ptr()) }.cast())
    }

    /// As text.
    pub(super) unsafe fn text(self) -> &'static CStr {
        // SAFETY: the estimate is only that; the text lasts as long as the call.
        unsafe {
            let length = pgrx::varlena::varsize_any(self.0.cast());
            CStr::from_ptr(raw::JsonbToCString(
                std::ptr::null_mut(),
                &raw mut (*self.0).root,
                length as _,
            ))
        }
    }

    /// What must be an object.
    pub(super) unsafe fn object(self) -> Object {
        // SAFETY: the root lives as long as the value.
        Object(unsafe { &raw mut (*self.0).root })
    }
}

impl Object {
    /// A field that is there and not null.
    pub(super) unsafe fn get(self, field: &str) -> Option<Value> {
        // SAFETY: the result is written when the key is there.
        unsafe {
            let mut value = JsonbValue::default();
            let there = raw::getKeyJsonValueFromContainer(
                self.0,
                field.as_ptr().cast(),
                field.len() as _,
                &raw mut value,
            );
            (!there.is_null() && value.type_ != jbvType::jbvNull).then_some(Value(value))
        }
    }

    /// A text.
    pub(super) unsafe fn text(self, field: &str) -> Option<Datum> {
        // SAFETY: as promised.
        unsafe { self.get(field)?.text() }
    }

    /// A flag; false when it is not there.
    pub(super) unsafe fn flag(self, field: &str) -> bool {
        // SAFETY: the type says which part of the union it is.
        unsafe {
            self.get(field)
                .is_some_and(|value| value.0.type_ == jbvType::jbvBool && value.0.val.boolean)
        }
    }

    /// A whole number that fits a bigint.
    pub(super) unsafe fn number(self, field: &str) -> Option<i64> {
        // SAFETY: the type says which part of the union it is.
        unsafe {
            let value = self.get(field)?;
            (value.0.type_ == jbvType::jbvNumeric).then(|| {
                raw::DirectFunctionCall1Coll(
                    Some(raw::numeric_int8),
                    pg_sys::InvalidOid,
                    Datum::from(value.0.val.numeric),
                )
                .value() as i64
            })
        }
    }

    /// A field as a jsonb of its own; JSON's null when it is not there.
    pub(super) unsafe fn jsonb(self, field: &str) -> Datum {
        // SAFETY: as promised.
        unsafe {
            let null = Value(JsonbValue::default());
            self.get(field).unwrap_or(null).jsonb()
        }
    }

    /// A list with something in it.
    pub(super) unsafe fn list(self, field: &str) -> Option<List> {
        // SAFETY: as promised.
        unsafe {
            let list = List(self.get(field)?);
            (list.len() > 0).then_some(list)
        }
    }
}

impl Value {
    /// The bytes of a string.
    pub(super) unsafe fn bytes(&self) -> Option<&[u8]> {
        // SAFETY: the type says which part of the union it is.
        unsafe {
            (self.0.type_ == jbvType::jbvString).then(|| {
                let string = &self.0.val.string;
                std::slice::from_raw_parts(string.val.cast(), string.len as usize)
            })
        }
    }

    pub(super) unsafe fn text(&self) -> Option<Datum> {
        // SAFETY: as promised.
        unsafe { Some(raw::text(self.bytes()?)) }
    }

    /// As a jsonb of its own.
    pub(super) unsafe fn jsonb(mut self) -> Datum {
        // SAFETY: copies it.
        unsafe { raw::JsonbValueToJsonb(&raw mut self.0) }.into()
    }

    /// The object that has this as its only field.
    pub(super) unsafe fn within(mut self, field: &'static str) -> Datum {
        // SAFETY: pushed as the grammar of objects wants it.
        unsafe {
            let mut state = std::ptr::null_mut();
            let mut key = JsonbValue {
                type_: jbvType::jbvString,
                ..Default::default()
            };
            key.val.string.val = field.as_ptr().cast_mut().cast();
            key.val.string.len = field.len() as _;
            let none = std::ptr::null_mut();
            raw::pushJsonbValue(
                &raw mut state,
                pg_sys::JsonbIteratorToken::WJB_BEGIN_OBJECT,
                none,
            );
            raw::pushJsonbValue(
                &raw mut state,
                pg_sys::JsonbIteratorToken::WJB_KEY,
                &raw mut key,
            );
            raw::pushJsonbValue(
                &raw mut state,
                pg_sys::JsonbIteratorToken::WJB_VALUE,
                &raw mut self.0,
            );
            let whole = raw::pushJsonbValue(
                &raw mut state,
                pg_sys::JsonbIteratorToken::WJB_END_OBJECT,
                none,
            );
            raw::JsonbValueToJsonb(whole)
        }
        .into()
    }

    /// The bytes that a jsonb of it takes.
    pub(super) unsafe fn size(self) -> usize {
        // SAFETY: the type says which part of the union it is.
        unsafe {
            if self.0.type_ == jbvType::jbvBinary {
                return size_of::<i32>() + self.0.val.binary.len as usize;
            }
            pgrx::varlena::varsize_any(self.jsonb().cast_mut_ptr())
        }
    }
}

/// A JSON array that is not empty.
#[derive(Clone, Copy)]
pub(super) struct List(Value);

impl List {
    unsafe fn container(self) -> *mut JsonbContainer {
        // SAFETY: the type says which part of the union it is.
        unsafe {
            if self.0.0.type_ == jbvType::jbvBinary {
                self.0.0.val.binary.data
            } else {
                std::ptr::null_mut()
            }
        }
    }

    pub(super) unsafe fn len(self) -> usize {
        // SAFETY: the header says what it is and how much is in it.
        unsafe {
            let container = self.container();
            if container.is_null() || (*container).header & pg_sys::JB_FARRAY == 0 {
                return 0;
            }
            ((*container).header & pg_sys::JB_CMASK) as usize
        }
    }

    pub(super) fn value(self) -> Value {
        self.0
    }

    pub(super) unsafe fn get(self, n: usize) -> Option<Value> {
        // SAFETY: NULL beyond the end.
        unsafe {
            let value = raw::getIthJsonbValueFromContainer(self.container(), n as _);
            (!value.is_null()).then(|| Value(*value))
        }
    }

    /// The object at a place.
    pub(super) unsafe fn object(self, n: usize) -> Option<Object> {
        // SAFETY: the type says which part of the union it is.
        unsafe {
            let value = self.get(n)?.0;
            (value.type_ == jbvType::jbvBinary).then_some(Object(value.val.binary.data))
        }
    }

    /// Of strings alone, each as a text.
    pub(super) unsafe fn each(self) -> *mut Datum {
        // SAFETY: room for as many as there are.
        unsafe {
            let texts = raw::room::<Datum>(self.len());
            for n in 0..self.len() {
                let text = self.get(n).and_then(|value| value.text());
                texts.add(n).write(text.unwrap_or_else(|| raw::text(b"")));
            }
            texts
        }
    }

    /// Of strings alone, as a text[].
    pub(super) unsafe fn texts(self) -> Datum {
        // SAFETY: as many as there are.
        unsafe { array_of(self.each(), self.len()) }
    }
}

/// A text[] without elements.
pub(super) unsafe fn no_texts() -> Datum {
    // SAFETY: nothing is read.
    unsafe { array_of(std::ptr::null_mut(), 0) }
}

unsafe fn array_of(texts: *mut Datum, count: usize) -> Datum {
    // SAFETY: the layout of texts.
    unsafe {
        raw::construct_array(
            texts,
            count as _,
            pg_sys::TEXTOID,
            -1,
            false,
            pg_sys::TYPALIGN_INT as _,
        )
    }
    .into()
}
