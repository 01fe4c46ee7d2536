//! Pictures of a row, as SVG written by hand: both forms in one picture, one picture for each of tasks, memory and latency.
//!
//! Colours are classes, so that a page and a file follow light and dark alike; both forms also differ in the kind of line, and
//! each is labelled where it ends.

use std::fmt::Write as _;

use super::words::{escaped, figure};
use super::{RowRecord, VerdictRecord};
use crate::row::Unit;
use crate::run::Findings;

/// What a file needs and a page has only once.
pub const STYLE: &str = "\
.panel{font:11px system-ui,-apple-system,'Segoe UI',sans-serif}\
.panel text{fill:#57606a}.panel .name{fill:#1f2328;font-weight:600;font-size:12px}\
.panel .grid{stroke:#d8dee4;stroke-width:1}.panel .tied{stroke:#0f766e}.panel .leaky{stroke:#c2410c}\
.panel path{fill:none;stroke-width:2;stroke-linejoin:round}.panel path.leaky{stroke-dasharray:6 2}\
.panel path.bound{stroke:#57606a;stroke-width:1;stroke-dasharray:2 3}\
.panel path.area{stroke-width:1.5}.panel path.area.tied{fill:#0f766e33}.panel path.area.leaky{fill:#c2410c26}\
.panel text.tied{fill:#0f766e;stroke:none;font-weight:600}.panel text.leaky{fill:#c2410c;stroke:none;font-weight:600}\
@media(prefers-color-scheme:dark){.panel text{fill:#9198a1}.panel .name{fill:#e6edf3}.panel .grid{stroke:#30363d}\
.panel .tied{stroke:#2dd4bf}.panel .leaky{stroke:#fb923c}.panel path.bound{stroke:#9198a1}.panel path.area.tied{fill:#2dd4bf33}\
.panel path.area.leaky{fill:#fb923c26}.panel text.tied{fill:#2dd4bf}.panel text.leaky{fill:#fb923c}}";

const WIDTH: f64 = 340.0;
const HEIGHT: f64 = 200.0;
const LEFT: f64 = 12.0;
const RIGHT: f64 = WIDTH - 12.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = HEIGHT - 24.0;

/// Points of one line at most: more than there are columns say nothing.
const MAX_POINTS: usize = 240;

/// The pictures of a row, each an `<svg>` of its own that needs [`STYLE`] around it.
#[must_use]
pub fn panels(record: &RowRecord) -> Vec<String> {
    let (Some(tied), Some(leaky)) = (&record.tied, &record.leaky) else { return Vec::new() };
    let of = |what, unit| over_time(what, unit, tied, leaky, &record.verdicts);
    let mut panels = vec![of("tasks", Unit::Count), of("memory", Unit::Bytes)];
    let shared = tied.latencies.keys().find(|name| leaky.latencies.contains_key(*name));
    panels.push(shared.and_then(|name| histogram(name, tied, leaky)));
    panels.into_iter().flatten().collect()
}

/// The pictures of a row side by side, as a file; `None` if it has none.
#[must_use]
pub fn file(record: &RowRecord) -> Option<String> {
    let panels = panels(record);
    if panels.is_empty() {
        return None;
    }
    let width = WIDTH * panels.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {HEIGHT}\" width=\"{width}\" height=\"{HEIGHT}\" \
         role=\"img\" aria-label=\"{} {}: both forms\"><style>{STYLE}</style>\n",
        record.id,
        escaped(record.title)
    );
    for (at, panel) in panels.iter().enumerate() {
        let _ = writeln!(svg, "<g transform=\"translate({})\">{panel}</g>", WIDTH * at as f64);
    }
    svg.push_str("</svg>\n");
    Some(svg)
}

/// Points over time: seconds, and the value then.
type Points = [(f64, f64)];

/// The series that tells most about `what`: a gauge such as `server tasks`, if both forms have it, or the process's own. Its
/// name, and the points of the tied and the leaky form.
fn series<'a>(what: &str, tied: &'a Findings, leaky: &'a Findings) -> Option<(String, [&'a Points; 2])> {
    let of = |findings: &'a Findings, name: &str| {
        findings.series.iter().find(|series| series.name == name).map(|series| &series.points[..])
    };
    let special = format!(" {what}");
    let named = tied.series.iter().map(|series| series.name.as_str()).find(|name| name.ends_with(&special));
    [named, Some(what)]
        .into_iter()
        .flatten()
        .find_map(|name| Some((name.to_owned(), [of(tied, name)?, of(leaky, name)?])))
}

fn over_time(
    what: &str,
    unit: Unit,
    tied: &Findings,
    leaky: &Findings,
    verdicts: &[VerdictRecord],
) -> Option<String> {
    let (name, both) = series(what, tied, leaky)?;
    let points = || both.iter().flat_map(|points| points.iter());
    let until = points().map(|point| point.0).fold(0.01, f64::max);
    let most = points().map(|point| point.1).fold(1.0, f64::max) * 1.05;
    let place = |(at, value): (f64, f64)| {
        (LEFT + at / until * (RIGHT - LEFT), BOTTOM - value.max(0.0) / most * (BOTTOM - TOP))
    };
    let mut panel = frame(&name);
    // What the peak may be, as long as it lies in the picture: for some it is far above what anybody took.
    let peak = format!("{name} peak");
    let bound = verdicts.iter().find(|verdict| verdict.figure == peak).and_then(|verdict| verdict.at_most);
    if let Some(bound) = bound.filter(|bound| *bound <= most) {
        let (_, y) = place((0.0, bound));
        let _ = write!(
            panel,
            "<path class=\"bound\" d=\"M{LEFT} {y:.1}H{RIGHT}\"/><text x=\"{RIGHT}\" y=\"{:.1}\" text-anchor=\"end\">≤ {}</text>",
            y - 3.0,
            figure(bound, unit)
        );
    }
    for (form, points) in [("leaky", both[1]), ("tied", both[0])] {
        let mut path = String::new();
        for (at, point) in thinned(points).into_iter().enumerate() {
            let (x, y) = place(point);
            let _ = write!(path, "{}{x:.1} {y:.1}", if at == 0 { 'M' } else { 'L' });
        }
        let _ = write!(panel, "<path class=\"{form}\" d=\"{path}\"/>");
    }
    legend(
        &mut panel,
        both.map(|points| {
            let peak = points.iter().map(|point| point.1).fold(0.0, f64::max);
            format!("peak {}", figure(peak, unit))
        }),
    );
    let end = figure(until, Unit::Seconds);
    let _ = write!(
        panel,
        "<text x=\"{LEFT}\" y=\"{y}\">0</text><text x=\"{RIGHT}\" y=\"{y}\" text-anchor=\"end\">{end}</text></svg>",
        y = HEIGHT - 8.0
    );
    Some(panel)
}

/// Fewer points, and no peak lost: of those that share a column the highest is kept.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let chunk = points.len().div_ceil(MAX_POINTS).max(1);
    let highest = |chunk: &[(f64, f64)]| chunk.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1));
    points.chunks(chunk).filter_map(highest).collect()
}

/// How often which latency: time from left to right, in powers of ten.
fn histogram(name: &str, tied: &Findings, leaky: &Findings) -> Option<String> {
    let both = [tied.latencies.get(name)?, leaky.latencies.get(name)?];
    let ends = || both.iter().flat_map(|buckets| buckets.iter().map(|bucket| bucket.0));
    let (low, high) = (ends().fold(f64::MAX, f64::min), ends().fold(0.0, f64::max));
    if high <= 0.0 {
        return None;
    }
    let (first, last) = ((low / 1.3).log10().floor(), high.log10().ceil());
    let x = |seconds: f64| LEFT + (seconds.log10() - first) / (last - first).max(1.0) * (RIGHT - LEFT);
    let mut panel = frame(&format!("{name}: how often which latency"));
    for (form, buckets) in [("leaky", both[1]), ("tied", both[0])] {
        let most = buckets.iter().map(|bucket| bucket.1).max().unwrap_or(1) as f64;
        let mut path = String::new();
        for (end, count) in buckets {
            let y = BOTTOM - *count as f64 / most * (BOTTOM - TOP);
            let (from, to) = (x(end / 1.3), x(*end));
            let _ = write!(path, "M{from:.1} {BOTTOM}V{y:.1}H{to:.1}V{BOTTOM}Z");
        }
        let _ = write!(panel, "<path class=\"area {form}\" d=\"{path}\"/>");
    }
    let p99 = |findings: &Findings| findings.p99.get(name).copied().unwrap_or_default();
    legend(&mut panel, [tied, leaky].map(|form| format!("p99 {}", figure(p99(form), Unit::Seconds))));
    let mut power = first;
    while power <= last {
        let (at, anchor) = (x(10_f64.powf(power)), if power == first { "start" } else { "end" });
        let label = figure(10_f64.powf(power), Unit::Seconds);
        let _ = write!(
            panel,
            "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"{anchor}\">{label}</text>",
            HEIGHT - 8.0
        );
        power += 1.0;
    }
    panel.push_str("</svg>");
    Some(panel)
}

fn frame(name: &str) -> String {
    let mut panel = format!(
        "<svg class=\"panel\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\" \
         aria-label=\"{name}\"><text class=\"name\" x=\"{LEFT}\" y=\"16\">{name}</text>",
        name = escaped(name)
    );
    for part in 0..=2 {
        let y = TOP + (BOTTOM - TOP) * f64::from(part) / 2.0;
        let _ = write!(panel, "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{y}\" y2=\"{y}\"/>");
    }
    panel
}

/// Which line is whose, with the figure of each: the tied form's first.
fn legend(panel: &mut String, [tied, leaky]: [String; 2]) {
    let middle = WIDTH / 2.0;
    for (x, form, said) in [(LEFT, "tied", tied), (middle, "leaky", leaky)] {
        let _ = write!(
            panel,
            "<path class=\"{form}\" d=\"M{x} 30h18\"/><text class=\"{form}\" x=\"{}\" y=\"34\">{form}: {said}</text>",
            x + 23.0
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::record;

    #[test]
    fn a_picture_has_both_forms_with_their_peaks() {
        let panels = panels(&record(101.0, 20_003.0));
        assert_eq!(panels.len(), 2, "tasks and latency; nothing sampled memory");
        assert!(panels[0].contains("leaky: peak 19,803") && panels[0].contains("tied: peak"));
        assert!(panels[1].contains("p99 9 ms"), "the exact one, not the end of a bucket: {}", panels[1]);
        let file = file(&record(101.0, 20_003.0)).unwrap();
        assert!(file.contains("T1 a &lt;row&gt; of tests"), "titles are text");
        assert_eq!(file.matches("<svg").count(), file.matches("</svg>").count());
    }

    #[test]
    fn a_bound_is_drawn_where_it_lies_in_the_picture() {
        let bound = |tied, leaky| panels(&record(tied, leaky))[0].contains("≤ 160</text>");
        assert!(bound(101.0, 20_003.0));
        assert!(!bound(11.0, 20.0), "far above what was taken");
    }

    #[test]
    fn thinning_keeps_the_peak() {
        let mut points: Vec<(f64, f64)> = (0..10_000).map(|at| (f64::from(at), 1.0)).collect();
        points[7_777].1 = 9.0;
        let thinned = thinned(&points);
        assert!(thinned.len() <= MAX_POINTS);
        assert!(thinned.contains(&(7_777.0, 9.0)));
    }
}
