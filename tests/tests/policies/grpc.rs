//! GRPCRoutes, and retries by gRPC status.

use std::process::Command;

use anyhow::Result;
use proxy_e2e::{Agent, Node, Pod, Service, until};
use serde_json::{Value, json};

use crate::scene::FIXTURES;

const PYTHON: &str = "/usr/bin/python3";

/// Services `web` and `blue` of one gRPC server each, and a captured client.
struct Calls {
    _agent: Agent,
    client: Pod,
    web: Service,
    _servers: Vec<(Pod, Service)>,
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
            _agent: agent,
            client,
            web,
            _servers: vec![(pod, more), blue],
            node,
        })
    }

    fn put(&self, object: Value) -> Result<()> {
        self.node.config().put("route.json", &[object])
    }

    fn call(&self, methods: &[&str]) -> Result<String> {
        let address = self.web.address().to_string();
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
