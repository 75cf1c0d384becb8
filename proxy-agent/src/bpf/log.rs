//! The programs' messages in the agent's log.

use std::io;
use std::os::fd::AsFd;

use aya::Ebpf;
use aya_log::EbpfLogger;
use log::{Level, Log, Metadata, Record};

use super::{Error, sys};

/// The ring buffer that the programs write their messages to.
pub struct KernelLog(EbpfLogger<ToTracing>);

impl std::fmt::Debug for KernelLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KernelLog").finish_non_exhaustive()
    }
}

impl KernelLog {
    /// Takes it out of a loaded object.
    pub(super) fn take(object: &mut Ebpf) -> Result<Self, Error> {
        EbpfLogger::init_with_logger(object, ToTracing)
            .map(Self)
            .map_err(|source| Error::Map {
                operation: "open",
                name: "AYA_LOGS",
                source: io::Error::other(source),
            })
    }

    /// Writes what is there to `tracing`; never blocks.
    pub fn flush(&mut self) {
        self.0.flush();
    }

    /// Writes messages to `tracing` as they come, for ever. Cancel-safe; needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// Only if the ring buffer cannot be polled: the messages are lost then, nothing else is.
    pub async fn pump(self) -> io::Result<()> {
        let Self(mut logger) = self;
        let ring = sys::watch(logger.as_fd().try_clone_to_owned()?)?;
        loop {
            let mut ready = ring.readable().await?;
            logger.flush();
            ready.clear_ready();
        }
    }
}

/// Hands records of the `log` crate, which aya-log speaks, to `tracing`.
struct ToTracing;

impl Log for ToTracing {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let message = record.args();
        match record.level() {
            Level::Error => tracing::error!(target: "proxy_ebpf", "{message}"),
            Level::Warn => tracing::warn!(target: "proxy_ebpf", "{message}"),
            Level::Info => tracing::info!(target: "proxy_ebpf", "{message}"),
            Level::Debug => tracing::debug!(target: "proxy_ebpf", "{message}"),
            Level::Trace => tracing::trace!(target: "proxy_ebpf", "{message}"),
        }
    }

    fn flush(&self) {}
}
