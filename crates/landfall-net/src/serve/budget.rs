//! Budgets [spec:security.budgets]: an amount of connections, sessions or bytes that all clients share, and of which
//! one client gets a part only.
//!
//! A budget takes a lock for each change. Requests that everybody sends all the time, such as pulls of small manifests,
//! need none.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use axum::extract::ConnectInfo;
use http::Extensions;
use landfall_core::sync::lock;

/// A client as budgets tell clients apart: an IPv4 address, or the /64 network of an IPv6 address, because a host with
/// IPv6 owns at least one. All clients behind a proxy or a NAT are one client, unless they have different logins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientAddress {
    address: IpAddr,
    /// Number of the client's login, if the server has checked one.
    login: Option<u64>,
}

impl From<IpAddr> for ClientAddress {
    fn from(address: IpAddr) -> ClientAddress {
        let address = match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(address) => match address.to_ipv4_mapped() {
                Some(address) => address.into(),
                None => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
            },
        };
        ClientAddress { address, login: None }
    }
}

impl ClientAddress {
    /// Returns the client with its login, which a budget tells from other logins of the same address.
    #[must_use]
    pub fn with_login(self, login: Option<u64>) -> ClientAddress {
        ClientAddress { login, ..self }
    }

    /// Returns the sender of a request, see [`peer_address`].
    #[must_use]
    pub fn of(extensions: &Extensions) -> ClientAddress {
        peer_address(extensions).into()
    }
}

/// Returns the address of a request's connection. Without a connection, as in a test, it is the unspecified address.
#[must_use]
pub fn peer_address(extensions: &Extensions) -> IpAddr {
    extensions
        .get::<ConnectInfo<SocketAddr>>()
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |ConnectInfo(peer)| peer.ip())
}

/// Limits of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetLimits {
    /// Amount of all clients together.
    pub total: u64,
    /// Amount of one client.
    pub share: u64,
}

/// A budget. Clones share it.
#[derive(Debug, Clone)]
pub struct Budget {
    shared: Arc<SharedBudget>,
}

#[derive(Debug)]
struct SharedBudget {
    limits: BudgetLimits,
    spent: Mutex<Spent>,
    refusals: AtomicU64,
}

#[derive(Debug, Default)]
struct Spent {
    total: u64,
    by_client: HashMap<ClientAddress, u64>,
}

/// A budget is spent, by the client or by all clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this client, or all clients together, use all that they may")]
pub struct BudgetExceeded;

/// An amount of a budget that a client uses. Dropping it gives the amount back.
#[derive(Debug)]
pub struct BudgetPart {
    shared: Arc<SharedBudget>,
    client: ClientAddress,
    amount: u64,
}

impl Budget {
    #[must_use]
    pub fn new(limits: BudgetLimits) -> Budget {
        Budget {
            shared: Arc::new(SharedBudget {
                limits,
                spent: Mutex::default(),
                refusals: AtomicU64::new(0),
            }),
        }
    }

    /// Takes an amount for a client.
    ///
    /// # Errors
    /// If it exceeds the rest of the client's share or of the total.
    pub fn take(&self, client: ClientAddress, amount: u64) -> Result<BudgetPart, BudgetExceeded> {
        let mut part = BudgetPart {
            shared: self.shared.clone(),
            client,
            amount: 0,
        };
        part.grow(amount)?;
        Ok(part)
    }

    /// Returns the number of refusals so far.
    #[must_use]
    pub fn refusals(&self) -> u64 {
        self.shared.refusals.load(Ordering::Relaxed)
    }

    /// Returns the amount that is in use.
    #[must_use]
    pub fn spent(&self) -> u64 {
        lock(&self.shared.spent).total
    }
}

impl BudgetPart {
    /// Takes a further amount.
    ///
    /// # Errors
    /// As for [`Budget::take`]. The amount so far stays taken.
    pub fn grow(&mut self, amount: u64) -> Result<(), BudgetExceeded> {
        let SharedBudget { limits, spent, .. } = &*self.shared;
        let mut spent = lock(spent);
        let own = spent.by_client.get(&self.client).copied().unwrap_or_default();
        if own.saturating_add(amount) > limits.share || spent.total.saturating_add(amount) > limits.total {
            self.shared.refusals.fetch_add(1, Ordering::Relaxed);
            return Err(BudgetExceeded);
        }
        if amount > 0 {
            spent.total += amount;
            spent.by_client.insert(self.client, own + amount);
            self.amount += amount;
        }
        Ok(())
    }
}

impl Drop for BudgetPart {
    fn drop(&mut self) {
        let mut spent = lock(&self.shared.spent);
        spent.total -= self.amount;
        if let Some(own) = spent.by_client.get_mut(&self.client) {
            *own -= self.amount;
            if *own == 0 {
                spent.by_client.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(address: &str) -> ClientAddress {
        address.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn a_client_gets_its_share_and_what_is_dropped_is_free_again() {
        let budget = Budget::new(BudgetLimits { total: 10, share: 6 });
        let (a, b) = (client("10.0.0.1"), client("10.0.0.2"));
        let mut first = budget.take(a, 4).unwrap();
        assert_eq!(first.grow(3), Err(BudgetExceeded), "more than its share");
        first.grow(2).unwrap();
        assert!(budget.take(b, 5).is_err(), "more than all have");
        let second = budget.take(b, 4).unwrap();
        assert_eq!((budget.spent(), budget.refusals()), (10, 2));
        drop(first);
        assert_eq!(budget.spent(), 4);
        assert!(budget.take(a, 6).is_ok());
        drop(second);
        assert_eq!(budget.spent(), 0);
        assert!(lock(&budget.shared.spent).by_client.is_empty());
    }

    #[test]
    fn a_host_is_one_client_with_all_its_addresses() {
        assert_eq!(client("2001:db8::1"), client("2001:db8::ffff:2"));
        assert_ne!(client("2001:db8::1"), client("2001:db8:0:1::1"));
        assert_eq!(client("::ffff:10.0.0.1"), client("10.0.0.1"));
        assert_ne!(client("10.0.0.1"), client("10.0.0.2"));
    }
}
