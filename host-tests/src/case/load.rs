//! Reading case files.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;

use super::types::{Case, FileWire};

/// A file of cases.
#[derive(Debug)]
pub struct CaseFile {
    /// Its path within the checkout.
    pub path: PathBuf,
    /// The policy in whose folder it lies, by the folder's name.
    pub policy: String,
    /// Its cases, the file's defaults laid under each.
    pub cases: Vec<Case>,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}{}: {problem}", file.display(), case.as_ref().map(|case| format!(", case \"{case}\"")).unwrap_or_default())]
pub struct CaseError {
    /// The file.
    pub file: PathBuf,
    /// The case, if the problem is within one.
    pub case: Option<String>,
    /// What and where.
    pub problem: String,
}

/// All case files of a checkout, in order of their paths.
///
/// # Errors
/// When one cannot be read.
pub fn all(checkout: &Path) -> Result<Vec<CaseFile>, CaseError> {
    let failed = |folder: &Path, error: &std::io::Error| CaseError {
        file: folder.to_owned(),
        case: None,
        problem: error.to_string(),
    };
    let plugins = checkout.join("plugins");
    let mut files = Vec::new();
    for plugin in fs::read_dir(&plugins).map_err(|error| failed(&plugins, &error))? {
        let folder = plugin.map_err(|error| failed(&plugins, &error))?.path().join("cases");
        if !folder.is_dir() {
            continue;
        }
        for file in fs::read_dir(&folder).map_err(|error| failed(&folder, &error))? {
            let file = file.map_err(|error| failed(&folder, &error))?.path();
            if file.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
                files.push(file);
            }
        }
    }
    files.sort();
    files.iter().map(|file| read(checkout, file)).collect()
}

/// One file.
///
/// # Errors
/// When it is not of the format: names file, case and key.
pub fn read(checkout: &Path, file: &Path) -> Result<CaseFile, CaseError> {
    let path = file.strip_prefix(checkout).unwrap_or(file).to_owned();
    let wrong = |case: Option<String>, problem: String| CaseError { file: path.clone(), case, problem };
    let text = fs::read_to_string(file).map_err(|error| wrong(None, error.to_string()))?;
    let policy = path.iter().nth(1).map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let cases = parse(&text).map_err(|(case, problem)| wrong(case, problem))?;
    Ok(CaseFile { path, policy, cases })
}

type Problem = (Option<String>, String);

fn parse(text: &str) -> Result<Vec<Case>, Problem> {
    let whole = |problem: String| (None, problem);
    let value: serde_yaml_ng::Value =
        serde_yaml_ng::from_str(text).map_err(|error| whole(error.to_string()))?;
    // By way of JSON: what has no JSON form, like a tag or a key that is no text, is no part of the format.
    let value = serde_json::to_value(value).map_err(|error| whole(error.to_string()))?;
    let file: FileWire = serde_path_to_error::deserialize(&value).map_err(|error| {
        let mut steps = error.path().iter();
        let within = matches!(
            steps.next(),
            Some(serde_path_to_error::Segment::Map { key }) if key == "cases"
        );
        let case = match steps.next() {
            Some(serde_path_to_error::Segment::Seq { index }) if within => {
                let name = value.pointer(&format!("/cases/{index}/name")).and_then(Value::as_str);
                Some(name.map_or_else(|| format!("number {index}"), str::to_owned))
            }
            _ => None,
        };
        (case, format!("{}: {}", error.path(), error.inner()))
    })?;
    let mut cases = file.cases;
    for number in 0..cases.len() {
        let (before, rest) = cases.split_at_mut(number);
        let Some(case) = rest.first_mut() else { continue };
        check(case, before).map_err(|problem| (Some(case.name.clone()), problem))?;
        case.config = laid_over(file.defaults.config.as_ref(), case.config.take());
    }
    Ok(cases)
}

/// What types cannot say.
fn check(case: &Case, before: &[Case]) -> Result<(), String> {
    if before.iter().any(|other| other.name == case.name) {
        return Err("there is another case of this name; give each its own".to_owned());
    }
    if let Some((host, _)) = case.skip.iter().find(|(_, reason)| reason.trim().is_empty()) {
        return Err(format!("skip.{host:?}: gives no reason; say why this host cannot express the case"));
    }
    if case.steps.is_empty() {
        return Err("has no steps".to_owned());
    }
    let mut latest = Duration::ZERO;
    for (number, step) in case.steps.iter().enumerate() {
        let at = step.at.unwrap_or(latest);
        if at < latest {
            return Err(format!("steps[{number}].at: lies before the step before it; time never goes back"));
        }
        latest = at;
        if !(1..=100_000).contains(&step.repeat) {
            return Err(format!("steps[{number}].repeat: {}, must be 1 to 100000", step.repeat));
        }
        if step.request.chunks.is_some() && step.request.body.is_none() {
            return Err(format!("steps[{number}].request.chunks: there is no body to cut"));
        }
    }
    Ok(())
}

/// Lays a case's configuration over the file's (RFC 7386), except that `null` for a key that the file does not have
/// stays: in our configuration it means something.
fn laid_over(base: Option<&Value>, own: Option<Value>) -> Option<Value> {
    match (base, own) {
        (None, own) => own,
        (Some(base), None) => Some(base.clone()),
        (Some(Value::Object(base)), Some(Value::Object(own))) => {
            let mut merged = base.clone();
            for (key, value) in own {
                match (merged.remove(&key), value) {
                    (Some(_), Value::Null) => {}
                    (Some(below), value) => {
                        merged.extend(laid_over(Some(&below), Some(value)).map(|value| (key, value)));
                    }
                    (None, value) => drop(merged.insert(key, value)),
                }
            }
            Some(Value::Object(merged))
        }
        (Some(_), own) => own,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const GOOD: &str = r#"
defaults: {config: {rate_limit: {mode: "off"}, a: {b: 1, c: 2}}}
cases:
- name: first
  config: {a: {b: null, d: null}, e: null}
  skip: {envoy: "no way"}
  facts: {jwt_claims: {sub: alice}}
  steps:
  - request: {headers: {one: 5, two: [a, {base64: "/w=="}]}, body: {repeat: x, times: 3}, chunks: [1]}
    expect: {status: 200, headers: {gone: null, some: {matches: "^a"}, list: [a, b]}, upstream: {reached: false}}
  - at: 250ms
    expect: {}
"#;

    #[test]
    fn the_format_is_read() {
        let cases = parse(GOOD).unwrap();
        let case = &cases[0];
        assert_eq!(
            case.config,
            Some(json!({"rate_limit": {"mode": "off"}, "a": {"c": 2, "d": null}, "e": null}))
        );
        assert_eq!(case.facts.marks(), ["envoy.filters.http.jwt_authn"]);
        let wire = case.steps[0].request.wire();
        assert_eq!(wire.pieces, [b"x".to_vec(), b"xx".to_vec()]);
        assert_eq!(wire.headers.last(), Some(&("two".to_owned(), vec![0xff])));
        assert_eq!(case.steps[1].at, Some(Duration::from_millis(250)));
        assert_eq!((case.steps[1].repeat, case.steps[1].upstream.status), (1, 200));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (good, bad, part) in [
            ("  steps:", "  stebs:", "unknown field `stebs`"),
            ("headers: {one", "heders: {one", "cases[0].steps[0].request.heders: unknown field"),
            ("{status: 200,", "{status: 200, reasn: x,", "unknown field `reasn`"),
            ("envoy: \"no way\"", "envoi: \"no way\"", "unknown variant `envoi`"),
            ("envoy: \"no way\"", "envoy: \"\"", "gives no reason"),
            ("at: 250ms", "at: 250", "steps[1].at"),
            ("at: 250ms", "at: 250ms\n    repeat: 0", "repeat: 0"),
            ("{matches: \"^a\"}", "{matches: \"(\"}", "`(`"),
            ("{matches: \"^a\"}", "{match: \"^a\"}", "text or {base64"),
            ("times: 3}", "tines: 3}", "unknown field `tines`"),
            ("times: 3}, chunks: [1]", "times: 3}, chunks: [x]", "a number of bytes"),
        ] {
            assert!(GOOD.contains(good));
            let (case, problem) = parse(&GOOD.replacen(good, bad, 1)).unwrap_err();
            assert!(problem.contains(part), "{bad}: {problem}");
            assert_eq!(case.as_deref(), Some("first"), "{problem}");
        }
        assert!(parse("cases: []\ncase: []").unwrap_err().1.contains("unknown field `case`"));
        let twice = format!("{GOOD}- name: first\n  steps: [{{expect: {{}}}}]\n");
        assert!(parse(&twice).unwrap_err().1.contains("another case"));
    }
}
