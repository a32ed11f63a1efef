//! What is done with an attack but refusing it: cleaning the request, or telling the application.
//!
//! A tag is one request header. It tells what the findings come to once they come to enough, and is set anew when the body
//! adds to them, as long as the headers wait. Copies that a client sends never reach the application, spelled with `_` for
//! `-` neither, because CGI and its heirs read both as one.

use portcullis_policy::fields::is_same_to_cgi;
use portcullis_policy::{Effect, Effects, Headers};

use crate::Sanitize;
use crate::body::{Progress, Report};
use crate::config::Config;
use crate::finding::Families;
use crate::head;
use crate::inspector::{Carried, Inspector};
use crate::report;
use crate::rewrite::{self, Whole};

/// A cleaned request is still an attack: what is left of it is what is told.
const FOUND_AGAIN: &str = "found-again";

impl Sanitize {
    /// Takes away tags that come from outside.
    pub(crate) fn strip_tags(&self, headers: &Headers<'_>, effects: &mut Effects) {
        let own = self.config.tag_header.as_bytes();
        for (name, _) in headers.iter().filter(|(name, _)| is_same_to_cgi(name, own)) {
            if let Ok(name) = std::str::from_utf8(name) {
                effects.push(Effect::RemoveRequestHeader(name.into()));
            }
        }
    }

    /// Cleans a head in which something was found that is refused; what then inspected it, if nothing more was found.
    pub(crate) fn clean_head<'p>(
        &'p self,
        inspector: &mut Inspector<'p>,
        headers: &Headers<'_>,
        effects: &mut Effects,
    ) -> Option<Inspector<'p>> {
        let config = &self.config;
        let head = attempt(config, inspector, "not-cleanable", || rewrite::head(config, headers))?;
        let mut again = Inspector::new(config);
        if head::inspect(config, &head.headers(headers), &mut again).is_break() {
            (inspector.found, inspector.instead) = (again.found, Some(FOUND_AGAIN));
            return None;
        }
        if let Some(found) = &inspector.found {
            report::cleaned(found, &head.cleaned, effects);
        }
        head.apply(headers, effects);
        Some(again)
    }

    /// Keeps the body that these headers announce, if it may be cleaned.
    pub(crate) fn whole(&self, headers: &Headers<'_>) -> Option<Box<Whole>> {
        if self.config.cleaned == Families::NONE {
            return None;
        }
        Whole::expected(headers, &self.config)
    }

    /// Cleans a body in which something was found that is refused, as [`Self::clean_head`] does a head. `carried`: what the
    /// head left to be summed with it.
    pub(crate) fn clean_body<'p>(
        &'p self,
        inspector: &mut Inspector<'p>,
        whole: Option<Box<Whole>>,
        carried: Option<Carried>,
        effects: &mut Effects,
    ) -> Option<Inspector<'p>> {
        let config = &self.config;
        let why = if whole.is_none() { "body-not-held-whole" } else { "not-cleanable" };
        let (body, cleaned, mut reader) =
            attempt(config, inspector, why, || whole.and_then(|whole| whole.clean(config)))?;
        let mut again = Inspector::after(config, carried.unwrap_or_default());
        if reader.add(&body, true, &mut again) != Progress::Done(Report::default()) {
            (inspector.found, inspector.instead) = (again.found, Some(FOUND_AGAIN));
            return None;
        }
        if let Some(found) = &inspector.found {
            report::cleaned(found, &cleaned, effects);
        }
        rewrite::apply(body, effects);
        Some(again)
    }

    /// Tells the application of what was found, if that comes to enough, or to more than it was told. Where it cannot be
    /// told any more, the request is refused; whether it was.
    pub(crate) fn tag(&self, inspector: &mut Inspector<'_>, waits: bool, effects: &mut Effects) -> bool {
        let Some(mut found) = inspector.tagged.take() else { return false };
        let tally = &inspector.carried.tagged;
        let tag = (tally.sum(), tally.families);
        if inspector.carried.tag.replace(tag) == Some(tag) {
            return false;
        }
        if !waits {
            found.enforced = true;
            report::attack(&found, Some("headers-not-held"), effects);
            return true;
        }
        let text = report::tag(tag.0, tag.1);
        effects.push(Effect::SetRequestHeader(self.config.tag_header.clone(), text.as_bytes().into()));
        report::tagged(&found, &text, effects);
        false
    }
}

/// Cleans, if anything that was found can be cleaned; else notes why not.
fn attempt<T>(
    config: &Config,
    inspector: &mut Inspector<'_>,
    why: &'static str,
    clean: impl FnOnce() -> Option<T>,
) -> Option<T> {
    if config.cleaned == Families::NONE {
        return None;
    }
    let cleaned = if inspector.cleanable { clean() } else { None };
    if cleaned.is_none() {
        inspector.instead = Some(if inspector.cleanable { why } else { "not-cleanable" });
    }
    cleaned
}
