//! Pictures of a row, as SVG written by hand: both forms in one picture; the two things over time that have a bound or in which they
//! differ most, a latency, and the figures themselves where little of that is to be seen.
//!
//! Colours are classes, so that a page and a file follow light and dark alike; both forms also differ in the kind of line, and
//! each is labelled where it ends.

use std::fmt::Write as _;

use super::words::{escaped, figure, limit, maybe};
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

/// How many pictures over time a row has at most, and how many of any kind at least.
const SOME: usize = 2;

/// How far the peaks of both forms are apart where that is worth a picture, as the logarithm of their ratio: one is nearly twice the other.
const TELLING: f64 = 0.6;

/// The pictures of a row, each an `<svg>` of its own that needs [`STYLE`] around it.
#[must_use]
pub fn panels(record: &RowRecord) -> Vec<String> {
    let (Some(tied), Some(leaky)) = (&record.tied, &record.leaky) else { return Vec::new() };
    let is_bounded = |series: &Shared<'_>| series.bound(&record.verdicts).is_some();
    let mut shared = shared(tied, leaky);
    // The memory of a process is a comparison only where a row takes care that it is one: the form that runs first makes the heap.
    shared.retain(|series| is_bounded(series) || (series.name != "memory" && series.apart() > TELLING));
    shared.sort_by(|a, b| is_bounded(b).cmp(&is_bounded(a)).then_with(|| b.apart().total_cmp(&a.apart())));
    let mut panels: Vec<String> =
        shared.iter().take(SOME).map(|series| over_time(series, &record.verdicts)).collect();
    panels.extend(slowest(tied, leaky).and_then(|name| histogram(name, tied, leaky)));
    let more = SOME.saturating_sub(panels.len());
    panels.extend(record.verdicts.iter().filter(|verdict| verdict.leaky_has_to_break).take(more).map(bars));
    panels
}

/// The latency in which both forms differ most.
fn slowest<'a>(tied: &'a Findings, leaky: &Findings) -> Option<&'a str> {
    let apart = |name: &str| {
        let p99 = |findings: &Findings| findings.p99.get(name).copied().unwrap_or_default().max(1e-6);
        (p99(leaky) / p99(tied)).ln().abs()
    };
    let shared = tied.latencies.keys().filter(|name| leaky.latencies.contains_key(*name));
    shared.max_by(|a, b| apart(a).total_cmp(&apart(b))).map(String::as_str)
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

/// What both forms have over time.
struct Shared<'a> {
    name: &'a str,
    unit: Unit,
    /// Of the tied and the leaky form.
    points: [&'a Points; 2],
}

impl Shared<'_> {
    fn peaks(&self) -> [f64; 2] {
        self.points.map(|points| points.iter().map(|point| point.1).fold(0.0, f64::max))
    }

    /// How far the peaks are apart, as the logarithm of their ratio.
    fn apart(&self) -> f64 {
        let [tied, leaky] = self.peaks().map(|peak| peak + 1.0);
        (leaky / tied).ln().abs()
    }

    /// What the peak may be at most.
    fn bound(&self, verdicts: &[VerdictRecord]) -> Option<f64> {
        let peak = verdicts.iter().find(|verdict| verdict.figure.strip_suffix(" peak") == Some(self.name));
        peak.and_then(|verdict| verdict.at_most)
    }
}

/// What both forms have over time: first what there is of every row, then its own gauges and counters.
fn shared<'a>(tied: &'a Findings, leaky: &'a Findings) -> Vec<Shared<'a>> {
    let both = tied.series.iter().filter_map(|tied| {
        let leaky = leaky.series.iter().find(|leaky| leaky.name == tied.name)?;
        let is_bytes = ["memory", "bytes", "resident"].iter().any(|word| tied.name.contains(word));
        let unit = if is_bytes { Unit::Bytes } else { Unit::Count };
        Some(Shared { name: &tied.name, unit, points: [&tied.points, &leaky.points] })
    });
    let mut both: Vec<_> = both.collect();
    both.sort_by_key(|series| !matches!(series.name, "tasks" | "memory"));
    both
}

fn over_time(series: &Shared<'_>, verdicts: &[VerdictRecord]) -> String {
    let Shared { name, unit, points: both } = *series;
    let points = || both.iter().flat_map(|points| points.iter());
    let until = points().map(|point| point.0).fold(0.01, f64::max);
    let most = points().map(|point| point.1).fold(1.0, f64::max) * 1.05;
    let place = |(at, value): (f64, f64)| {
        (LEFT + at / until * (RIGHT - LEFT), BOTTOM - value.max(0.0) / most * (BOTTOM - TOP))
    };
    let mut panel = frame(name);
    // What the peak may be, as long as it lies in the picture: for some it is far above what anybody took.
    if let Some(bound) = series.bound(verdicts).filter(|bound| *bound <= most) {
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
    panel
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
    let mut panel = frame(&format!("{name}: latency"));
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
    // As many labels as have room.
    let every = ((last - first) / 5.0).ceil().max(1.0);
    let mut power = first;
    while power <= last {
        let anchor = match power {
            _ if power == first => "start",
            _ if power == last => "end",
            _ => "middle",
        };
        let at = x(10_f64.powf(power));
        let label = figure(10_f64.powf(power), Unit::Seconds);
        let _ = write!(
            panel,
            "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"{anchor}\">{label}</text>",
            HEIGHT - 8.0
        );
        power += every;
    }
    panel.push_str("</svg>");
    Some(panel)
}

/// One figure of both forms, and what it is held against.
fn bars(verdict: &VerdictRecord) -> String {
    let bound = verdict.at_most.or(verdict.at_least).unwrap_or_default();
    // What never came to be is beyond everything.
    let values = [verdict.tied, verdict.leaky].map(|value| value.unwrap_or(f64::INFINITY).max(0.0));
    let finite = values.iter().chain([&bound]).copied().filter(|value| value.is_finite());
    let most = finite.fold(0.0, f64::max).max(1e-12) * 1.05;
    let x = |value: f64| LEFT + (value / most).min(1.0) * (RIGHT - LEFT);
    let mut panel = frame(verdict.figure);
    for (form, value, y) in [("tied", values[0], TOP + 18.0), ("leaky", values[1], TOP + 72.0)] {
        let _ = write!(panel, "<path class=\"area {form}\" d=\"M{LEFT} {y}H{:.1}v34H{LEFT}Z\"/>", x(value));
    }
    let (at, anchor) = (x(bound), if x(bound) > WIDTH / 2.0 { "end" } else { "start" });
    let _ = write!(
        panel,
        "<path class=\"bound\" d=\"M{at:.1} {TOP}V{BOTTOM}\"/><text x=\"{at:.1}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>",
        HEIGHT - 8.0,
        limit(verdict.limit(), verdict.unit)
    );
    legend(&mut panel, [verdict.tied, verdict.leaky].map(|value| maybe(value, verdict.unit)));
    panel.push_str("</svg>");
    panel
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
    use crate::sample::Series;

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
    fn what_tells_the_forms_apart_is_shown_first_and_what_is_nothing_not_at_all() {
        let mut record = record(101.0, 101.0);
        let mut add = |name: &str, tied: f64, leaky: f64| {
            for (findings, most) in [(&mut record.tied, tied), (&mut record.leaky, leaky)] {
                let series = Series { name: name.to_owned(), points: vec![(0.0, 0.0), (9.0, most)] };
                findings.as_mut().unwrap().series.push(series);
            }
        };
        add("idle", 0.0, 0.0);
        add("memory", 9e6, 0.0);
        add("lost", 0.0, 7.0);
        add("kept", 10.0, 7.0);
        for (name, leaky) in [("a reply", 2.0), ("at rest", 0.01)] {
            for (findings, p99) in [(&mut record.tied, 0.01), (&mut record.leaky, leaky)] {
                let findings = findings.as_mut().unwrap();
                findings.latencies.insert(name.to_owned(), vec![(p99, 1)]);
                findings.p99.insert(name.to_owned(), p99);
            }
        }
        let panels = panels(&record);
        let name = |panel: &String| {
            panel.split("aria-label=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
        };
        let names: Vec<_> = panels.iter().map(name).collect();
        assert_eq!(names, ["tasks", "lost", "a reply: latency"], "what has a bound goes first");
    }

    #[test]
    fn where_there_is_little_to_see_the_figures_are_shown() {
        let mut record = record(101.0, 20_003.0);
        for findings in [&mut record.tied, &mut record.leaky] {
            let findings = findings.as_mut().unwrap();
            findings.series.clear();
            findings.latencies.clear();
        }
        let shown = panels(&record);
        assert_eq!(shown.len(), 1, "one bound of the row is to be broken");
        assert!(shown[0].contains("tied: 101<") && shown[0].contains("leaky: 20,003<"), "{}", shown[0]);
        assert!(shown[0].contains("≤ 160</text>"), "{}", shown[0]);
        record.verdicts[0].leaky = None;
        assert!(panels(&record)[0].contains("leaky: none<"));
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
