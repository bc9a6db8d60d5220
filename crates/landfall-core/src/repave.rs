//! Updates of the hosts of a site, one at a time [spec:updates]: facts in, one record or one effect out.
//!
//! [`decide`] either changes the state or names an effect, never both. The caller makes a changed state durable and
//! asks again; it carries out an effect only for a state that is durable. After a power cut at any point the last state
//! and new facts suffice to go on. Effects that may be repeated are ensured again ([`Action::is_repeatable`]). The two
//! others, the run of the driver and the reboot, are orders that a host carries out once ([`admit_order`]): they name
//! the boot in which they hold, and the boot ID and the slot tell what became of them.
//!
//! Times are run time, never differences of clocks: a host may start with the clock of 1970, and a power cut must not
//! end a deadline.

mod change;
mod command;
mod facts;
mod halt;
mod order;
mod policy;
mod preflight;
mod step;
mod turn;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::host_name::HostName;
use crate::maintenance::WindowState;

pub use self::change::{Change, Reason, ReasonCode, SystemImage, plan_reasons};
pub use self::command::{Command, CommandRefusal};
pub use self::facts::{Cordon, EtcdFacts, HostFacts, HostReport, HostRole, NodeFacts, NodeState, SiteFacts, Slot};
pub use self::halt::{Halt, HaltReason};
pub use self::order::{
    Admission, BootId, Effect, HostJournal, Order, OrderRefusal, Run, RunId, RunOutcome, admit_order, recover_journal,
};
pub use self::policy::{Approval, DrainPods, RepavePolicy};
pub use self::preflight::Blocker;
pub use self::step::{TurnStep, Unmet};
pub use self::turn::Turn;

/// The state of an update, as the leader records it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Repave {
    /// Version of this format.
    pub version: u32,
    /// Number of the update. A later one is higher.
    pub update: u64,
    /// The generation of the leader that decides. Hosts refuse the orders of a lower one.
    pub generation: u64,
    pub change: Change,
    pub reasons: Vec<Reason>,
    pub phase: RepavePhase,
    /// True if a person holds the update: no further host begins.
    pub held: bool,
    /// Driver runs that were ordered so far.
    pub runs: u32,
    /// The hosts in the order of their turns.
    pub members: Vec<Member>,
}

/// A host of an update.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    pub host: HostName,
    pub state: MemberState,
}

/// Progress of one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MemberState {
    /// Nothing was done to it.
    Waiting,
    /// It has its turn, or failed in it.
    Begun,
    Done,
}

/// Phase of an update.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RepavePhase {
    AwaitingApproval,
    /// All hosts store the image. No host is touched before.
    Prefetch {
        spent: Duration,
    },
    /// Between two turns: the checks before the next one.
    Preflight {
        spent: Duration,
    },
    Turn(Turn),
    Halted(Halt),
    Done,
    /// A person withdrew the update before a host had its turn.
    Withdrawn,
}

/// The answer of [`decide`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The state after this decision, with the run time that passed.
    pub repave: Repave,
    /// True if the state must be durable before the next decision. `action` is then `None`.
    pub must_record: bool,
    pub action: Option<Action>,
    pub why: Why,
}

/// An effect on the site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// Let these hosts store the image.
    Prefetch { hosts: Vec<HostName> },
    /// Cordon the node and annotate it as ours, in one conditional write: a node that others cordoned stays theirs.
    Cordon { host: HostName },
    /// Evict the pods of the node. The eviction API honours PodDisruptionBudgets.
    Drain { host: HostName },
    /// Let the etcd member of this host give the leadership to another one.
    MoveEtcdLeader { host: HostName },
    /// Release the Lease of the site: this agent is about to reboot its own host.
    ReleaseSite,
    /// Send an order to a host, which [`admit_order`] checks.
    Send(Order),
    /// Uncordon the node if it has our annotation, in one conditional write.
    Uncordon { host: HostName },
}

impl Action {
    /// Returns true if the effect may be carried out again by anyone at any time. An order is repeated only by its
    /// sender: the host carries it out once.
    #[must_use]
    pub fn is_repeatable(&self) -> bool {
        !matches!(self, Action::Send(_))
    }
}

/// The reason for a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Why {
    AwaitsApproval,
    Approved,
    /// These hosts do not have the image yet.
    Prefetching(Vec<HostName>),
    /// All hosts have what they need.
    Prefetched,
    Held,
    /// No maintenance window is open.
    WindowClosed(Option<jiff::Timestamp>),
    /// The next host must not begin.
    Blocked(HostName, Vec<Blocker>),
    /// The host begins.
    Begins(HostName),
    /// The step is carried out, or its end is awaited.
    Step(HostName, TurnStep),
    /// The host does not pass the gate yet.
    Gate(HostName, Vec<Unmet>),
    /// The host passed the gate, and is watched for a while.
    Soaks(HostName),
    /// The power failed, or the agent ended, while the driver ran: it runs once more.
    RunAgain(HostName),
    /// A cordon of ours was left behind.
    StrayCordon(HostName),
    /// The host is fit, and takes pods again.
    LetBackIn(HostName),
    /// The host is finished.
    Finished(HostName),
    /// The host is no longer in the site.
    Left(HostName),
    Halted(HaltReason),
    AllDone,
    Withdrawn,
}

impl Repave {
    /// Version of the states that this program writes.
    pub const VERSION: u32 = 1;

    /// Begins an update of the hosts of a site. `me` is the leader: it comes last in the control plane, so that it gives
    /// the site away once.
    #[must_use]
    pub fn begin(update: u64, generation: u64, change: Change, reasons: Vec<Reason>, site: &SiteFacts<'_>) -> Repave {
        let mut hosts: Vec<_> = site.hosts.iter().collect();
        hosts.sort_by_key(|(host, facts)| (facts.role, *host == site.me, *host));
        let members = hosts.into_iter().map(|(host, _)| Member {
            host: host.clone(),
            state: MemberState::Waiting,
        });
        Repave {
            version: Repave::VERSION,
            update,
            generation,
            change,
            reasons,
            phase: RepavePhase::AwaitingApproval,
            held: false,
            runs: 0,
            members: members.collect(),
        }
    }

    /// Takes the update over as the leader of a higher generation. The caller writes it with a condition on the version
    /// that it read, so that the leader before it cannot write any more.
    #[must_use]
    pub fn taken_over(mut self, generation: u64) -> Repave {
        self.generation = self.generation.max(generation);
        self
    }

    /// Returns true if nothing happens any more until a person acts.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(
            self.phase,
            RepavePhase::Done | RepavePhase::Withdrawn | RepavePhase::Halted(_)
        )
    }

    /// Returns true if another update may take the place of this one: no host has its turn.
    #[must_use]
    pub fn is_replaceable(&self) -> bool {
        !matches!(self.phase, RepavePhase::Turn(_))
    }

    fn member(&mut self, host: &HostName) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.host == *host)
    }

    fn set_member(&mut self, host: &HostName, state: MemberState) {
        if let Some(member) = self.member(host) {
            member.state = state;
        }
    }

    /// Returns the host whose turn comes next, among those that are in the site.
    fn next_host(&self, site: &SiteFacts<'_>) -> Option<&HostName> {
        let mut open = self.members.iter().filter(|member| member.state != MemberState::Done);
        open.find(|member| site.hosts.contains_key(&member.host))
            .map(|member| &member.host)
    }
}

/// Decides the next step of an update. `site.elapsed` is the run time since the last decision.
#[must_use]
pub fn decide(repave: &Repave, site: &SiteFacts<'_>, policy: &RepavePolicy) -> Decision {
    let decider = Decider { repave, site, policy };
    match &repave.phase {
        RepavePhase::AwaitingApproval if policy.approval == Approval::Auto => {
            decider.record(RepavePhase::Prefetch { spent: Duration::ZERO }, Why::Approved)
        }
        RepavePhase::AwaitingApproval => decider.wait(Why::AwaitsApproval),
        RepavePhase::Prefetch { spent } => decider.decide_prefetch(*spent),
        RepavePhase::Preflight { spent } => decider.decide_preflight(*spent),
        RepavePhase::Turn(turn) => decider.decide_turn(turn),
        RepavePhase::Halted(halt) => decider.decide_halted(halt),
        RepavePhase::Done => decider.clear_strays().unwrap_or_else(|| decider.wait(Why::AllDone)),
        RepavePhase::Withdrawn => decider.wait(Why::Withdrawn),
    }
}

/// The inputs of one decision.
#[derive(Clone, Copy)]
struct Decider<'a> {
    repave: &'a Repave,
    site: &'a SiteFacts<'a>,
    policy: &'a RepavePolicy,
}

impl Decider<'_> {
    /// Nothing is recorded and nothing is done.
    fn wait(&self, why: Why) -> Decision {
        self.wait_in(self.repave.phase.clone(), why)
    }

    /// Counts run time. Losing it in a power cut makes a deadline later, never earlier.
    fn wait_in(&self, phase: RepavePhase, why: Why) -> Decision {
        let repave = Repave {
            phase,
            ..self.repave.clone()
        };
        Decision {
            repave,
            must_record: false,
            action: None,
            why,
        }
    }

    fn act_in(&self, phase: RepavePhase, action: Action, why: Why) -> Decision {
        Decision {
            action: Some(action),
            ..self.wait_in(phase, why)
        }
    }

    fn record(&self, phase: RepavePhase, why: Why) -> Decision {
        Decision {
            must_record: true,
            ..self.wait_in(phase, why)
        }
    }

    fn halt(&self, host: Option<HostName>, reason: HaltReason) -> Decision {
        let halt = Halt {
            host,
            reason: reason.clone(),
        };
        self.record(RepavePhase::Halted(halt), Why::Halted(reason))
    }

    fn decide_prefetch(&self, spent: Duration) -> Decision {
        let spent = spent + self.site.elapsed;
        let lacks = |host: &HostName| {
            let facts = self.site.hosts.get(host);
            // A host that does not answer is not known to have it.
            facts.is_some_and(|facts| facts.report.as_ref().is_none_or(|report| !report.has_image))
        };
        let needs_image = self.repave.change.image().is_some();
        let open = self
            .repave
            .members
            .iter()
            .filter(|member| member.state != MemberState::Done);
        let missing: Vec<HostName> = open
            .map(|member| member.host.clone())
            .filter(|host| needs_image && lacks(host))
            .collect();
        if missing.is_empty() {
            return self.record(RepavePhase::Preflight { spent: Duration::ZERO }, Why::Prefetched);
        }
        if spent >= self.policy.prefetch_deadline {
            return self.halt(None, HaltReason::Prefetch(missing));
        }
        let action = Action::Prefetch { hosts: missing.clone() };
        self.act_in(RepavePhase::Prefetch { spent }, action, Why::Prefetching(missing))
    }

    fn decide_preflight(&self, spent: Duration) -> Decision {
        if let Some(decision) = self.clear_strays() {
            return decision;
        }
        let Some(host) = self.repave.next_host(self.site) else {
            return self.record(RepavePhase::Done, Why::AllDone);
        };
        if self.repave.held {
            return self.wait(Why::Held);
        }
        if let WindowState::Closed { opens } = self.site.window {
            return self.wait(Why::WindowClosed(opens));
        }
        let blockers = preflight::blockers(self.repave, host, self.site, self.policy);
        if !blockers.is_empty() {
            let spent = spent + self.site.elapsed;
            return match spent >= self.policy.preflight_deadline {
                true => self.halt(None, HaltReason::Preflight(host.clone(), blockers)),
                false => self.wait_in(RepavePhase::Preflight { spent }, Why::Blocked(host.clone(), blockers)),
            };
        }
        let mut decision = self.record(
            RepavePhase::Turn(Turn::begin(host.clone(), self.site)),
            Why::Begins(host.clone()),
        );
        decision.repave.set_member(host, MemberState::Begun);
        decision
    }

    /// A cordon with our annotation on a host that has no turn is left behind, e.g. by a leader that was replaced.
    fn clear_strays(&self) -> Option<Decision> {
        let is_open = |host: &HostName| {
            let mut members = self.repave.members.iter();
            members.any(|member| member.host == *host && member.state == MemberState::Begun)
        };
        let mut strays = self
            .site
            .hosts
            .iter()
            .filter(|(host, facts)| facts.cordon() == Some(Cordon::Ours) && !is_open(host));
        let (host, _) = strays.next()?;
        let action = Action::Uncordon { host: host.clone() };
        Some(self.act_in(self.repave.phase.clone(), action, Why::StrayCordon(host.clone())))
    }

    /// The remaining hosts are not touched. Hosts that are fit take pods again, the failed one only with a system that
    /// is not the one on trial.
    fn decide_halted(&self, halt: &Halt) -> Decision {
        let runs_new = |facts: &HostFacts| {
            let image = self.repave.change.image();
            let report = facts.report.as_ref();
            image.is_some_and(|image| report.is_some_and(|report| report.runs(&image.digest) == Some(true)))
        };
        let is_failed = |host: &HostName| halt.host.as_ref() == Some(host);
        let mut fit = self.site.hosts.iter().filter(|(host, facts)| {
            facts.cordon() == Some(Cordon::Ours) && facts.is_up() && !(is_failed(host) && runs_new(facts))
        });
        match fit.next() {
            Some((host, _)) => {
                let action = Action::Uncordon { host: host.clone() };
                self.act_in(self.repave.phase.clone(), action, Why::LetBackIn(host.clone()))
            }
            None => self.wait(Why::Halted(halt.reason.clone())),
        }
    }
}

#[cfg(test)]
mod tests;
