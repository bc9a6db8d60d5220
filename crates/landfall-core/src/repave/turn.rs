//! The turn of one host: its steps, the end of each, and the judgement after a boot.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::facts::{Cordon, HostFacts, HostReport, HostRole, NodeFacts, NodeState, SiteFacts, Slot};
use super::halt::HaltReason;
use super::order::{BootId, Effect, Order, RunId, RunOutcome};
use super::preflight::others_down;
use super::step::{TurnStep, Unmet};
use super::{Action, Change, Decider, Decision, MemberState, RepavePhase, Why};
use crate::host_name::HostName;

/// Runs of the driver in one turn. Only a run whose result is not known is followed by another one, after a boot.
const RUNS_MAX: u32 = 2;

/// The turn of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Turn {
    pub host: HostName,
    pub step: TurnStep,
    /// Run time in this step.
    pub spent: Duration,
    /// Run time for which the host has passed the gate without interruption.
    pub healthy: Option<Duration>,
    /// The boot that the reboot ends; `None` as long as none was ordered.
    pub from_boot: Option<BootId>,
    /// Fingerprint of the system in that boot.
    pub from_system: Option<String>,
    /// The run of the driver that was ordered last.
    pub run: Option<RunId>,
    /// Runs whose result is not known.
    pub interrupted: u32,
    /// True if the host was a member of etcd before: the gate asks for it again.
    pub in_etcd: bool,
}

/// Course of a turn after one look at the facts.
enum Course {
    /// The step is not finished.
    Wait(Why),
    Act(Action),
    /// The step is finished, and this one follows.
    Go(TurnStep),
    /// The driver is to run, by an order for the present boot. True if the run before was interrupted.
    Run {
        again: bool,
    },
    Halt(HaltReason),
    Finish(Why),
}

impl Turn {
    /// Begins the turn of a host.
    pub(super) fn begin(host: HostName, site: &SiteFacts<'_>) -> Turn {
        let report = site.hosts.get(&host).and_then(|facts| facts.report.as_ref());
        Turn {
            step: TurnStep::Cordon,
            spent: Duration::ZERO,
            healthy: None,
            from_boot: None,
            from_system: None,
            run: None,
            interrupted: 0,
            in_etcd: report.is_some_and(|report| report.etcd.is_some()),
            host,
        }
    }
}

impl Decider<'_> {
    pub(super) fn decide_turn(&self, turn: &Turn) -> Decision {
        let mut turn = Turn {
            spent: turn.spent + self.site.elapsed,
            ..turn.clone()
        };
        let host = turn.host.clone();
        let course = match self.site.hosts.get(&host) {
            None => Course::Finish(Why::Left(host.clone())),
            Some(facts) => match turn.step {
                TurnStep::Cordon => self.course_of_cordon(&turn, facts),
                TurnStep::Drain => self.course_of_drain(&turn, facts),
                TurnStep::HandOver => self.course_of_hand_over(&turn, facts),
                TurnStep::Upgrade => self.course_of_upgrade(&turn, facts),
                TurnStep::Reboot => self.course_of_reboot(&turn, facts),
                TurnStep::Gate => self.course_of_gate(&mut turn, facts),
                TurnStep::Uncordon => self.course_of_uncordon(&turn, facts),
            },
        };
        let report = self.site.hosts.get(&host).and_then(|facts| facts.report.as_ref());
        let is_late = turn.spent >= self.deadline_of(turn.step);
        match course {
            Course::Wait(Why::Gate(_, unmet)) if is_late => self.halt(Some(host), HaltReason::Gate(unmet)),
            // A host that passes the gate is watched to the end of its soak time.
            Course::Wait(why @ Why::Soaks(_)) => self.wait_in(RepavePhase::Turn(turn), why),
            Course::Wait(_) | Course::Act(_) if is_late => {
                let step = turn.step;
                self.halt(Some(host), HaltReason::Deadline(step))
            }
            Course::Wait(why) => self.wait_in(RepavePhase::Turn(turn), why),
            Course::Act(action) => {
                let why = Why::Step(host, turn.step);
                self.act_in(RepavePhase::Turn(turn), action, why)
            }
            Course::Go(step) => {
                if step == TurnStep::Reboot && self.repave.change == Change::Reboot {
                    turn.from_boot = report.map(|report| report.boot.clone());
                }
                let turn = Turn {
                    step,
                    spent: Duration::ZERO,
                    healthy: None,
                    ..turn
                };
                self.record(RepavePhase::Turn(turn), Why::Step(host, step))
            }
            Course::Run { again } => {
                let runs = self.repave.runs.saturating_add(1);
                let turn = Turn {
                    step: TurnStep::Upgrade,
                    spent: Duration::ZERO,
                    healthy: None,
                    from_boot: report.map(|report| report.boot.clone()),
                    from_system: report.map(|report| report.system.clone()),
                    run: Some(RunId {
                        update: self.repave.update,
                        run: runs,
                    }),
                    interrupted: turn.interrupted + u32::from(again),
                    ..turn
                };
                let why = match again {
                    true => Why::RunAgain(host),
                    false => Why::Step(host, TurnStep::Upgrade),
                };
                let mut decision = self.record(RepavePhase::Turn(turn), why);
                decision.repave.runs = runs;
                decision
            }
            Course::Halt(reason) => self.halt(Some(host), reason),
            Course::Finish(why) => {
                let mut decision = self.record(RepavePhase::Preflight { spent: Duration::ZERO }, why);
                decision.repave.set_member(&host, MemberState::Done);
                decision
            }
        }
    }

    fn deadline_of(&self, step: TurnStep) -> Duration {
        let policy = self.policy;
        match step {
            TurnStep::Cordon | TurnStep::Uncordon => policy.cordon_deadline,
            TurnStep::Drain => policy.drain_deadline,
            // The host may be silent for a while after the leaderships had their time.
            TurnStep::HandOver => policy.hand_over_deadline + policy.reboot_deadline,
            TurnStep::Upgrade => policy.upgrade_deadline,
            TurnStep::Reboot => policy.reboot_deadline,
            TurnStep::Gate => policy.gate_deadline,
        }
    }

    /// A single host is cordoned only if its pods leave it: what its gate needs may run in a pod.
    fn course_of_cordon(&self, turn: &Turn, facts: &HostFacts) -> Course {
        let hosts = self.site.hosts.len();
        match facts.node {
            _ if hosts == 1 && !self.policy.drain.applies(hosts) => Course::Go(TurnStep::HandOver),
            NodeState::NoCluster => Course::Go(TurnStep::HandOver),
            NodeState::Unknown => Course::Wait(Why::Step(turn.host.clone(), turn.step)),
            NodeState::Node(NodeFacts {
                cordon: Cordon::None, ..
            }) => Course::Act(Action::Cordon {
                host: turn.host.clone(),
            }),
            NodeState::Node(_) => Course::Go(TurnStep::Drain),
        }
    }

    fn course_of_drain(&self, turn: &Turn, facts: &HostFacts) -> Course {
        match facts.node {
            _ if !self.policy.drain.applies(self.site.hosts.len()) => Course::Go(TurnStep::HandOver),
            NodeState::Unknown => Course::Wait(Why::Step(turn.host.clone(), turn.step)),
            NodeState::Node(NodeFacts {
                evictable_pods: 1.., ..
            }) => Course::Act(Action::Drain {
                host: turn.host.clone(),
            }),
            NodeState::Node(_) | NodeState::NoCluster => Course::Go(TurnStep::HandOver),
        }
    }

    /// A leadership that does not go in time is left to an election.
    fn course_of_hand_over(&self, turn: &Turn, facts: &HostFacts) -> Course {
        let Some(report) = &facts.report else {
            return Course::Wait(Why::Step(turn.host.clone(), turn.step));
        };
        let has_time = turn.spent < self.policy.hand_over_deadline;
        if has_time && report.etcd.is_some_and(|etcd| etcd.is_leader && etcd.members > 1) {
            return Course::Act(Action::MoveEtcdLeader {
                host: turn.host.clone(),
            });
        }
        let mut others = self.site.hosts.iter().filter(|(name, _)| **name != turn.host);
        let has_successor = others.any(|(_, facts)| facts.role == HostRole::ControlPlane && facts.is_up());
        if has_time && turn.host == *self.site.me && self.site.has_lease && has_successor {
            return Course::Act(Action::ReleaseSite);
        }
        match self.repave.change.image() {
            Some(image) if report.runs(&image.digest) == Some(true) => Course::Go(TurnStep::Gate),
            Some(_) => Course::Run { again: false },
            None if report.needs_reboot => Course::Go(TurnStep::Reboot),
            None => Course::Go(TurnStep::Gate),
        }
    }

    fn course_of_upgrade(&self, turn: &Turn, facts: &HostFacts) -> Course {
        let waits = || Course::Wait(Why::Step(turn.host.clone(), turn.step));
        let (Some(report), Some(run), Some(image)) = (&facts.report, turn.run, self.repave.change.image()) else {
            return waits();
        };
        if turn.has_rebooted(report) {
            return self.judge_boot(turn, report);
        }
        match turn.outcome(report) {
            None => Course::Act(Action::Send(Order {
                host: turn.host.clone(),
                generation: self.repave.generation,
                from_boot: report.boot.clone(),
                effect: Effect::Upgrade {
                    run,
                    image: image.clone(),
                },
            })),
            Some(RunOutcome::Running) => waits(),
            // The next boot tells the result of a run that was interrupted, as after a power cut.
            Some(RunOutcome::Succeeded | RunOutcome::Interrupted) => Course::Go(TurnStep::Reboot),
            Some(RunOutcome::Failed) => Course::Halt(HaltReason::DriverFailed),
        }
    }

    fn course_of_reboot(&self, turn: &Turn, facts: &HostFacts) -> Course {
        let (Some(report), Some(from_boot)) = (&facts.report, &turn.from_boot) else {
            return Course::Wait(Why::Step(turn.host.clone(), turn.step));
        };
        if turn.has_rebooted(report) {
            return match self.repave.change {
                Change::Upgrade { .. } => self.judge_boot(turn, report),
                Change::Reboot => Course::Go(TurnStep::Gate),
            };
        }
        let blockers = others_down(&turn.host, self.site);
        if !blockers.is_empty() {
            return Course::Wait(Why::Blocked(turn.host.clone(), blockers));
        }
        Course::Act(Action::Send(Order {
            host: turn.host.clone(),
            generation: self.repave.generation,
            from_boot: from_boot.clone(),
            effect: Effect::Reboot,
        }))
    }

    /// Decides after a boot, ordered or not, by the system that the host runs and the result of the driver.
    fn judge_boot(&self, turn: &Turn, report: &HostReport) -> Course {
        if self.runs_wanted(turn, report) {
            return Course::Go(TurnStep::Gate);
        }
        match turn.outcome(report) {
            Some(RunOutcome::Succeeded) => Course::Halt(HaltReason::RolledBack),
            Some(RunOutcome::Failed) => Course::Halt(HaltReason::DriverFailed),
            Some(_) if turn.interrupted + 1 >= RUNS_MAX => Course::Halt(HaltReason::DriverInterrupted),
            Some(_) => Course::Run { again: true },
            // The host went down before the order came.
            None => Course::Run { again: false },
        }
    }

    /// Returns true if the host runs the wanted image. If no record tells, another system in the active slot does.
    fn runs_wanted(&self, turn: &Turn, report: &HostReport) -> bool {
        let Some(image) = self.repave.change.image() else {
            return true;
        };
        report.runs(&image.digest).unwrap_or_else(|| {
            let before = turn.from_system.as_ref();
            report.slot == Slot::Active && before.is_some_and(|before| *before != report.system)
        })
    }

    fn course_of_gate(&self, turn: &mut Turn, facts: &HostFacts) -> Course {
        if let Some(report) = &facts.report
            && turn.run.is_some()
            && turn.has_rebooted(report)
            && !self.runs_wanted(turn, report)
        {
            return self.judge_boot(turn, report);
        }
        let unmet = self.unmet(turn, facts);
        if !unmet.is_empty() {
            turn.healthy = None;
            return Course::Wait(Why::Gate(turn.host.clone(), unmet));
        }
        let healthy = turn
            .healthy
            .map_or(Duration::ZERO, |healthy| healthy + self.site.elapsed);
        turn.healthy = Some(healthy);
        match healthy >= self.policy.soak {
            true => Course::Go(TurnStep::Uncordon),
            false => Course::Wait(Why::Soaks(turn.host.clone())),
        }
    }

    fn unmet(&self, turn: &Turn, facts: &HostFacts) -> Vec<Unmet> {
        let Some(report) = &facts.report else {
            return vec![Unmet::Silent];
        };
        let etcd_in_sync = report.etcd.map_or(!turn.in_etcd, |etcd| etcd.is_in_sync);
        let conditions = [
            (
                turn.from_boot.is_none() || turn.has_rebooted(report),
                Unmet::NotRebooted,
            ),
            (self.runs_wanted(turn, report), Unmet::OldSystem),
            (report.slot == Slot::Active, Unmet::PassiveSlot),
            (facts.is_ready(), Unmet::NodeNotReady),
            (etcd_in_sync, Unmet::EtcdNotInSync),
            (report.primary_answers, Unmet::PrimarySilent),
            (report.is_running, Unmet::AgentNotRunning),
        ];
        let unmet = conditions.into_iter().filter(|(is_met, _)| !is_met);
        unmet.map(|(_, unmet)| unmet).collect()
    }

    fn course_of_uncordon(&self, turn: &Turn, facts: &HostFacts) -> Course {
        match facts.node {
            NodeState::Unknown => Course::Wait(Why::Step(turn.host.clone(), turn.step)),
            NodeState::Node(NodeFacts {
                cordon: Cordon::Ours, ..
            }) => Course::Act(Action::Uncordon {
                host: turn.host.clone(),
            }),
            NodeState::Node(_) | NodeState::NoCluster => Course::Finish(Why::Finished(turn.host.clone())),
        }
    }
}

impl Turn {
    /// Returns true if the host has booted since the boot that the orders are for.
    fn has_rebooted(&self, report: &HostReport) -> bool {
        self.from_boot.as_ref().is_some_and(|from| *from != report.boot)
    }

    /// Returns the outcome of the last run that was ordered; `None` if the host never began it.
    fn outcome(&self, report: &HostReport) -> Option<RunOutcome> {
        let run = report.journal.run.as_ref();
        run.filter(|run| Some(run.id) == self.run).map(|run| run.outcome)
    }
}
