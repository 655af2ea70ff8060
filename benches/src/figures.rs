//! Medians, extremes, and how numbers are written.

/// The middle of the rounds, and how far they went.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// None without any value.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Some(Self { median, min, max })
    }
}

/// A count as a float. What is counted here is far below 2^52.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn float(count: impl TryInto<i64>) -> f64 {
    count.try_into().map_or(f64::NAN, |count| count as f64)
}

/// Three significant digits or all of the whole part, thousands apart: 0.0312, 4.05, 31.2, 1,234.
pub(crate) fn number(value: f64) -> String {
    if value.is_infinite() {
        return "never".to_owned();
    }
    let size = value.abs();
    let decimals = match size {
        _ if size == 0.0 || size >= 99.95 => 0,
        _ if size >= 9.995 => 1,
        _ if size >= 0.9995 => 2,
        _ if size >= 0.09995 => 3,
        _ => 4,
    };
    let text = format!("{value:.decimals$}");
    let (whole, rest) = text.split_once('.').unwrap_or((&text, ""));
    let digits = whole.trim_start_matches('-');
    let mut out = String::from(if value < 0.0 { "-" } else { "" });
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if !rest.is_empty() {
        out.push('.');
        out.push_str(rest);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        let spread = Spread::of([4.0, 1.0, 3.0, 2.0]).expect("there are values");
        assert_eq!((spread.min, spread.median, spread.max), (1.0, 2.5, 4.0));
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn numbers_have_three_digits_that_mean_something() {
        let written = [
            0.0,
            0.0312,
            0.312,
            0.9999,
            4.053,
            31.24,
            123.4,
            1_234.5,
            1_234_567.0,
        ];
        assert_eq!(
            written.map(number),
            [
                "0",
                "0.0312",
                "0.312",
                "1.00",
                "4.05",
                "31.2",
                "123",
                "1,234",
                "1,234,567"
            ]
        );
        assert_eq!(number(-1_234.0), "-1,234");
    }
}
