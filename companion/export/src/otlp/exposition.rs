//! Reads the text that Prometheus is told (exposition format 0.0.4), as far as the companion writes it: gauges, counters and histograms, without
//! times. A line that is none of these is passed over.

/// What is known of a name.
#[derive(Debug, PartialEq)]
pub struct Family<'a> {
    pub name: &'a str,
    pub kind: &'a str,
    pub help: &'a str,
    pub points: Vec<Point<'a>>,
}

/// What belongs to the same labels.
#[derive(Debug, PartialEq)]
pub struct Point<'a> {
    /// As they are written, without the bound of a bucket.
    pub labels: &'a str,
    /// The value; the sum of a histogram.
    pub value: f64,
    /// Of a histogram: upper bounds, and how many were no larger.
    pub buckets: Vec<(f64, u64)>,
}

/// The families of a text, and how many points beyond `most` were left out.
pub fn read(text: &str, most: usize) -> (Vec<Family<'_>>, usize) {
    let mut families: Vec<Family<'_>> = Vec::new();
    let (mut room, mut left_out) = (most, 0_usize);
    for line in text.lines() {
        if let Some(told) = line.strip_prefix("# ") {
            comment(&mut families, told);
            continue;
        }
        let (Some(family), Some((name, labels, value))) = (families.last_mut(), sample(line)) else {
            continue;
        };
        let Some(part) = name.strip_prefix(family.name).filter(|part| belongs(part, family.kind)) else {
            continue;
        };
        let (labels, bound) = if part == "_bucket" { bounded(labels) } else { (labels, None) };
        // The lines of a histogram's point follow each other.
        if part.is_empty() || family.points.last().is_none_or(|last| last.labels != labels) {
            if room == 0 {
                left_out = left_out.saturating_add(1);
                continue;
            }
            room -= 1;
            family.points.push(Point { labels, value: 0.0, buckets: Vec::new() });
        }
        let Some(point) = family.points.last_mut() else { continue };
        match (part, bound) {
            ("_bucket", Some(bound)) => point.buckets.push((bound, whole(value))),
            ("" | "_sum", _) => point.value = value,
            _ => {}
        }
    }
    (families, left_out)
}

fn comment<'a>(families: &mut Vec<Family<'a>>, told: &'a str) {
    let mut words = told.splitn(3, ' ');
    let (Some(what), Some(name), Some(said)) = (words.next(), words.next(), words.next()) else { return };
    if families.last().is_none_or(|last| last.name != name) {
        families.push(Family { name, kind: "", help: "", points: Vec::new() });
    }
    match (what, families.last_mut()) {
        ("HELP", Some(family)) => family.help = said,
        ("TYPE", Some(family)) => family.kind = said,
        _ => {}
    }
}

fn belongs(part: &str, kind: &str) -> bool {
    match kind {
        "histogram" => matches!(part, "_bucket" | "_sum" | "_count"),
        _ => part.is_empty(),
    }
}

/// Name, labels and value of a line.
fn sample(line: &str) -> Option<(&str, &str, f64)> {
    let (series, value) = line.rsplit_once(' ')?;
    let value = value.parse().ok()?;
    match series.split_once('{') {
        Some((name, labels)) => Some((name, labels.strip_suffix('}')?, value)),
        None => Some((series, "", value)),
    }
}

/// The labels without the bound of a bucket, which stands last, and the bound.
fn bounded(labels: &str) -> (&str, Option<f64>) {
    let (others, bound) = labels.rsplit_once("le=\"").unwrap_or((labels, ""));
    (others.trim_end_matches(','), bound.trim_end_matches('"').parse().ok())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts are whole and not negative"
)]
fn whole(value: f64) -> u64 {
    value.max(0.0) as u64
}

/// Names and values of `name="value"` with commas between them; a backslash keeps what follows it from ending the value.
pub fn labels(mut rest: &str) -> Vec<(&str, String)> {
    let mut all = Vec::new();
    while let Some((name, value)) = rest.split_once("=\"") {
        let (text, after) = unescaped(value);
        all.push((name.trim_start_matches(','), text));
        rest = after;
    }
    all
}

/// A value up to its quotation mark, and what comes after that.
fn unescaped(value: &str) -> (String, &str) {
    let mut text = String::new();
    let mut chars = value.chars();
    while let Some(char) = chars.next() {
        match char {
            '"' => break,
            '\\' => match chars.next() {
                Some('n') => text.push('\n'),
                Some(other) => text.push(other),
                None => {}
            },
            other => text.push(other),
        }
    }
    (text, chars.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_as_they_are_escaped() {
        let told = labels(r#"type="A",tenant="a\"b\\,c=\nd",empty="""#);
        let expected = [("type", "A"), ("tenant", "a\"b\\,c=\nd"), ("empty", "")];
        assert_eq!(told, expected.map(|(name, value)| (name, value.to_owned())));
        assert_eq!(labels("torn=\"never ends"), [("torn", "never ends".to_owned())]);
    }

    #[test]
    fn what_is_none_is_passed_over_and_there_is_a_most() {
        let text = "orphan 1\n# TYPE a gauge\nother 1\na\na x\na{x=\"1\" 3\na{x=\"1\"} 3\na 4\na 5\n";
        let (families, left_out) = read(text, 2);
        let values: Vec<f64> = families[0].points.iter().map(|point| point.value).collect();
        assert_eq!((families.len(), values, left_out), (1, vec![3.0, 4.0], 1));
    }

    #[test]
    fn a_histogram_is_whole_or_left_out() {
        let of = |label: &str| {
            format!(
                "h_bucket{{of=\"{label}\",le=\"0.5\"}} 1\nh_bucket{{of=\"{label}\",le=\"+Inf\"}} 3\nh_sum{{of=\"{label}\"}} 2.5\n\
                 h_count{{of=\"{label}\"}} 3\n"
            )
        };
        let text = format!("# HELP h Waits.\n# TYPE h histogram\n{}{}", of("a"), of("b"));
        let (families, left_out) = read(&text, 1);
        let point = Point { labels: "of=\"a\"", value: 2.5, buckets: vec![(0.5, 1), (f64::INFINITY, 3)] };
        let points = vec![point];
        assert_eq!(families, [Family { name: "h", kind: "histogram", help: "Waits.", points }]);
        assert_eq!(left_out, 4, "counted by lines");
    }
}
