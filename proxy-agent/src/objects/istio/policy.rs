//! What a VirtualService's route does beside routing.

use serde::Deserialize;
use serde_json::Value;

use super::{HostDestination, StringMatch};

/// `retries`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Retries {
    /// Tries beyond the first; 0 turns retries off.
    pub attempts: Option<i32>,
    /// Limit on each try.
    pub per_try_timeout: Option<String>,
    /// Conditions and statuses, joined with commas.
    pub retry_on: Option<String>,
    /// Whether other localities are tried; every endpoint is here.
    pub retry_remote_localities: Option<bool>,
    /// Whether endpoints that were tried are avoided; they always are here.
    pub retry_ignore_previous_hosts: Option<bool>,
    /// Wait before the first retry.
    pub backoff: Option<String>,
}

/// `fault`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub struct Fault {
    /// Requests that are held back.
    pub delay: Option<Delay>,
    /// Requests that are failed.
    pub abort: Option<Abort>,
}

/// `fault.delay`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Delay {
    /// How long.
    pub fixed_delay: Option<String>,
    /// Mean of an exponential distribution.
    pub exponential_delay: Option<String>,
    /// Share in whole percents; older than `percentage`.
    pub percent: Option<i32>,
    /// Share.
    pub percentage: Option<Percent>,
}

/// `fault.abort`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Abort {
    /// HTTP status.
    pub http_status: Option<u16>,
    /// gRPC status, by name or number.
    pub grpc_status: Option<String>,
    /// Not implemented.
    pub http2_error: Option<Value>,
    /// Share.
    pub percentage: Option<Percent>,
}

/// A share, as in `{value: 0.5}` for half a percent.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
pub struct Percent {
    /// 0 to 100.
    #[serde(default)]
    pub value: f64,
}

/// `mirrors[]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Mirror {
    /// Where to.
    pub destination: HostDestination,
    /// Share; all of them if absent.
    pub percentage: Option<Percent>,
}

/// `directResponse`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub struct DirectResponse {
    /// HTTP status.
    pub status: u16,
    /// Its body.
    pub body: Option<ResponseBody>,
}

/// `directResponse.body`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub struct ResponseBody {
    /// As text.
    pub string: Option<String>,
    /// As bytes, in base64.
    pub bytes: Option<String>,
}

/// `corsPolicy`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Cors {
    /// Origins; older than `allowOrigins`.
    #[serde(default)]
    pub allow_origin: Vec<String>,
    /// Origins.
    #[serde(default)]
    pub allow_origins: Vec<StringMatch>,
    /// Methods.
    #[serde(default)]
    pub allow_methods: Vec<String>,
    /// Request headers.
    #[serde(default)]
    pub allow_headers: Vec<String>,
    /// Response headers.
    #[serde(default)]
    pub expose_headers: Vec<String>,
    /// How long a preflight's answer may be kept.
    pub max_age: Option<String>,
    /// Whether cookies and the like may be sent along.
    pub allow_credentials: Option<bool>,
    /// `FORWARD` (the default) or `IGNORE`.
    pub unmatched_preflights: Option<String>,
}

/// `rewrite.uriRegexRewrite`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub struct RegexRewrite {
    /// RE2; every occurrence in the path is replaced.
    #[serde(rename = "match", default)]
    pub pattern: String,
    /// What with; `\1` is the first group.
    #[serde(default)]
    pub rewrite: String,
}
