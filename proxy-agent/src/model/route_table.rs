//! Rules in the order in which they are tried, and what finds those that come into question.
//! Whether a rule matches is not decided here: `route.rs` does.

mod index;
mod prefixes;

use std::sync::Arc;

use http::HeaderMap;

use self::index::Index;
use super::Rule;

/// Tables of up to so many rules are looked through from the first to the last, which is as quick.
const MAX_UNINDEXED: usize = 8;

/// Rules in the order in which they are tried: the first match decides.
#[derive(Clone, Debug)]
pub struct RouteTable {
    /// Where the rules come from, for `status` and `explain`: `implicit` or the objects' names.
    pub origin: Arc<str>,
    /// Compiled rules, the first that matches decides. No match is 404.
    pub rules: Box<[Rule]>,
    index: Option<Box<Index>>,
}

impl RouteTable {
    /// A table of rules in the order in which they are tried.
    pub fn new(origin: Arc<str>, rules: Vec<Rule>) -> Self {
        let index = (rules.len() > MAX_UNINDEXED).then(|| Box::new(Index::new(&rules)));
        Self {
            origin,
            rules: rules.into(),
            index,
        }
    }

    /// Whether no route is behind it: everything goes to the Service's own endpoints.
    pub fn is_implicit(&self) -> bool {
        self.rules.first().is_some_and(|rule| rule.object.is_none())
    }

    /// The first rule for which `holds` is true, where `holds` is false for every rule whose
    /// conditions on the path or on headers do not hold for `path` and `headers`.
    ///
    /// Only rules are tried that come into question by an exact path, a prefix or an exact header,
    /// those that ask for none of them, and no rule behind one that holds. Allocates nothing.
    pub fn first(
        &self,
        path: &str,
        headers: &HeaderMap,
        mut holds: impl FnMut(&Rule) -> bool,
    ) -> Option<&Rule> {
        let Some(index) = &self.index else {
            return self.rules.iter().find(|rule| holds(rule));
        };
        let mut best = self.rules.len();
        index.visit(path, headers, |candidates| {
            for number in candidates {
                let number = *number as usize;
                if number >= best {
                    break;
                }
                if self.rules.get(number).is_some_and(&mut holds) {
                    best = number;
                    break;
                }
            }
        });
        self.rules.get(best)
    }
}
