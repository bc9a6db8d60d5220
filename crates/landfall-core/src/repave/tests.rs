mod model;
mod steps;

use std::collections::BTreeMap;

use proptest::prelude::*;

use self::model::{Fault, Setup, World};
use super::*;

fn setups() -> Vec<(&'static str, Setup)> {
    let site = Setup::default();
    vec![
        ("three control planes and a worker", site.clone()),
        (
            "an image that does not boot",
            Setup {
                image_boots: false,
                ..site.clone()
            },
        ),
        (
            "an image with the same fingerprint",
            Setup {
                same_fingerprint: true,
                ..site.clone()
            },
        ),
        (
            "a driver that tells the image",
            Setup {
                tells_image: true,
                ..site.clone()
            },
        ),
        (
            "a reboot",
            Setup {
                change: Change::Reboot,
                ..site.clone()
            },
        ),
        (
            "one host",
            Setup {
                control_planes: 1,
                workers: 0,
                ..site.clone()
            },
        ),
        (
            "one control plane, workers",
            Setup {
                control_planes: 1,
                workers: 2,
                ..site
            },
        ),
    ]
}

#[test]
fn update_without_faults_ends_with_all_hosts_or_halts_at_the_first() {
    for (case, setup) in setups() {
        let mut world = World::new(&setup);
        world.run(&BTreeMap::new());
        let halted = matches!(
            &world.durable.phase,
            RepavePhase::Halted(Halt {
                reason: HaltReason::RolledBack,
                ..
            })
        );
        assert_eq!(halted, !setup.image_boots, "{case}: {:?}", world.durable.phase);
        let touched = world.touched.len();
        match halted {
            true => assert_eq!(touched, 1, "{case}"),
            false => assert_eq!(world.durable.phase, RepavePhase::Done, "{case}"),
        }
    }
}

/// Every fault at every moment, and every pair of faults at some moments.
#[test]
fn update_survives_each_fault_at_each_moment() {
    let faults = Fault::all(2);
    for (case, setup) in setups() {
        let mut undisturbed = World::new(&setup);
        undisturbed.run(&BTreeMap::new());
        let ticks = undisturbed.ticks;
        for first in 0..ticks {
            for fault in &faults {
                let mut world = World::new(&setup);
                world.context = format!("{case}: {fault:?} at {first}");
                world.run(&BTreeMap::from([(first, vec![fault.clone()])]));
                world.check_end();
            }
        }
    }
}

#[test]
fn update_survives_pairs_of_faults() {
    let faults = Fault::all(2);
    let setup = Setup {
        control_planes: 3,
        workers: 0,
        ..Setup::default()
    };
    // The first turn has all steps: faults at one moment, at two in a row, and in steps that follow each other.
    for first in 0..16 {
        for second in [first, first + 1, first + 4] {
            for one in &faults {
                for other in &faults {
                    let mut world = World::new(&setup);
                    world.context = format!("{one:?} at {first}, {other:?} at {second}");
                    let mut plan = BTreeMap::from([(first, vec![one.clone()])]);
                    plan.entry(second).or_insert_with(Vec::new).push(other.clone());
                    world.run(&plan);
                    world.check_end();
                }
            }
        }
    }
}

fn any_fault() -> impl Strategy<Value = Fault> {
    let host = || 0..4_usize;
    prop_oneof![
        host().prop_map(Fault::CutPower),
        host().prop_map(Fault::RestartAgent),
        Just(Fault::CutAllPower),
        Just(Fault::RestartLeader),
        Just(Fault::SplitLeader),
        Just(Fault::TickOldLeader),
        Just(Fault::TickOldLeader),
        Just(Fault::LoseOrder),
        Just(Fault::DelayOrder),
        Just(Fault::DeliverOrders),
        host().prop_map(Fault::CordonByOthers),
        host().prop_map(Fault::UncordonByOthers),
        Just(Fault::FailDriver),
        host().prop_map(Fault::KeepPods),
        host().prop_map(Fault::FreePods),
        host().prop_map(Fault::Remove),
        Just(Fault::Resume),
        Just(Fault::Revert),
        Just(Fault::Hold),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]
    #[test]
    fn no_order_of_faults_breaks_a_law(
        setup in 0..7_usize,
        faults in proptest::collection::vec((0..120_usize, any_fault()), 0..14),
    ) {
        let (case, setup) = setups().swap_remove(setup);
        let mut plan: BTreeMap<usize, Vec<Fault>> = BTreeMap::new();
        for (tick, fault) in &faults {
            plan.entry(*tick).or_default().push(fault.clone());
        }
        let mut world = World::new(&setup);
        world.context = format!("{case}: {plan:?}");
        world.run(&plan);
        world.check_end();
    }
}
