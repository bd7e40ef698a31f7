//! The plots of benches/RESULTS.md, as SVG.

use std::path::Path;

use plotters::coord::ranged1d::{Ranged, ValueFormatter};
use plotters::prelude::{
    BLACK, Cartesian2d, ChartBuilder, ChartContext, Circle, Color, IntoDrawingArea, LineSeries, RGBColor,
    Rectangle, SVGBackend, SeriesLabelPosition, Text, TextStyle, WHITE,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::common::Result;
use crate::common::report::whole;
use crate::common::server::Kind;

const FONT: &str = "sans-serif";
/// Above the tallest bar there is room for the legend.
const HEADROOM: f64 = 1.55;

/// One workload of a bar chart: figures in the order of the servers, NaN where one was not measured.
pub(crate) struct Bars {
    pub(crate) label: String,
    pub(crate) figures: Vec<f64>,
}

/// Bars side by side, each workload drawn to the scale of its own `reference` (100 %), the figures written above.
///
/// Workloads differ a hundredfold in what an operation costs; on one scale the cheap ones would vanish.
pub(crate) fn draw_bars(
    path: &Path,
    title: &str,
    servers: &[Kind],
    reference: Kind,
    workloads: &[Bars],
) -> Result<()> {
    let reference = servers.iter().position(|&kind| kind == reference).unwrap_or(0);
    let shares = |bars: &Bars| -> Vec<f64> {
        bars.figures.iter().map(|figure| figure / bars.figures[reference] * 100.0).collect()
    };
    let tallest = workloads.iter().flat_map(shares).fold(100.0, f64::max);

    let root = SVGBackend::new(path, (128 * workloads.len() as u32 + 100, 440)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, (FONT, 22))
        .margin(10)
        .x_label_area_size(52)
        .y_label_area_size(66)
        .build_cartesian_2d(0.0..workloads.len() as f64, 0.0..tallest * HEADROOM)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .disable_x_axis()
        .y_desc(format!("{} = 100 %", servers[reference].name()))
        .y_label_formatter(&|share| format!("{share:.0} %"))
        .label_style((FONT, 16))
        .draw()?;

    let bar_width = 0.84 / servers.len() as f64;
    let above = |size| TextStyle::from((FONT, size)).pos(Pos::new(HPos::Center, VPos::Bottom));
    for (place, &kind) in servers.iter().enumerate() {
        let left = |number: usize| number as f64 + 0.08 + bar_width * place as f64;
        let bars = workloads.iter().enumerate().map(|(number, bars)| (left(number), shares(bars)[place]));
        chart
            .draw_series(bars.clone().filter(|(_, share)| share.is_finite()).map(|(x, share)| {
                Rectangle::new([(x, 0.0), (x + bar_width * 0.94, share)], color(kind).filled())
            }))?
            .label(kind.name())
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], color(kind).filled()));
        chart.draw_series(bars.zip(workloads).filter(|((_, share), _)| share.is_finite()).map(
            |((x, share), bars)| {
                Text::new(whole(bars.figures[place]), (x + bar_width / 2.0, share), above(14))
            },
        ))?;
    }
    let below = TextStyle::from((FONT, 16)).pos(Pos::new(HPos::Center, VPos::Top));
    for (number, bars) in workloads.iter().enumerate() {
        for (line, text) in bars.label.split('\n').enumerate() {
            let (x, y) = chart.backend_coord(&(number as f64 + 0.5, 0.0));
            root.draw(&Text::new(text.to_owned(), (x, y + 8 + 18 * line as i32), below.clone()))?;
        }
    }
    draw_legend(&mut chart)?;
    Ok(root.present()?)
}

/// One server of a line chart: megabytes that it took, and what it made of them.
pub(crate) struct Line {
    pub(crate) kind: Kind,
    pub(crate) points: Vec<(f64, f64)>,
}

/// Lines over memory, which doubles at equal distances.
pub(crate) fn draw_lines(
    path: &Path,
    title: &str,
    x_label: &str,
    y_label: &str,
    lines: &[Line],
) -> Result<()> {
    let points = || lines.iter().flat_map(|line| &line.points);
    let highest = points().map(|&(_, figure)| figure).fold(0.0, f64::max);
    let least = points().map(|&(megabytes, _)| megabytes.log2()).fold(f64::INFINITY, f64::min);
    let most = points().map(|&(megabytes, _)| megabytes.log2()).fold(0.0, f64::max);

    let root = SVGBackend::new(path, (720, 440)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, (FONT, 22))
        .margin(10)
        .x_label_area_size(58)
        .y_label_area_size(66)
        .build_cartesian_2d(least - 0.2..most + 0.2, 0.0..highest * 1.25)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(0)
        .x_desc(x_label)
        .y_desc(y_label)
        .y_label_formatter(&|figure| format!("{figure:.0} %"))
        .label_style((FONT, 16))
        .draw()?;
    let below = TextStyle::from((FONT, 16)).pos(Pos::new(HPos::Center, VPos::Top));
    for doubling in least.ceil() as i32..=most.floor() as i32 {
        let (x, y) = chart.backend_coord(&(f64::from(doubling), 0.0));
        root.draw(&Text::new(whole(f64::from(doubling).exp2()), (x, y + 8), below.clone()))?;
    }
    for line in lines {
        let color = color(line.kind);
        let path = line.points.iter().map(|&(megabytes, figure)| (megabytes.log2(), figure));
        chart
            .draw_series(LineSeries::new(path.clone(), color.stroke_width(2)))?
            .label(line.kind.name())
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], color.filled()));
        chart.draw_series(path.map(|point| Circle::new(point, 4, color.filled())))?;
    }
    draw_legend(&mut chart)?;
    Ok(root.present()?)
}

fn draw_legend<'a, X, Y>(chart: &mut ChartContext<'a, SVGBackend<'a>, Cartesian2d<X, Y>>) -> Result<()>
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .label_font((FONT, 16))
        .draw()?;
    Ok(())
}

/// Told apart also by those who do not see red and green (Okabe and Ito).
fn color(kind: Kind) -> RGBColor {
    match kind {
        Kind::Ferrocached => RGBColor(213, 94, 0),
        Kind::Memcached => RGBColor(86, 180, 233),
        Kind::Floor => RGBColor(170, 170, 170),
    }
}
