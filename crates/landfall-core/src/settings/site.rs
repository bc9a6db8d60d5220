//! `landfall.site`: the hosts of a site that work together [spec:site.settings].

use std::net::IpAddr;

use serde::Serialize;

use crate::host_name::HostName;

/// Port at which a host serves blobs to its peers.
pub const PEER_PORT: u16 = 5082;

/// The hosts of a site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SiteSettings {
    /// `stylus.enableMultiNode`: true if hosts of the site work together; false.
    pub enable: bool,
    /// `leader`: the host that leads before there is a cluster; the host that gives the join token.
    pub leader: Option<HostName>,
    /// `address`: the address of this host for its peers; the one of the default route.
    pub address: Option<IpAddr>,
    /// `port`: the port at which this host serves blobs to its peers; 5082.
    pub port: u16,
}

impl Default for SiteSettings {
    fn default() -> SiteSettings {
        SiteSettings {
            enable: false,
            leader: None,
            address: None,
            port: PEER_PORT,
        }
    }
}
