//! A model of a site: hosts with two slots, a cluster, leaders that lose their memory, and a network that loses orders.
//! Each step checks the laws of updates.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::host_name::HostName;
use crate::maintenance::WindowState;
use crate::repave::*;

const TICK: Duration = Duration::from_secs(60);
/// No run lasts longer: all deadlines together are shorter.
const TICKS_MAX: usize = 6_000;
const OLD: &str = "1";
const NEW: &str = "2";

/// A site at the beginning of an update.
#[derive(Debug, Clone)]
pub(super) struct Setup {
    pub(super) control_planes: usize,
    pub(super) workers: usize,
    pub(super) change: Change,
    pub(super) image_boots: bool,
    /// True if the fingerprints of the systems do not tell them apart.
    pub(super) same_fingerprint: bool,
    pub(super) tells_image: bool,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            control_planes: 3,
            workers: 1,
            change: Change::Upgrade {
                image: mk_image(NEW),
                previous: Some(mk_image(OLD)),
            },
            image_boots: true,
            same_fingerprint: false,
            tells_image: false,
        }
    }
}

pub(super) fn mk_image(version: &str) -> SystemImage {
    SystemImage {
        reference: format!("reg.local/edge/os:{version}").parse().unwrap(),
        digest: format!("sha256:{}", version.repeat(64)).parse().unwrap(),
    }
}

/// Disturbance between two decisions.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    CutPower(usize),
    CutAllPower,
    /// The agent of a host ends, and its driver with it.
    RestartAgent(usize),
    /// The leader's agent loses its memory.
    RestartLeader,
    /// Another host leads, and the leader before it does not know.
    SplitLeader,
    TickOldLeader,
    /// The next order does not arrive.
    LoseOrder,
    /// The next order arrives later.
    DelayOrder,
    DeliverOrders,
    CordonByOthers(usize),
    UncordonByOthers(usize),
    FailDriver,
    /// A PodDisruptionBudget keeps the pods.
    KeepPods(usize),
    FreePods(usize),
    /// The host leaves the site.
    Remove(usize),
    Resume,
    Revert,
    Hold,
}

impl Fault {
    pub(super) fn all(hosts: usize) -> Vec<Fault> {
        let mut faults = vec![
            Fault::CutAllPower,
            Fault::RestartLeader,
            Fault::SplitLeader,
            Fault::TickOldLeader,
            Fault::LoseOrder,
            Fault::DelayOrder,
            Fault::DeliverOrders,
            Fault::FailDriver,
            Fault::Hold,
        ];
        for host in 0..hosts {
            faults.extend([
                Fault::CutPower(host),
                Fault::RestartAgent(host),
                Fault::CordonByOthers(host),
                Fault::KeepPods(host),
                Fault::Remove(host),
            ]);
        }
        faults
    }
}

/// A host with its disk.
#[derive(Debug, Clone)]
struct Host {
    role: HostRole,
    /// Ticks until it has booted; `None` if it is up.
    boots_in: Option<u32>,
    boot: u32,
    active: &'static str,
    passive: &'static str,
    /// The slot and the system of this boot.
    slot: Slot,
    running: &'static str,
    journal: HostJournal,
    /// Steps of the driver that are left: it writes, swaps the slots, and then its result is recorded.
    driver: Option<u32>,
    driver_fails: bool,
    runs_in_boot: u32,
    cordon: Cordon,
    pods: usize,
    keeps_pods: bool,
    needs_reboot: bool,
    /// True from an ordered reboot until the host is up again.
    is_down_by_us: bool,
}

impl Host {
    fn go_down(&mut self) {
        self.boots_in = Some(2);
        self.driver = None;
        self.runs_in_boot = 0;
    }
}

/// A leader with its memory.
#[derive(Debug, Clone)]
struct Leader {
    me: HostName,
    memory: Repave,
}

#[derive(Debug)]
pub(super) struct World {
    setup: Setup,
    pub(super) context: String,
    hosts: BTreeMap<HostName, Host>,
    names: Vec<HostName>,
    pub(super) durable: Repave,
    leader: Leader,
    old_leader: Option<Leader>,
    etcd_leader: usize,
    in_flight: Vec<Order>,
    loses_order: bool,
    delays_order: bool,
    pub(super) touched: BTreeSet<HostName>,
    /// Hosts that others cordoned.
    foreign: BTreeSet<HostName>,
    pub(super) ticks: usize,
    /// True once a person resumed or reverted.
    is_steered: bool,
    /// The reason of each record, and each effect.
    pub(super) trace: Vec<String>,
}

impl World {
    pub(super) fn new(setup: &Setup) -> World {
        let mk_host = |role| Host {
            role,
            boots_in: None,
            boot: 1,
            active: OLD,
            passive: OLD,
            slot: Slot::Active,
            running: OLD,
            journal: HostJournal::default(),
            driver: None,
            driver_fails: false,
            runs_in_boot: 0,
            cordon: Cordon::None,
            pods: 2,
            keeps_pods: false,
            needs_reboot: setup.change == Change::Reboot,
            is_down_by_us: false,
        };
        let control = (0..setup.control_planes).map(|n| (format!("cp-{n}"), HostRole::ControlPlane));
        let workers = (0..setup.workers).map(|n| (format!("worker-{n}"), HostRole::Worker));
        let hosts: BTreeMap<HostName, Host> = control
            .chain(workers)
            .map(|(name, role)| (name.parse().unwrap(), mk_host(role)))
            .collect();
        let names: Vec<HostName> = hosts.keys().cloned().collect();
        let me = names[0].clone();
        let facts = BTreeMap::from_iter(names.iter().map(|name| {
            let facts = HostFacts {
                role: hosts[name].role,
                node: NodeState::Unknown,
                report: None,
            };
            (name.clone(), facts)
        }));
        let site = SiteFacts {
            me: &me,
            has_lease: true,
            hosts: &facts,
            window: WindowState::Open,
            elapsed: Duration::ZERO,
        };
        let durable = Repave::begin(7, 1, setup.change.clone(), Vec::new(), &site);
        World {
            setup: setup.clone(),
            context: String::new(),
            names,
            leader: Leader {
                me: me.clone(),
                memory: durable.clone(),
            },
            durable,
            hosts,
            old_leader: None,
            etcd_leader: 0,
            in_flight: Vec::new(),
            loses_order: false,
            delays_order: false,
            touched: BTreeSet::new(),
            foreign: BTreeSet::new(),
            ticks: 0,
            is_steered: false,
            trace: Vec::new(),
        }
    }

    fn policy() -> RepavePolicy {
        RepavePolicy {
            approval: Approval::Auto,
            prefetch_deadline: Duration::from_secs(3600),
            hand_over_deadline: 5 * TICK,
            ..RepavePolicy::default()
        }
    }

    fn facts(&self) -> BTreeMap<HostName, HostFacts> {
        let members = self
            .hosts
            .values()
            .filter(|host| host.role == HostRole::ControlPlane)
            .count();
        let in_sync = |host: &Host| host.role == HostRole::ControlPlane && host.boots_in.is_none();
        let has_quorum = self.hosts.values().filter(|host| in_sync(host)).count() > members / 2;
        let fact = |(number, name): (usize, &HostName)| {
            let host = self.hosts.get(name)?;
            let is_up = host.boots_in.is_none();
            let node = NodeFacts {
                is_ready: is_up,
                cordon: host.cordon,
                evictable_pods: host.pods,
            };
            let system = match self.setup.same_fingerprint {
                true => "same",
                false => host.running,
            };
            let report = HostReport {
                boot: BootId(host.boot.to_string()),
                slot: host.slot,
                system: system.to_owned(),
                image: self.setup.tells_image.then(|| mk_image(host.running).digest),
                journal: host.journal.clone(),
                has_image: true,
                has_room: true,
                clock_skew: Duration::ZERO,
                can_fall_back: Some(true),
                needs_reboot: host.needs_reboot,
                etcd: (host.role == HostRole::ControlPlane).then_some(EtcdFacts {
                    members,
                    is_in_sync: has_quorum,
                    is_leader: number == self.etcd_leader,
                }),
                primary_answers: true,
                is_running: true,
            };
            let facts = HostFacts {
                role: host.role,
                node: match has_quorum {
                    true => NodeState::Node(node),
                    false => NodeState::Unknown,
                },
                report: is_up.then_some(report),
            };
            Some((name.clone(), facts))
        };
        self.names.iter().enumerate().filter_map(fact).collect()
    }

    /// Runs the update to its end, with the faults before the ticks.
    pub(super) fn run(&mut self, plan: &BTreeMap<usize, Vec<Fault>>) {
        let last_fault = plan.keys().next_back().copied().unwrap_or(0);
        loop {
            for fault in plan.get(&self.ticks).into_iter().flatten() {
                self.apply_fault(fault);
            }
            let is_past = self.ticks > last_fault;
            if is_past && self.is_quiet() {
                return;
            }
            if is_past && self.ticks >= last_fault + 10 {
                // Whoever disturbed the site stops.
                self.old_leader = None;
                self.deliver_orders();
                self.durable.held = false;
                self.leader.memory.held = false;
            }
            assert!(
                self.ticks < TICKS_MAX,
                "{}: no end, {:?}",
                self.context,
                self.durable.phase
            );
            self.ticks += 1;
            self.tick_hosts();
            if let Some(leader) = self.present_leader() {
                self.decide(leader, false);
            }
        }
    }

    /// Nothing moves any more: the update is over, all hosts are up, and no cordon of ours is to be taken away.
    fn is_quiet(&self) -> bool {
        if !self.durable.is_over() {
            return false;
        }
        let facts = self.facts();
        let all_up = self
            .hosts
            .values()
            .all(|host| host.boots_in.is_none() && host.driver.is_none());
        let next = decide(
            &self.leader.memory,
            &self.site(&self.leader.me, &facts),
            &World::policy(),
        );
        self.durable.is_over()
            && all_up
            && next.action.is_none()
            && self.old_leader.is_none()
            && self.in_flight.is_empty()
    }

    fn site<'a>(&self, me: &'a HostName, hosts: &'a BTreeMap<HostName, HostFacts>) -> SiteFacts<'a> {
        SiteFacts {
            me,
            has_lease: true,
            hosts,
            window: WindowState::Open,
            elapsed: TICK,
        }
    }

    /// The leader, or another host of the control plane if it is down.
    fn present_leader(&mut self) -> Option<Leader> {
        let is_up = |host: &HostName| self.hosts.get(host).is_some_and(|host| host.boots_in.is_none());
        if is_up(&self.leader.me) {
            return Some(self.leader.clone());
        }
        let candidates = self
            .hosts
            .iter()
            .filter(|(_, host)| host.role == HostRole::ControlPlane);
        let (next, _) = candidates.into_iter().find(|(name, _)| is_up(name))?;
        self.lead(next.clone());
        Some(self.leader.clone())
    }

    fn lead(&mut self, me: HostName) {
        self.durable = self.durable.clone().taken_over(self.durable.generation + 1);
        self.leader = Leader {
            me,
            memory: self.durable.clone(),
        };
    }

    /// One decision of a leader. A record of a leader that was replaced fails: it is written with a condition.
    fn decide(&mut self, leader: Leader, is_old: bool) {
        let facts = self.facts();
        let decision = decide(&leader.memory, &self.site(&leader.me, &facts), &World::policy());
        assert!(
            !decision.must_record || decision.action.is_none(),
            "{}: an effect before its record",
            self.context
        );
        let event = match &decision.action {
            Some(action) => describe(action),
            None => format!("{:?}", decision.why),
        };
        if !is_old && (decision.must_record || decision.action.is_some()) && self.trace.last() != Some(&event) {
            self.trace.push(event);
        }
        if decision.must_record {
            match is_old {
                true => self.old_leader = None,
                false => {
                    if let RepavePhase::Turn(turn) = &decision.repave.phase {
                        self.touched.insert(turn.host.clone());
                    }
                    self.durable = decision.repave.clone();
                    self.leader.memory = decision.repave;
                }
            }
            return;
        }
        match (is_old, &mut self.old_leader) {
            (true, Some(old)) => old.memory = decision.repave,
            (true, None) => {}
            (false, _) => self.leader.memory = decision.repave,
        }
        if let Some(action) = decision.action {
            self.carry_out(action, &facts);
        }
    }

    fn carry_out(&mut self, action: Action, facts: &BTreeMap<HostName, HostFacts>) {
        let context = self.context.clone();
        let is_touched = |host: &HostName| assert!(self.touched.contains(host), "{context}: {host} has no turn");
        match action {
            Action::Prefetch { .. } => {}
            Action::Cordon { host } => {
                is_touched(&host);
                if let Some(host) = self.hosts.get_mut(&host)
                    && host.cordon == Cordon::None
                {
                    host.cordon = Cordon::Ours;
                }
            }
            Action::Drain { host } => {
                is_touched(&host);
                if let Some(host) = self.hosts.get_mut(&host)
                    && !host.keeps_pods
                {
                    host.pods = host.pods.saturating_sub(1);
                }
            }
            Action::MoveEtcdLeader { host } => {
                is_touched(&host);
                let is_other = |name: &HostName| {
                    *name != host
                        && self
                            .hosts
                            .get(name)
                            .is_some_and(|host| host.role == HostRole::ControlPlane && host.boots_in.is_none())
                };
                if let Some(next) = self.names.iter().position(is_other) {
                    self.etcd_leader = next;
                }
            }
            Action::ReleaseSite => {
                let me = self.leader.me.clone();
                let mut others = self.hosts.iter().filter(|(name, host)| {
                    **name != me && host.role == HostRole::ControlPlane && host.boots_in.is_none()
                });
                if let Some((next, _)) = others.next() {
                    self.lead(next.clone());
                }
            }
            Action::Uncordon { host } => {
                assert_eq!(facts[&host].cordon(), Some(Cordon::Ours), "{context}: not our cordon");
                if let Some(host) = self.hosts.get_mut(&host) {
                    host.cordon = Cordon::None;
                }
            }
            Action::Send(order) => {
                is_touched(&order.host);
                if std::mem::take(&mut self.loses_order) {
                    return;
                }
                match std::mem::take(&mut self.delays_order) {
                    true => self.in_flight.push(order),
                    false => {
                        if order.effect == Effect::Reboot {
                            let down = self
                                .hosts
                                .iter()
                                .find(|(name, host)| **name != order.host && host.boots_in.is_some());
                            assert!(
                                down.is_none(),
                                "{context}: {:?} is down already",
                                down.map(|(name, _)| name)
                            );
                        }
                        self.deliver(&order);
                    }
                }
            }
        }
    }

    fn deliver_orders(&mut self) {
        for order in std::mem::take(&mut self.in_flight) {
            self.deliver(&order);
        }
    }

    fn deliver(&mut self, order: &Order) {
        let others_down = self
            .hosts
            .iter()
            .any(|(name, host)| *name != order.host && host.is_down_by_us);
        let Some(host) = self.hosts.get_mut(&order.host).filter(|host| host.boots_in.is_none()) else {
            return;
        };
        let boot = BootId(host.boot.to_string());
        let seen = host.journal.generation;
        match admit_order(&host.journal, order, &order.host, &boot) {
            Err(_) => {}
            Ok(Admission::AlreadyDone(journal)) => host.journal = journal,
            Ok(Admission::Begin(journal)) => {
                assert!(order.generation >= seen, "{}: an old generation", self.context);
                host.journal = journal;
                match &order.effect {
                    Effect::Upgrade { .. } => {
                        host.runs_in_boot += 1;
                        assert!(
                            host.runs_in_boot == 1 || self.is_steered,
                            "{}: the driver runs twice in a boot",
                            self.context
                        );
                        host.driver = Some(3);
                    }
                    Effect::Reboot => {
                        assert!(!others_down, "{}: two hosts are down", self.context);
                        host.is_down_by_us = true;
                        host.go_down();
                    }
                }
            }
        }
    }

    fn tick_hosts(&mut self) {
        let image_boots = self.setup.image_boots;
        for host in self.hosts.values_mut() {
            let bootable = |image: &str| image == OLD || image_boots;
            assert!(
                bootable(host.active) || bootable(host.passive),
                "{}: no slot can be booted",
                self.context
            );
            match host.boots_in {
                Some(0) => {
                    host.boots_in = None;
                    host.boot += 1;
                    (host.slot, host.running) = match bootable(host.active) {
                        true => (Slot::Active, host.active),
                        false => (Slot::Passive, host.passive),
                    };
                    host.journal = recover_journal(host.journal.clone());
                    host.needs_reboot = false;
                    host.is_down_by_us = false;
                    host.pods = 2;
                }
                Some(ticks) => host.boots_in = Some(ticks - 1),
                None => host.run_driver(),
            }
        }
    }

    fn apply_fault(&mut self, fault: &Fault) {
        let name = |number: &usize| self.names[number % self.names.len()].clone();
        match fault {
            Fault::CutPower(number) => {
                if let Some(host) = self.hosts.get_mut(&name(number)) {
                    host.go_down();
                }
            }
            Fault::CutAllPower => self.hosts.values_mut().for_each(Host::go_down),
            Fault::RestartAgent(number) => {
                if let Some(host) = self.hosts.get_mut(&name(number)) {
                    host.driver = None;
                    host.journal = recover_journal(host.journal.clone());
                }
            }
            Fault::RestartLeader => self.leader.memory = self.durable.clone(),
            Fault::SplitLeader => {
                let me = self.leader.me.clone();
                let mut others = self.hosts.iter().filter(|(name, host)| {
                    **name != me && host.role == HostRole::ControlPlane && host.boots_in.is_none()
                });
                if let Some((next, _)) = others.next() {
                    let next = next.clone();
                    self.old_leader = Some(self.leader.clone());
                    self.lead(next);
                }
            }
            Fault::TickOldLeader => {
                if let Some(old) = self.old_leader.clone() {
                    self.decide(old, true);
                }
            }
            Fault::LoseOrder => self.loses_order = true,
            Fault::DelayOrder => self.delays_order = true,
            Fault::DeliverOrders => self.deliver_orders(),
            Fault::CordonByOthers(number) => {
                let name = name(number);
                if let Some(host) = self.hosts.get_mut(&name)
                    && host.cordon == Cordon::None
                {
                    host.cordon = Cordon::Others;
                    self.foreign.insert(name);
                }
            }
            Fault::UncordonByOthers(number) => {
                let name = name(number);
                if let Some(host) = self.hosts.get_mut(&name) {
                    host.cordon = Cordon::None;
                    self.foreign.remove(&name);
                }
            }
            Fault::FailDriver => self.hosts.values_mut().for_each(|host| host.driver_fails = true),
            Fault::KeepPods(number) | Fault::FreePods(number) => {
                if let Some(host) = self.hosts.get_mut(&name(number)) {
                    host.keeps_pods = matches!(fault, Fault::KeepPods(_));
                }
            }
            Fault::Remove(number) => {
                if self.hosts.len() > 1 {
                    let name = name(number);
                    self.hosts.remove(&name);
                    self.foreign.remove(&name);
                }
                if self.hosts.values().all(|host| host.role == HostRole::Worker) {
                    let first = self.hosts.values_mut().next().unwrap();
                    first.role = HostRole::ControlPlane;
                }
            }
            Fault::Resume => self.command(Command::Resume),
            Fault::Revert => self.command(Command::Revert),
            Fault::Hold => self.command(Command::Hold),
        }
    }

    fn command(&mut self, command: Command) {
        let facts = self.facts();
        let me = self.leader.me.clone();
        if let Ok(repave) = self.durable.after(command, &self.site(&me, &facts)) {
            self.is_steered |= command != Command::Hold;
            self.durable = repave;
            self.leader.memory = self.durable.clone();
        }
    }

    /// Checks the state in which an update ends.
    pub(super) fn check_end(&self) {
        let context = &self.context;
        for name in &self.foreign {
            assert_eq!(self.hosts[name].cordon, Cordon::Others, "{context}: {name}");
        }
        let failed = match &self.durable.phase {
            RepavePhase::Halted(halt) => halt.host.as_ref(),
            _ => None,
        };
        for (name, host) in &self.hosts {
            assert!(
                host.cordon != Cordon::Ours || failed == Some(name),
                "{context}: a cordon of ours is left on {name}, {:?}",
                self.durable.phase
            );
            let is_new = host.running == NEW;
            assert!(
                !is_new || self.touched.contains(name),
                "{context}: {name} was not touched"
            );
            if self.durable.phase == RepavePhase::Done
                && let Some(image) = self.durable.change.image()
                && !self.is_steered
            {
                assert_eq!(mk_image(host.running).digest, image.digest, "{context}: {name}");
                assert_eq!(host.slot, Slot::Active, "{context}: {name}");
            }
        }
    }
}

fn describe(action: &Action) -> String {
    match action {
        Action::Send(order) => match &order.effect {
            Effect::Upgrade { run, image } => format!(
                "> upgrade {} to {} in boot {}, run {}, generation {}",
                order.host, image.reference, order.from_boot.0, run.run, order.generation
            ),
            Effect::Reboot => format!("> reboot {} in boot {}", order.host, order.from_boot.0),
        },
        other => format!("> {other:?}"),
    }
}

impl Host {
    fn run_driver(&mut self) {
        let Some(left) = self.driver else {
            return;
        };
        let outcome = match left {
            3 if self.driver_fails => {
                self.driver_fails = false;
                RunOutcome::Failed
            }
            // The running system becomes the passive one, and the new one the active one.
            2 => {
                let wanted = self.journal.run.as_ref().unwrap().image.hex();
                self.passive = self.running;
                self.active = if wanted.starts_with(OLD) { OLD } else { NEW };
                RunOutcome::Running
            }
            0 => RunOutcome::Succeeded,
            _ => RunOutcome::Running,
        };
        self.driver = (outcome == RunOutcome::Running).then(|| left - 1);
        if let Some(run) = &mut self.journal.run {
            run.outcome = outcome;
        }
    }
}
