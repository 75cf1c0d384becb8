//! Whose an address is, for the programs that look at what a pod accepts.

use std::net::IpAddr;

use proxy_ebpf::{PodAddress, octets};

use super::{Error, Kernel};

impl Kernel {
    /// Says whose an address is: what the pod accepts there from pods of this node may be accelerated.
    ///
    /// # Errors
    ///
    /// [`Error::MapFull`] or [`Error::Map`]: it goes by TCP.
    pub fn set_address(&self, address: IpAddr, pod: PodAddress) -> Result<(), Error> {
        self.maps.addresses.set(&octets(address), &pod)
    }

    /// Forgets an address, if it is still that pod's.
    ///
    /// # Errors
    ///
    /// [`Error::Map`].
    pub fn remove_address(&self, address: IpAddr, netns_cookie: u64) -> Result<(), Error> {
        let (addresses, key) = (&self.maps.addresses, octets(address));
        let owner = addresses.read(&key)?;
        if owner.is_some_and(|pod| pod.netns_cookie() == netns_cookie) {
            addresses.remove(&key)?;
        }
        Ok(())
    }
}
