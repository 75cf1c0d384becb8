//! Arguments of `explain`.

use std::path::PathBuf;

use clap::Args;

use super::values::{Header, PodName, parse_url};
use super::{DEFAULT_ADMIN_SOCKET, OutputFormat};

const EXAMPLES: &str = "\
Examples:
  proxy-agent explain --from shop/web GET http://cart.shop/items
  proxy-agent explain --from shop/web -H 'x-canary: yes' POST http://10.96.0.10:8080/";

/// Arguments of `explain`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct ExplainArgs {
    /// The pod that would send the request.
    #[arg(long, value_name = "NAMESPACE/POD")]
    pub from: PodName,
    /// A header of the request; may be given several times.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<Header>,
    /// Method of the request.
    #[arg(value_name = "METHOD")]
    pub method: http::Method,
    /// URL of the request; its host is a Service's name or address.
    #[arg(value_name = "URL", value_parser = parse_url)]
    pub url: http::Uri,
    /// How the answer is written.
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    pub output: OutputFormat,
    /// Socket of the running agent.
    #[arg(long, value_name = "PATH", default_value = DEFAULT_ADMIN_SOCKET)]
    pub admin_socket: PathBuf,
}
