//! The companion's API, as its users see it.

use std::{collections::BTreeSet, time::Duration};

use serde_json::Value;
use xtask::{clock::Deadline, stack::Stack};

use super::client::{Request, Response};

/// An API and a token for it.
pub struct Api<'s> {
    stack: &'s Stack,
    token: String,
}

impl<'s> Api<'s> {
    /// With a token that opens everything.
    pub fn admin(stack: &'s Stack) -> Self {
        Self { stack, token: stack.token(None).unwrap() }
    }

    /// With a token of one tenant.
    pub fn of_tenant(stack: &'s Stack, tenant: &str) -> Self {
        Self { stack, token: stack.token(Some(tenant)).unwrap() }
    }

    /// Asks for a path.
    pub fn get(&self, path: &str) -> Response {
        let request = Request::get(path).header("authorization", format!("Bearer {}", self.token));
        request.header("connection", "close").send(self.stack.companion())
    }

    /// Sends JSON; no text, no body.
    pub fn send(&self, method: &str, path: &str, json: &str) -> Response {
        let mut request = Request::new(method, path)
            .header("authorization", format!("Bearer {}", self.token))
            .header("connection", "close");
        if !json.is_empty() {
            request = request
                .header("content-type", "application/json")
                .header("content-length", json.len().to_string());
            request.body = json.as_bytes().to_vec();
        }
        request.send(self.stack.companion())
    }

    /// The correlation IDs of all events of a type, page by page.
    pub fn all_of_type(&self, tenant: &str, event_type: &str) -> BTreeSet<String> {
        let (mut ids, mut cursor) = (BTreeSet::new(), String::new());
        loop {
            let path = format!("/api/security/events/{tenant}?limit=1000&event_type={event_type}{cursor}");
            let answer = self.get(&path);
            if answer.status == 404 {
                return ids;
            }
            let page = answer.json();
            for event in page["events"].as_array().unwrap() {
                ids.insert(event["details"]["correlation_id"].as_str().unwrap_or_default().to_owned());
            }
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return ids,
            }
        }
    }

    /// The newest events of a tenant, newest first; none when nobody knows the tenant yet.
    pub fn events(&self, tenant: &str) -> Vec<Value> {
        let answer = self.get(&format!("/api/security/events/{tenant}?limit=1000"));
        match answer.status {
            200 => answer.json()["events"].as_array().unwrap().clone(),
            404 => Vec::new(),
            status => panic!("{status}: {}", answer.text()),
        }
    }

    /// The events of a tenant that fit, as soon as there are so many of them; else what there is when the time is over.
    pub fn wait_for(
        &self,
        tenant: &str,
        count: usize,
        patience: Duration,
        fits: impl Fn(&Value) -> bool,
    ) -> Vec<Value> {
        let mut last = Vec::new();
        Deadline::after(patience).poll(|| {
            last = self.events(tenant).into_iter().filter(|event| fits(event)).collect();
            (last.len() >= count).then_some(())
        });
        last
    }
}

/// Whether an event is about a request with that correlation ID.
pub fn is_about(id: &str) -> impl Fn(&Value) -> bool + '_ {
    move |event| event["details"]["correlation_id"] == id
}
