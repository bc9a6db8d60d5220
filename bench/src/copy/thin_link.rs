//! A thin link: two network namespaces with a veth pair between them, slowed by `tc netem`. Nothing outside of
//! them is changed, and drop removes them.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

use anyhow::{Context as _, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// One-way delay.
const DELAY: &str = "25ms";
const RATE: &str = "200mbit";
/// Addresses of TEST-NET-1, reserved for documentation (RFC 5737): no route of this machine leads there.
const NEAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

/// Two network namespaces with a thin link between them.
#[derive(Debug)]
pub(super) struct ThinLink {
    /// Namespace of the programs and the destination registry.
    pub(super) near: Namespace,
    /// Namespace of the source registry.
    pub(super) far: Namespace,
}

/// A network namespace.
#[derive(Debug)]
pub(super) struct Namespace {
    name: String,
    /// Address of its end of the link.
    pub(super) address: IpAddr,
}

impl ThinLink {
    /// Sets up a link; `loss` is the packet loss in netem's notation.
    ///
    /// # Errors
    /// Returns the output of the failed tool. The tools need the right to create namespaces, and a kernel with netem.
    pub(super) fn start(loss: Option<&str>) -> anyhow::Result<ThinLink> {
        let thin_link = ThinLink {
            near: Namespace::create("near", NEAR)?,
            far: Namespace::create("far", FAR)?,
        };
        let ThinLink { near, far } = &thin_link;
        run(&format!(
            "ip link add link0 netns {} type veth peer name link0 netns {}",
            near.name, far.name
        ))?;
        for namespace in [near, far] {
            let Namespace { name, address } = namespace;
            run(&format!("ip -n {name} address add {address}/24 dev link0"))?;
            run(&format!("ip -n {name} link set lo up"))?;
            run(&format!("ip -n {name} link set link0 up"))?;
            let loss = loss.map_or_else(String::new, |loss| format!(" loss {loss}"));
            // The limit covers the packets in flight at this rate and a queue; the default is lower.
            run(&format!(
                "tc -n {name} qdisc add dev link0 root netem limit 10000 delay {DELAY} rate {RATE}{loss}"
            ))?;
        }
        Ok(thin_link)
    }
}

impl Namespace {
    fn create(side: &str, address: Ipv4Addr) -> anyhow::Result<Namespace> {
        let name = format!("landfall-bench-{}-{side}", std::process::id());
        run(&format!("ip netns add {name}"))?;
        Ok(Namespace {
            name,
            address: address.into(),
        })
    }

    /// Runs `work` in the namespace: its connections, and the programs that it starts.
    pub(super) fn inside<T: Send>(&self, work: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
        let namespace = fs_err::File::open(format!("/run/netns/{}", self.name))?;
        std::thread::scope(|scope| {
            let there = scope.spawn(|| {
                let moved =
                    move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), Some(LinkNameSpaceType::Network));
                moved.with_context(|| format!("cannot enter the network namespace `{}`", self.name))?;
                work()
            });
            match there.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The interfaces go with the namespace. Without the right to remove it, it was never created.
        drop(run(&format!("ip netns delete {}", self.name)));
    }
}

/// Runs a tool; none of its arguments contains a space.
fn run(line: &str) -> anyhow::Result<()> {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or_default());
    let done = command.args(words).output().with_context(|| format!("`{line}`"))?;
    if !done.status.success() {
        bail!("`{line}`: {}", String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(())
}
