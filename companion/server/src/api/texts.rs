//! Texts that become columns: too long is refused, not cut, because the sender can mend it.

use std::net::IpAddr;

use crate::http::problem::Problem;

/// The width of a column, in characters.
#[derive(Clone, Copy, Debug)]
pub struct Width(pub usize);

/// A text that must be there: 1 character or more, none of them a control character.
pub fn required(field: &str, text: String, width: Width) -> Result<String, Problem> {
    let most = width.0;
    let length = text.chars().count();
    if length == 0 || length > most {
        return Err(Problem::unprocessable(format!("{field}: must have 1 to {most} characters")));
    }
    if text.chars().any(char::is_control) {
        return Err(Problem::unprocessable(format!("{field}: must not hold control characters")));
    }
    Ok(text)
}

/// A text that may be left out.
pub fn optional(field: &str, text: Option<String>, width: Width) -> Result<Option<String>, Problem> {
    text.map(|text| required(field, text, width)).transpose()
}

/// An IP address, in its one form.
pub fn address(field: &str, text: Option<String>) -> Result<Option<String>, Problem> {
    let parse = |text: String| text.parse::<IpAddr>().map(|address| address.to_string());
    text.map(parse).transpose().map_err(|_| Problem::unprocessable(format!("{field}: must be an IP address")))
}
