//! Finding a request's rule allocates nothing, whatever the rule asks for.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use proxy_agent::model::{
    Action, HeaderMatch, Match, PathMatch, QueryMatch, RouteTable, Rule, Snapshot, StringMatch,
    Timeouts,
};
use proxy_agent::route::{RequestView, virtual_host};
use regex::Regex;

/// The system's allocator, which counts for each thread what it is asked for.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // None while the thread's own places are gone already.
    let _ = ALLOCATIONS.try_with(|allocations| allocations.set(allocations.get() + 1));
}

// SAFETY: the system's allocator does everything; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are the ones that are asked for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, bytes) }
    }
}

fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

/// Rules that ask for everything that a request has.
fn rules() -> Vec<Rule> {
    let header = |name, value| HeaderMatch {
        name: HeaderName::from_static(name),
        value,
    };
    let query = |name: &str, value| QueryMatch {
        name: name.into(),
        value,
    };
    let exact = |text: &str| StringMatch::Exact(text.into());
    let regex = |text: &str| Regex::new(&format!("^(?:{text})$")).unwrap();
    let rule = |number: u32| {
        rule(Match {
            path: Some(match number % 4 {
                0 => PathMatch::Exact(format!("/{number}").into()),
                1 => PathMatch::ElementPrefix(format!("/{number}").into()),
                2 => PathMatch::StringPrefixAnyCase(format!("/{number}").into()),
                _ => PathMatch::Regex(regex(&format!("/{number}.*"))),
            }),
            authority: Some(exact("Web.shop:80")),
            headers: vec![
                header("several", exact("a,b")),
                header("one", StringMatch::Regex(regex("[a-z]+"))),
            ],
            query: vec![
                query("ä b", exact("ö")),
                query("q", StringMatch::Regex(regex("1 ?"))),
            ],
            without_headers: vec![header("absent", StringMatch::Present)],
            ..Match::default()
        })
    };
    (0..100).map(rule).collect()
}

fn rule(conditions: Match) -> Rule {
    Rule {
        object: None,
        field: "".into(),
        conditions,
        action: Arc::new(Action::Respond {
            status: StatusCode::NOT_FOUND,
            reason: "test",
        }),
        timeouts: Timeouts::default(),
        policies: None,
    }
}

#[test]
fn a_request_that_has_everything_is_matched_without_an_allocation() {
    let table = RouteTable::new("test".into(), rules());
    let mut headers = HeaderMap::new();
    for (name, value) in [("several", "a"), ("several", "b"), ("one", "abc")] {
        headers.append(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    let request = |path| RequestView {
        method: &Method::GET,
        path,
        query: Some("%C3%A4+b=%C3%B6&q=1+"),
        authority: "WEB.shop:80",
        headers: &headers,
        client: None,
    };
    let find_all = || {
        for path in ["/40", "/41/x", "/42X", "/43/y"] {
            assert!(table.find(&request(path)).is_some(), "{path}");
        }
        assert!(table.find(&request("/none")).is_none());
    };
    // Expressions have caches of their own, which are set up once for each thread that matches.
    find_all();
    assert_eq!(allocations(find_all), 0);
    let made = allocations(|| drop(std::hint::black_box(vec![0_u8; 9])));
    assert_eq!(made, 1, "the count is one of allocations");
}

#[test]
fn a_host_in_capital_letters_is_found_without_an_allocation() {
    let mut snapshot = Snapshot::empty();
    let table = Arc::new(RouteTable::new("test".into(), Vec::new()));
    let hosts = [("web".into(), table)].into_iter().collect();
    Arc::make_mut(&mut snapshot.virtual_hosts).insert("shop".into(), hosts);
    let find = || assert!(virtual_host(&snapshot, "shop", "WEB:80").is_some());
    find();
    assert_eq!(allocations(find), 0);
}
