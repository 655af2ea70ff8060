//! Rows in one bytea: each as COPY's binary format has it (the number of fields, then for each its length and its bytes as its
//! type's send function writes them), one behind the other, without header and trailer. Text is UTF-8, as in every database with
//! this extension, whatever the client's encoding.
//!
//! What this saves: a protocol message, a copy into a set of rows and a call of each column's send function for each row
//! here, and as much on the other side.
#![allow(unsafe_code)]

use pgrx::pg_sys::{self, Datum};
use pgrx::varlena::{vardata_any, varsize_any_exhdr};

use crate::raw;

/// How a column is written.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// bigint, timestamptz.
    Bigint,
    Uuid,
    Text,
    Jsonb,
}

/// The rows so far.
pub(crate) struct Packed {
    buffer: pg_sys::StringInfoData,
    kinds: &'static [Kind],
    /// Bytes of JSON so far, as text.
    json: i64,
}

/// Where the answer was before a row.
#[derive(Clone, Copy)]
pub(crate) struct Mark {
    length: i32,
    json: i64,
}

const HEADER: usize = pg_sys::VARHDRSZ;
/// What a driver finds before the text of a jsonb.
const JSONB_VERSION: u8 = 1;

impl Packed {
    /// # Safety
    /// Nothing to drop (see [`raw`]), of this and all other functions here. What is made lives in the current memory context.
    pub(crate) unsafe fn begin(kinds: &'static [Kind], expected: usize) -> Self {
        // SAFETY: a buffer of its own, in which room is left for a bytea's header.
        unsafe {
            let room = HEADER + expected;
            Self {
                buffer: pg_sys::StringInfoData {
                    data: raw::room::<u8>(room).cast(),
                    len: HEADER as i32,
                    maxlen: room as i32,
                    cursor: 0,
                },
                kinds,
                json: 0,
            }
        }
    }

    /// Puts a row behind the others; gives how many bytes of JSON, as text, it has.
    ///
    /// # Safety
    /// The values are of the kinds that were said.
    pub(crate) unsafe fn put<const N: usize>(&mut self, values: &[Option<Datum>; N]) -> i64 {
        // SAFETY: the caller's promise.
        unsafe {
            let before = self.json;
            self.bytes(&(N as i16).to_be_bytes());
            for (value, kind) in values.iter().zip(self.kinds) {
                let Some(value) = *value else {
                    self.bytes(&(-1_i32).to_be_bytes());
                    continue;
                };
                match kind {
                    Kind::Bigint => self.field(&(value.value() as i64).to_be_bytes()),
                    Kind::Uuid => self.field(&*value.cast_mut_ptr::<[u8; 16]>()),
                    Kind::Text => self.text(value),
                    Kind::Jsonb => self.jsonb(value),
                }
            }
            self.json - before
        }
    }

    /// How many bytes the rows have.
    pub(crate) fn len(&self) -> usize {
        self.buffer.len as usize - HEADER
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark {
            length: self.buffer.len,
            json: self.json,
        }
    }

    /// Takes back what was put since.
    pub(crate) fn rewind(&mut self, mark: Mark) {
        (self.buffer.len, self.json) = (mark.length, mark.json);
    }

    /// Writes the bigint that ends so many bytes before the end anew.
    pub(crate) fn patch(&mut self, before_end: usize, value: i64) {
        let bytes = value.to_be_bytes();
        let at = self.len() - before_end - bytes.len() + HEADER;
        // SAFETY: within what was written, as the subtraction has just shown.
        unsafe {
            let target = self.buffer.data.add(at).cast::<u8>();
            target.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        }
    }

    /// The bytea.
    ///
    /// # Safety
    /// Not used afterwards but as the value it is.
    pub(crate) unsafe fn finish(&mut self) -> Datum {
        // SAFETY: the header was left free for this.
        unsafe {
            pgrx::varlena::set_varsize_4b(self.buffer.data.cast(), self.buffer.len);
        }
        self.buffer.data.into()
    }

    unsafe fn reserve(&mut self, bytes: usize) {
        // A byte more than is asked for, as a StringInfo has it.
        if self.buffer.len as usize + bytes >= self.buffer.maxlen as usize {
            // SAFETY: raises when it would be more than 1 GB; no single value is.
            unsafe { raw::enlargeStringInfo(&raw mut self.buffer, bytes as i32) };
        }
    }

    unsafe fn bytes(&mut self, bytes: &[u8]) {
        // SAFETY: there is room.
        unsafe {
            self.reserve(bytes.len());
            let end = self.buffer.data.add(self.buffer.len as usize).cast::<u8>();
            end.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        }
        self.buffer.len += bytes.len() as i32;
    }

    unsafe fn field(&mut self, bytes: &[u8]) {
        // SAFETY: the caller's promise.
        unsafe {
            self.bytes(&(bytes.len() as i32).to_be_bytes());
            self.bytes(bytes);
        }
    }

    unsafe fn text(&mut self, value: Datum) {
        // SAFETY: a text; a copy made to read it is given back.
        unsafe {
            let stored = value.cast_mut_ptr::<pg_sys::varlena>();
            let plain = raw::pg_detoast_datum_packed(stored);
            let bytes = std::slice::from_raw_parts(
                vardata_any(plain).cast::<u8>(),
                varsize_any_exhdr(plain),
            );
            self.field(bytes);
            if plain != stored {
                raw::pfree(plain.cast());
            }
        }
    }

    unsafe fn jsonb(&mut self, value: Datum) {
        // SAFETY: a jsonb; Postgres writes its text right into our buffer.
        unsafe {
            let stored = value.cast_mut_ptr::<pg_sys::varlena>();
            let plain = raw::pg_detoast_datum(stored);
            let length_at = self.buffer.len;
            self.bytes(&0_i32.to_be_bytes());
            self.bytes(&[JSONB_VERSION]);
            let text_at = self.buffer.len;
            let root = &raw mut (*plain.cast::<pg_sys::Jsonb>()).root;
            let estimate = varsize_any_exhdr(plain) as i32;
            raw::JsonbToCString(&raw mut self.buffer, root, estimate);
            let length = self.buffer.len - length_at - 4;
            let place = self.buffer.data.add(length_at as usize).cast::<u8>();
            place.copy_from_nonoverlapping(length.to_be_bytes().as_ptr(), 4);
            self.json += i64::from(self.buffer.len - text_at);
            if plain != stored {
                raw::pfree(plain.cast());
            }
        }
    }
}
