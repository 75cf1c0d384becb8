//! Finds the rule of a connection that is not taken for HTTP, by its server name and its client.

use crate::model::{ServerName, StreamRule, StreamTable};

use super::Client;

/// How a connection begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Greeting<'a> {
    /// With no ClientHello, or with one that was not looked at.
    Other,
    /// With a ClientHello, and the server name that it asks for, in any letter case.
    Tls(Option<&'a str>),
}

impl StreamTable {
    /// The rule that decides; `None` closes the connection.
    pub fn find(&self, greeting: Greeting<'_>, client: &Client<'_>) -> Option<&StreamRule> {
        self.rules.iter().find(|rule| rule.holds(greeting, client))
    }

    /// Whether the decision on this client's connections depends on how they begin.
    pub fn asks_for_greeting(&self, client: &Client<'_>) -> bool {
        let mut seen = self.rules.iter().filter(|rule| rule.is_for(client));
        seen.next().is_some_and(|first| first.names.is_some())
    }

    /// Whether a connection that is not TLS goes anywhere.
    pub fn takes_other(&self, client: &Client<'_>) -> bool {
        self.find(Greeting::Other, client).is_some()
    }
}

impl StreamRule {
    fn holds(&self, greeting: Greeting<'_>, client: &Client<'_>) -> bool {
        let named = match (&self.names, greeting) {
            (None, _) => true,
            (Some(_), Greeting::Other) => false,
            (Some(names), Greeting::Tls(name)) => names.iter().any(|one| one.holds(name)),
        };
        named && self.is_for(client)
    }

    fn is_for(&self, client: &Client<'_>) -> bool {
        self.source.as_ref().is_none_or(|one| one.holds(client))
    }
}

impl ServerName {
    /// Whether the condition holds for what a ClientHello asks for.
    pub fn holds(&self, name: Option<&str>) -> bool {
        match (self, name) {
            (Self::Any, _) => true,
            (Self::Exact(_) | Self::Below(_), None) => false,
            (Self::Exact(expected), Some(name)) => name.eq_ignore_ascii_case(expected),
            (Self::Below(suffix), Some(name)) => {
                let start = name.len().checked_sub(suffix.len()).filter(|at| *at > 0);
                let end = start.and_then(|at| name.get(at..));
                end.is_some_and(|end| end.eq_ignore_ascii_case(suffix))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};
    use std::sync::Arc;

    use super::*;
    use crate::model::{SourceMatch, StreamScope};

    #[test]
    fn names_are_compared_by_whole_labels_and_whatever_their_case() {
        let below = ServerName::Below(".example.org".into());
        let exact = ServerName::Exact("a.example.org".into());
        for (name, expected) in [
            (Some("a.example.org"), (true, true)),
            (Some("A.Example.ORG"), (true, true)),
            (Some("b.a.example.org"), (true, false)),
            (Some("example.org"), (false, false)),
            (Some(".example.org"), (false, false)),
            (Some("aexample.org"), (false, false)),
            (Some("ä.example.org"), (true, false)),
            (None, (false, false)),
        ] {
            assert_eq!((below.holds(name), exact.holds(name)), expected, "{name:?}");
            assert!(ServerName::Any.holds(name));
        }
    }

    fn rule(field: &str, names: Option<ServerName>, label: Option<&str>) -> StreamRule {
        let labels = label.map(|value| ("app".to_owned(), value.to_owned()));
        StreamRule {
            object: None,
            field: field.into(),
            names: names.map(|one| Arc::from([one])),
            source: label.map(|_| {
                Box::new(SourceMatch {
                    namespace: None,
                    labels: labels.into_iter().collect(),
                })
            }),
            destinations: Arc::default(),
        }
    }

    #[test]
    fn the_first_rule_that_holds_decides_and_only_some_clients_are_looked_at() {
        let shop: BTreeMap<_, _> = [("app".to_owned(), "shop".to_owned())].into();
        let labels = HashMap::from([(Arc::from("s"), shop)]);
        let client = |uid| Client {
            namespace: "ns",
            uid,
            labels: &labels,
        };
        let exact = ServerName::Exact("a".into());
        let table = StreamTable {
            origin: "".into(),
            scope: StreamScope::Every,
            rules: vec![
                rule("all of shop", None, Some("shop")),
                rule("a", Some(exact), None),
                rule("tls", Some(ServerName::Any), None),
            ],
        };
        let found = |greeting, uid| table.find(greeting, &client(uid)).map(|one| &*one.field);
        assert_eq!(found(Greeting::Other, "s"), Some("all of shop"));
        assert_eq!(found(Greeting::Tls(Some("A")), "t"), Some("a"));
        assert_eq!(found(Greeting::Tls(Some("b")), "t"), Some("tls"));
        assert_eq!(found(Greeting::Tls(None), "t"), Some("tls"));
        assert_eq!(found(Greeting::Other, "t"), None);
        assert!(!table.asks_for_greeting(&client("s")) && table.asks_for_greeting(&client("t")));
        assert!(table.takes_other(&client("s")) && !table.takes_other(&client("t")));
    }
}
