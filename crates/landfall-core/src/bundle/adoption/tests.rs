use super::*;

const FOUND: BundleFacts = BundleFacts {
    file: FileState::Complete,
    trust: None,
    needs: None,
    is_served: false,
    images: 3,
    adopted: 0,
    has_receipt: false,
};

fn mk_digest(digit: char) -> Digest {
    format!("sha256:{}", digit.to_string().repeat(64)).parse().unwrap()
}

fn mk_name(text: &str) -> ImageReference {
    text.parse().unwrap()
}

#[test]
fn each_phase_follows_from_the_facts_alone() {
    use Decision::{Refuse, Take};
    let taken = BundleFacts {
        trust: Some(Take),
        needs: Some(Take),
        ..FOUND
    };
    let served = BundleFacts {
        is_served: true,
        ..taken
    };
    let cases = [
        ("just found", FOUND, BundlePhase::Found, BundleStep::DecideTrust),
        (
            "trusted",
            BundleFacts {
                trust: Some(Take),
                ..FOUND
            },
            BundlePhase::Trusted,
            BundleStep::CheckNeeds,
        ),
        (
            "not trusted",
            BundleFacts {
                trust: Some(Refuse),
                ..FOUND
            },
            BundlePhase::Refused,
            BundleStep::Wait,
        ),
        (
            "needs are missing: nothing is written",
            BundleFacts {
                needs: Some(Refuse),
                ..taken
            },
            BundlePhase::Refused,
            BundleStep::Wait,
        ),
        ("planned", taken, BundlePhase::Planned, BundleStep::Serve),
        ("served", served, BundlePhase::Serving, BundleStep::Adopt),
        (
            "one image is here",
            BundleFacts { adopted: 1, ..served },
            BundlePhase::Adopting,
            BundleStep::Adopt,
        ),
        (
            "after a restart in the middle",
            BundleFacts { adopted: 2, ..FOUND },
            BundlePhase::Found,
            BundleStep::DecideTrust,
        ),
        (
            "after a restart, planned again",
            BundleFacts { adopted: 2, ..taken },
            BundlePhase::Planned,
            BundleStep::Serve,
        ),
        (
            "all images are here",
            BundleFacts { adopted: 3, ..served },
            BundlePhase::Adopted,
            BundleStep::WriteReceipt,
        ),
        (
            "all images were here before it was served",
            BundleFacts { adopted: 3, ..taken },
            BundlePhase::Adopted,
            BundleStep::WriteReceipt,
        ),
        (
            "the receipt is written",
            BundleFacts {
                adopted: 3,
                has_receipt: true,
                ..served
            },
            BundlePhase::Receipt,
            BundleStep::Wait,
        ),
        (
            "an image was lost after the receipt",
            BundleFacts {
                adopted: 2,
                has_receipt: true,
                ..served
            },
            BundlePhase::Adopting,
            BundleStep::Adopt,
        ),
        (
            "a file of another format",
            BundleFacts {
                file: FileState::Unread,
                ..FOUND
            },
            BundlePhase::Found,
            BundleStep::Read,
        ),
        (
            "a file of another format, while its signature is not checked yet",
            BundleFacts {
                file: FileState::BeingRead,
                ..FOUND
            },
            BundlePhase::Found,
            BundleStep::Wait,
        ),
        (
            "a file of another format, while it is read",
            BundleFacts {
                file: FileState::BeingRead,
                ..taken
            },
            BundlePhase::Adopting,
            BundleStep::Wait,
        ),
        (
            "a file of another format that needs no signature",
            BundleFacts {
                file: FileState::Unread,
                ..taken
            },
            BundlePhase::Trusted,
            BundleStep::Read,
        ),
        (
            "a file of another format without a signature",
            BundleFacts {
                file: FileState::Unread,
                trust: Some(Refuse),
                ..FOUND
            },
            BundlePhase::Refused,
            BundleStep::Wait,
        ),
        (
            "the copy is under way",
            BundleFacts {
                file: FileState::Incomplete,
                ..FOUND
            },
            BundlePhase::Incomplete,
            BundleStep::Wait,
        ),
        (
            "the head is damaged",
            BundleFacts {
                file: FileState::Unusable,
                ..FOUND
            },
            BundlePhase::Refused,
            BundleStep::Wait,
        ),
        (
            "the stick was pulled in the middle",
            BundleFacts {
                file: FileState::Gone,
                adopted: 1,
                ..served
            },
            BundlePhase::Vanished,
            BundleStep::Wait,
        ),
        (
            "the stick was pulled at the end",
            BundleFacts {
                file: FileState::Gone,
                adopted: 3,
                has_receipt: true,
                ..served
            },
            BundlePhase::Receipt,
            BundleStep::Wait,
        ),
    ];
    for (case, facts, phase, step) in cases {
        assert_eq!(next_step(&facts), (phase, step), "{case}");
    }
}

#[test]
fn every_step_leads_to_the_receipt() {
    let mut facts = FOUND;
    let mut phases = Vec::new();
    loop {
        let (phase, step) = next_step(&facts);
        phases.push(phase);
        match step {
            BundleStep::DecideTrust => facts.trust = Some(Decision::Take),
            BundleStep::CheckNeeds => facts.needs = Some(Decision::Take),
            BundleStep::Serve => facts.is_served = true,
            BundleStep::Adopt => facts.adopted += 1,
            BundleStep::WriteReceipt => facts.has_receipt = true,
            BundleStep::Wait | BundleStep::Read => break,
        }
    }
    phases.dedup();
    assert_eq!(phases, BundlePhase::ALL[..7]);
}

#[test]
fn images_that_pods_asked_for_come_first() {
    let image = |name: &str, digit: char, planned| PendingImage {
        name: mk_name(name),
        content: [mk_digest(digit)].into(),
        planned,
    };
    let images = [
        image("reg.example/extra:1", '1', None),
        image("reg.example/app:1", '2', Some(2)),
        image("reg.example/os:1", '3', Some(0)),
        image("reg.example/also:1", '4', None),
    ];
    let asked = [mk_digest('9'), mk_digest('1'), mk_digest('2')];
    for (asked, order) in [
        (&[][..], ["os", "app", "also", "extra"]),
        (&asked, ["extra", "app", "os", "also"]),
    ] {
        let (mut left, mut found) = (images.to_vec(), Vec::new());
        while let Some(next) = next_to_adopt(&left, asked) {
            found.push(left.swap_remove(next).name.repository.to_string());
        }
        assert_eq!(found, order, "{asked:?}");
    }
}

#[test]
fn a_missing_need_names_its_image_and_size() {
    let need = |digit, size| NeededBlob {
        digest: mk_digest(digit),
        size,
        image: mk_name("reg.example/app:1"),
    };
    let needs = [need('1', 10), need('2', 20), need('3', 30)];
    assert_eq!(check_needs(&needs, |_| true), Ok(()));
    let missing = check_needs(&needs, |need| need.size == 10).unwrap_err();
    assert_eq!(
        missing.to_string(),
        "the bundle counts on blobs that this site does not have: 2 of `reg.example/app:1` (50 bytes)"
    );
}
