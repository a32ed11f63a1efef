//! What kinds of request there are.

use portcullis_policy::{Actions as ActionSet, ConfigErrors, Facts, Site, limits};

use crate::{
    document::ActionWire,
    matching::{Match, MatchWire, OneOrMany, Target},
};

/// The compiled actions, in configured order.
#[derive(Debug)]
pub(crate) struct Actions {
    list: Vec<(String, Vec<Match>)>,
}

impl Actions {
    pub fn compile(wires: Option<Vec<ActionWire>>, errors: &mut ConfigErrors) -> Self {
        let site = Site::root().key("actions");
        let wires = wires.unwrap_or_else(defaults);
        if wires.len() > limits::ACTIONS {
            errors.error(
                &site,
                format!("has {} actions", wires.len()),
                format!("at most {}", limits::ACTIONS),
            );
        }
        let mut list: Vec<(String, Vec<Match>)> = Vec::new();
        for (index, wire) in wires.into_iter().enumerate() {
            let site = site.index(index);
            let named = (1..=50).contains(&wire.name.len())
                && wire.name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'));
            if !named {
                let problem = format!("{:?} is not an action's name", wire.name);
                errors.error(&site.key("name"), problem, "1 to 50 of a-z, 0-9, _ and -");
            }
            if list.iter().any(|(name, _)| *name == wire.name) {
                errors.error(
                    &site.key("name"),
                    format!("`{}` is there twice", wire.name),
                    "join their `match` lists",
                );
            }
            let matches = wire
                .matches
                .into_iter()
                .enumerate()
                .map(|(n, wire)| Match::compile(wire, &site.key("match").index(n), errors).loosened())
                .collect();
            list.push((wire.name, matches));
        }
        Self { list }
    }

    pub fn names(&self) -> Vec<String> {
        self.list.iter().map(|(name, _)| name.clone()).collect()
    }

    /// All actions that the request belongs to.
    pub fn of(&self, target: &Target<'_>, facts: &mut dyn Facts) -> ActionSet {
        let mut set = ActionSet::default();
        for (number, (_, matches)) in self.list.iter().enumerate() {
            if matches.iter().any(|matcher| matcher.holds(target, facts)) {
                set.insert(number);
            }
        }
        set
    }

    /// The name that records carry: the first that matches.
    pub fn name(&self, set: ActionSet) -> &str {
        set.first().and_then(|number| self.list.get(number)).map_or("", |(name, _)| name)
    }
}

/// Logins, uploads, reports, and everything as an API call; those count as API calls too.
fn defaults() -> Vec<ActionWire> {
    let many = |list: &[&str]| Some(OneOrMany::Many(list.iter().map(|s| (*s).to_owned()).collect()));
    let writes = many(&["POST", "PUT"]);
    let action = |name: &str, matches: Vec<MatchWire>| ActionWire { name: name.to_owned(), matches };
    vec![
        action(
            "login",
            vec![MatchWire {
                method: many(&["POST"]),
                path: many(&["/login", "/api/login"]),
                ..MatchWire::default()
            }],
        ),
        action(
            "file_upload",
            vec![
                MatchWire {
                    method: writes.clone(),
                    content_type: many(&["multipart/form-data"]),
                    ..MatchWire::default()
                },
                MatchWire { method: writes, path_prefix: many(&["/upload"]), ..MatchWire::default() },
            ],
        ),
        action(
            "report_generation",
            vec![MatchWire { path_prefix: many(&["/reports"]), ..MatchWire::default() }],
        ),
        action("api_call", vec![MatchWire::default()]),
    ]
}
