//! Hands the dashboard its chart library, if it was vendored (`dashboard/charts`, by `xtask charts`, which `make` runs before it builds).

use std::path::Path;
use std::{env, fs};

fn main() {
    // The folder as a whole: it is there always, the library is not.
    println!("cargo::rerun-if-changed=dashboard");
    let out = env::var("OUT_DIR").unwrap_or_default();
    let vendored = Path::new("dashboard/charts");
    let read = |name: &str| fs::read_to_string(vendored.join(name));
    let (code, style, licence) = (read("uPlot.iife.min.js"), read("uPlot.min.css"), read("LICENSE"));
    let (code, style) = match (code, style, licence) {
        (Ok(code), Ok(style), Ok(licence)) => (format!("/*\nuPlot\n{licence}*/\n{code}"), style),
        _ => Default::default(),
    };
    for (name, text) in [("charts.js", code), ("charts.css", style)] {
        if let Err(error) = fs::write(Path::new(&out).join(name), text) {
            println!("cargo::error={name} cannot be written to {out}: {error}");
        }
    }
}
