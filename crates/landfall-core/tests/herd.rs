//! Simulates many hosts that share a registry, with a virtual clock, and checks the curve of their requests
//! [spec:agent.jitter] [spec:agent.retry].
//!
//! All times come from the product's decisions: the retry of a request, the circuit of a registry and the time of the
//! next pass. 2,000 hosts take part, or as many as `LANDFALL_HERD_HOSTS` says.
#![expect(clippy::unwrap_used, reason = "test set-up")]
#![expect(
    clippy::disallowed_methods,
    reason = "the number of hosts comes from the environment"
)]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use landfall_core::failure::{Circuit, CircuitOpen, CircuitPolicy, FailureKind, NextAction, RetryPolicy, next_action};
use landfall_core::jitter::offset;
use landfall_core::schedule::{PassResult, PassTiming, count_failed_passes, next_pass_in};

/// Requests for what one host lacks: a manifest, a configuration and layers.
const REQUESTS_OF_A_HOST: u32 = 6;
/// Duration of a request that is answered.
const ROUND_TRIP: Duration = Duration::from_millis(200);
/// Interval at which the agent looks for changed files.
const FILE_POLL: Duration = Duration::from_secs(5);
const TIMING: PassTiming = PassTiming {
    first_retry: Duration::from_secs(10),
    interval: Duration::from_secs(300),
};

fn hosts() -> usize {
    std::env::var("LANDFALL_HERD_HOSTS").map_or(2_000, |hosts| hosts.parse().unwrap())
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Numbers from 0 to 1 that are the same in each run (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        f64::from(u32::try_from((mixed ^ (mixed >> 31)) >> 32).unwrap()) / f64::from(u32::MAX)
    }
}

/// Answer of the registry.
#[derive(Debug, Clone, Copy)]
enum Answer {
    Ok,
    /// 503 without `Retry-After`.
    Unavailable,
    /// 429 with `Retry-After`.
    RetryAfter(Duration),
}

/// A host with the requests that it has to make.
struct Host {
    open: u32,
    /// Failed attempts at the present request.
    failed: u32,
    failed_passes: u32,
    began_in_wait: bool,
    /// True while a pass is under way.
    is_in_pass: bool,
    circuit: Circuit,
    /// The time before which the registry told this host not to come.
    told: Duration,
}

/// The requests of all hosts, by time.
#[derive(Default)]
struct Curve {
    requests: Vec<Duration>,
    accepted: Vec<Duration>,
    finished: Vec<Duration>,
}

/// Lets each host begin its first pass at its time, and runs until all have everything. Panics if a host asks sooner
/// than told, or does not finish within a day.
fn simulate(begins: &[Duration], seed: u64, registry: impl Fn(Duration, usize) -> Answer) -> Curve {
    let mut dice = Dice(seed);
    let (retry, breaker) = (RetryPolicy::default(), CircuitPolicy::default());
    let mut hosts: Vec<Host> = begins
        .iter()
        .map(|_| Host {
            open: REQUESTS_OF_A_HOST,
            failed: 0,
            failed_passes: 0,
            began_in_wait: false,
            is_in_pass: false,
            circuit: Circuit::default(),
            told: Duration::ZERO,
        })
        .collect();
    let mut events: BinaryHeap<Reverse<(Duration, usize)>> = begins
        .iter()
        .enumerate()
        .map(|(host, begin)| Reverse((*begin, host)))
        .collect();
    let mut curve = Curve::default();
    while let Some(Reverse((now, number))) = events.pop() {
        assert!(now < seconds(86_400), "host {number} does not finish");
        let host = &mut hosts[number];
        if !host.is_in_pass {
            host.is_in_pass = true;
            host.failed = 0;
            host.began_in_wait = host.circuit.wait(now).is_some();
        }
        let kind = match host.circuit.admit(&breaker, now, dice.roll()) {
            Err(CircuitOpen::NotBefore(wait)) => FailureKind::RateLimited { after: Some(wait) },
            Err(CircuitOpen::Silent(_)) => FailureKind::GivenUp,
            Ok(()) => {
                assert!(now >= host.told, "host {number} asks at {now:?}, told {:?}", host.told);
                curve.requests.push(now);
                match registry(now, curve.requests.len()) {
                    Answer::Ok => {
                        host.circuit.answered();
                        host.failed = 0;
                        host.open -= 1;
                        curve.accepted.push(now);
                        match host.open {
                            0 => curve.finished.push(now),
                            _ => events.push(Reverse((now + ROUND_TRIP, number))),
                        }
                        continue;
                    }
                    Answer::Unavailable => {
                        host.circuit.unanswered(&breaker, now, dice.roll());
                        FailureKind::Unreachable
                    }
                    Answer::RetryAfter(after) => {
                        host.circuit.asked_to_wait(now, after);
                        host.circuit.answered();
                        host.told = now + after;
                        FailureKind::RateLimited { after: Some(after) }
                    }
                }
            }
        };
        host.failed += 1;
        let next = match next_action(kind, host.failed, &retry, dice.roll()) {
            NextAction::Retry { delay } => now + delay,
            NextAction::NextSource | NextAction::Stop => {
                host.is_in_pass = false;
                let wait = host.circuit.wait(now);
                let pass = PassResult {
                    has_failures: true,
                    waits_for_registry: wait.is_some(),
                    began_in_wait: host.began_in_wait,
                };
                host.failed_passes = count_failed_passes(host.failed_passes, pass);
                now + next_pass_in(host.failed_passes, wait, TIMING, dice.roll())
            }
        };
        events.push(Reverse((next, number)));
    }
    assert_eq!(curve.finished.len(), begins.len(), "all hosts have everything");
    curve
}

/// Returns the largest share of the times in a twentieth of the span, relative to the mean: 1 if all are even.
fn peak_to_mean(times: &[Duration], from: Duration, to: Duration) -> f64 {
    let mut bins = [0_u32; 20];
    let width = (to - from).as_secs_f64() / 20.0;
    let inside = times.iter().filter(|time| (from..to).contains(time));
    for time in inside {
        let place = (*time - from).as_secs_f64() / width;
        let bin = (0..19_u32).find(|bin| place < f64::from(*bin) + 1.0).unwrap_or(19);
        bins[usize::try_from(bin).unwrap()] += 1;
    }
    let mean = f64::from(bins.iter().sum::<u32>()) / 20.0;
    f64::from(bins.into_iter().max().unwrap_or(0)) / mean
}

/// Returns times of hosts within a span, as hosts boot after a power cut.
fn spread_over(span: Duration, seed: u64) -> Vec<Duration> {
    let mut dice = Dice(seed);
    (0..hosts()).map(|_| offset(span, dice.roll())).collect()
}

#[test]
fn power_on_is_one_even_wave_as_long_as_the_boots() {
    let boots = seconds(60);
    let curve = simulate(&spread_over(boots, 1), 2, |_, _| Answer::Ok);
    assert_eq!(
        curve.requests.len(),
        hosts() * usize::try_from(REQUESTS_OF_A_HOST).unwrap()
    );
    let peak = peak_to_mean(&curve.requests, Duration::ZERO, boots);
    assert!(peak <= 2.0, "the peak is {peak:.2} times the mean");
}

#[test]
fn moved_version_is_one_even_wave_of_the_file_poll() {
    let moved = seconds(600);
    let polls: Vec<Duration> = spread_over(FILE_POLL, 3).into_iter().map(|poll| moved + poll).collect();
    let curve = simulate(&polls, 4, |_, _| Answer::Ok);
    let peak = peak_to_mean(&curve.requests, moved, moved + FILE_POLL);
    assert!(peak <= 2.0, "the peak is {peak:.2} times the mean");
}

#[test]
fn registry_that_is_down_is_asked_ever_more_seldom_and_evenly() {
    let back = seconds(600);
    let curve = simulate(&spread_over(seconds(60), 5), 6, |now, _| match now < back {
        true => Answer::Unavailable,
        false => Answer::Ok,
    });
    let during = |from: u64, to: u64| {
        let span = seconds(from)..seconds(to);
        curve.requests.iter().filter(|time| span.contains(time)).count()
    };
    assert!(
        during(400, 600) < during(60, 260),
        "{} {}",
        during(400, 600),
        during(60, 260)
    );
    // The returns spread over the longest wait between two passes.
    let last = curve.finished.iter().max().copied().unwrap();
    let peak = peak_to_mean(&curve.accepted, back, last);
    assert!(peak <= 2.0, "the peak is {peak:.2} times the mean until {last:?}");
    assert!(last >= back + seconds(100), "all are back at {last:?}");
}

/// 503 for 10 minutes, then 429 with `Retry-After: 900` until all were told.
#[test]
fn registry_that_asks_for_a_wait_gets_nobody_sooner_and_all_evenly() {
    let (limits, serves) = (seconds(600), seconds(1_200));
    let wait = seconds(900);
    let curve = simulate(&spread_over(seconds(60), 7), 8, |now, _| match now {
        _ if now < limits => Answer::Unavailable,
        _ if now < serves => Answer::RetryAfter(wait),
        _ => Answer::Ok,
    });
    let first = curve.accepted.iter().min().copied().unwrap();
    let last = curve.finished.iter().max().copied().unwrap();
    assert!(first >= limits + wait, "somebody is back at {first:?}");
    let peak = peak_to_mean(&curve.requests, first, last);
    assert!(
        peak <= 2.0,
        "the peak is {peak:.2} times the mean, {first:?} to {last:?}"
    );
    assert!(last - first >= wait / 5, "{first:?} to {last:?}");
}

/// The registry admits a number of requests in each second, and tells all others to come a minute later.
#[test]
fn registry_with_a_limit_serves_all_and_its_limit_is_used() {
    let limit = hosts() / 40;
    let in_second = std::cell::RefCell::new((0, 0));
    let curve = simulate(&spread_over(FILE_POLL, 9), 10, |now, _| {
        let mut state = in_second.borrow_mut();
        if state.0 != now.as_secs() {
            *state = (now.as_secs(), 0);
        }
        state.1 += 1;
        match state.1 <= limit {
            true => Answer::Ok,
            false => Answer::RetryAfter(seconds(60)),
        }
    });
    let last = curve.finished.iter().max().copied().unwrap();
    let least = curve.accepted.len() / limit;
    assert!(
        last < seconds(3_600),
        "all are served at {last:?}, at the least after {least} s"
    );
    let refused = curve.requests.len() - curve.accepted.len();
    assert!(refused < 3 * curve.accepted.len(), "{refused} refusals");
}
