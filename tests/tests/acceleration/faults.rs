//! What becomes of accelerated connections when the agent ends, or another one takes over.

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use proxy_e2e::{AgentOptions, Load, until};

use crate::{ON, accelerated_loads, accelerating_both, admitted, python};

/// What a successor logs that does not wait for it: after 5 s, on an emulated processor.
const SLOW_SELF_TEST: &str = "the self-test of acceleration takes long";

/// Whoever was in the middle of an answer sees it break off: none is whole that is not, and no byte is
/// another one's.
#[test]
fn when_the_agent_is_killed_no_answer_looks_whole_that_is_not() -> Result<()> {
    let scene = accelerating_both(2)?;
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(
            scene
                .client
                .spawn("client", python(&scene, &["until-cut"]))?,
        );
    }
    for client in &mut clients {
        client.wait_for_output("going")?;
    }
    until("both halves carry bytes", || {
        let status = scene.agent.status()?["bpf"]["acceleration"].clone();
        Ok(status["to_pods_open"].as_u64() >= Some(8))
    })?;

    scene.agent.signal(Signal::SIGKILL)?;

    for client in clients {
        let said = client.finish()?.success()?;
        ensure!(said.contains("cut") || said.contains("closed"), "{said}");
        ensure!(!said.contains("WRONG"), "{said}");
    }
    Ok(())
}

#[test]
fn a_handover_under_accelerated_load_fails_no_request() -> Result<()> {
    let mut scene = accelerating_both(2)?;
    let loads = accelerated_loads(&scene)?;

    for _ in 0..3 {
        let successor = AgentOptions::new(&scene.node).arguments(&ON).succeed()?;
        let pods = scene.servers.iter().chain([&scene.client]);
        successor.wait_captured(pods)?;
        admitted(&successor)?;
        for load in &loads {
            load.wait_answers(load.answers() + 200)?;
        }
        std::mem::replace(&mut scene.agent, successor).stop()?;
        until("the successor accelerates", || {
            loads
                .iter()
                .try_for_each(|load| load.wait_answers(load.answers() + 50))?;
            // What came over before the end of a self-test that is not waited for stays with TCP.
            if scene.agent.log().contains(SLOW_SELF_TEST) {
                let new = Load::new(&scene.web.url()).requests(50);
                scene.client.load(&new)?.all_ok(50)?;
            }
            Ok(scene.agent.counter("redirected")? > 0)
        })?;
    }

    loads
        .into_iter()
        .try_for_each(|load| load.stop()?.flawless())
}
