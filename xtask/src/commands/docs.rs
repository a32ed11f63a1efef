//! `make docs`: the configuration's reference and JSON Schema, made from the types.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::{families, layout::Layout, reference};

/// The files and what belongs into them.
///
/// # Errors
/// When the schema cannot be written as JSON.
pub fn made() -> Result<Vec<(String, String)>> {
    let schema = portcullis_chain::schema();
    let mut json = serde_json::to_string_pretty(&schema).context("the schema is not to be written")?;
    json.push('\n');
    let mut files = vec![
        ("docs/configuration.md".to_owned(), reference::markdown(schema.as_value())),
        ("docs/configuration.schema.json".to_owned(), json),
        ("docs/sanitize/README.md".to_owned(), families::index()),
    ];
    files.extend(families::pages());
    Ok(files)
}

/// Writes them.
///
/// # Errors
/// When a file cannot be written.
pub fn write(layout: &Layout) -> Result<()> {
    for (name, text) in made()? {
        let path = layout.root().join(&name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        fs::write(&path, text).with_context(|| format!("cannot write {name}"))?;
        println!("{name}");
    }
    Ok(())
}

/// Tells which of them no longer says what the types say.
///
/// # Errors
/// When one does.
pub fn check(layout: &Layout) -> Result<()> {
    for (name, text) in made()? {
        if fs::read_to_string(layout.root().join(&name)).unwrap_or_default() != text {
            bail!("{name} does not say what the types say: run `make docs`");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_says_what_the_types_say() {
        check(&Layout::of_this_checkout()).unwrap();
    }
}
