//! stub
use crate::{model::*, status::Explanation};
pub struct Query { pub namespace: String, pub pod: String, pub method: http::Method, pub url: http::Uri, pub headers: http::HeaderMap }
pub fn explain(_s:&Snapshot,_q:&Query)->Result<Explanation,String>{Err(String::new())}
pub fn describe(_r:&Rule,_s:&Snapshot)->String{String::new()}
