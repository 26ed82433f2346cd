//! The tutorials' picture: the loss curve, and for five rows of the batch bars of
//! input, label and prediction.

use crate::curve::Curve;
use crate::files::{PICTURE_MARK, replace};
use crate::train::Trainer;
use crate::{Error, one_line};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::FontStyle;
use std::path::Path;
use std::sync::Once;

const SIZE: (u32, u32) = (1500, 900);
/// Rows of the batch that get a panel.
const ROWS: usize = 5;
pub(crate) const FONT: &str = "sans-serif";

type Drawn = Result<(), Box<dyn std::error::Error>>;

/// What kind of file a path asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Svg,
    Png,
}

impl Format {
    fn of(path: &Path) -> Result<Self, Error> {
        let ending = path
            .extension()
            .and_then(|ending| ending.to_str())
            .unwrap_or("");
        match ending.to_ascii_lowercase().as_str() {
            "svg" => Ok(Self::Svg),
            "png" => Ok(Self::Png),
            _ => {
                let expected = "a file that ends in .svg or .png";
                Err(Error::setting("plot", expected, path.display()))
            }
        }
    }
}

/// Refuses a path that is not .svg or .png.
pub fn check(path: &Path) -> Result<(), Error> {
    Format::of(path).map(drop)
}

/// Draws the run so far and puts the picture in the place of any older one at once,
/// so that an open viewer never sees half of it.
pub fn draw(path: &Path, trainer: &Trainer, curve: &Curve) -> Result<(), Error> {
    let failed = |e: Box<dyn std::error::Error>| Error::Plot {
        path: path.to_owned(),
        problem: one_line(e),
    };
    register_font();
    let bytes = match Format::of(path)? {
        Format::Svg => svg(trainer, curve),
        Format::Png => png(trainer, curve),
    };
    replace(path, &bytes.map_err(failed)?)
}

fn svg(trainer: &Trainer, curve: &Curve) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let mut text = String::new();
    let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
    panels(&area, trainer, curve)?;
    drop(area);
    // The mark follows the opening tag.
    Ok(text
        .replacen('>', &format!("><!-- {PICTURE_MARK} -->"), 1)
        .into_bytes())
}

fn png(trainer: &Trainer, curve: &Curve) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let (width, height) = SIZE;
    let mut pixels = vec![0; 3 * width as usize * height as usize];
    let area = BitMapBackend::with_buffer(&mut pixels, SIZE).into_drawing_area();
    panels(&area, trainer, curve)?;
    drop(area);
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.add_text_chunk("Software".into(), PICTURE_MARK.into())?;
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&pixels)?;
    writer.finish()?;
    Ok(bytes)
}

/// The font is part of the program, so that the picture is the same everywhere.
pub(crate) fn register_font() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let font = epaint_default_fonts::UBUNTU_LIGHT;
        // It fails only on a font that cannot be read; then text is left out.
        let _ = plotters::style::register_font(FONT, FontStyle::Normal, font);
    });
}

fn panels<B>(area: &DrawingArea<B, Shift>, trainer: &Trainer, curve: &Curve) -> Drawn
where
    B: DrawingBackend,
    B::ErrorType: 'static,
{
    area.fill(&WHITE)?;
    let panels = area.margin(10, 10, 10, 10).split_evenly((2, 3));
    loss_panel(&panels[0], curve)?;
    for (row, panel) in panels[1..]
        .iter()
        .enumerate()
        .take(ROWS.min(trainer.settings().batch))
    {
        bar_panel(panel, trainer, row)?;
    }
    area.present()?;
    Ok(())
}

fn loss_panel<B>(area: &DrawingArea<B, Shift>, curve: &Curve) -> Drawn
where
    B: DrawingBackend,
    B::ErrorType: 'static,
{
    // The axis is that of the logarithms: plotters' own logarithmic axis does not end for losses near
    // the limits of f32. One of zero, which has no logarithm, is drawn at the bottom.
    let logarithm = |loss: f32| f64::from(loss).log10();
    let positive = curve.points().filter(|&(_, loss)| loss > 0.0);
    let (low, high) = positive.fold(
        (f64::INFINITY, f64::NEG_INFINITY),
        |(low, high), (_, loss)| (low.min(logarithm(loss)), high.max(logarithm(loss))),
    );
    let (low, high) = if low <= high {
        (low - 0.1, high + 0.1)
    } else {
        (-1.0, 0.0)
    };
    let first = curve.points().next().map_or(0, |(step, _)| step);
    let last = curve.points().last().map_or(1, |(step, _)| step);
    let mut chart = ChartBuilder::on(area)
        .caption("Loss of each step", (FONT, 22))
        .margin(8)
        .x_label_area_size(40)
        .y_label_area_size(64)
        .build_cartesian_2d(first..last.max(first + 1), low..high)?;
    chart
        .configure_mesh()
        .x_desc("step")
        .y_desc("softmax cross-entropy (log scale)")
        .x_labels(6)
        .x_label_formatter(&|step| step.to_string())
        .y_label_formatter(&|power| format!("{:.0e}", 10f64.powf(*power)))
        .label_style((FONT, 15))
        .axis_desc_style((FONT, 16))
        .light_line_style(RGBColor(240, 240, 240))
        .draw()?;
    let points = curve
        .points()
        .map(|(step, loss)| (step, logarithm(loss).max(low)));
    chart.draw_series(LineSeries::new(
        points,
        RGBColor(31, 89, 160).stroke_width(1),
    ))?;
    Ok(())
}

fn bar_panel<B>(area: &DrawingArea<B, Shift>, trainer: &Trainer, row: usize) -> Drawn
where
    B: DrawingBackend,
    B::ErrorType: 'static,
{
    let batch = trainer.settings().batch;
    let (x, labels, probabilities) = trainer.last_batch();
    let steps = x.len() / batch;
    let mut chart = ChartBuilder::on(area)
        .caption(format!("Row {row} of the last batch"), (FONT, 22))
        .margin(8)
        .x_label_area_size(40)
        .y_label_area_size(48)
        .build_cartesian_2d(-0.5..steps as f64 - 0.5, 0.0..1.3f64)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_desc("time step of the batch")
        .y_desc("bit")
        .x_labels(steps.min(16))
        .x_label_formatter(&|t| format!("{t:.0}"))
        .y_labels(3)
        .y_label_formatter(&|bit| format!("{bit:.1}"))
        .label_style((FONT, 15))
        .axis_desc_style((FONT, 16))
        .light_line_style(WHITE)
        .draw()?;
    let places = || (0..steps).map(|t| t * batch + row);
    let input = places().map(|k| f64::from(x[k])).collect::<Vec<_>>();
    let label = places().map(|k| f64::from(labels[k])).collect::<Vec<_>>();
    let prediction = places()
        .map(|k| f64::from(probabilities[2 * k] < 0.5))
        .collect::<Vec<_>>();
    let bars = [
        ("input", input, 1.0, RGBColor(60, 90, 220)),
        ("label", label, 0.5, RGBColor(220, 50, 40)),
        ("prediction", prediction, 0.3, RGBColor(40, 160, 60)),
    ];
    for (name, bits, height, colour) in bars {
        let bars = bits
            .into_iter()
            .enumerate()
            .filter(|&(_, bit)| bit != 0.0)
            .map(|(t, bit)| {
                let t = t as f64;
                Rectangle::new([(t - 0.45, 0.0), (t + 0.45, bit * height)], colour.filled())
            });
        chart
            .draw_series(bars)?
            .label(name)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 14, y + 5)], colour.filled()));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .legend_area_size(18)
        .margin(4)
        .background_style(WHITE.mix(0.9))
        .border_style(RGBColor(200, 200, 200))
        .label_font((FONT, 15))
        .draw()?;
    Ok(())
}
