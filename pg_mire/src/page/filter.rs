//! Which of the events that are looked at are for this reader.

use std::collections::HashSet;

use pgrx::prelude::*;

/// Types, partition, streams held back. (Categories are the scan's business: they have an index.)
pub(super) struct Filter {
    types: Option<HashSet<Vec<u8>>>,
    partitions: i64,
    partition: i64,
    held_back: Option<HashSet<i64>>,
}

impl Filter {
    /// # Safety
    /// `types` is an array of texts, `held_back` one of bigints; neither holds a NULL.
    pub(super) unsafe fn new(
        types: Option<pg_sys::Datum>,
        partitions: i32,
        partition: i32,
        held_back: Option<pg_sys::Datum>,
    ) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            Self {
                types: types.map(|array| {
                    let types = elements(array, pg_sys::TEXTOID);
                    types.iter().map(|&name| text(name).to_vec()).collect()
                }),
                partitions: i64::from(partitions.max(1)),
                partition: i64::from(partition),
                held_back: held_back.map(|array| {
                    let streams = elements(array, pg_sys::INT8OID);
                    streams.iter().map(|stream| stream.value() as i64).collect()
                }),
            }
        }
    }

    pub(super) fn lets_all_through(&self) -> bool {
        self.types.is_none() && self.partitions == 1 && self.held_back.is_none()
    }

    /// # Safety
    /// `event_type` is a text.
    pub(super) unsafe fn lets_through(&self, stream_no: i64, event_type: pg_sys::Datum) -> bool {
        (self.partitions == 1 || stream_no % self.partitions == self.partition)
            && self
                .held_back
                .as_ref()
                .is_none_or(|streams| !streams.contains(&stream_no))
            && self.types.as_ref().is_none_or(|types| {
                // SAFETY: the caller's promise.
                types.contains(unsafe { text(event_type) })
            })
    }
}

/// The bytes of a text, wherever it is stored.
///
/// # Safety
/// It is a text, and lives as long as it is looked at; so does the current memory context.
unsafe fn text<'a>(datum: pg_sys::Datum) -> &'a [u8] {
    // SAFETY: the caller's promise; what is compressed or elsewhere comes as a copy.
    unsafe {
        let mut start = datum.cast_mut_ptr::<pg_sys::varlena>();
        if !pgrx::varlena::varatt_is_1b(start) || pgrx::varlena::varatt_is_1b_e(start) {
            start = pg_sys::pg_detoast_datum_packed(start);
        }
        let (bytes, length) = (
            pgrx::varlena::vardata_any(start),
            pgrx::varlena::varsize_any_exhdr(start),
        );
        std::slice::from_raw_parts(bytes.cast(), length)
    }
}

/// The elements of an array of texts or bigints, without NULLs.
///
/// # Safety
/// It is an array of this type.
pub(super) unsafe fn elements(array: pg_sys::Datum, kind: pg_sys::Oid) -> Vec<pg_sys::Datum> {
    let (mut values, mut nulls, mut count) = (std::ptr::null_mut(), std::ptr::null_mut(), 0);
    // SAFETY: the caller's promise; the two arrays that come are palloc'd, and have so many elements.
    unsafe {
        let array = pg_sys::pg_detoast_datum(array.cast_mut_ptr());
        let (length, by_value, alignment) = match kind {
            pg_sys::INT8OID => (8, true, pg_sys::TYPALIGN_DOUBLE),
            _ => (-1, false, pg_sys::TYPALIGN_INT),
        };
        pg_sys::deconstruct_array(
            array.cast(),
            kind,
            length,
            by_value,
            alignment as _,
            &raw mut values,
            &raw mut nulls,
            &raw mut count,
        );
        (0..count as usize)
            .filter(|&i| !*nulls.add(i))
            .map(|i| *values.add(i))
            .collect()
    }
}
