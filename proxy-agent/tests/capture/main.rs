//! Capture and its sockets on real cgroups and network namespaces; the kernel's map and the proxy
//! are recorders. Needs root: each test is `#[ignore]`d and run by `cargo xtask e2e`.

#[cfg(test)]
mod churn;
#[cfg(test)]
mod enrolment;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod net;
