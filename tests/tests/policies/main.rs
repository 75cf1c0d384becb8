//! What rules do to requests beside routing them, by traffic.

mod browser;
mod destination;
mod grpc;
mod istio;
mod istio_fields;
mod istio_rules;
mod linkerd;
mod mirror;
mod retry;
mod scene;
mod split;
mod virtual_service;
