//! Rows that came in one value: one behind the other, each as COPY's binary format has it.

use std::time::{Duration, SystemTime};

use uuid::Uuid;

use crate::BoxError;
use crate::json::JsonRef;

type Result<T> = std::result::Result<T, BoxError>;

/// The rows of a value.
pub(crate) struct PackedRows<'a> {
    rest: &'a [u8],
}

impl<'a> PackedRows<'a> {
    pub(crate) fn new(value: &'a [u8]) -> Self {
        Self { rest: value }
    }

    /// The next row, of at least so many fields; those behind them are left out.
    pub(crate) fn next<const N: usize>(&mut self) -> Result<Option<[Field<'a>; N]>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let count = usize::from(u16::from_be_bytes(self.take()?));
        if count < N {
            return Err(format!("a packed row has {count} fields, not {N}").into());
        }
        let mut fields = [Field(None); N];
        for field in 0..count {
            let value = self.field()?;
            if let Some(wanted) = fields.get_mut(field) {
                *wanted = value;
            }
        }
        Ok(Some(fields))
    }

    fn field(&mut self) -> Result<Field<'a>> {
        // Negative: NULL.
        let Ok(length) = usize::try_from(i32::from_be_bytes(self.take()?)) else {
            return Ok(Field(None));
        };
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(CUT_SHORT)?;
        self.rest = rest;
        Ok(Field(Some(bytes)))
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(CUT_SHORT)?;
        self.rest = rest;
        Ok(*bytes)
    }
}

const CUT_SHORT: &str = "a packed row is cut short";

/// A value, or NULL.
#[derive(Clone, Copy)]
pub(crate) struct Field<'a>(Option<&'a [u8]>);

impl<'a> Field<'a> {
    pub(crate) fn is_null(self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn bigint(self) -> Result<i64> {
        Ok(i64::from_be_bytes(self.bytes()?.try_into()?))
    }

    pub(crate) fn uuid(self) -> Result<Uuid> {
        Ok(Uuid::from_slice(self.bytes()?)?)
    }

    pub(crate) fn text(self) -> Result<&'a str> {
        Ok(std::str::from_utf8(self.bytes()?)?)
    }

    /// A timestamptz: microseconds since 2000.
    pub(crate) fn time(self) -> Result<SystemTime> {
        let micros = self.bigint()?;
        let since = Duration::from_micros(micros.unsigned_abs());
        let epoch = SystemTime::UNIX_EPOCH + Duration::from_secs(946_684_800);
        let time = if micros < 0 {
            epoch.checked_sub(since)
        } else {
            epoch.checked_add(since)
        };
        time.ok_or_else(|| "a time that the system cannot hold".into())
    }

    pub(crate) fn json(self) -> Result<JsonRef<'a>> {
        JsonRef::sent(self.bytes()?)
    }

    pub(crate) fn json_or_null(self) -> Result<Option<JsonRef<'a>>> {
        self.0.map(JsonRef::sent).transpose()
    }

    fn bytes(self) -> Result<&'a [u8]> {
        self.0.ok_or_else(|| "a packed value is NULL".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: &[u8] = b"\0\x03\0\0\0\x08\0\0\0\0\0\0\0\x07\xff\xff\xff\xff\0\0\0\x02hi";

    #[test]
    fn a_row_is_its_fields_and_further_ones_are_left_out() {
        let twice = [ROW, ROW].concat();
        let mut rows = PackedRows::new(&twice);
        let [number, nothing, text] = rows.next().expect("whole").expect("a row");
        assert_eq!(number.bigint().expect("eight bytes"), 7);
        assert!(nothing.is_null() && nothing.text().is_err());
        assert_eq!(text.text().expect("text"), "hi");
        let [number] = rows.next().expect("whole").expect("another one");
        assert_eq!(number.bigint().expect("eight bytes"), 7);
        assert!(rows.next::<1>().expect("the end").is_none());
    }

    #[test]
    fn what_is_cut_short_or_too_narrow_is_an_error() {
        for length in 1..ROW.len() {
            assert!(
                PackedRows::new(&ROW[..length]).next::<3>().is_err(),
                "{length}"
            );
        }
        assert!(PackedRows::new(ROW).next::<4>().is_err());
    }

    #[test]
    fn times_are_microseconds_from_2000_on_and_before() {
        let time = |micros: i64| Field(Some(&micros.to_be_bytes())).time().expect("a time");
        let unix = |time: SystemTime| {
            time.duration_since(SystemTime::UNIX_EPOCH)
                .expect("later")
                .as_micros()
        };
        assert_eq!(unix(time(0)), 946_684_800_000_000);
        assert_eq!(unix(time(-1)), 946_684_799_999_999);
        assert!(Field(Some(&i64::MAX.to_be_bytes())).time().is_ok());
    }
}
