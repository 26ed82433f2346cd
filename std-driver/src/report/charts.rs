//! Lines in a chart, as SVG text.

use crate::plot::{FONT, register_font};
use plotters::prelude::*;

/// A line of a chart.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// What stands beside the axes.
pub(super) struct Axes<'a> {
    pub(super) x: &'a str,
    pub(super) y: &'a str,
    /// Whether the second is one of logarithms.
    pub(super) logarithmic: bool,
}

const COLOURS: [RGBColor; 4] = [
    RGBColor(31, 89, 160),
    RGBColor(214, 93, 14),
    RGBColor(40, 140, 60),
    RGBColor(140, 60, 140),
];

/// The chart.
pub(super) fn lines(axes: Axes, lines: &[Line]) -> Result<String, Box<dyn std::error::Error>> {
    register_font();
    // The axis is that of the logarithms: plotters' own logarithmic axis does not end for numbers near
    // the limits of f32.
    let value = |y: f64| match axes.logarithmic {
        true => y.max(1e-30).log10(),
        false => y,
    };
    let all = || {
        lines
            .iter()
            .flat_map(|line| &line.points)
            .filter(|p| p.1.is_finite())
    };
    let range = |values: &mut dyn Iterator<Item = f64>| {
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| {
            (low.min(v), high.max(v))
        });
        match low < high {
            true => (low, high),
            false if low == high => (low - 0.5, high + 0.5),
            false => (0.0, 1.0),
        }
    };
    let (left, right) = range(&mut all().map(|p| p.0));
    let (low, high) = range(&mut all().map(|p| value(p.1)));
    let margin = 0.05 * (high - low);
    let mut text = String::new();
    let area = SVGBackend::with_string(&mut text, (1000, 380)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(10)
        .x_label_area_size(42)
        .y_label_area_size(70)
        .build_cartesian_2d(left..right, low - margin..high + margin)?;
    let logarithmic = axes.logarithmic;
    chart
        .configure_mesh()
        .x_desc(axes.x)
        .y_desc(axes.y)
        .x_labels(10)
        .x_label_formatter(&|x| match x.fract() == 0.0 {
            true => format!("{x:.0}"),
            false => String::new(),
        })
        .y_labels(6)
        .y_label_formatter(&move |y| match logarithmic {
            true => format!("{:.1e}", 10f64.powf(*y)),
            false => format!("{y:.3}"),
        })
        .label_style((FONT, 14))
        .axis_desc_style((FONT, 15))
        .light_line_style(RGBColor(240, 240, 240))
        .draw()?;
    for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let points = line.points.iter().filter(|p| p.1.is_finite());
        let points: Vec<_> = points.map(|&(x, y)| (x, value(y))).collect();
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
            .label(&line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(3)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .margin(6)
        .background_style(WHITE.mix(0.9))
        .border_style(RGBColor(200, 200, 200))
        .label_font((FONT, 15))
        .draw()?;
    area.present()?;
    drop(chart);
    drop(area);
    Ok(text)
}
