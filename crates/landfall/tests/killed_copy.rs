//! `landfall copy`, killed and run again.

mod common;

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use common::{Running, run, shown};
use landfall_testkit::fake_registry::FakeRegistry;
use landfall_testkit::image_builder::FixtureBuilder;
use landfall_testkit::weak_link::{WeakLink, Weakness};

const LAYER: u32 = 16_000_000;
const HALF: u64 = LAYER as u64 / 2;
const PATIENCE: Duration = Duration::from_secs(60);

/// Returns bytes that do not compress and do not repeat.
fn noise() -> Vec<u8> {
    (0..LAYER / 4)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect()
}

/// Starts a link that never breaks and counts bytes.
fn counting_link(target: &str) -> WeakLink {
    let target: SocketAddr = target.parse().expect("an address and a port");
    WeakLink::start(target, Weakness::Closes(u64::MAX), 0)
}

#[test]
fn a_copy_that_was_killed_half_way_moves_the_other_half_only() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| directory.path().join(name).display().to_string();
    let origin = FakeRegistry::start();
    let image = FixtureBuilder::new().plain_layer(&[("noise", &noise())]).build();
    origin.add_image("shop/till", "1.0", &image);
    let mut registry = Running::start(&[
        "registry",
        "serve",
        "--root",
        &path("images"),
        "--listen",
        "127.0.0.1:0",
    ]);
    let url = registry.line();
    let down = counting_link(origin.host().as_str());
    let up = counting_link(url.strip_prefix("http://").expect("a plain URL on loopback"));
    let (from, to) = (down.address().to_string(), up.address().to_string());
    let (source, destination) = (format!("{from}/shop/till:1.0"), format!("{to}/a/till:1.0"));
    let state = path("state");
    let copy = |more: &'static [&'static str]| {
        let ends = ["copy", &source, &destination, "--insecure", &from, "--insecure", &to];
        [&ends, &["--state-dir", &state, "--progress", "none"][..], more].concat()
    };

    let mut first = Running::start(&copy(&["--bandwidth", "16000000"]));
    let begin = SystemTime::now();
    while up.bytes_to_server() < HALF {
        assert!(
            first.child.try_wait().expect("our own child").is_none(),
            "it was to be killed"
        );
        assert!(
            begin.elapsed().is_ok_and(|waited| waited < PATIENCE),
            "the copy gets nowhere"
        );
        std::thread::yield_now();
    }
    first.child.kill().expect("our own child");
    first.child.wait().expect("our own child");
    let (moved_down, moved_up) = (down.bytes_to_client(), up.bytes_to_server());

    let second = shown(&run(&copy(&[])));
    assert!(second.starts_with("status 0\n"), "{second}");
    let allowed = u64::from(LAYER) * 55 / 100;
    assert!(down.bytes_to_client() - moved_down <= allowed, "{second}");
    assert!(up.bytes_to_server() - moved_up <= allowed, "{second}");
    // The destination has the whole image: a third run has nothing to do.
    let third = shown(&run(&copy(&[])));
    assert!(third.contains("0 copied, 1 unchanged"), "{third}");
    let kept = std::fs::read_dir(directory.path().join("state/uploads")).expect("the journal");
    assert_eq!(kept.count(), 1, "nothing but the lock");
}
