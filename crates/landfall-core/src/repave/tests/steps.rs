use std::collections::BTreeMap;
use std::time::Duration;

use insta::assert_snapshot;

use super::model::{Setup, World, mk_image};
use crate::maintenance::WindowState;
use crate::repave::*;

fn trace(setup: &Setup) -> String {
    let mut world = World::new(setup);
    world.run(&BTreeMap::new());
    world.trace.join("\n")
}

#[test]
fn leader_takes_its_turn_last_in_the_control_plane() {
    let setup = Setup {
        control_planes: 3,
        workers: 1,
        ..Setup::default()
    };
    let turns = trace(&setup);
    let lines = turns
        .lines()
        .filter(|line| line.contains("Begins") || line.contains("Release"));
    assert_snapshot!(lines.collect::<Vec<_>>().join("\n"), @r#"
    Begins(HostName("cp-1"))
    Begins(HostName("cp-2"))
    Begins(HostName("cp-0"))
    > ReleaseSite
    Begins(HostName("worker-0"))
    "#);
}

#[test]
fn whole_course_of_one_host() {
    let setup = Setup {
        control_planes: 1,
        workers: 0,
        ..Setup::default()
    };
    assert_snapshot!(trace(&setup), @r#"
    Approved
    Prefetched
    Begins(HostName("cp-0"))
    Step(HostName("cp-0"), HandOver)
    Step(HostName("cp-0"), Upgrade)
    > upgrade cp-0 to reg.local/edge/os:2 in boot 1, run 1, generation 1
    Step(HostName("cp-0"), Reboot)
    > reboot cp-0 in boot 1
    Step(HostName("cp-0"), Gate)
    Step(HostName("cp-0"), Uncordon)
    Finished(HostName("cp-0"))
    AllDone
    "#);
}

#[test]
fn whole_course_of_a_host_of_several() {
    let setup = Setup {
        control_planes: 1,
        workers: 1,
        ..Setup::default()
    };
    assert_snapshot!(trace(&setup), @r#"
    Approved
    Prefetched
    Begins(HostName("cp-0"))
    > Cordon { host: HostName("cp-0") }
    Step(HostName("cp-0"), Drain)
    > Drain { host: HostName("cp-0") }
    Step(HostName("cp-0"), HandOver)
    Step(HostName("cp-0"), Upgrade)
    > upgrade cp-0 to reg.local/edge/os:2 in boot 1, run 1, generation 1
    Step(HostName("cp-0"), Reboot)
    > reboot cp-0 in boot 1
    Step(HostName("cp-0"), Gate)
    Step(HostName("cp-0"), Uncordon)
    > Uncordon { host: HostName("cp-0") }
    Finished(HostName("cp-0"))
    Begins(HostName("worker-0"))
    > Cordon { host: HostName("worker-0") }
    Step(HostName("worker-0"), Drain)
    > Drain { host: HostName("worker-0") }
    Step(HostName("worker-0"), HandOver)
    Step(HostName("worker-0"), Upgrade)
    > upgrade worker-0 to reg.local/edge/os:2 in boot 1, run 2, generation 1
    Step(HostName("worker-0"), Reboot)
    > reboot worker-0 in boot 1
    Step(HostName("worker-0"), Gate)
    Step(HostName("worker-0"), Uncordon)
    > Uncordon { host: HostName("worker-0") }
    Finished(HostName("worker-0"))
    AllDone
    "#);
}

fn name(text: &str) -> HostName {
    text.parse().unwrap()
}

fn mk_facts(role: HostRole) -> HostFacts {
    HostFacts {
        role,
        node: NodeState::Node(NodeFacts {
            is_ready: true,
            cordon: Cordon::None,
            evictable_pods: 0,
        }),
        report: Some(HostReport {
            boot: BootId("b1".to_owned()),
            slot: Slot::Active,
            system: "old".to_owned(),
            image: None,
            journal: HostJournal::default(),
            has_image: true,
            has_room: true,
            clock_skew: Duration::ZERO,
            can_fall_back: None,
            needs_reboot: false,
            etcd: (role == HostRole::ControlPlane).then_some(EtcdFacts {
                members: 3,
                is_in_sync: true,
                is_leader: false,
            }),
            primary_answers: true,
            is_running: true,
        }),
    }
}

/// Three hosts of a control plane and a worker.
fn mk_hosts() -> BTreeMap<HostName, HostFacts> {
    let control = ["a", "b", "c"].map(|host| (name(host), mk_facts(HostRole::ControlPlane)));
    let worker = (name("w"), mk_facts(HostRole::Worker));
    control.into_iter().chain([worker]).collect()
}

fn mk_site<'a>(me: &'a HostName, hosts: &'a BTreeMap<HostName, HostFacts>) -> SiteFacts<'a> {
    SiteFacts {
        me,
        has_lease: true,
        hosts,
        window: WindowState::Open,
        elapsed: Duration::from_secs(1),
    }
}

fn mk_repave(site: &SiteFacts<'_>, phase: RepavePhase) -> Repave {
    let change = Change::Upgrade {
        image: mk_image("2"),
        previous: Some(mk_image("1")),
    };
    Repave {
        phase,
        ..Repave::begin(1, 1, change, Vec::new(), site)
    }
}

fn preflight() -> RepavePhase {
    RepavePhase::Preflight { spent: Duration::ZERO }
}

#[test]
fn host_begins_only_if_the_site_survives_without_it() {
    type Change<'a> = &'a dyn Fn(&mut BTreeMap<HostName, HostFacts>);
    fn report<'a>(hosts: &'a mut BTreeMap<HostName, HostFacts>, host: &str) -> &'a mut HostReport {
        hosts.get_mut(&name(host)).unwrap().report.as_mut().unwrap()
    }
    fn node<'a>(hosts: &'a mut BTreeMap<HostName, HostFacts>, host: &str) -> &'a mut NodeFacts {
        match &mut hosts.get_mut(&name(host)).unwrap().node {
            NodeState::Node(node) => node,
            other => panic!("{other:?}"),
        }
    }
    let cases: [(&str, Change<'_>, &str); 12] = [
        ("all is well", &|_| {}, ""),
        (
            "another host is silent",
            &|hosts| hosts.get_mut(&name("w")).unwrap().report = None,
            "the host `w` does not answer",
        ),
        (
            "the host itself is silent",
            &|hosts| hosts.get_mut(&name("b")).unwrap().report = None,
            "the host `b` does not answer",
        ),
        (
            "another node is not ready",
            &|hosts| node(hosts, "w").is_ready = false,
            "the host `w` is not ready, and a second one must not go down",
        ),
        (
            "the host itself is not ready",
            &|hosts| node(hosts, "b").is_ready = false,
            "",
        ),
        (
            "the API does not tell",
            &|hosts| hosts.get_mut(&name("w")).unwrap().node = NodeState::Unknown,
            "the host `w` is not ready, and a second one must not go down",
        ),
        (
            "a member lags",
            &|hosts| report(hosts, "c").etcd.as_mut().unwrap().is_in_sync = false,
            "the host `c` is not ready, and a second one must not go down; 2 of 3 etcd members are in sync: without \
             one of them there is no majority",
        ),
        (
            "two members only",
            &|hosts| {
                hosts.remove(&name("c"));
                for host in ["a", "b"] {
                    report(hosts, host).etcd.as_mut().unwrap().members = 2;
                }
            },
            "2 of 2 etcd members are in sync: without one of them there is no majority",
        ),
        (
            "somebody else cordoned",
            &|hosts| node(hosts, "w").cordon = Cordon::Others,
            "somebody else cordoned the node `w`",
        ),
        (
            "no room",
            &|hosts| report(hosts, "b").has_room = false,
            "the disk of `b` has no room for the image",
        ),
        (
            "clocks differ",
            &|hosts| report(hosts, "c").clock_skew = Duration::from_secs(31),
            "the clock of `c` differs by 31 s from that of the leader",
        ),
        (
            "no way back",
            &|hosts| report(hosts, "b").can_fall_back = Some(false),
            "the system before cannot be booted on `b`",
        ),
    ];
    let me = name("a");
    for (case, change, expected) in cases {
        let mut hosts = mk_hosts();
        change(&mut hosts);
        let site = mk_site(&me, &hosts);
        let decision = decide(&mk_repave(&site, preflight()), &site, &RepavePolicy::default());
        let found = match &decision.why {
            Why::Blocked(_, blockers) => blockers.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
            Why::Begins(host) => {
                assert_eq!(host.as_str(), "b", "{case}");
                String::new()
            }
            other => panic!("{case}: {other:?}"),
        };
        assert_eq!(found, expected, "{case}");
        assert_eq!(decision.must_record, expected.is_empty(), "{case}");
    }
}

#[test]
fn nothing_begins_without_approval_outside_of_a_window_or_while_it_is_held() {
    let (me, hosts) = (name("a"), mk_hosts());
    let mut site = mk_site(&me, &hosts);
    let policy = RepavePolicy::default();
    let waiting = mk_repave(&site, RepavePhase::AwaitingApproval);
    assert_eq!(decide(&waiting, &site, &policy).why, Why::AwaitsApproval);
    let approved = waiting.after(Command::Approve, &site).unwrap();
    assert_eq!(decide(&approved, &site, &policy).why, Why::Prefetched);
    let between = mk_repave(&site, preflight());
    let held = between.after(Command::Hold, &site).unwrap();
    assert_eq!(decide(&held, &site, &policy).why, Why::Held);
    let resumed = held.after(Command::Resume, &site).unwrap();
    assert_eq!(decide(&resumed, &site, &policy).why, Why::Begins(name("b")));
    site.window = WindowState::Closed { opens: None };
    assert_eq!(decide(&between, &site, &policy).why, Why::WindowClosed(None));
    let auto = RepavePolicy {
        approval: Approval::Auto,
        ..policy
    };
    assert_eq!(decide(&waiting, &site, &auto).why, Why::Approved);
}

#[test]
fn no_host_is_touched_before_all_have_the_image() {
    let (me, mut hosts) = (name("a"), mk_hosts());
    hosts.get_mut(&name("c")).unwrap().report.as_mut().unwrap().has_image = false;
    hosts.get_mut(&name("w")).unwrap().report = None;
    let site = mk_site(&me, &hosts);
    let repave = mk_repave(&site, RepavePhase::Prefetch { spent: Duration::ZERO });
    let decision = decide(&repave, &site, &RepavePolicy::default());
    let missing = vec![name("c"), name("w")];
    assert_eq!(decision.action, Some(Action::Prefetch { hosts: missing.clone() }));
    let late = mk_repave(
        &site,
        RepavePhase::Prefetch {
            spent: Duration::from_secs(24 * 3600),
        },
    );
    let decision = decide(&late, &site, &RepavePolicy::default());
    assert_eq!(decision.why, Why::Halted(HaltReason::Prefetch(missing)));
}

#[test]
fn pods_leave_as_the_pack_says() {
    for (drain, hosts, drains) in [
        (DrainPods::Auto, 1, false),
        (DrainPods::Auto, 2, true),
        (DrainPods::Always, 1, true),
        (DrainPods::Never, 2, false),
    ] {
        assert_eq!(drain.applies(hosts), drains, "{drain:?} {hosts}");
    }
}

#[test]
fn command_that_does_not_fit_is_refused() {
    let (me, hosts) = (name("a"), mk_hosts());
    let site = mk_site(&me, &hosts);
    let turn = RepavePhase::Turn(turn::Turn::begin(name("b"), &site));
    let halted = RepavePhase::Halted(Halt {
        host: Some(name("b")),
        reason: HaltReason::RolledBack,
    });
    for (phase, command, expected) in [
        (preflight(), Command::Approve, Some(CommandRefusal::NotAwaiting)),
        (RepavePhase::Done, Command::Hold, Some(CommandRefusal::Over)),
        (preflight(), Command::Resume, Some(CommandRefusal::NotStopped)),
        (turn, Command::Revert, Some(CommandRefusal::UnderWay)),
        (RepavePhase::Withdrawn, Command::Revert, Some(CommandRefusal::Over)),
        (RepavePhase::AwaitingApproval, Command::Revert, None),
        (halted, Command::Resume, None),
    ] {
        let result = mk_repave(&site, phase.clone()).after(command, &site);
        assert_eq!(result.err(), expected, "{command:?} in {phase:?}");
    }
}

#[test]
fn revert_brings_the_image_before_back_to_the_hosts_that_have_the_new_one() {
    let (me, mut hosts) = (name("a"), mk_hosts());
    let ran = |outcome| {
        Some(Run {
            id: RunId { update: 1, run: 1 },
            from_boot: BootId("b0".to_owned()),
            image: mk_image("2").digest,
            outcome,
        })
    };
    for (host, outcome) in [("b", RunOutcome::Succeeded), ("c", RunOutcome::Failed)] {
        hosts.get_mut(&name(host)).unwrap().report.as_mut().unwrap().journal.run = ran(outcome);
    }
    let site = mk_site(&me, &hosts);
    let mut repave = mk_repave(
        &site,
        RepavePhase::Halted(Halt {
            host: Some(name("c")),
            reason: HaltReason::DriverFailed,
        }),
    );
    repave.set_member(&name("b"), MemberState::Done);
    repave.set_member(&name("c"), MemberState::Begun);
    let reverted = repave.after(Command::Revert, &site).unwrap();
    assert_eq!(reverted.change.image(), Some(&mk_image("1")));
    let open = reverted
        .members
        .iter()
        .filter(|member| member.state != MemberState::Done);
    let open: Vec<&str> = open.map(|member| member.host.as_str()).collect();
    assert_eq!(open, ["b", "c"]);
    let reboot = Repave {
        change: Change::Reboot,
        ..repave
    };
    assert_eq!(reboot.after(Command::Revert, &site), Err(CommandRefusal::NoPrevious));
}

#[test]
fn host_carries_an_order_out_once_and_only_for_the_newest_leader() {
    let run = |run| RunId { update: 3, run };
    let journal = |generation, outcome: Option<RunOutcome>| HostJournal {
        generation,
        run: outcome.map(|outcome| Run {
            id: run(1),
            from_boot: BootId("b1".to_owned()),
            image: mk_image("2").digest,
            outcome,
        }),
    };
    let order = |generation, boot: &str, effect| Order {
        host: name("a"),
        generation,
        from_boot: BootId(boot.to_owned()),
        effect,
    };
    let upgrade = |number| Effect::Upgrade {
        run: run(number),
        image: mk_image("2"),
    };
    use RunOutcome::{Interrupted, Running, Succeeded};
    for (case, journal, order, expected) in [
        ("first run", journal(1, None), order(1, "b1", upgrade(1)), "begin"),
        (
            "repeated",
            journal(1, Some(Running)),
            order(1, "b1", upgrade(1)),
            "done",
        ),
        (
            "repeated after its end",
            journal(1, Some(Succeeded)),
            order(2, "b1", upgrade(1)),
            "done",
        ),
        (
            "next run",
            journal(1, Some(Interrupted)),
            order(1, "b1", upgrade(2)),
            "begin",
        ),
        (
            "next run during one",
            journal(1, Some(Running)),
            order(1, "b1", upgrade(2)),
            "a driver is running",
        ),
        (
            "for a boot before",
            journal(1, None),
            order(1, "b0", upgrade(1)),
            "the order is for another boot of this host",
        ),
        (
            "reboot",
            journal(1, Some(Succeeded)),
            order(1, "b1", Effect::Reboot),
            "begin",
        ),
        (
            "rebooted already",
            journal(1, Some(Succeeded)),
            order(1, "b0", Effect::Reboot),
            "done",
        ),
        (
            "reboot during a run",
            journal(1, Some(Running)),
            order(1, "b1", Effect::Reboot),
            "a driver is running",
        ),
        (
            "leader of before",
            journal(5, None),
            order(4, "b1", Effect::Reboot),
            "the order is of generation 4 of the leader, and this host has seen generation 5",
        ),
    ] {
        let found = match admit_order(&journal, &order, &name("a"), &BootId("b1".to_owned())) {
            Ok(Admission::Begin(next)) => {
                assert!(next.generation >= journal.generation, "{case}");
                "begin".to_owned()
            }
            Ok(Admission::AlreadyDone(_)) => "done".to_owned(),
            Err(refusal) => refusal.to_string(),
        };
        assert_eq!(found, expected, "{case}");
    }
    let other = admit_order(
        &journal(1, None),
        &order(1, "b1", Effect::Reboot),
        &name("b"),
        &BootId("b1".to_owned()),
    );
    assert_eq!(other, Err(OrderRefusal::OtherHost(name("a"))));
}

#[test]
fn reasons_name_the_keys_and_a_repave_contains_a_reboot() {
    let (old, new) = (mk_image("1"), mk_image("2"));
    let stages = ["stages.initramfs".to_owned()];
    for (case, before, wanted, stages, expected) in [
        ("nothing", Some(&old), &old, &[][..], ""),
        (
            "stages",
            Some(&old),
            &old,
            &stages,
            "`stages.initramfs` changed: the hosts are rebooted",
        ),
        (
            "image",
            Some(&old),
            &new,
            &[],
            "`options.\"system.uri\"` changed from `reg.local/edge/os:1@OLD` to `reg.local/edge/os:2@NEW`: the hosts \
             are repaved",
        ),
        (
            "first image and stages",
            None,
            &new,
            &stages,
            "`options.\"system.uri\"` changed from `none` to `reg.local/edge/os:2@NEW`: the hosts are repaved; \
             `stages.initramfs` changed: the hosts are rebooted",
        ),
    ] {
        let planned = plan_reasons((before, wanted), stages);
        let text = planned.as_ref().map_or_else(String::new, |(_, reasons)| {
            reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        });
        let text = text
            .replace(new.digest.hex(), "NEW")
            .replace(old.digest.hex(), "OLD")
            .replace("sha256:", "");
        assert_eq!(text, expected, "{case}");
        let is_repave = planned.is_some_and(|(change, _)| change != Change::Reboot);
        assert_eq!(is_repave, expected.contains("repaved"), "{case}");
    }
}

#[test]
fn state_is_read_back_as_it_was_written() {
    let (me, hosts) = (name("a"), mk_hosts());
    let site = mk_site(&me, &hosts);
    let phases = [
        RepavePhase::AwaitingApproval,
        preflight(),
        RepavePhase::Turn(turn::Turn::begin(name("b"), &site)),
        RepavePhase::Halted(Halt {
            host: Some(name("b")),
            reason: HaltReason::Gate(vec![Unmet::Silent]),
        }),
        RepavePhase::Done,
    ];
    for phase in phases {
        let repave = mk_repave(&site, phase);
        let text = serde_json::to_string(&repave).unwrap();
        assert_eq!(serde_json::from_str::<Repave>(&text).unwrap(), repave, "{text}");
    }
}
