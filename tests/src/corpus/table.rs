//! Counts as an aligned table.

use super::tally::{Report, Row};

/// What the table shows beside the counts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Details {
    /// Refusals by their reason.
    pub reasons: bool,
}

/// Lines that could not be read and are listed. More: counted.
const UNREAD: usize = 20;

/// What a further column shows of a row.
type Column = fn(&Row) -> u64;

/// The table, and below it what could not be read.
pub fn table(report: &Report, details: Details) -> String {
    let shown: Vec<&Row> = report.rows.iter().filter(|row| is_shown(report, row)).collect();
    // A column is there when it has something to say.
    let extra: Vec<(&str, Column)> = [
        ("by the proxy", (|row| row.proxy) as Column),
        ("no answer", |row| row.unanswered),
        ("unplaceable", |row| row.unplaceable),
    ]
    .into_iter()
    .filter(|(_, of)| shown.iter().any(|row| of(row) > 0))
    .collect();
    let mut head = vec![
        "file".to_owned(),
        "label".to_owned(),
        "total".to_owned(),
        "blocked".to_owned(),
        "share".to_owned(),
    ];
    head.extend(extra.iter().map(|(name, _)| (*name).to_owned()));
    let mut lines = vec![head];
    let mut before = "";
    for row in &shown {
        let file = if row.file == before { String::new() } else { row.file.clone() };
        before = &row.file;
        let label = match &row.place {
            Some(place) => format!("  {} / {place}", row.label),
            None if row.part => format!("  {}", row.label),
            None => row.label.clone(),
        };
        let share = row.share().map_or_else(|| "-".to_owned(), |share| format!("{:.2} %", share * 100.0));
        let mut line = vec![file, label, grouped(row.total), grouped(row.blocked), share];
        line.extend(extra.iter().map(|(_, of)| grouped(of(row))));
        lines.push(line);
        if details.reasons && row.place.is_none() {
            for (reason, count) in &row.reasons {
                lines.push(vec![String::new(), format!("    {reason}"), String::new(), grouped(*count)]);
            }
        }
    }
    let mut text = aligned(&lines);
    if !report.unread.is_empty() {
        text.push_str(&format!("\n{} lines could not be read:\n", grouped(report.unread.len() as u64)));
        for line in report.unread.iter().take(UNREAD) {
            text.push_str(&format!("  {}:{}: {}\n", line.file, line.line, printable(&line.why)));
        }
        if report.unread.len() > UNREAD {
            text.push_str(&format!("  and {} more\n", report.unread.len().saturating_sub(UNREAD)));
        }
    }
    text
}

/// Places are shown beneath the label that all lines share, when there is more than one.
fn is_shown(report: &Report, row: &Row) -> bool {
    let Some(_) = row.place else { return true };
    let same = |other: &&Row| other.file == row.file && other.label == row.label;
    let main = report.rows.iter().filter(same).any(|other| other.place.is_none() && !other.part);
    main && report.rows.iter().filter(same).filter(|other| other.place.is_some()).count() > 1
}

/// Columns side by side: the first two to the left, numbers to the right.
fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            lines
                .iter()
                .filter_map(|line| line.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            if column < 2 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// With a comma between thousands.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn printable(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { char::REPLACEMENT_CHARACTER } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Outcome,
            tally::{Counted, Tally},
        },
        *,
    };

    #[test]
    fn counts_stand_under_each_other() {
        let mut tally = Tally::new(vec!["a.jsonl".to_owned()]);
        let judged = |labels: &[&str], outcomes: Vec<(&str, Outcome)>| Counted::Judged {
            line: 1,
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
            outcomes: outcomes
                .into_iter()
                .map(|(place, outcome)| (Some(place.to_owned()), outcome))
                .collect(),
        };
        tally.add(
            0,
            judged(
                &["bad", "bad sql"],
                vec![("form", Outcome::Passed), ("query", Outcome::Blocked("sql-injection".to_owned()))],
            ),
        );
        tally.add(
            0,
            judged(&["bad", "bad xss"], vec![("form", Outcome::Proxy(400)), ("query", Outcome::Passed)]),
        );
        tally.add(0, Counted::Unread { line: 7, why: "is \u{1b}odd".to_owned() });
        let expected = "\
file     label              total  blocked    share  by the proxy
a.jsonl  bad                    4        1  25.00 %             1
             proxy 400                   1
             sql-injection               1
           bad / form           2        0   0.00 %             1
           bad / query          2        1  50.00 %             0
           bad sql              2        1  50.00 %             0
             sql-injection               1
           bad xss              2        0   0.00 %             1
             proxy 400                   1

1 lines could not be read:
  a.jsonl:7: is \u{fffd}odd
";
        assert_eq!(table(&tally.report(), Details { reasons: true }), expected);
    }

    #[test]
    fn numbers_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }
}
