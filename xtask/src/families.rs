//! A page for each family of attacks that sanitize knows: what it catches, what it lets pass, how to exclude.

use std::fmt::Write as _;

use portcullis_sanitize::{ABOUT, About};
use serde_json::json;

const MADE: &str =
    "<!-- Made by `make docs` from `plugins/sanitize/src/about.rs`: change it there, not here. -->\n";

/// The list of all pages.
pub fn index() -> String {
    let mut page = format!(
        "# What sanitize finds\n\n{MADE}\nA page for each family. How findings are summed, what is read and what is not stands in \
         [the policy's README](../../plugins/sanitize/README.md).\n\n| family | lets pass on purpose |\n|---|---|\n"
    );
    for about in &ABOUT {
        let code = about.family.code();
        let _ = writeln!(page, "| [`{code}`]({code}.md) | {} |", about.passes.replace('|', "\\|"));
    }
    page
}

/// The pages: where each belongs, and what stands there.
pub fn pages() -> impl Iterator<Item = (String, String)> {
    ABOUT.iter().map(|about| (format!("docs/sanitize/{}.md", about.family.code()), page(about)))
}

fn page(about: &About) -> String {
    let code = about.family.code();
    let mut page = format!(
        "# {code}\n\n{MADE}\n**Catches**: {}\n\n**Lets pass on purpose**: {}\n",
        about.catches, about.passes
    );
    if !about.blocked.is_empty() {
        page.push_str("\n| parameter | value | |\n|---|---|---|\n");
        let blocked = about.blocked.iter().map(|example| (example, "blocked"));
        for ((name, value), what) in blocked.chain(about.fine.iter().map(|example| (example, "passes"))) {
            let _ = writeln!(page, "| `{name}` | {} | {what} |", shown(value));
        }
    }
    let (place, name) = excluded(code);
    let exclusion = json!({"sanitize": {"exclusions": [{"place": place, "name": name, "families": [code]}]}});
    let monitor = json!({"sanitize": {"families": {code: "monitor"}}});
    let _ = write!(
        page,
        "\n## Exclude\n\nFor one parameter, in one place; `*` at the end of a name stands for any rest:\n\n```json\n{exclusion}\n```\n\n\
         To see what it would block before it does, or instead (`off` does not look at all):\n\n```json\n{monitor}\n```\n\n\
         Each finding counts in `portcullis_sanitize_{}_total`; the record's details name place, parameter, `why` and confidence.\n",
        code.replace('-', "_")
    );
    page
}

/// A parameter in a place where the family is found.
fn excluded(family: &str) -> (&'static str, &'static str) {
    match family {
        "malicious-upload" => ("multipart", "attachment"),
        "scanner" => ("header", "user-agent"),
        "protocol-anomaly" => ("header", ":method"),
        "session-fixation" => ("query", "PHPSESSID"),
        "xml-entity" => ("xml", "*"),
        _ => ("form", "comment"),
    }
}

/// A value as code in a table.
fn shown(value: &str) -> String {
    let value: String = value
        .chars()
        .flat_map(|letter| match letter {
            '\r' | '\n' | '\0' => letter.escape_default().collect::<Vec<_>>(),
            '|' => vec!['\\', '|'],
            other => vec![other],
        })
        .collect();
    // Two backticks hold one.
    if value.contains('`') { format!("`` {value} ``") } else { format!("`{value}`") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_has_a_page_and_a_line() {
        let index = index();
        for (name, page) in pages() {
            let file = name.rsplit('/').next().unwrap_or_default();
            assert!(index.contains(&format!("]({file})")), "{file}");
            assert!(page.contains("**Catches**: ") && page.contains("## Exclude"), "{file}");
        }
        assert_eq!(shown("a|`b`\r\n"), "`` a\\|`b`\\r\\n ``");
    }
}
