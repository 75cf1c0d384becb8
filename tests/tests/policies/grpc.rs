//! GRPCRoutes, and retries by gRPC status.

use std::process::Command;

use anyhow::Result;
use proxy_e2e::manifest::endpoint_slice;
use proxy_e2e::{Agent, Node, Pod, Service, until};
use serde_json::{Value, json};

use crate::scene::FIXTURES;

const PYTHON: &str = "/usr/bin/python3";

/// Services `web` and `blue` of one gRPC server each, and a captured client.
struct Calls {
    agent: Agent,
    client: Pod,
    web: Service,
    servers: Vec<(Pod, Service)>,
    node: Node,
}

impl Calls {
    fn new() -> Result<Self> {
        let node = Node::new()?;
        let serve = |name: &str| -> Result<(Pod, Service)> {
            let pod = node.pod(&format!("{name}-0")).start()?;
            let mut command = Command::new(PYTHON);
            command.args([&format!("{FIXTURES}/grpc_server.py"), pod.name(), "50051"]);
            let mut server = pod.spawn("grpc", command)?;
            server.wait_for_output("ready")?;
            pod.keep(server);
            let service = node.service(name).port("grpc", 50051, 50051).to([&pod])?;
            Ok((pod, service))
        };
        let (pod, web) = serve("web")?;
        let blue = serve("blue")?;
        let client = node.pod("client").captured().start()?;
        let agent = Agent::start(&node)?;
        agent.wait_captured([&client])?;
        agent.wait_endpoints(&web, 1)?;
        agent.wait_endpoints(&blue.1, 1)?;
        let more = node
            .service("web-too")
            .port("grpc", 50051, 50051)
            .to([&pod])?;
        Ok(Self {
            agent,
            client,
            web,
            servers: vec![(pod, more), blue],
            node,
        })
    }

    fn put(&self, object: Value) -> Result<()> {
        self.node.config().put("route.yaml", &[object])
    }

    /// Puts this object in place of the one before and waits until it is in force.
    fn apply(&self, object: Value) -> Result<()> {
        self.agent
            .apply(self.node.config(), "route.yaml", &[object])
    }

    fn call(&self, methods: &[&str]) -> Result<String> {
        self.call_to(&self.web, methods)
    }

    fn call_to(&self, service: &Service, methods: &[&str]) -> Result<String> {
        let address = service.address().to_string();
        let script = format!("{FIXTURES}/grpc_call.py");
        let arguments = [&[script.as_str(), address.as_str()], methods].concat();
        self.client.run(PYTHON, &arguments)?.success()
    }
}

fn to(service: &str) -> Value {
    json!([{ "name": service, "port": 50051 }])
}

#[test]
fn calls_are_routed_by_method_and_others_are_unimplemented() -> Result<()> {
    let scene = Calls::new()?;
    let before = scene.call(&["/test.Echo/Unary"])?;
    assert!(
        before.contains("/test.Echo/Unary OK hello from web-0"),
        "{before}"
    );

    let method = |name: &str| json!([{ "method": { "service": "test.Echo", "method": name } }]);
    scene.put(json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "GRPCRoute",
        "metadata": { "namespace": "default", "name": "route" },
        "spec": {
            "parentRefs": [{ "group": "", "kind": "Service", "name": "web", "port": 50051 }],
            "rules": [
                { "matches": method("Unary"), "backendRefs": to("blue") },
                { "matches": method("Fail"), "backendRefs": to("web") },
            ],
        },
    }))?;
    until("the route is in force", || {
        Ok(scene.call(&["/test.Echo/Unary"])?.contains("from blue-0"))
    })?;

    let after = scene.call(&["/test.Echo/Unary", "/test.Echo/Fail", "/test.Echo/Slow"])?;

    assert!(
        after.contains("/test.Echo/Unary OK hello from blue-0"),
        "{after}"
    );
    assert!(
        after.contains("/test.Echo/Fail NOT_FOUND no such thing"),
        "{after}"
    );
    assert!(
        after.contains("/test.Echo/Slow UNIMPLEMENTED no_route"),
        "{after}"
    );
    Ok(())
}

#[test]
fn a_call_that_is_unavailable_is_tried_again_by_istios_default() -> Result<()> {
    let scene = Calls::new()?;
    let route = |retries: Value| {
        let mut http = json!({ "route": [{ "destination": { "host": "web" } }] });
        http["retries"] = retries;
        let mark = json!({ "match": [{ "uri": { "exact": "/mark/Mark" } }] });
        json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": "VirtualService",
            "metadata": { "namespace": "default", "name": "route" },
            "spec": { "hosts": ["web"], "http": [
                { "match": mark["match"], "fault": { "abort": { "grpcStatus": "ABORTED", "percentage": { "value": 100 } } },
                  "route": http["route"] },
                http,
            ] },
        })
    };
    scene.put(route(Value::Null))?;
    until("the route is in force", || {
        Ok(scene.call(&["/mark/Mark"])?.contains("ABORTED fault_abort"))
    })?;

    let answer = scene.call(&["/test.Echo/Flaky"])?;

    assert!(
        answer.contains("/test.Echo/Flaky OK at last from web-0"),
        "{answer}"
    );
    Ok(())
}

fn grpc_route(version: &str, rules: &Value) -> Value {
    json!({
        "apiVersion": format!("gateway.networking.k8s.io/{version}"),
        "kind": "GRPCRoute",
        "metadata": { "namespace": "default", "name": version },
        "spec": {
            "parentRefs": [{ "group": "", "kind": "Service", "name": "web", "port": 50051 }],
            "rules": rules,
        },
    })
}

#[test]
fn calls_are_routed_by_metadata_and_expressions_in_every_version() -> Result<()> {
    let scene = Calls::new()?;
    let method = json!({
        "type": "RegularExpression", "service": r"test\.E[a-z]+", "method": "Unar.",
    });
    let plain = json!({ "name": "x-user", "value": "jane" });
    let expression = json!({
        "type": "RegularExpression", "name": "x-color", "value": "gr(e|a)y",
    });
    let with = |header: &Value| json!([{ "method": method, "headers": [header] }]);
    for version in ["v1", "v1beta1"] {
        scene.apply(grpc_route(
            version,
            &json!([
                { "matches": with(&plain), "backendRefs": to("blue") },
                { "matches": with(&expression), "backendRefs": to("blue") },
                { "matches": [{ "method": method }], "backendRefs": to("web") },
            ]),
        ))?;

        for (metadata, expected) in [
            ("x-user=jane", "/test.Echo/Unary OK hello from blue-0"),
            ("x-user=joe", "/test.Echo/Unary OK hello from web-0"),
            ("x-color=gray", "/test.Echo/Unary OK hello from blue-0"),
            ("x-color=grayish", "/test.Echo/Unary OK hello from web-0"),
        ] {
            let answer = scene.call(&[metadata, "/test.Echo/Unary"])?;
            assert!(answer.contains(expected), "{version} {metadata}: {answer}");
        }
        let answer = scene.call(&["/test.Echo/Fail"])?;
        let expected = "/test.Echo/Fail UNIMPLEMENTED no_route";
        assert!(
            answer.contains(expected),
            "{version}, the control: {answer}"
        );
    }
    Ok(())
}

#[test]
fn calls_have_filters_and_weights() -> Result<()> {
    let scene = Calls::new()?;
    let method = |name: &str| json!([{ "method": { "service": "test.Echo", "method": name } }]);
    let edits = json!([
        { "type": "RequestHeaderModifier", "requestHeaderModifier": {
            "set": [{ "name": "x-kind", "value": "edited" }],
        }},
        { "type": "ResponseHeaderModifier", "responseHeaderModifier": {
            "set": [{ "name": "x-answered", "value": "yes" }],
        }},
    ]);
    let plain = scene.call(&["/test.Echo/Unary"])?;
    assert!(
        plain.ends_with("hello from web-0\n"),
        "the control: {plain}"
    );
    scene.apply(grpc_route(
        "v1",
        &json!([
            { "matches": method("Unary"), "filters": edits, "backendRefs": to("blue") },
        ]),
    ))?;
    let edited = scene.call(&["/test.Echo/Unary"])?;
    assert!(
        edited.ends_with("hello from blue-0 of edited yes\n"),
        "{edited}"
    );

    scene.apply(grpc_route(
        "v1",
        &json!([{ "backendRefs": [
            { "name": "web", "port": 50051, "weight": 1 },
            { "name": "blue", "port": 50051, "weight": 1 },
        ]}]),
    ))?;
    let shared = scene.call(&["/test.Echo/Unary"; 64])?;
    let of = |name: &str| shared.matches(&format!("hello from {name}")).count();
    assert_eq!(of("web-0") + of("blue-0"), 64, "{shared}");
    // Five standard deviations of a binomial share: 5 × sqrt(64 × 0.5 × 0.5) = 20.
    assert!((12..=52).contains(&of("blue-0")), "{shared}");
    Ok(())
}

#[test]
fn an_annotation_has_calls_tried_again_by_their_grpc_status() -> Result<()> {
    let scene = Calls::new()?;
    let (_, blue) = &scene.servers[1];
    let without = scene.call_to(blue, &["/test.Echo/Flaky"])?;
    assert!(
        without.contains("UNAVAILABLE not yet"),
        "the control: {without}"
    );

    let (pod, _) = &scene.servers[0];
    let mut object = scene.web.object().clone();
    object["metadata"]["annotations"] = json!({ "retry.linkerd.io/grpc": "unavailable" });
    let slice = endpoint_slice(&object, "IPv4", &[(pod.name().to_owned(), pod.ip())]);
    let file = scene.web.file();
    scene
        .agent
        .apply(scene.node.config(), &file, &[object, slice])?;

    let answer = scene.call(&["/test.Echo/Flaky"])?;
    assert!(answer.contains("OK at last from web-0"), "{answer}");
    Ok(())
}
