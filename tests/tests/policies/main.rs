//! What rules do to requests beside routing them, by traffic.

mod browser;
mod destination;
mod grpc;
mod istio;
mod mirror;
mod retry;
mod scene;
