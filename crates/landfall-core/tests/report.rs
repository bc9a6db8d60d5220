//! The documented output of `plan`, `images` and `explain`.
#![expect(clippy::unwrap_used, reason = "test set-up")]

mod common;

use common::{CANARY, mk_reference, with_external, with_image, with_primary, with_registry, with_rule};
use jiff::Timestamp;
use landfall_core::bundle::document::BundleDocument;
use landfall_core::bundle::upload::UploadState;
use landfall_core::config::{Inputs, parse_settings};
use landfall_core::diagnostic::NamedText;
use landfall_core::opt_out::OptOut;
use landfall_core::plan::plan_images;
use landfall_core::reference::Digest;
use landfall_core::report::{
    BlobTally, BundleDamageRow, BundleDiffReport, BundleReceipt, BundleReceiptReport, BundleReport, BundleRoom,
    BundleUploadReport, BundleUploadRow, BundleVerificationReport, CheckReport, CheckRow, CheckState, Inventory,
    NamespaceRow, RawReceipt, StageCondition, StageEffectRow, StageResult, StageStepRow, StagesReport, TransferReport,
    TransferRow, TransferState, explain_report, image_row, images_report, plan_report, schemas, validation_report,
};
use landfall_core::resolve::Resolver;
use landfall_core::settings::{ImageRole, RegistryRole, Settings, Unknowns};
use landfall_core::status::{AgentStatus, Event, EventKind, EventList, EventReason};
use serde::Serialize;

fn edge() -> Settings {
    let settings = with_image(Settings::default(), ImageRole::Application, "nginx:1.27");
    let settings = with_image(settings, ImageRole::Provider, "container://quay.io/kairos/core:1");
    let settings = with_registry(settings, RegistryRole::Pack, "docker.io");
    with_primary(with_external(settings, "reg:5000/p"), "10.10.100.45:30003", true)
}

fn to_json(report: &impl Serialize) -> String {
    serde_json::to_string_pretty(report).unwrap()
}

#[test]
fn a_plan_says_of_every_image_where_it_comes_from_and_why() {
    let settings = edge();
    let resolver = Resolver::new(&settings);
    let report = plan_report(&resolver, &plan_images(&settings, &resolver));
    insta::assert_snapshot!(to_json(&report), @r#"
    {
      "apiVersion": "landfall.dev/v1alpha1",
      "kind": "Plan",
      "profiles": [],
      "redirection": true,
      "primaryRegistry": "10.10.100.45:30003/spectro-images",
      "bundles": [],
      "sourcesUnknown": null,
      "imagesIncomplete": null,
      "images": [
        {
          "source": "container://quay.io/kairos/core:1",
          "canonical": "quay.io/kairos/core:1",
          "role": "provider",
          "layer": "os",
          "pack": "pack",
          "profile": "edge",
          "finding": "declared",
          "location": {
            "file": "profile.yaml",
            "line": 2,
            "column": 1,
            "key": "a.key"
          },
          "pull": [
            {
              "reference": "reg:5000/p/quay.io/kairos/core:1",
              "place": "external",
              "bundle": null,
              "why": "external registry `reg:5000/p` serves every image (user-data.yaml:6)",
              "credentials": {
                "registry": "reg:5000/p",
                "role": "external",
                "username": "robot",
                "location": {
                  "file": "user-data.yaml",
                  "line": 7,
                  "column": 1,
                  "key": "a.key"
                }
              }
            }
          ],
          "primary": null,
          "runtime": "reg:5000/p/quay.io/kairos/core:1",
          "warning": null
        },
        {
          "source": "nginx:1.27",
          "canonical": "docker.io/library/nginx:1.27",
          "role": "application",
          "layer": "addon",
          "pack": "pack",
          "profile": "edge",
          "finding": "declared",
          "location": {
            "file": "profile.yaml",
            "line": 1,
            "column": 1,
            "key": "a.key"
          },
          "pull": [
            {
              "reference": "reg:5000/p/docker.io/library/nginx:1.27",
              "place": "external",
              "bundle": null,
              "why": "external registry `reg:5000/p` serves every image (user-data.yaml:6)",
              "credentials": {
                "registry": "reg:5000/p",
                "role": "external",
                "username": "robot",
                "location": {
                  "file": "user-data.yaml",
                  "line": 7,
                  "column": 1,
                  "key": "a.key"
                }
              }
            }
          ],
          "primary": "10.10.100.45:30003/spectro-images/reg_5000/p/docker.io/library/nginx:1.27",
          "runtime": "10.10.100.45:30003/spectro-images/reg_5000/p/docker.io/library/nginx:1.27",
          "warning": null
        }
      ],
      "summary": {
        "provider": 1,
        "infrastructure": 0,
        "application": 1,
        "inBundles": 0,
        "toPrimary": 1,
        "warnings": 0
      }
    }
    "#);
}

#[test]
fn an_explanation_keeps_the_tag_as_it_was_asked_for() {
    let settings = with_rule(edge(), "quay.io", "ex.com/q");
    let report = explain_report(
        &Resolver::new(&settings),
        &mk_reference("nginx"),
        Some(NamespaceRow::new(&settings, "web", None)),
    );
    insta::assert_snapshot!(to_json(&report), @r#"
    {
      "apiVersion": "landfall.dev/v1alpha1",
      "kind": "Explain",
      "image": "docker.io/library/nginx",
      "canonical": "docker.io/library/nginx:latest",
      "role": "application",
      "inProfile": null,
      "namespace": {
        "name": "web",
        "choice": null,
        "why": null,
        "unknown": null
      },
      "leftAlone": null,
      "bundles": [],
      "sourcesUnknown": null,
      "imagesIncomplete": null,
      "candidates": [
        {
          "reference": "10.10.100.45:30003/spectro-images/docker.io/library/nginx",
          "place": "primary",
          "bundle": null,
          "why": "primary registry `10.10.100.45:30003/spectro-images` holds application images",
          "credentials": {
            "registry": "10.10.100.45:30003",
            "role": "primary",
            "username": "robot",
            "location": {
              "file": "user-data.yaml",
              "line": 8,
              "column": 1,
              "key": "a.key"
            }
          }
        },
        {
          "reference": "docker.io/library/nginx",
          "place": "origin",
          "bundle": null,
          "why": "no mapping rule matches this image: unchanged",
          "credentials": {
            "registry": "docker.io",
            "role": "pack",
            "username": "robot",
            "location": {
              "file": "user-data.yaml",
              "line": 6,
              "column": 1,
              "key": "a.key"
            }
          }
        }
      ],
      "runtimeBeforePrimary": "docker.io/library/nginx",
      "runtime": "10.10.100.45:30003/spectro-images/docker.io/library/nginx",
      "warning": "no mapping rule matches `docker.io/library/nginx`: it is pulled as it is written"
    }
    "#);
}

#[test]
fn in_a_namespace_that_is_opted_out_an_image_stays_as_it_is() {
    let mut settings = edge();
    settings.namespace_opt_outs.insert("web".to_owned(), OptOut::Disabled);
    let resolver = Resolver::new(&settings);
    let runtime = |namespace| {
        let namespace = Option::map(namespace, |name| NamespaceRow::new(&settings, name, None));
        explain_report(&resolver, &mk_reference("nginx"), namespace)
            .runtime
            .unwrap()
    };
    assert_eq!(runtime(Some("web")), "docker.io/library/nginx");
    assert_ne!(runtime(Some("other")), "docker.io/library/nginx");
    assert_ne!(runtime(None), "docker.io/library/nginx");
}

#[test]
fn every_report_follows_its_schema_and_holds_no_password() {
    let settings = edge();
    let resolver = Resolver::new(&settings);
    // The findings are with and without a secondary location, and with and without an excerpt.
    let (_, diagnostics) = parse_settings(&Inputs {
        user_data: vec![
            NamedText::new("user-data", "stylus: {a: b, a: c}\n"),
            NamedText::new("empty", ""),
        ],
        ..Inputs::default()
    });
    assert!(diagnostics.len() > 2);
    let event = Event {
        sequence: 1,
        time: Timestamp::UNIX_EPOCH,
        kind: EventKind::Normal,
        reason: EventReason::ImageStored,
        subject: "nginx".to_owned(),
        message: String::new(),
    };
    let check = CheckRow {
        image: image_row(&settings.images[0]),
        state: CheckState::Missing,
        reference: Some("reg/nginx:1".to_owned()),
        bundle: None,
        digest: None,
        missing_platforms: Vec::new(),
        problem: Some("it is not there".to_owned()),
        fix: None,
    };
    let transfer = TransferRow {
        source: "nginx".to_owned(),
        bundle: None,
        destination: "reg/nginx:1".to_owned(),
        state: TransferState::Copied,
        digest: None,
        lacking: Vec::new(),
        referrers: 0,
        blobs: BlobTally::default(),
        problem: None,
        fix: None,
    };
    let step = StageStepRow {
        part: "boot".to_owned(),
        name: "motd".to_owned(),
        location: settings.images[0].location.clone(),
        condition: Some(StageCondition::True),
        condition_error: None,
        effects: vec![StageEffectRow {
            action: "command 1".to_owned(),
            result: StageResult::Ran,
            error: None,
            diff: None,
        }],
    };
    let document = mk_bundle_document();
    let empty = BundleDocument {
        images: Vec::new(),
        blobs: Vec::new(),
        needs: Vec::new(),
        ..document.clone()
    };
    let id: Digest = format!("sha256:{}", "0".repeat(64)).parse().unwrap();
    let mut bundle = BundleReport::new("site.tar.zst".to_owned(), &id, 10, 1, &document);
    bundle.room = Some(BundleRoom {
        needed_bytes: 1,
        free_bytes: 2,
        free_inodes: None,
        bytes_per_second: Some(3),
        seconds: Some(1),
    });
    let damage = BundleDamageRow {
        part: "blob".to_owned(),
        digest: Some(id.to_string()),
        bytes: Some(1),
        images: vec!["reg/a:1".to_owned()],
    };
    let inventory = Inventory::new("till".to_owned(), [id.clone()].into());
    let receipt = to_json(&BundleReceipt::new(&id, &document, |_| true, &[].into(), inventory));
    let receipt = RawReceipt::parse(receipt.as_bytes()).unwrap();
    let upload = BundleUploadRow {
        name: "a.tar.zst".to_owned(),
        bytes: 2,
        bytes_before: 1,
        bytes_sent: 1,
        state: UploadState::Complete,
        path: None,
    };
    let reports = [
        ("validate", to_json(&validation_report(&diagnostics, None))),
        (
            "plan",
            to_json(&plan_report(&resolver, &plan_images(&settings, &resolver))),
        ),
        ("images", to_json(&images_report(&settings))),
        (
            "explain",
            to_json(&explain_report(
                &resolver,
                &mk_reference("nginx"),
                Some(NamespaceRow::new(&settings, "web", None)),
            )),
        ),
        (
            "check",
            to_json(&CheckReport::new(
                Vec::new(),
                Vec::new(),
                vec![check],
                &Unknowns::default(),
            )),
        ),
        ("transfer", to_json(&TransferReport::new(false, vec![transfer]))),
        ("bundle", to_json(&bundle)),
        (
            "bundle-verification",
            to_json(&BundleVerificationReport::new("a".to_owned(), &id, 1, vec![damage])),
        ),
        (
            "bundle-diff",
            to_json(&BundleDiffReport::new((&id, &empty), (&id, &document))),
        ),
        (
            "bundle-receipt",
            to_json(&BundleReceiptReport::new("a".to_owned(), receipt)),
        ),
        (
            "bundle-upload",
            to_json(&BundleUploadReport::new("http://host".to_owned(), false, vec![upload])),
        ),
        ("stages", to_json(&StagesReport::new("boot", "/", false, vec![step]))),
        ("status", to_json(&AgentStatus::starting(Timestamp::UNIX_EPOCH))),
        ("events", to_json(&EventList::new(vec![event]))),
    ];
    for ((command, report), (of_command, schema)) in reports.into_iter().zip(schemas()) {
        assert_eq!(command, of_command);
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        let validator = jsonschema::validator_for(schema.as_value()).unwrap();
        let errors: Vec<String> = validator.iter_errors(&report).map(|error| error.to_string()).collect();
        assert_eq!(errors, Vec::<String>::new(), "{command}");
        assert!(!report.to_string().contains(CANARY), "{command}");
    }
    assert!(!format!("{settings:?}").contains(CANARY));
}

fn mk_bundle_document() -> BundleDocument {
    let digest = |digit: char| format!("sha256:{}", digit.to_string().repeat(64));
    let document = serde_json::json!({
        "format": 1,
        "series": "shops",
        "sequence": 3,
        "base": "an inventory",
        "files": [{"path": "landfall/files/profile.yaml", "digest": digest('a'), "size": 10}],
        "images": [{
            "name": "reg.example:5000/shop/till:1", "digest": digest('1'), "mediaType": "m", "size": 3,
            "platforms": [{"os": "linux", "architecture": "amd64"}],
            "leftOut": [{"digest": digest('9'), "platform": {"os": "linux", "architecture": "arm64"}}],
            "companions": [{"digest": digest('1'), "mediaType": "m", "size": 3, "subject": digest('1')}],
        }],
        "blobs": [{"digest": digest('1'), "size": 3, "how": "head"}],
        "needs": [{"digest": digest('3'), "size": 5, "image": "reg.example:5000/shop/till:1"}],
    });
    BundleDocument::parse(document.to_string().as_bytes()).unwrap()
}

#[test]
fn bundles_are_compared_by_image_and_by_blob() {
    let old = mk_bundle_document();
    let mut new = old.clone();
    let digest = |digit: char| -> Digest { format!("sha256:{}", digit.to_string().repeat(64)).parse().unwrap() };
    new.images[0].digest = digest('2');
    new.blobs[0].digest = digest('2');
    new.blobs[0].size = 70;
    let mut added = new.images[0].clone();
    added.name = "reg.example/new:1".parse().unwrap();
    new.images.push(added);
    let report = BundleDiffReport::new((&digest('a'), &old), (&digest('b'), &new));
    assert_eq!((report.new_blobs, report.new_bytes, report.unchanged), (1, 70, 0));
    assert_eq!(report.added, ["reg.example/new:1"]);
    assert_eq!(report.changed.len(), 1);
    assert_eq!(
        (&*report.changed[0].from, &*report.changed[0].to),
        (digest('1').as_str(), digest('2').as_str())
    );
    let back = BundleDiffReport::new((&digest('b'), &new), (&digest('a'), &old));
    assert_eq!((back.removed.len(), back.added.len(), back.new_bytes), (1, 0, 3));
    let same = BundleDiffReport::new((&digest('a'), &old), (&digest('a'), &old));
    assert_eq!((same.unchanged, same.new_blobs), (1, 0));
}
