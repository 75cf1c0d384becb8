//! HTTP/1.1 and 1.0 through the agent, to the letter.

use std::fs;

use anyhow::{Context, Result};
use proxy_e2e::echo::Fnv;
use proxy_e2e::{Agent, Load, Node, Scene};

/// Sends bytes as they are and returns everything that came back.
fn raw(scene: &Scene, text: &str, more: &[&str]) -> Result<String> {
    let report = scene
        .client
        .talk(scene.web.address(), &[&["--send", text], more].concat())?;
    report["received"]
        .as_str()
        .map(str::to_owned)
        .context("text in the report")
}

/// A file of this many bytes, and the hash of what is in it.
fn file(scene: &Scene, bytes: usize) -> Result<(String, u64)> {
    let content: Vec<u8> = (0..=250).cycle().take(bytes).collect();
    let mut hash = Fnv::default();
    hash.update(&content);
    let path = scene.node.scratch().join("upload");
    fs::write(&path, content)?;
    Ok((
        path.to_str().context("a path in UTF-8")?.to_owned(),
        hash.value(),
    ))
}

/// Requires that the agent had these connections, and the ordinary path none.
fn by_the_agent(scene: &Scene) -> Result<()> {
    assert_eq!(scene.web.packets()?, 0);
    assert!(scene.agent.counter("proxied")? > 0);
    Ok(())
}

#[test]
fn keep_alive_is_kept_and_close_is_closed() -> Result<()> {
    let scene = Scene::new(1)?;
    let url = scene.web.url();

    let kept = scene.client.load(&Load::new(&url).requests(100))?;
    let closed = Load::new(&url).requests(20).header("connection: close");
    let closed = scene.client.load(&closed)?;

    kept.all_ok(100)?;
    assert_eq!(kept.connects, 1);
    closed.all_ok(20)?;
    assert_eq!(closed.connects, 20);
    by_the_agent(&scene)
}

#[test]
fn two_requests_in_one_segment_get_two_answers_in_order() -> Result<()> {
    let scene = Scene::new(1)?;
    let first = "GET /first HTTP/1.1\\r\\nHost: web\\r\\n\\r\\n";
    let second = "GET /second HTTP/1.1\\r\\nHost: web\\r\\nConnection: close\\r\\n\\r\\n";

    let text = raw(&scene, &format!("{first}{second}"), &[])?;

    let (one, two) = (text.find("\"/first\""), text.find("\"/second\""));
    assert!(one.is_some() && one < two, "{text}");
    by_the_agent(&scene)
}

#[test]
fn host_and_headers_arrive_and_hop_by_hop_headers_do_not() -> Result<()> {
    let scene = Scene::new(1)?;
    let url = scene.web.url_of("a/b?c=d%20e");

    let answer = scene.client.request(&[
        &url,
        "-H",
        "Host: shop.example:8080",
        "-H",
        "X-Kept: 1",
        "-H",
        "X-Twice: a",
        "-H",
        "X-Twice: b",
        "-H",
        "X-Hop: 1",
        "-H",
        "Connection: x-hop, keep-alive",
        "-H",
        "Keep-Alive: timeout=5",
        "-H",
        "Proxy-Connection: keep-alive",
        "-H",
        "TE: gzip",
    ])?;

    assert_eq!(answer.authority, "shop.example:8080");
    assert_eq!(answer.path, "/a/b?c=d%20e");
    assert_eq!(
        (answer.header("x-kept"), answer.header("x-twice")),
        ("1", "a, b")
    );
    for hop in [
        "x-hop",
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
    ] {
        let value = answer.header(hop);
        assert!(!value.contains("x-hop") && !value.contains("timeout") && !value.contains("gzip"));
        assert!(hop == "connection" || value.is_empty(), "{hop}: {value}");
    }
    by_the_agent(&scene)
}

#[test]
fn chunked_and_sized_uploads_arrive_byte_for_byte() -> Result<()> {
    let scene = Scene::new(1)?;
    let (path, hash) = file(&scene, 3_000_000)?;
    let (url, data) = (scene.web.url(), format!("@{path}"));

    let sized = scene.client.request(&["--data-binary", &data, &url])?;
    let chunked = [
        "-H",
        "Transfer-Encoding: chunked",
        "--data-binary",
        &data,
        &url,
    ];
    let chunked = scene.client.request(&chunked)?;

    for answer in [&sized, &chunked] {
        assert_eq!((answer.body_bytes, answer.body_hash), (3_000_000, hash));
    }
    assert_eq!(sized.header("content-length"), "3000000");
    assert_eq!(chunked.header("content-length"), "");
    by_the_agent(&scene)
}

#[test]
fn trailers_pass_both_ways() -> Result<()> {
    let scene = Scene::new(1)?;
    let head = "HTTP/1.1\\r\\nHost: web\\r\\nTE: trailers\\r\\nConnection: close, TE\\r\\n";
    let chunk = "Transfer-Encoding: chunked\\r\\nTrailer: x-sum\\r\\n\\r\\n3\\r\\nabc\\r\\n0\\r\\n";

    let up = raw(
        &scene,
        &format!("POST / {head}{chunk}x-sum: up\\r\\n\\r\\n"),
        &[],
    )?;
    let down = raw(&scene, &format!("GET /trailers {head}\\r\\n"), &[])?;

    assert!(up.contains("\"trailers\":{\"x-sum\":\"up\"}"), "{up}");
    assert!(
        down.to_lowercase()
            .contains("\r\n0\r\nx-checksum: ok\r\n\r\n"),
        "{down}"
    );
    by_the_agent(&scene)
}

#[test]
fn expect_100_continue_is_answered_before_the_body_is_sent() -> Result<()> {
    let scene = Scene::new(1)?;
    let (path, hash) = file(&scene, 2_000_000)?;
    let (url, data) = (scene.web.url(), format!("@{path}"));
    // Longer than curl would need: the body comes only if 100 does.
    let patient = [
        "--expect100-timeout",
        "8",
        "-H",
        "Expect: 100-continue",
        "--verbose",
    ];

    let output = scene
        .client
        .curl(&[&patient, &["--data-binary", &data, &url][..]].concat())?;

    let log = output.stderr.clone();
    let body = output.success()?;
    assert!(log.contains("100 Continue"), "{log}");
    assert!(body.contains(&format!("\"body_hash\":{hash}")), "{body}");
    by_the_agent(&scene)
}

#[test]
fn head_has_no_body_and_the_connection_goes_on() -> Result<()> {
    let scene = Scene::new(1)?;
    let text = raw(
        &scene,
        "HEAD / HTTP/1.1\\r\\nHost: web\\r\\n\\r\\n\
         GET /after HTTP/1.1\\r\\nHost: web\\r\\nConnection: close\\r\\n\\r\\n",
        &[],
    )?;

    assert_eq!(text.matches("HTTP/1.1 200").count(), 2, "{text}");
    let (head, rest) = text.split_once("\r\n\r\n").context("an end of head")?;
    assert!(head.to_lowercase().contains("content-length: "), "{head}");
    assert!(rest.starts_with("HTTP/1.1 200"), "nothing between: {rest}");
    assert!(rest.contains("\"/after\""), "{rest}");
    by_the_agent(&scene)
}

#[test]
fn answers_without_a_body_keep_the_connection() -> Result<()> {
    let scene = Scene::new(1)?;
    for status in ["204", "304"] {
        let path = format!("/status/{status}");
        let text = raw(
            &scene,
            &format!(
                "GET {path} HTTP/1.1\\r\\nHost: web\\r\\n\\r\\n\
                 GET /after HTTP/1.1\\r\\nHost: web\\r\\nConnection: close\\r\\n\\r\\n"
            ),
            &[],
        )?;
        assert!(text.starts_with(&format!("HTTP/1.1 {status}")), "{text}");
        assert!(text.contains("\"/after\""), "{text}");
    }
    by_the_agent(&scene)
}

#[test]
fn http_1_0_gets_an_answer_that_ends_with_the_connection() -> Result<()> {
    let scene = Scene::new(1)?;

    let text = raw(&scene, "GET /bytes/3000 HTTP/1.0\\r\\n\\r\\n", &[])?;

    let (head, body) = text.split_once("\r\n\r\n").context("an end of head")?;
    assert!(head.contains(" 200 "), "{head}");
    assert!(
        !head.to_lowercase().contains("transfer-encoding"),
        "1.0 knows no chunks: {head}"
    );
    assert_eq!(body.len(), 3_000);
    by_the_agent(&scene)
}

#[test]
fn an_upgrade_becomes_a_tunnel_and_so_does_connect() -> Result<()> {
    let scene = Scene::new(1)?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/tunnel.py");
    let address = scene.web.ip().to_string();

    for (kind, status) in [("upgrade", "101"), ("connect", "200")] {
        let output = scene
            .client
            .run("/usr/bin/python3", &[script, kind, &address, "80"])?;
        let output = output.success()?;
        assert!(
            output.contains(&format!("HTTP/1.1 {status}")),
            "{kind}: {output}"
        );
        assert!(
            output.contains("echoed 300000 of 300000, then the end"),
            "{kind}: {output}"
        );
    }
    by_the_agent(&scene)
}

#[test]
fn heads_beyond_the_limit_are_refused_with_431() -> Result<()> {
    let scene = Scene::new(1)?;
    let url = scene.web.url();
    let header = |bytes: usize| format!("X-Long: {}", "x".repeat(bytes));
    let many = |count: usize| -> Vec<String> {
        (0..count)
            .flat_map(|n| ["-H".to_owned(), format!("x-{n}: 1")])
            .collect()
    };
    let status = |arguments: &[String]| {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        scene
            .client
            .status(&[&arguments, &[url.as_str()][..]].concat())
    };

    assert_eq!(
        status(&["-H".to_owned(), header(32 << 10)])?,
        200,
        "the control"
    );
    assert_eq!(status(&["-H".to_owned(), header(70 << 10)])?, 431);
    assert_eq!(status(&many(60))?, 200, "the control");
    assert_eq!(status(&many(300))?, 431);
    by_the_agent(&scene)
}

#[test]
fn what_is_no_request_is_refused_with_400_or_taken_for_opaque() -> Result<()> {
    let scene = Scene::new(1)?;
    let bad = [
        "GET / HTTP/1.1\\r\\nHost : x\\r\\n\\r\\n",
        "GET / HTTP/1.1\\r\\nbad\\r\\n\\r\\n",
        "POST / HTTP/1.1\\r\\nHost: x\\r\\nTransfer-Encoding: gzip\\r\\n\\r\\n",
        "POST / HTTP/1.1\\r\\nHost: x\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\nno size\\r\\n",
    ];
    for request in bad {
        let text = raw(&scene, request, &[])?;
        assert!(text.starts_with("HTTP/1.1 400"), "{request}: {text}");
        assert!(text.contains("x-proxy-agent-reason: bad_request"), "{text}");
    }
    by_the_agent(&scene)
}

#[test]
fn large_bodies_stream_both_ways_without_being_kept() -> Result<()> {
    const BYTES: u64 = 200_000_000;
    let scene = Scene::new(1)?;
    scene.client.get(&scene.web.url())?;
    let before = scene.agent.memory_kib()?;

    let url = scene.web.url_of(&format!("bytes/{BYTES}"));
    let sink = [
        "--output",
        "/dev/null",
        "--write-out",
        "%{size_download}",
        "--max-time",
        "60",
    ];
    let down = scene
        .client
        .curl(&[&sink, &[url.as_str()][..]].concat())?
        .success()?;
    let command = format!(
        "head -c {BYTES} /dev/zero | curl --silent --show-error --max-time 60 -T - {}",
        scene.web.url()
    );
    let up = scene.client.run("sh", &["-c", &command])?.success()?;

    assert_eq!(down, BYTES.to_string());
    assert!(up.contains(&format!("\"body_bytes\":{BYTES}")), "{up}");
    let grown = scene.agent.memory_kib()?.saturating_sub(before);
    assert!(grown < 32 << 10, "{grown} KiB more after 2 × {BYTES} bytes");
    by_the_agent(&scene)
}

#[test]
fn a_body_that_breaks_off_breaks_off_for_the_client_too() -> Result<()> {
    let scene = Scene::new(1)?;

    // Often: whether the break comes with the bytes or behind them is up to the machine.
    for _ in 0..30 {
        let output = scene.client.curl(&[&scene.web.url_of("cut")])?;

        assert!(
            !output.status.success(),
            "a short body must not look whole: {}",
            output.stdout
        );
        assert_eq!(
            output.stdout.len(),
            1_000,
            "what came before the break is delivered"
        );
    }
    by_the_agent(&scene)
}

#[test]
fn a_reused_connection_that_dies_unanswered_is_made_good() -> Result<()> {
    let node = Node::new()?;
    let server = node.pod("once").start()?;
    let arguments = [
        "serve",
        "--name",
        "once",
        "--port",
        "8080",
        "--mode",
        "http-once",
    ];
    server.serve("e2e-tcp", &arguments)?;
    let once = node.service("once").to([&server])?;
    let client = node.pod("client").captured().start()?;
    let agent = Agent::start(&node)?;
    agent.wait_captured([&client])?;
    agent.wait_endpoints(&once, 1)?;

    let report = client.load(&Load::new(&once.url()).requests(50))?;

    report.all_ok(50)?;
    assert_eq!(report.connects, 1);
    // The control: without the agent, the second request on a connection fails.
    let bare = client.load(&Load::new(&format!("http://{}:8080/", server.ip())).requests(2))?;
    assert_eq!(bare.failures.len(), 1, "{bare:?}");
    Ok(())
}
