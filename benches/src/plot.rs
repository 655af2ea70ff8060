//! The plots of the document.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use crate::rounds::Measured;
use crate::row::Role;

/// A line of a plot.
pub(crate) struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

const SIZE: (u32, u32) = (760, 420);
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 90, 160),
    RGBColor(200, 80, 0),
    RGBColor(90, 90, 90),
    RGBColor(0, 140, 90),
    RGBColor(150, 50, 140),
    RGBColor(150, 130, 0),
];

/// Rates of each side, by where its rows lie.
pub(crate) fn sides<'a>(
    rows: impl Iterator<Item = &'a Measured> + Clone,
    names: &[(Role, &str)],
) -> Vec<Line> {
    let point = |row: &Measured, role| Some((row.x?, row.spread(role, |s| s.value)?.median));
    let line = |(role, name): &(Role, &str)| Line {
        name: (*name).to_owned(),
        points: rows.clone().filter_map(|row| point(row, *role)).collect(),
    };
    names.iter().map(line).collect()
}

/// Time against the floor's, one line for each id.
pub(crate) fn slowdowns<'a>(rows: impl Iterator<Item = &'a Measured>, from: f64) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for row in rows {
        let (Some(x), Some(ratio)) = (row.x, row.ratio(Role::Floor)) else {
            continue;
        };
        let name = row.id.rsplit('/').next().unwrap_or(&row.id);
        let point = (x, 1.0 / ratio.median);
        match lines.iter_mut().find(|line| line.name == name) {
            Some(line) => line.points.push(point),
            None => lines.push(Line {
                name: name.to_owned(),
                points: vec![(from, 1.0), point],
            }),
        }
    }
    lines
}

/// Draws lines over a logarithmic axis.
pub(crate) fn draw(path: &Path, title: &str, x: &str, y: &str, lines: &[Line]) -> Result<()> {
    let points = || lines.iter().flat_map(|line| &line.points);
    let (from, to) = points().fold((f64::INFINITY, 0.0_f64), |(from, to), point| {
        (from.min(point.0), to.max(point.0))
    });
    let highest = points().fold(0.0_f64, |highest, point| highest.max(point.1));
    if from >= to {
        return Ok(());
    }
    let bad = |error: &dyn std::fmt::Display| anyhow!("cannot draw {}: {error}", path.display());
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE).map_err(|e| bad(&e))?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(72)
        .build_cartesian_2d((from..to).log_scale(), 0.0..highest * 1.1)
        .map_err(|e| bad(&e))?;
    let label = |value: &f64| crate::figures::number(*value);
    chart
        .configure_mesh()
        .x_desc(x)
        .y_desc(y)
        .x_label_formatter(&label)
        .y_label_formatter(&label)
        .light_line_style(WHITE)
        .draw()
        .map_err(|e| bad(&e))?;
    for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let style = colour.stroke_width(2);
        let dots = line
            .points
            .iter()
            .map(|point| Circle::new(*point, 3, colour.filled()));
        chart
            .draw_series(LineSeries::new(line.points.iter().copied(), style))
            .map_err(|e| bad(&e))?
            .label(line.name.as_str())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], style));
        chart.draw_series(dots).map_err(|e| bad(&e))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .draw()
        .map_err(|e| bad(&e))?;
    area.present().map_err(|e| bad(&e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::measured;
    use crate::row::Measure;

    #[test]
    fn rows_of_one_id_make_a_line_that_begins_at_one() {
        let mut rows = Vec::new();
        for x in [2e6, 2e7] {
            let mut row = measured(Measure::Rate("x/s"), &[10.0], &[20.0]);
            (row.id, row.x) = ("G1/load".into(), Some(x));
            rows.push(row);
        }
        let lines = slowdowns(rows.iter(), 2e5);
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].name, "load");
        assert_eq!(lines[0].points, [(2e5, 1.0), (2e6, 2.0), (2e7, 2.0)]);
    }
}
