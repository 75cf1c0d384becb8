//! Counters of the programs: one for every outcome of a hook.

macro_rules! stats {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Index into the `STATS` map.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum Stat {
            $($(#[$doc])* $variant,)*
        }

        impl Stat {
            /// Every counter, in index order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Stable snake_case name, used in `status` and as a metric label.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

stats! {
    /// A connect was rewritten to the agent's listener.
    Proxied = "proxied",
    /// A connect was rewritten to an endpoint.
    Direct = "direct",
    /// Of both: the socket keeps what it asked for in storage of its own, for it has no cell.
    KeptInStorage = "kept_in_storage",
    /// The destination is a direct frontend without a usable endpoint.
    RefusedNoEndpoint = "refused_no_endpoint",
    /// The destination's endpoints were replaced while it was being decided.
    PassedSetGone = "passed_set_gone",
    /// The socket belongs to the agent itself.
    PassedAgent = "passed_agent",
    /// The socket is not plain TCP: UDP, SCTP. Those of MPTCP connect by sockets of the kernel, which are.
    PassedNotTcp = "passed_not_tcp",
    /// The agent is not serving: no settings, or no worker yet.
    PassedNotServing = "passed_not_serving",
    /// The netns is the node's own.
    PassedNode = "passed_node",
    /// The netns is no pod's that the agent knows.
    PassedUnknownPod = "passed_unknown_pod",
    /// `--unknown-pods refuse`: the pod's enrolment is undecided.
    RefusedUnknownPod = "refused_unknown_pod",
    /// The pod is known and not captured.
    PassedNotCaptured = "passed_not_captured",
    /// The destination is no Service address that the agent balances.
    PassedNoFrontend = "passed_no_frontend",
    /// The destination is a Service address with the verdict pass.
    PassedFrontend = "passed_frontend",
    /// The pod has no listener of the socket's address family.
    PassedNoListener = "passed_no_listener",
    /// The oldest heartbeat is stale: the agent or one of its workers is stuck.
    PassedStale = "passed_stale",
    /// As above, and the pod asked for `on-failure: closed`.
    RefusedStale = "refused_stale",
    /// The socket is bound to a device.
    PassedBoundToDevice = "passed_bound_to_device",
    /// The socket's original destination could not be stored.
    PassedStorageFull = "passed_storage_full",
    /// A redirected connection's source port became known and its destination was published.
    FlowBound = "flow_bound",
    /// The `ORIG_DST` map was full: the agent will reset the connection.
    FlowBindFailed = "flow_bind_failed",
    /// A redirected connection ended before it was established.
    FlowAborted = "flow_aborted",
    /// A direct connection was established.
    DirectEstablished = "direct_established",
    /// A direct connection was refused, or nobody answered.
    DirectFailed = "direct_failed",
    /// The application gave a direct connection up before it was established.
    DirectAborted = "direct_aborted",
    /// A direct connection is not counted: the `ENDPOINTS` map was full.
    DirectUncounted = "direct_uncounted",
    /// A pod does not stay with its endpoint: the `AFFINITY` map was full.
    AffinityFull = "affinity_full",
    /// A socket of an application was made ready for acceleration.
    AccelerationEntered = "acceleration_entered",
    /// An application's socket could not be: the map is full, or it is an MPTCP socket.
    AccelerationRefused = "acceleration_refused",
    /// An application's socket has sent data with its SYN.
    AccelerationFastOpen = "acceleration_fast_open",
    /// A socket that a pod which asks has accepted was made ready.
    AccelerationAccepted = "acceleration_accepted",
    /// An end of a direct connection between pods that both ask was made ready.
    AccelerationPaired = "acceleration_paired",
    /// Messages that went from socket to socket.
    Redirected = "redirected",
    /// Bytes of these.
    RedirectedBytes = "redirected_bytes",
    /// A message went by TCP: the agent has not joined, or not for this connection.
    ByTcpNotJoined = "by_tcp_not_joined",
    /// A message went by TCP: what went that way before is not known to be read.
    ByTcpUnread = "by_tcp_unread",
    /// A message went by TCP: it does not fit into the window.
    ByTcpWindow = "by_tcp_window",
    /// A message went by TCP: the other end's socket is gone.
    ByTcpGone = "by_tcp_gone",
    /// A log line was left out by the rate bound.
    LogDropped = "log_dropped",
}

impl Stat {
    /// Those of messages, which the self-test of acceleration counts too.
    pub const OF_ACCELERATION: &'static [Self] = &[
        Self::Redirected,
        Self::RedirectedBytes,
        Self::ByTcpNotJoined,
        Self::ByTcpUnread,
        Self::ByTcpWindow,
        Self::ByTcpGone,
    ];

    /// How many counters there are.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "as many as are written above"
    )]
    pub const COUNT: u32 = Self::ALL.len() as u32;
}
