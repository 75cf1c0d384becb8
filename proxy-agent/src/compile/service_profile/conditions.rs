//! `spec.routes[].condition`.

use http::Method;

use super::{Fault, Faults};
use crate::compile::text::full_regex;
use crate::model::{Expression, Match, MethodMatch, PathMatch};
use crate::objects::service_profile::RequestMatch;

/// Conditions within conditions at most.
pub(super) const MAX_DEPTH: usize = 8;

/// Compiles a condition: path and method as such, the rest as an expression.
pub(super) fn compile(from: &RequestMatch) -> Result<Match, Vec<Fault>> {
    let mut faults = Faults::default();
    let whole = one(from, "condition", MAX_DEPTH, &mut faults);
    faults.or(whole)
}

/// Those of a route that cannot be read: everything, if they are what cannot.
pub(super) fn of_unread(from: &RequestMatch) -> Match {
    compile(from).unwrap_or_default()
}

fn one(from: &RequestMatch, field: &str, depth: usize, faults: &mut Faults) -> Match {
    let below = |name: &str| format!("{field}.{name}");
    let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let (path, method) = (text(&from.path_regex), text(&from.method));
    let nothing = path.is_none() && method.is_none();
    if nothing && from.all.is_none() && from.any.is_none() && from.not.is_none() {
        let reason = "says nothing; accepted: pathRegex, method, all, any, not".to_owned();
        faults.0.push((field.to_owned(), reason));
    }
    let Some(depth) = depth.checked_sub(1) else {
        let reason = format!("is more than {MAX_DEPTH} conditions deep");
        faults.0.push((field.to_owned(), reason));
        return Match::default();
    };
    let path = path.map(|text| full_regex(&text).map_err(|reason| (below("pathRegex"), reason)));
    let method = method.map(|name| {
        // Linkerd compares without regard to letter case.
        let method = Method::from_bytes(name.to_ascii_uppercase().as_bytes());
        method.map_err(|error| (below("method"), format!("found `{name}`: {error}")))
    });
    let (path, method) = (faults.of(path.transpose()), faults.of(method.transpose()));
    let mut each = |name: &str, list: &[RequestMatch]| {
        let list = list.iter().enumerate();
        list.map(|(index, inner)| {
            let field = format!("{field}.{name}[{index}]");
            Expression::Match(one(inner, &field, depth, faults))
        })
        .collect()
    };
    let mut expressions = Vec::new();
    if let Some(list) = &from.all {
        expressions.push(Expression::All(each("all", list)));
    }
    if let Some(list) = &from.any {
        expressions.push(Expression::Any(each("any", list)));
    }
    if let Some(inner) = &from.not {
        let inner = Expression::Match(one(inner, &below("not"), depth, faults));
        expressions.push(Expression::Not(Box::new(inner)));
    }
    let expression = match expressions.pop() {
        Some(only) if expressions.is_empty() => Some(only),
        Some(last) => {
            expressions.push(last);
            Some(Expression::All(expressions))
        }
        None => None,
    };
    Match {
        path: path.map(PathMatch::Regex),
        method: method.map(MethodMatch::Exact),
        expression: expression.map(Box::new),
        ..Match::default()
    }
}
