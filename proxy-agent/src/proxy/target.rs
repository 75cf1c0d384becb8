//! What a request asks for: its path, in the form that rules are matched against.

use std::borrow::Cow;

use http::uri::PathAndQuery;
use http::{Request, Uri};

use crate::route;

use super::reply::Reason;

/// Gives the request's path its normal form; the query stays as it is. Does nothing, and allocates
/// nothing, when the path has it already.
pub(super) fn normalise<B>(request: &mut Request<B>) -> Result<(), Reason> {
    let path = request.uri().path();
    let normal = route::normalise(path).map_err(|_nul| Reason::BadRequest)?;
    if matches!(normal, Cow::Borrowed(same) if same.len() == path.len()) {
        return Ok(());
    }
    let mut target = normal.into_owned();
    if let Some(query) = request.uri().query() {
        target.push('?');
        target.push_str(query);
    }
    let target = PathAndQuery::try_from(target).map_err(|_invalid| Reason::BadRequest)?;
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.path_and_query = Some(target);
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_invalid| Reason::BadRequest)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(uri: &str) -> Result<String, Reason> {
        let mut request = Request::builder().uri(uri).body(()).unwrap();
        normalise(&mut request)?;
        Ok(request.uri().to_string())
    }

    #[test]
    fn only_the_path_changes() {
        for (uri, expected) in [
            ("/a/../b?c=/../d%2e//e", "/b?c=/../d%2e//e"),
            ("http://web:80//a/%7E?x", "http://web:80/a/~?x"),
            ("/a/b?", "/a/b?"),
            ("/a//?", "/a/?"),
            ("*", "*"),
            ("web:80", "web:80"),
            ("/a/../../?q", "/?q"),
        ] {
            assert_eq!(normal(uri).as_deref(), Ok(expected), "{uri}");
        }
        assert_eq!(normal("/a/%00/b"), Err(Reason::BadRequest));
    }
}
