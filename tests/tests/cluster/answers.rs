//! What the echo client prints, read back.

use std::collections::BTreeSet;

use anyhow::{Context, Result};

/// One answer.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Answer {
    /// HTTP status, or 200 for what has none and went well.
    pub(crate) status: u16,
    /// Name of the pod that answered; empty if none did.
    pub(crate) pod: String,
    /// The address that it saw the client at.
    pub(crate) client: String,
}

/// Reads every answer; they are parted by empty lines.
pub(crate) fn parse(text: &str) -> Result<Vec<Answer>> {
    let blocks = text.split("\n\n").filter(|block| !block.trim().is_empty());
    blocks.map(parse_one).collect()
}

fn parse_one(block: &str) -> Result<Answer> {
    let field = |name: &str| {
        let lines = block.lines().filter_map(|line| line.split_once("] "));
        let mut fields = lines.filter_map(|(_, field)| field.split_once('='));
        fields.find(|(key, _)| *key == name).map(|(_, value)| value)
    };
    let status = field("StatusCode").with_context(|| format!("no status in {block}"))?;
    Ok(Answer {
        status: status.parse().with_context(|| format!("status {status}"))?,
        pod: field("Hostname").unwrap_or_default().to_owned(),
        client: field("IP").unwrap_or_default().to_owned(),
    })
}

/// The pods that answered.
pub(crate) fn pods(answers: &[Answer]) -> BTreeSet<&str> {
    answers.iter().map(|answer| answer.pod.as_str()).collect()
}
